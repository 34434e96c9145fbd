//! Prediction records as they come from the stream, and what is kept of them.

mod wire;

use std::collections::BTreeMap;

use fishy_contracts::deployment::PredictionRecord;
use fishy_core::{Error, Result};
use serde_json::Value;

use super::is_time;
use wire::{Labels, Numbers, Outputs, Text, Wire};

/// The longest id.
pub const MAX_ID_BYTES: usize = 512;

/// What is kept of a prediction.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// Its id.
    pub id: String,
    /// The deployment that answered.
    pub deployment: String,
    /// The version that answered.
    pub version: String,
    /// Event time.
    pub time_ms: i64,
    /// JSON: numbers and nulls by feature.
    pub inputs: String,
    /// JSON, or empty.
    pub labels: String,
    /// The numeric outputs by name.
    pub outputs: BTreeMap<String, f64>,
}

/// The predictions of a batch, and how many of its lines were of no use.
#[derive(Debug, Default)]
pub struct Batch {
    /// In the order of the stream.
    pub predictions: Vec<Prediction>,
    /// Lines that are no prediction record: they would be none the next time either, so they are left out.
    pub malformed: u64,
}

/// Reads JSON lines.
pub fn read_batch(lines: &[u8]) -> Batch {
    let mut batch = Batch::default();
    for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.iter().all(u8::is_ascii_whitespace)) {
        match read(line) {
            Ok(prediction) => batch.predictions.push(prediction),
            Err(error) => {
                if batch.malformed == 0 {
                    tracing::warn!(error = error.chain(), "a prediction record was left out");
                }
                batch.malformed += 1;
            }
        }
    }
    batch
}

fn read(line: &[u8]) -> Result<Prediction> {
    let record: Wire<'_> = serde_json::from_slice(line).map_err(no_record)?;
    let Wire { id, deployment, version, time_ms, inputs, outputs, labels, .. } = record;
    let (Numbers(inputs), Outputs(outputs), Labels(labels)) = (inputs, outputs, labels);
    if inputs.is_unordered || labels.is_unordered {
        return read_in_any_order(line);
    }
    let text = |text: Text| text.into_json().map_err(|error| Error::internal("cannot write a row").with_source(error));
    checked(Prediction {
        inputs: text(inputs)?,
        labels: text(labels)?,
        outputs,
        id: id.into_owned(),
        deployment: deployment.into_owned(),
        version: version.into_owned(),
        time_ms,
    })
}

fn no_record(error: serde_json::Error) -> Error {
    Error::invalid("a line that is no prediction record").with_source(error)
}

fn checked(prediction: Prediction) -> Result<Prediction> {
    let Prediction { id, deployment, version, time_ms, .. } = &prediction;
    check_id(id)?;
    if deployment.is_empty() || deployment.contains('\0') || version.contains('\0') {
        return Err(Error::invalid(format!("prediction {id:?} names no deployment")));
    }
    if !is_time(*time_ms) {
        return Err(Error::invalid(format!("prediction {id:?} has event time {time_ms} ms")));
    }
    Ok(prediction)
}

/// As [`read`], of records whose names are not in order: ours are.
fn read_in_any_order(line: &[u8]) -> Result<Prediction> {
    let record: PredictionRecord = serde_json::from_slice(line).map_err(no_record)?;
    let inputs: BTreeMap<&String, Option<f64>> = record
        .inputs
        .iter()
        .filter_map(|(name, value)| match value {
            Value::Null => Some((name, None)),
            Value::Bool(flag) => Some((name, Some(f64::from(u8::from(*flag))))),
            other => number(other).map(|number| (name, Some(number))),
        })
        .collect();
    let outputs = record.outputs.iter().filter_map(|(name, value)| Some((name.clone(), number(value)?))).collect();
    let labels = if record.labels.is_empty() { String::new() } else { to_json(&record.labels)? };
    checked(Prediction {
        inputs: to_json(&inputs)?,
        labels,
        outputs,
        id: record.id,
        deployment: record.deployment,
        version: record.version,
        time_ms: record.time_ms,
    })
}

/// A number, also when it is the only element of a row.
fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Array(items) if items.len() == 1 => number(&items[0]),
        other => other.as_f64().filter(|number| number.is_finite()),
    }
}

impl Prediction {
    /// The output that truth is compared with: the one that is asked for, else the first one.
    pub fn output(&self, wanted: Option<&str>) -> Option<f64> {
        match wanted.filter(|name| !name.is_empty()) {
            Some(name) => self.outputs.get(name).copied(),
            None => self.outputs.values().next().copied(),
        }
    }
}

/// Whether an id can be kept.
pub fn check_id(id: &str) -> Result<()> {
    if id.is_empty() || id.len() > MAX_ID_BYTES || id.chars().any(char::is_control) {
        return Err(Error::invalid(format!(
            "{id:?} is not an id: use 1 to {MAX_ID_BYTES} bytes, no control characters"
        )));
    }
    Ok(())
}

fn to_json<T: serde::Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Error::internal("cannot write a row").with_source(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"id":"p-1","deployment":"oxygen","revision":1,"version":"3","time_ms":1000,"received_ms":5,"latency_us":9,
        "inputs":{"temp":17.5,"ph":null,"farm":"north","is_day":true,"sal":[30.0]},"outputs":{"b":[[6.5]],"a":"high"},"labels":{"pen":"pen-3"}}"#;

    #[test]
    fn numbers_and_gaps_are_kept_and_texts_are_not() {
        let batch = read_batch(LINE.replace('\n', "").as_bytes());
        let prediction = &batch.predictions[0];
        assert_eq!(prediction.inputs, r#"{"is_day":1.0,"ph":null,"sal":30.0,"temp":17.5}"#);
        assert_eq!(prediction.labels, r#"{"pen":"pen-3"}"#);
        assert_eq!((prediction.output(None), prediction.output(Some("b")), prediction.output(Some("a"))), {
            (Some(6.5), Some(6.5), None)
        });
    }

    #[test]
    fn a_line_of_no_use_is_counted_and_harms_no_other() {
        let good = LINE.replace('\n', "");
        let future = good.replace("1000", "999999999999999999");
        let nameless = good.replace("p-1", "");
        let lines = format!("{good}\nrubbish\n\n{{\"id\":1}}\n{future}\n{nameless}\n{good}\n");
        let batch = read_batch(lines.as_bytes());
        assert_eq!((batch.predictions.len(), batch.malformed), (2, 4));
    }

    #[test]
    fn a_record_is_read_the_same_whatever_the_order_of_its_names() {
        let inputs = [
            r#""a":1,"b":-2.5e-7,"c":null,"d":true,"e":[4],"f":[[5.25]],"g":[],"h":[1,2],"i":"warm","j":{"k":1},"l":[true]"#,
            r#""\u00e4\"x":18446744073709551615,"z":-3"#,
            "",
        ];
        let labels = ["", r#","labels":{}"#, r#","labels":{"farm":"n\u006frth","pen":"a\"b"}"#];
        for inputs in inputs {
            for labels in labels {
                let line = format!(
                    r#"{{"id":"p","deployment":"d","revision":1,"version":"3","time_ms":1,"received_ms":5,"latency_us":9,
                    "inputs":{{{inputs}}},"outputs":{{"b":[[6.5]],"a":"high","c":1,"d":null}},"more":[{{}}]{labels}}}"#
                )
                .replace('\n', "");
                assert_eq!(read(line.as_bytes()).unwrap(), read_in_any_order(line.as_bytes()).unwrap(), "{line}");
            }
        }
        let line = LINE.replace('\n', "").replace(r#"{"temp":17.5,"#, r#"{"temp":1,"temp":17.5,"#);
        assert_eq!(read(line.as_bytes()).unwrap().inputs, r#"{"is_day":1.0,"ph":null,"sal":30.0,"temp":17.5}"#);
    }
}
