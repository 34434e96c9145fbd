//! `/deployments/{name}/…`: MLflow's scoring protocol, as `mlflow models serve` speaks it for one model.

use std::sync::Arc;

use axum::Router;
use axum::body::Body as HttpBody;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use fishy_core::{Error, Result};
use fishy_http::{Caller, ErrorForm, Failure, Guard, Routes};
use fishy_inference::{AnswerForm, Tensor};
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value, json};

use super::encoding::{LARGE_BYTES, pack, set_encoding};
use super::extract::{Body, Path};
use super::program::forward;
use super::tensors::{Shaped, to_json};
use crate::domain::{Frame, OutputsOfRow, Records, RequestMeta, Split, parse_time, prepare_value};
use crate::events::SERVICE;
use crate::service::{Answer, Service, blocking};

/// The MLflow release whose scoring protocol this is; its clients ask for it.
const MLFLOW_VERSION: &str = "3.17.2";
/// The prediction id: brought by the caller, and given back.
pub(crate) const PREDICTION_ID: HeaderName = HeaderName::from_static("x-prediction-id");
/// The event time of the request.
const EVENT_TIME: HeaderName = HeaderName::from_static("x-event-time");

/// Requests of the same key go to the same version while traffic is split.
const STICKY_KEY: HeaderName = HeaderName::from_static("x-sticky-key");
/// What Parquet is called: by IANA, and by those who do not know that.
const PARQUET_TYPES: [&str; 2] = ["application/vnd.apache.parquet", "application/x-parquet"];

type App = State<Arc<Service>>;

pub(super) fn routes(guard: &Guard) -> Router<Arc<Service>> {
    Routes::new(SERVICE, ErrorForm::Mlflow, guard)
        .post("/deployments/{name}/invocations", "deployment:predict", invocations)
        .get("/deployments/{name}/ping", "deployment:read", ping)
        .get("/deployments/{name}/health", "deployment:read", ping)
        .get("/deployments/{name}/version", "deployment:read", version)
        .post("/invocations", "deployment:predict", only_invocations)
        .get("/ping", "deployment:read", only_ping)
        .finish()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Invocation {
    dataframe_split: Option<Split>,
    dataframe_records: Option<Records>,
    instances: Option<Value>,
    inputs: Option<Value>,
    params: Option<Map<String, Value>>,
}

/// What a request carries.
enum Given {
    Frame(Frame),
    Arrays(Value),
}

#[derive(Serialize)]
struct Predictions<T> {
    predictions: T,
}

/// A data frame is answered with one record a row, arrays with one array an output, as MLflow does for ONNX models.
struct ByRow<'a>(&'a [Tensor], usize);
struct ByOutput<'a>(&'a [Tensor]);

impl Serialize for ByRow<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(outputs, rows) = *self;
        let mut seq = serializer.serialize_seq(Some(rows))?;
        for row in 0..rows {
            seq.serialize_element(&OutputsOfRow { outputs, rows, row, max_elements: usize::MAX })?;
        }
        seq.end()
    }
}

impl Serialize for ByOutput<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for tensor in self.0 {
            map.serialize_entry(&tensor.name, &Shaped::new(tensor))?;
        }
        map.end()
    }
}

async fn ping(State(service): App, Path(name): Path<String>) -> Result<&'static str, Failure> {
    ping_of(&service, &name)
}

fn ping_of(service: &Service, name: &str) -> Result<&'static str, Failure> {
    if let Some(graph) = service.graph(name) {
        return match service.graph_problem(&graph) {
            None => Ok("\n"),
            Some(problem) => Err(Error::unavailable(problem).into()),
        };
    }
    let (slot, _) = service.known(name, None)?;
    if slot.is_available() { Ok("\n") } else { Err(slot.not_serving().into()) }
}

async fn version(State(service): App, Path(name): Path<String>) -> Result<&'static str, Failure> {
    if service.slot(&name).is_none() && service.graph(&name).is_none() {
        return Err(crate::service::no_deployment(&name).into());
    }
    Ok(MLFLOW_VERSION)
}

async fn invocations(
    State(service): App,
    Path(name): Path<String>,
    Caller(caller): Caller,
    headers: HeaderMap,
    Body(body): Body,
) -> Result<Response, Failure> {
    if service.is_program(&name) {
        return Ok(forward(&service, &name, &caller, Method::POST, "/invocations", &headers, body).await?);
    }
    let answered = score(&service, &name, &headers, body).await;
    Ok(answered.inspect_err(|error| service.count_refused(&name, error))?)
}

/// `/invocations` for the one deployment of a process that has one, as a server of one model answers it.
async fn only_invocations(
    State(service): App,
    caller: Caller,
    headers: HeaderMap,
    Body(body): Body,
) -> Result<Response, Failure> {
    let name = only_deployment(&service)?;
    invocations(State(service), Path(name), caller, headers, Body(body)).await
}

async fn only_ping(State(service): App) -> Result<&'static str, Failure> {
    ping_of(&service, &only_deployment(&service)?)
}

fn only_deployment(service: &Service) -> Result<String> {
    let slots = service.slots.load();
    let mut names = slots.keys();
    match (names.next(), names.next()) {
        (Some(name), None) => Ok(name.clone()),
        _ => Err(Error::precondition(format!(
            "there are {} deployments: send the request to /deployments/NAME/invocations",
            slots.len()
        ))),
    }
}

async fn score(service: &Arc<Service>, name: &str, headers: &HeaderMap, body: Bytes) -> Result<Response> {
    let content_type = header(headers, &CONTENT_TYPE)?.unwrap_or_default().to_owned();
    let Some(form) = Form::of(&content_type) else {
        let message = format!(
            "content type {content_type:?} is not known: send application/json, text/csv or {}",
            PARQUET_TYPES[0]
        );
        let body = json!({"error_code": "BAD_REQUEST", "message": message}).to_string();
        let headers = [(CONTENT_TYPE, "application/json")];
        return Ok((StatusCode::UNSUPPORTED_MEDIA_TYPE, headers, body).into_response());
    };
    let request = if form == Form::Parquet || body.len() >= LARGE_BYTES {
        blocking(move || read(form, body)).await?
    } else {
        read(form, body)?
    };
    let Read { given, params } = request;
    let meta = RequestMeta { params: params.clone(), ..meta_of(headers, &params)? };
    let is_frame = matches!(given, Given::Frame(_));
    let answer = service
        .predict(name, None, meta, |layout| {
            layout.check_params(&params)?;
            match given {
                Given::Frame(frame) => layout.prepare_frame(frame),
                Given::Arrays(value) => prepare_value(layout, &value),
            }
        })
        .await?;
    let Answer { id, outputs, rows, .. } = &answer;
    let body = match (answer.form(), outputs.as_slice()) {
        (AnswerForm::Array, [only]) => to_json(&Predictions { predictions: Shaped::new(only) })?,
        (AnswerForm::Arrays, _) => to_json(&Predictions { predictions: ByOutput(outputs) })?,
        (AnswerForm::AsAsked | AnswerForm::Array, _) if !is_frame => {
            to_json(&Predictions { predictions: ByOutput(outputs) })?
        }
        _ => to_json(&Predictions { predictions: ByRow(outputs, *rows) })?,
    };
    let (body, encoding) = pack(headers, body).await?;
    let mut response = ([(CONTENT_TYPE, "application/json")], HttpBody::from(body)).into_response();
    if let Ok(id) = HeaderValue::from_str(id) {
        response.headers_mut().insert(PREDICTION_ID, id);
    }
    set_encoding(&mut response, encoding);
    Ok(response)
}

/// What headers and parameters say about a request.
pub(super) fn meta_of(headers: &HeaderMap, params: &Map<String, Value>) -> Result<RequestMeta> {
    let mut meta = RequestMeta::new(header(headers, &PREDICTION_ID)?.map(str::to_owned), params)?;
    if let Some(time) = header(headers, &EVENT_TIME)? {
        meta.time_ms = Some(parse_time(time)?);
    }
    if let Some(key) = header(headers, &STICKY_KEY)? {
        meta.sticky_key = Some(key.to_owned());
    }
    Ok(meta)
}

fn header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>> {
    let text = headers.get(name).map(HeaderValue::to_str).transpose();
    text.map_err(|_| Error::invalid(format!("header {name} is not plain text")))
}

/// The forms that a body comes in.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Form {
    Json,
    Csv,
    Parquet,
}

impl Form {
    fn of(content_type: &str) -> Option<Self> {
        match content_type.split(';').next().unwrap_or_default().trim() {
            "application/json" | "" => Some(Self::Json),
            "text/csv" => Some(Self::Csv),
            other if PARQUET_TYPES.contains(&other) => Some(Self::Parquet),
            _ => None,
        }
    }
}

/// What a body says.
struct Read {
    given: Given,
    params: Map<String, Value>,
}

fn read(form: Form, body: Bytes) -> Result<Read> {
    let frame = |frame| Read { given: Given::Frame(frame), params: Map::new() };
    match form {
        Form::Parquet => Frame::from_parquet(body).map(frame),
        Form::Csv => {
            let text = std::str::from_utf8(&body)
                .map_err(|error| Error::invalid(format!("the CSV body is not UTF-8: {error}")))?;
            Frame::from_csv(text).map(frame)
        }
        Form::Json => {
            let request: Invocation =
                serde_json::from_slice(&body).map_err(|error| Error::invalid(format!("request body: {error}")))?;
            let mut given = Vec::new();
            given.extend(request.dataframe_split.map(Frame::from_split).transpose()?.map(Given::Frame));
            given.extend(request.dataframe_records.map(Frame::from_records).transpose()?.map(Given::Frame));
            given.extend(request.instances.map(Given::of_value).transpose()?);
            given.extend(request.inputs.map(Given::of_value).transpose()?);
            match <[Given; 1]>::try_from(given) {
                Ok([given]) => Ok(Read { given, params: request.params.unwrap_or_default() }),
                Err(given) => Err(Error::invalid(format!(
                    "the request body has {} of dataframe_split, dataframe_records, instances and inputs: send one",
                    given.len()
                ))),
            }
        }
    }
}

impl Given {
    /// `instances` and `inputs` may be a list of records as well.
    fn of_value(value: Value) -> Result<Self> {
        let is_records = value.as_array().and_then(|rows| rows.first()).is_some_and(Value::is_object);
        if !is_records {
            return Ok(Self::Arrays(value));
        }
        let records = serde_json::from_value(value).map_err(|error| Error::invalid(format!("records: {error}")))?;
        Frame::from_records(records).map(Self::Frame)
    }
}
