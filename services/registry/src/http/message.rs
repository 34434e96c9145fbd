//! Requests as MLflow's clients send them: JSON in bodies, the query string of a GET, field names in snake case or in
//! lower camel case, numbers as numbers or as text.

use axum::extract::{FromRequest, Request};
use axum::http::Method;
use axum::http::header::CONTENT_TYPE;
use bytes::Bytes;
use fishy_core::{Error, Result};
use fishy_http::Failure;
use serde_json::{Map, Value};

use crate::domain::metric::{MetricValue, Point};
use crate::domain::names;
use crate::domain::records::Pair;
use crate::service::Search;

/// The fields of a request, or of an object in one. Fields that nobody reads are ignored, as they are by MLflow.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    fields: Map<String, Value>,
    /// The size of the body it came in; 0 for a query string.
    pub body_bytes: usize,
}

impl<S: Send + Sync> FromRequest<S> for Message {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        let query = request.uri().query().unwrap_or("").to_owned();
        if request.method() == Method::GET {
            return Ok(Self::from_query(&query)?);
        }
        let content_type = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
        let is_json = content_type.is_empty() || content_type.to_ascii_lowercase().starts_with("application/json");
        if !is_json {
            let text = format!("Bad Request. Content-Type must be 'application/json', got '{content_type}'.");
            return Err(Error::invalid(text).into());
        }
        let body = Bytes::from_request(request, state).await.map_err(|rejection| {
            if rejection.status().as_u16() == 413 {
                Error::exhausted("the request body is larger than server.max_body_bytes allows")
            } else {
                Error::invalid(format!("request body: {rejection}"))
            }
        })?;
        if body.is_empty() {
            return Ok(Self::from_query(&query)?);
        }
        Ok(Self::from_body(&body)?)
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float",
        Value::Number(_) => "int",
        Value::String(_) => "str",
        Value::Array(_) => "list",
        Value::Object(_) => "dict",
    }
}

fn wrong_type(name: &str, value: &Value) -> Error {
    let mut shown = value.to_string();
    if shown.len() > 200 {
        shown = shown.chars().take(200).collect::<String>() + "…";
    }
    Error::invalid(format!(
        "Invalid value {shown} for parameter '{name}' supplied:  Hint: Value was of type '{}'. See the API docs for more information about request parameters.",
        kind_of(value)
    ))
}

impl Message {
    /// Reads a query string.
    pub fn from_query(query: &str) -> Result<Self> {
        let mut fields = Map::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (key, value) = (decoded(key)?, Value::String(decoded(value)?));
            match fields.get_mut(&key) {
                None => {
                    fields.insert(key, value);
                }
                Some(Value::Array(values)) => values.push(value),
                Some(first) => *first = Value::Array(vec![first.take(), value]),
            }
        }
        Self::new(fields, 0)
    }

    fn from_body(body: &[u8]) -> Result<Self> {
        let wrong = |error: serde_json::Error| Error::invalid(format!("request body is not valid JSON: {error}"));
        let mut value: Value = serde_json::from_slice(body).map_err(wrong)?;
        // Old clients encode twice.
        if let Value::String(text) = &value {
            value = serde_json::from_str(text).map_err(wrong)?;
        }
        match value {
            Value::Object(fields) => Self::new(fields, body.len()),
            other => Err(Error::invalid(format!("request body must be a JSON object, got {}", kind_of(&other)))),
        }
    }

    fn new(fields: Map<String, Value>, body_bytes: usize) -> Result<Self> {
        if !has_camel_case(&fields) {
            return Ok(Self { fields, body_bytes });
        }
        let mut renamed = Map::new();
        for (key, value) in fields {
            let snake = snake_case(&key);
            if renamed.insert(snake, value).is_some() {
                return Err(Error::invalid(format!("The field '{key}' is given twice, in two spellings")));
            }
        }
        Ok(Self { fields: renamed, body_bytes })
    }

    /// A value as it came, with what is in it unread.
    pub fn value(&self, name: &str) -> Option<&Value> {
        self.get(name)
    }

    const fn view(&self) -> Fields<'_> {
        Fields(&self.fields)
    }

    fn get(&self, name: &str) -> Option<&Value> {
        self.view().get(name)
    }

    /// A text; `None` when it is not there.
    pub fn text(&self, name: &str) -> Result<Option<String>> {
        self.view().text(name)
    }

    /// A text; `None` when it is not there or empty.
    pub fn filled(&self, name: &str) -> Result<Option<String>> {
        self.view().filled(name)
    }

    /// A text that must be there.
    pub fn required(&self, name: &str) -> Result<String> {
        self.view().required(name)
    }

    /// A text that must be there and may be a number.
    pub fn required_id(&self, name: &str) -> Result<String> {
        match self.get(name) {
            Some(Value::Number(number)) if !number.is_f64() => Ok(number.to_string()),
            _ => self.required(name),
        }
    }

    /// The id of a run, under its name or its old name.
    pub fn run_id(&self) -> Result<String> {
        match self.filled("run_id")?.or(self.filled("run_uuid")?) {
            Some(id) => Ok(id),
            None => Err(names::missing("run_id")),
        }
    }

    /// A whole number, or its text.
    pub fn whole(&self, name: &str) -> Result<Option<i64>> {
        self.view().whole(name)
    }

    /// Yes or no, or its text.
    pub fn flag(&self, name: &str) -> Result<Option<bool>> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(Value::String(text)) if text == "true" || text == "false" => Ok(Some(text == "true")),
            Some(other) => Err(wrong_type(name, other)),
        }
    }

    /// A list; empty when it is not there.
    pub fn list(&self, name: &str) -> Result<&[Value]> {
        match self.get(name) {
            None => Ok(&[]),
            Some(Value::Array(values)) => Ok(values),
            Some(other) => Err(wrong_type(name, other)),
        }
    }

    /// A list of texts; in a query string one text is a list of one.
    pub fn texts(&self, name: &str) -> Result<Vec<String>> {
        match self.get(name) {
            Some(Value::String(text)) if self.body_bytes == 0 => Ok(vec![text.clone()]),
            Some(Value::Array(values)) => values
                .iter()
                .map(|value| value.as_str().map(str::to_owned).ok_or_else(|| wrong_type(name, value)))
                .collect(),
            None => Ok(Vec::new()),
            Some(other) => Err(wrong_type(name, other)),
        }
    }

    /// An object.
    pub fn object(&self, name: &str) -> Result<Option<Self>> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Object(fields)) => Self::new(fields.clone(), 0).map(Some),
            Some(other) => Err(wrong_type(name, other)),
        }
    }

    /// A list of objects.
    pub fn objects(&self, name: &str) -> Result<Vec<Self>> {
        self.list(name)?
            .iter()
            .map(|value| match value {
                Value::Object(fields) => Self::new(fields.clone(), 0),
                other => Err(wrong_type(name, other)),
            })
            .collect()
    }

    /// Tags or parameters: a list of keys and values.
    pub fn pairs(&self, name: &str) -> Result<Vec<Pair>> {
        self.list(name)?.iter().map(|value| read(name, value, pair_of)).collect()
    }

    /// A list of measurements.
    pub fn points(&self, name: &str) -> Result<Vec<Point>> {
        self.list(name)?.iter().map(|value| read(name, value, point_of)).collect()
    }

    /// A key and its value; no value is an empty one.
    pub fn pair(&self) -> Result<Pair> {
        pair_of(self.view())
    }

    /// A measurement.
    pub fn point(&self) -> Result<Point> {
        point_of(self.view())
    }

    /// A search.
    pub fn search(&self) -> Result<Search> {
        Ok(Search {
            filter: self.text("filter")?.unwrap_or_default(),
            order_by: self.texts("order_by")?,
            max_results: self.whole("max_results")?,
            page_token: self.text("page_token")?.unwrap_or_default(),
        })
    }
}

/// Fields in snake case, where they are: a batch has a thousand objects, which need not be copied to be read.
#[derive(Clone, Copy)]
struct Fields<'a>(&'a Map<String, Value>);

/// Reads an object of a list.
fn read<T>(name: &str, value: &Value, how: impl FnOnce(Fields<'_>) -> Result<T>) -> Result<T> {
    match value {
        Value::Object(fields) if has_camel_case(fields) => how(Message::new(fields.clone(), 0)?.view()),
        Value::Object(fields) => how(Fields(fields)),
        other => Err(wrong_type(name, other)),
    }
}

fn has_camel_case(fields: &Map<String, Value>) -> bool {
    fields.keys().any(|key| key.bytes().any(|b| b.is_ascii_uppercase()))
}

impl<'a> Fields<'a> {
    fn get(self, name: &str) -> Option<&'a Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// A text; `None` when it is not there.
    fn text(self, name: &str) -> Result<Option<String>> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(other) => Err(wrong_type(name, other)),
        }
    }

    /// A text; `None` when it is not there or empty.
    fn filled(self, name: &str) -> Result<Option<String>> {
        Ok(self.text(name)?.filter(|text| !text.is_empty()))
    }

    /// A text that must be there.
    fn required(self, name: &str) -> Result<String> {
        self.filled(name)?.ok_or_else(|| names::missing(name))
    }

    /// A whole number, or its text.
    fn whole(self, name: &str) -> Result<Option<i64>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let number = match value {
            Value::Number(number) => number
                .as_i64()
                .or_else(|| number.as_f64().filter(|n| n.fract() == 0.0 && n.abs() < 9e15).map(|n| n as i64)),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        number.map(Some).ok_or_else(|| wrong_type(name, value))
    }
}

/// A key and its value; no value is an empty one.
fn pair_of(fields: Fields<'_>) -> Result<Pair> {
    let key = fields.text("key")?.ok_or_else(|| names::missing("key"))?;
    Ok(Pair { key, value: fields.text("value")?.unwrap_or_default() })
}

/// A measurement.
fn point_of(fields: Fields<'_>) -> Result<Point> {
    let value = fields.get("value").ok_or_else(|| names::missing("value"))?;
    let value = MetricValue::from_json(value).ok_or_else(|| {
        Error::invalid(format!(
            "{} Please specify value as a valid double (64-bit floating point)",
            wrong_type("value", value)
        ))
    })?;
    Ok(Point {
        key: fields.required("key")?,
        value,
        timestamp: fields.whole("timestamp")?.ok_or_else(|| names::missing("timestamp"))?,
        step: fields.whole("step")?.unwrap_or(0),
        model_id: fields.filled("model_id")?,
        dataset_name: fields.filled("dataset_name")?,
        dataset_digest: fields.filled("dataset_digest")?,
    })
}

fn decoded(text: &str) -> Result<String> {
    let text = text.replace('+', " ");
    let decoded = percent_encoding::percent_decode_str(&text).decode_utf8();
    decoded.map(std::borrow::Cow::into_owned).map_err(|_| Error::invalid("the query string is not UTF-8"))
}

/// The name of a field as the protocol's messages call it.
pub(super) fn snake_case(key: &str) -> String {
    let mut snake = String::with_capacity(key.len() + 4);
    for c in key.chars() {
        if c.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
    }
    snake
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(text: &str) -> Result<Message> {
        Message::from_body(text.as_bytes())
    }

    #[test]
    fn both_spellings_are_read_but_not_together() {
        assert_eq!(body(r#"{"runId": "a"}"#).unwrap().run_id().unwrap(), "a");
        assert_eq!(body(r#"{"run_uuid": "a"}"#).unwrap().run_id().unwrap(), "a");
        assert!(body(r#"{"runId": "a", "run_id": "b"}"#).is_err());
        assert_eq!(body(r#""{\"run_id\": \"a\"}""#).unwrap().run_id().unwrap(), "a", "encoded twice");
    }

    #[test]
    fn what_is_no_json_or_not_finite_is_refused() {
        for bad in
            ["notjson", "[1]", "1", "{\"value\": NaN}", "{\"value\": Infinity}", "{\"value\": 1e400}", "\"x\"", "{"]
        {
            assert!(body(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn types_are_checked_and_named() {
        let message =
            body(r#"{"name": 123, "max_results": "7", "flag": "true", "step": 1.5, "ids": ["a", 1]}"#).unwrap();
        let error = message.required("name").unwrap_err();
        assert!(
            error
                .message()
                .starts_with("Invalid value 123 for parameter 'name' supplied:  Hint: Value was of type 'int'.")
        );
        assert!(
            message
                .required("other")
                .unwrap_err()
                .message()
                .starts_with("Missing value for required parameter 'other'")
        );
        assert_eq!(message.whole("max_results").unwrap(), Some(7));
        assert_eq!(message.flag("flag").unwrap(), Some(true));
        assert!(message.whole("step").is_err() && message.texts("ids").is_err() && message.flag("name").is_err());
        assert!(message.objects("ids").is_err() && message.list("name").is_err());
    }

    #[test]
    fn a_query_string_is_a_message_too() {
        let message = Message::from_query("filter=name%20%3D%20%27a+b%27&order_by=a&order_by=b&x").unwrap();
        assert_eq!(message.required("filter").unwrap(), "name = 'a b'");
        assert_eq!(message.texts("order_by").unwrap(), ["a", "b"]);
        assert_eq!(message.text("x").unwrap().as_deref(), Some(""));
        assert!(Message::from_query("a=%ff").is_err());
    }

    #[test]
    fn points_take_special_values_as_text() {
        let point =
            |value: &str| body(&format!(r#"{{"key": "a", "timestamp": 1, "value": {value}}}"#)).unwrap().point();
        assert!(point("\"NaN\"").unwrap().value.0.is_nan());
        for bad in ["true", "\"x\"", "null", "[]"] {
            assert!(point(bad).is_err(), "{bad}");
        }
    }
}
