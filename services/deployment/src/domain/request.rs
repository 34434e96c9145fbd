use std::collections::BTreeMap;

use fishy_core::{Error, Result};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::time::Duration;

use super::frame::Cell;

const MAX_LABELS: usize = 32;
const MAX_LABEL_BYTES: usize = 256;

/// What a request says about itself beside its inputs.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct RequestMeta {
    /// The prediction id that the caller brought.
    pub(crate) id: Option<String>,
    /// Event time.
    pub(crate) time_ms: Option<i64>,
    /// Labels such as farm, pen, camera.
    pub(crate) labels: BTreeMap<String, String>,
    /// Requests of the same key go to the same version while traffic is split.
    pub(crate) sticky_key: Option<String>,
    /// How long the caller waits.
    pub(crate) timeout: Option<Duration>,
    /// Whether the prediction stays out of the log: a batch over old rows is no traffic to be watched.
    pub(crate) is_unrecorded: bool,
    /// What else it says, for a model whose signature declares it.
    pub(crate) params: Map<String, Value>,
}

/// The parameters of a request that mean something to us; what else there is, is for other servers.
#[derive(Debug, Default, Deserialize)]
struct Parameters {
    event_time: Option<Cell>,
    labels: Option<BTreeMap<String, Cell>>,
    prediction_id: Option<String>,
    sticky_key: Option<Cell>,
    /// Microseconds, as Triton has it; a text where a client can send nothing else.
    timeout: Option<Cell>,
    record: Option<bool>,
}

impl RequestMeta {
    /// An empty id is none: clients send it when they have none.
    pub(crate) fn new(id: Option<String>, parameters: &Map<String, Value>) -> Result<Self> {
        if parameters.is_empty() {
            let id = id.filter(|id| !id.is_empty());
            id.as_deref().map_or(Ok(()), check_prediction_id)?;
            return Ok(Self { id, ..Self::default() });
        }
        let parameters =
            Parameters::deserialize(parameters).map_err(|error| Error::invalid(format!("parameters: {error}")))?;
        let id = id.or(parameters.prediction_id).filter(|id| !id.is_empty());
        if let Some(id) = &id {
            check_prediction_id(id)?;
        }
        let time_ms = match parameters.event_time {
            None | Some(Cell::Null) => None,
            Some(Cell::Int(time_ms)) => Some(time_ms),
            Some(Cell::Float(time_ms)) if time_ms.is_finite() => Some(time_ms as i64),
            Some(Cell::Text(text)) => Some(parse_time(&text)?),
            Some(other) => return Err(bad_time(&format!("{other:?}"))),
        };
        let labels = parameters.labels.unwrap_or_default();
        if labels.len() > MAX_LABELS {
            return Err(Error::invalid(format!("{} labels are more than the {MAX_LABELS} allowed", labels.len())));
        }
        let labels = labels.into_iter().map(|(name, value)| {
            let value = text_of(value);
            if name.is_empty() || name.len() > MAX_LABEL_BYTES || value.len() > MAX_LABEL_BYTES {
                return Err(Error::invalid(format!(
                    "label {name:?}: name and value have at most {MAX_LABEL_BYTES} bytes"
                )));
            }
            Ok((name, value))
        });
        let sticky_key = parameters.sticky_key.map(text_of).filter(|key| !key.is_empty());
        let timeout = match parameters.timeout.map(text_of) {
            None => None,
            Some(text) => match text.parse::<u64>() {
                Ok(0) => None,
                Ok(microseconds) => Some(Duration::from_micros(microseconds)),
                Err(_) => return Err(Error::invalid(format!("timeout {text} is no number of microseconds"))),
            },
        };
        let is_unrecorded = parameters.record == Some(false);
        let labels = labels.collect::<Result<_>>()?;
        Ok(Self { id, time_ms, labels, sticky_key, timeout, is_unrecorded, params: Map::new() })
    }
}

fn text_of(cell: Cell) -> String {
    match cell {
        Cell::Null => String::new(),
        Cell::Bool(value) => value.to_string(),
        Cell::Int(value) => value.to_string(),
        Cell::Float(value) => value.to_string(),
        Cell::Text(value) => value,
    }
}

/// An event time as text.
pub(crate) fn parse_time(text: &str) -> Result<i64> {
    fishy_core::time::parse_ms(text).ok_or_else(|| bad_time(text))
}

fn bad_time(text: &str) -> Error {
    Error::invalid(format!("event_time {text} is neither RFC 3339 nor a number of milliseconds"))
}

/// Checks an id that a caller brought. It has no `/`, which sets the rows of one request apart.
pub(crate) fn check_prediction_id(id: &str) -> Result<()> {
    let is_safe = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':' | b'@' | b'+' | b'=');
    if !id.is_empty() && id.len() <= 128 && id.bytes().all(is_safe) {
        Ok(())
    } else {
        Err(Error::invalid(format!("id {id:?} is not 1 to 128 letters, digits or any of - _ . : @ + =")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(json: &str) -> Result<RequestMeta> {
        RequestMeta::new(None, &serde_json::from_str(json).unwrap())
    }

    #[test]
    fn event_times_and_labels_come_in_the_usual_forms() {
        let expected = Some(1_325_394_000_000);
        for time in ["1325394000000", "\"2012-01-01T05:00:00Z\"", "\"2012-01-01 05:00:00\"", "1325394000000.0"] {
            assert_eq!(meta(&format!(r#"{{"event_time": {time}}}"#)).unwrap().time_ms, expected, "{time}");
        }
        assert!(meta(r#"{"event_time": "soon"}"#).unwrap_err().message().contains("soon"));
        assert!(meta(r#"{"event_time": true}"#).is_err());
        let labels = meta(r#"{"labels": {"farm": "Tromsø", "pen": 4}, "binary_data_output": true}"#).unwrap().labels;
        assert_eq!(labels, BTreeMap::from([("farm".into(), "Tromsø".into()), ("pen".into(), "4".into())]));
    }

    #[test]
    fn sticky_keys_and_timeouts_are_read() {
        let read = meta(r#"{"sticky_key": 4, "timeout": "2000"}"#).unwrap();
        assert_eq!((read.sticky_key.as_deref(), read.timeout), (Some("4"), Some(Duration::from_millis(2))));
        assert_eq!(meta(r#"{"timeout": 0}"#).unwrap().timeout, None);
        assert!(meta(r#"{"timeout": "soon"}"#).is_err());
    }

    #[test]
    fn ids_that_could_break_something_are_refused() {
        assert_eq!(RequestMeta::new(Some(String::new()), &Map::new()).unwrap().id, None);
        assert!(RequestMeta::new(Some("pen-4:2012-01-01T05".into()), &Map::new()).is_ok());
        for bad in ["a/1", "a b", "ä", "a\n", &"x".repeat(129)] {
            assert!(RequestMeta::new(Some(bad.into()), &Map::new()).is_err(), "{bad:?}");
        }
    }
}
