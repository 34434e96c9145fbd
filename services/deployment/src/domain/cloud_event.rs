//! Prediction records as CloudEvents 1.0: their attributes, and the forms in which they travel.

use std::borrow::Cow;
use std::fmt::Write;

use fishy_config::SinkFormat;
use fishy_contracts::deployment::PredictionRecord;
use fishy_core::time::rfc3339;
use fishy_core::{Error, Result};
use serde::Deserialize;
use serde_json::{Value, json};

use super::spread;

/// The type of the event of a whole record.
const RECORDED: &str = "fishy.deployment.prediction.recorded.v1";
/// The same of an answer that nobody got.
const SHADOWED: &str = "fishy.deployment.prediction.shadowed.v1";
/// The types of KServe's logger.
const KSERVE_REQUEST: &str = "org.kubeflow.serving.inference.request";
const KSERVE_RESPONSE: &str = "org.kubeflow.serving.inference.response";

/// What of a record is looked at without reading the rest of it.
#[derive(Debug, Deserialize)]
pub(crate) struct Head<'a> {
    #[serde(borrow)]
    pub(crate) id: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) deployment: Cow<'a, str>,
    revision: i64,
    #[serde(borrow)]
    version: Cow<'a, str>,
    received_ms: i64,
    #[serde(default)]
    is_shadow: bool,
}

/// An event: its attributes, and JSON.
#[derive(Debug, PartialEq)]
pub(crate) struct CloudEvent<'a> {
    /// Texts and whole numbers, by name; all but `datacontenttype`, which is `application/json`.
    pub(crate) attributes: Vec<(&'static str, Value)>,
    pub(crate) data: Cow<'a, [u8]>,
}

impl<'a> Head<'a> {
    /// Reads it out of a line of the spool.
    pub(crate) fn parse(line: &'a [u8]) -> Result<Self> {
        serde_json::from_slice(line).map_err(unreadable)
    }

    /// The id of the request: that of its rows but for their number.
    fn request(&self) -> &str {
        self.id.split_once('/').map_or(&*self.id, |(request, _)| request)
    }

    /// Whether this share of the requests has it. Decided by the id alone: the rows of a request go together, repeated ones
    /// the same way, and a larger share has all that a smaller one has.
    pub(crate) fn is_sampled(&self, share: f64) -> bool {
        share >= 1.0 || spread(&["prediction log", &self.deployment, self.request()]) < share
    }

    /// The events of the record in `line`. KServe's form has no word for the answer of a shadow: there it has none.
    pub(crate) fn events(&self, line: &'a [u8], format: SinkFormat, share: f64) -> Result<Vec<CloudEvent<'a>>> {
        let (is_request, is_response) = match format {
            SinkFormat::Record => return Ok(vec![self.whole(line, share)]),
            _ if self.is_shadow => return Ok(Vec::new()),
            SinkFormat::Kserve => (true, true),
            SinkFormat::KserveRequest => (true, false),
            SinkFormat::KserveResponse => (false, true),
        };
        let record: PredictionRecord = serde_json::from_slice(line).map_err(unreadable)?;
        let mut events = Vec::new();
        if is_request {
            let inputs: Vec<Value> = record.inputs.iter().map(|(name, value)| tensor(name, value)).collect();
            events.push(self.payload(KSERVE_REQUEST, &json!({"id": record.id, "inputs": inputs}))?);
        }
        if is_response {
            let outputs: Vec<Value> = record.outputs.iter().map(|(name, value)| tensor(name, value)).collect();
            let (model, version) = (&record.deployment, &record.version);
            let answer = json!({"id": record.id, "model_name": model, "model_version": version, "outputs": outputs});
            events.push(self.payload(KSERVE_RESPONSE, &answer)?);
        }
        Ok(events)
    }

    fn base(&self, kind: &str) -> Vec<(&'static str, Value)> {
        let mut source = format!("/deployments/{}", self.deployment);
        if self.is_shadow {
            // The id is that of the answer that was given.
            let _ = write!(source, "/shadows/{}", self.version);
        }
        vec![
            ("specversion", "1.0".into()),
            ("id", Value::from(&*self.id)),
            ("source", source.into()),
            ("type", kind.into()),
            ("time", rfc3339(self.received_ms).into()),
        ]
    }

    fn whole(&self, line: &'a [u8], share: f64) -> CloudEvent<'a> {
        let mut attributes = self.base(if self.is_shadow { SHADOWED } else { RECORDED });
        attributes.extend([
            ("subject", Value::from(&*self.deployment)),
            ("partitionkey", self.request().into()),
            ("modelversion", Value::from(&*self.version)),
            // An integer of CloudEvents has 32 bits.
            ("revision", i32::try_from(self.revision).unwrap_or(i32::MAX).into()),
        ]);
        if share < 1.0 {
            attributes.push(("sampledrate", ((1.0 / share).round().min(f64::from(i32::MAX)) as i32).into()));
        }
        CloudEvent { attributes, data: Cow::Borrowed(line) }
    }

    fn payload(&self, kind: &str, data: &Value) -> Result<CloudEvent<'a>> {
        let mut attributes = self.base(kind);
        attributes.extend([
            ("inferenceservicename", Value::from(&*self.deployment)),
            ("component", "predictor".into()),
            ("namespace", "".into()),
            ("endpoint", "".into()),
        ]);
        let data = serde_json::to_vec(data).map_err(unwritable)?;
        Ok(CloudEvent { attributes, data: Cow::Owned(data) })
    }
}

impl CloudEvent<'_> {
    /// The event as one JSON object.
    pub(crate) fn write_json(&self, out: &mut Vec<u8>) -> Result<()> {
        out.push(b'{');
        for (name, value) in &self.attributes {
            serde_json::to_writer(&mut *out, name).map_err(unwritable)?;
            out.push(b':');
            serde_json::to_writer(&mut *out, value).map_err(unwritable)?;
            out.push(b',');
        }
        out.extend_from_slice(br#""datacontenttype":"application/json","data":"#);
        out.extend_from_slice(&self.data);
        out.push(b'}');
        Ok(())
    }

    /// The attributes as texts.
    pub(crate) fn texts(&self) -> impl Iterator<Item = (&'static str, String)> {
        self.attributes
            .iter()
            .map(|(name, value)| (*name, value.as_str().map_or_else(|| value.to_string(), str::to_owned)))
    }

    /// An attribute that is a text.
    pub(crate) fn text(&self, name: &str) -> &str {
        let found = self.attributes.iter().find(|(known, _)| *known == name);
        found.and_then(|(_, value)| value.as_str()).unwrap_or_default()
    }
}

/// An attribute as the value of an HTTP header: whatever is not printable ASCII, the space, `"` and `%` are percent-encoded.
pub(crate) fn header_value(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            0x21..=0x7e if !matches!(byte, b'"' | b'%') => encoded.push(char::from(byte)),
            _ => {
                // Writing to a text cannot fail.
                let _ = write!(encoded, "%{byte:02X}");
            }
        }
    }
    encoded
}

/// One recorded value as a tensor of the Open Inference Protocol.
fn tensor(name: &str, value: &Value) -> Value {
    let (shape, data) = match value {
        Value::Array(values) => (json!([1, values.len()]), values.clone()),
        one => (json!([1]), vec![one.clone()]),
    };
    let datatype = match data.iter().find(|value| !value.is_null()) {
        Some(Value::Bool(_)) => "BOOL",
        Some(Value::Number(_)) if data.iter().all(Value::is_i64) => "INT64",
        Some(Value::Number(_)) | None => "FP64",
        Some(_) => "BYTES",
    };
    let data: Vec<Value> = match datatype {
        "BYTES" => {
            data.into_iter().map(|value| if value.is_string() { value } else { value.to_string().into() }).collect()
        }
        _ => data,
    };
    json!({"name": name, "shape": shape, "datatype": datatype, "data": data})
}

fn unreadable(error: serde_json::Error) -> Error {
    Error::internal("a prediction record cannot be read").with_source(error)
}

fn unwritable(error: serde_json::Error) -> Error {
    Error::internal("an event cannot be written").with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"id":"p:1/2","deployment":"oxygen","revision":3,"version":"7","time_ms":5,"received_ms":1325394000000,"latency_us":9,"inputs":{"t":11.5,"pen":"4","u":null},"outputs":{"class":2,"p":[0.25,0.75]},"labels":{"pen":"4"}}"#;

    fn events(format: SinkFormat, share: f64) -> Vec<CloudEvent<'static>> {
        let head = Head::parse(LINE.as_bytes()).unwrap();
        head.events(LINE.as_bytes(), format, share).unwrap()
    }

    fn json_of(event: &CloudEvent<'_>) -> Value {
        let mut text = Vec::new();
        event.write_json(&mut text).unwrap();
        serde_json::from_slice(&text).unwrap()
    }

    #[test]
    fn a_record_is_one_event_with_the_record_as_its_data() {
        let events = events(SinkFormat::Record, 1.0);
        assert_eq!(events.len(), 1);
        let expected = json!({
            "specversion": "1.0", "id": "p:1/2", "source": "/deployments/oxygen", "type": RECORDED,
            "time": "2012-01-01T05:00:00.000Z", "subject": "oxygen", "partitionkey": "p:1", "modelversion": "7",
            "revision": 3, "datacontenttype": "application/json",
            "data": serde_json::from_str::<Value>(LINE).unwrap(),
        });
        assert_eq!(json_of(&events[0]), expected);
        let texts: Vec<(&str, String)> = events[0].texts().collect();
        assert!(texts.contains(&("revision", "3".to_owned())) && texts.contains(&("id", "p:1/2".to_owned())));
        let names = json_of(&events[0]);
        let is_plain =
            |name: &String| name.len() <= 20 && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        assert!(names.as_object().unwrap().keys().all(is_plain), "the names that CloudEvents allows: {names}");
    }

    #[test]
    fn the_answer_of_a_shadow_is_another_event() {
        let line = LINE.replacen('{', r#"{"is_shadow":true,"#, 1);
        let head = Head::parse(line.as_bytes()).unwrap();
        let event = json_of(&head.events(line.as_bytes(), SinkFormat::Record, 1.0).unwrap()[0]);
        assert_eq!((&event["type"], &event["source"]), (&json!(SHADOWED), &json!("/deployments/oxygen/shadows/7")));
        assert_eq!((&event["id"], &event["data"]["is_shadow"]), (&json!("p:1/2"), &json!(true)));
        assert!(head.events(line.as_bytes(), SinkFormat::Kserve, 1.0).unwrap().is_empty());
    }

    #[test]
    fn kserves_events_are_a_request_and_an_answer_of_one_id() {
        let both = events(SinkFormat::Kserve, 1.0);
        let (request, answer) = (json_of(&both[0]), json_of(&both[1]));
        assert_eq!((&request["type"], &answer["type"]), (&json!(KSERVE_REQUEST), &json!(KSERVE_RESPONSE)));
        assert_eq!((&request["id"], &answer["id"]), (&json!("p:1/2"), &json!("p:1/2")));
        assert_eq!((&request["inferenceservicename"], &request["component"]), (&json!("oxygen"), &json!("predictor")));
        assert_eq!(
            request["data"]["inputs"],
            json!([
                {"name": "pen", "shape": [1], "datatype": "BYTES", "data": ["4"]},
                {"name": "t", "shape": [1], "datatype": "FP64", "data": [11.5]},
                {"name": "u", "shape": [1], "datatype": "FP64", "data": [null]},
            ])
        );
        assert_eq!((&answer["data"]["model_name"], &answer["data"]["model_version"]), (&json!("oxygen"), &json!("7")));
        assert_eq!(
            answer["data"]["outputs"],
            json!([
                {"name": "class", "shape": [1], "datatype": "INT64", "data": [2]},
                {"name": "p", "shape": [1, 2], "datatype": "FP64", "data": [0.25, 0.75]},
            ])
        );
        assert_eq!(events(SinkFormat::KserveRequest, 1.0), &both[..1]);
        assert_eq!(events(SinkFormat::KserveResponse, 1.0), &both[1..]);
    }

    #[test]
    fn a_sample_is_a_share_of_the_requests_and_the_same_one_each_time() {
        let line = |id: &str| LINE.replace("p:1/2", id);
        let is_in = |id: &str, share: f64| Head::parse(line(id).as_bytes()).unwrap().is_sampled(share);
        let ids: Vec<String> = (0..4_000).map(|number| format!("p-{number}")).collect();
        for share in [0.1, 0.5] {
            let sampled = ids.iter().filter(|id| is_in(id, share)).count() as f64 / 4_000.0;
            assert!((sampled - share).abs() < 0.03, "{share}: {sampled}");
        }
        for id in &ids[..500] {
            assert_eq!(is_in(id, 0.3), is_in(&format!("{id}/1"), 0.3), "rows of a request go together");
            assert!(!is_in(id, 0.3) || is_in(id, 0.6), "a larger share has all that a smaller one has");
            assert!(is_in(id, 1.0));
        }
        assert_eq!(json_of(&events(SinkFormat::Record, 0.25)[0])["sampledrate"], 4);
    }

    #[test]
    fn header_values_are_printable_ascii() {
        assert_eq!(header_value("p-1/2"), "p-1/2");
        assert_eq!(header_value("Euro \u{20ac} \u{1f600}"), "Euro%20%E2%82%AC%20%F0%9F%98%80");
        assert_eq!(header_value("100 % \"so\"\n"), "100%20%25%20%22so%22%0A");
    }
}
