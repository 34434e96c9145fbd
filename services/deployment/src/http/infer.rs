//! `POST …/infer` of the Open Inference Protocol, with its binary tensor extension.

use std::sync::Arc;

use axum::body::Body as HttpBody;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use fishy_core::{Error, Result};
use fishy_http::Failure;
use fishy_inference::{Datatype, Tensor, TensorData};
use serde::ser::SerializeSeq;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};

use super::encoding::{LARGE_BYTES, pack, set_encoding};
use super::extract::{Body, Path};
use super::scoring::PREDICTION_ID;
use super::tensors::Flat;
use crate::domain::{Elements, Layout, NamedInput, Nested, Prepared, RequestMeta};
use crate::service::{Answer, Service, blocking};

type App = State<Arc<Service>>;

/// The length of the JSON part of a body whose rest is binary tensors.
const HEADER_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");

#[derive(Deserialize)]
struct RawRequest {
    id: Option<String>,
    #[serde(default)]
    parameters: Map<String, Value>,
    inputs: Vec<InputTensor>,
    #[serde(default)]
    outputs: Vec<RawOutput>,
}

#[derive(Deserialize)]
pub(super) struct InputTensor {
    name: String,
    shape: Vec<i64>,
    datatype: String,
    #[serde(default)]
    parameters: InputParameters,
    data: Option<Nested>,
}

#[derive(Deserialize, Default)]
struct InputParameters {
    binary_data_size: Option<usize>,
}

#[derive(Deserialize)]
pub(super) struct RawOutput {
    name: String,
    #[serde(default)]
    parameters: OutputChoice,
}

#[derive(Deserialize, Default)]
struct OutputChoice {
    binary_data: Option<bool>,
}

/// An inference request, whichever way it came.
pub(crate) struct InferRequest {
    pub(crate) id: Option<String>,
    pub(crate) parameters: Map<String, Value>,
    pub(crate) inputs: Vec<NamedInput>,
    pub(crate) outputs: Vec<WantedOutput>,
}

/// An output that is asked for.
pub(crate) struct WantedOutput {
    pub(crate) name: String,
    /// Whether its data come in binary; `None` where the request's `binary_data_output` counts.
    pub(crate) is_binary: Option<bool>,
}

#[derive(Serialize)]
struct InferAnswer<'a> {
    id: &'a str,
    model_name: &'a str,
    model_version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<AnswerParameters<'a>>,
    outputs: Vec<OutputTensor<'a>>,
}

/// The parameters of the request again, and the prediction ids of its rows.
#[derive(Serialize)]
struct AnswerParameters<'a> {
    #[serde(flatten)]
    echoed: &'a Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prediction_ids: Option<RowIds<'a>>,
}

/// The prediction ids of the rows: `p`, `p/1`, `p/2` …
pub(crate) struct RowIds<'a>(pub(crate) &'a str, pub(crate) usize);

#[derive(Serialize)]
struct OutputTensor<'a> {
    name: &'a str,
    datatype: Datatype,
    shape: &'a [i64],
    #[serde(skip_serializing_if = "OutputParameters::is_empty")]
    parameters: OutputParameters<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Flat<'a>>,
}

#[derive(Serialize)]
struct OutputParameters<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    binary_data_size: Option<usize>,
    /// What the columns stand for, where the model gives maps.
    #[serde(skip_serializing_if = "Option::is_none")]
    keys: Option<&'a [String]>,
}

impl OutputParameters<'_> {
    const fn is_empty(&self) -> bool {
        self.binary_data_size.is_none() && self.keys.is_none()
    }
}

impl Serialize for RowIds<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(Some(self.1))?;
        for row in 0..self.1 {
            match row {
                0 => seq.serialize_element(self.0)?,
                row => seq.serialize_element(&format_args!("{}/{row}", self.0))?,
            }
        }
        seq.end()
    }
}

pub(super) async fn infer(
    State(service): App,
    Path(model): Path<String>,
    headers: HeaderMap,
    Body(body): Body,
) -> Result<Response, Failure> {
    Ok(run(&service, &model, None, &headers, body).await?)
}

pub(super) async fn infer_version(
    State(service): App,
    Path((model, version)): Path<(String, String)>,
    headers: HeaderMap,
    Body(body): Body,
) -> Result<Response, Failure> {
    Ok(run(&service, &model, Some(&version), &headers, body).await?)
}

async fn run(
    service: &Arc<Service>,
    model: &str,
    version: Option<&str>,
    headers: &HeaderMap,
    body: Bytes,
) -> Result<Response> {
    let answered = async {
        let InferRequest { id, parameters, inputs, outputs: wanted } = read_request(headers, body).await?;
        let id = id.filter(|id| !id.is_empty()).or_else(|| header_id(headers, &parameters));
        let meta = RequestMeta::new(id, &parameters)?;
        let answer = service.predict(model, version, meta, |layout| prepare(layout, inputs, &wanted)).await?;
        Ok::<_, Error>((answer, parameters, wanted))
    };
    let (answer, parameters, wanted) = answered.await.inspect_err(|error| service.count_refused(model, error))?;
    write_answer(model, &answer, &parameters, &wanted, headers).await
}

/// The prediction id of the header `x-prediction-id`, which counts where the body has none.
fn header_id(headers: &HeaderMap, parameters: &Map<String, Value>) -> Option<String> {
    if parameters.contains_key("prediction_id") {
        return None;
    }
    headers.get(PREDICTION_ID).map(|id| String::from_utf8_lossy(id.as_bytes()).into_owned())
}

/// Reads a body, away from the async threads when it is large.
pub(super) async fn read_request(headers: &HeaderMap, body: Bytes) -> Result<InferRequest> {
    let json_len = json_length(headers)?;
    if json_len.unwrap_or(body.len()) < LARGE_BYTES {
        return parse(&body, json_len);
    }
    blocking(move || parse(&body, json_len)).await
}

/// How much of the body is JSON; `None` for all of it.
pub(super) fn json_length(headers: &HeaderMap) -> Result<Option<usize>> {
    let Some(value) = headers.get(HEADER_LENGTH) else { return Ok(None) };
    let length = value.to_str().ok().and_then(|text| text.trim().parse::<usize>().ok());
    let wrong = || Error::invalid(format!("the header {HEADER_LENGTH} is {value:?}, which is no number of bytes"));
    length.ok_or_else(wrong).map(Some)
}

/// The JSON of a body, and the binary tensors behind it.
pub(super) fn split_body(body: &[u8], json_len: Option<usize>) -> Result<(&[u8], &[u8])> {
    body.split_at_checked(json_len.unwrap_or(body.len())).ok_or_else(|| {
        let said = json_len.unwrap_or_default();
        Error::invalid(format!("the header {HEADER_LENGTH} says {said} bytes of JSON, and the body has {}", body.len()))
    })
}

fn parse(body: &[u8], json_len: Option<usize>) -> Result<InferRequest> {
    let (json, mut binary) = split_body(body, json_len)?;
    let raw: RawRequest =
        serde_json::from_slice(json).map_err(|error| Error::invalid(format!("request body: {error}")))?;
    let inputs = read_inputs(raw.inputs, &mut binary)?;
    no_bytes_left(binary)?;
    Ok(InferRequest { id: raw.id, parameters: raw.parameters, inputs, outputs: wanted_outputs(raw.outputs) })
}

pub(super) fn no_bytes_left(binary: &[u8]) -> Result<()> {
    if binary.is_empty() {
        return Ok(());
    }
    Err(Error::invalid(format!("{} bytes of binary data belong to no input", binary.len())))
}

pub(super) fn wanted_outputs(raw: Vec<RawOutput>) -> Vec<WantedOutput> {
    let wanted = |output: RawOutput| WantedOutput { name: output.name, is_binary: output.parameters.binary_data };
    raw.into_iter().map(wanted).collect()
}

/// Inputs with their elements, out of the JSON or of the binary part behind it, of which each takes its share.
pub(super) fn read_inputs(raw: Vec<InputTensor>, binary: &mut &[u8]) -> Result<Vec<NamedInput>> {
    let mut inputs = Vec::with_capacity(raw.len());
    for input in raw {
        let InputTensor { name, shape, datatype, parameters, data } = input;
        let declared = Datatype::parse(&datatype).ok_or_else(|| {
            Error::invalid(format!("input {name:?} has the datatype {datatype:?}, which the protocol does not have"))
        })?;
        let elements = match (parameters.binary_data_size, data) {
            (Some(_), Some(_)) => {
                return Err(Error::invalid(format!("input {name:?} has both data and binary_data_size: send one")));
            }
            (Some(size), None) => {
                let (bytes, rest) = binary.split_at_checked(size).ok_or_else(|| {
                    Error::invalid(format!(
                        "input {name:?} has a binary_data_size of {size}, and {} bytes are left",
                        binary.len()
                    ))
                })?;
                *binary = rest;
                binary_elements(&name, declared, &shape, bytes)?
            }
            (None, Some(nested)) => json_elements(&name, declared, &shape, nested)?,
            (None, None) => {
                return Err(Error::invalid(format!("input {name:?} has neither data nor binary_data_size")));
            }
        };
        inputs.push(NamedInput { name, shape, elements });
    }
    Ok(inputs)
}

/// Elements in the protocol's binary layout.
pub(crate) fn binary_elements(name: &str, declared: Datatype, shape: &[i64], bytes: &[u8]) -> Result<Elements> {
    let data = TensorData::from_bytes(declared, bytes).map_err(|error| error.context(format!("input {name:?}")))?;
    check_count(name, shape, data.len())?;
    Ok(Elements::Typed(data))
}

fn check_count(name: &str, shape: &[i64], count: usize) -> Result<()> {
    let holds = shape.iter().try_fold(1_usize, |all, size| all.checked_mul(usize::try_from(*size).ok()?));
    if holds == Some(count) {
        return Ok(());
    }
    let holds = holds.map_or_else(|| "another number".to_owned(), |holds| holds.to_string());
    Err(Error::invalid(format!("input {name:?} has {count} elements, and its shape {shape:?} holds {holds}")))
}

/// Elements whose kind is that of the declared datatype. The model may take another one that holds them.
fn json_elements(name: &str, declared: Datatype, shape: &[i64], nested: Nested) -> Result<Elements> {
    let Nested { elements, shape: brackets } = nested;
    let is_real = matches!(declared, Datatype::Fp16 | Datatype::Bf16 | Datatype::Fp32 | Datatype::Fp64);
    let fits = match &elements {
        Elements::Empty => true,
        Elements::Bool(_) => declared == Datatype::Bool,
        Elements::Text(_) => declared == Datatype::Bytes,
        Elements::Int(_) | Elements::Unsigned(_) => !matches!(declared, Datatype::Bool | Datatype::Bytes),
        Elements::Float(_) => is_real,
        Elements::Typed(data) => data.datatype() == declared,
    };
    if !fits {
        return Err(Error::invalid(format!("input {name:?} holds {} and says it is {declared}", elements.kind())));
    }
    let Some(brackets) = brackets else {
        return Err(Error::invalid(format!("input {name:?}: the rows of its data differ in length")));
    };
    // Flat data are always right; nested ones must show the shape, but for dimensions of one.
    let wide = |shape: &[i64]| shape.iter().copied().filter(|size| *size != 1).collect::<Vec<_>>();
    if brackets.len() > 1 && wide(&brackets) != wide(shape) && wide(&brackets).len() > 1 {
        return Err(Error::invalid(format!(
            "input {name:?} has the shape {shape:?}, and its data are nested as {brackets:?}"
        )));
    }
    Ok(elements)
}

/// The tensors of a request, once it is known that all outputs that are asked for exist.
pub(crate) fn prepare(layout: &Layout, inputs: Vec<NamedInput>, wanted: &[WantedOutput]) -> Result<Prepared> {
    for output in wanted {
        if !layout.outputs().iter().any(|spec| spec.name == output.name) {
            let known: Vec<&str> = layout.outputs().iter().map(|spec| spec.name.as_str()).collect();
            let known = known.join(", ");
            return Err(Error::invalid(format!("unknown output {:?}: the model gives {known}", output.name)));
        }
    }
    layout.prepare(inputs)
}

/// The outputs that are asked for, in that order; all without any. With each, whether it should be binary.
pub(crate) fn chosen<'a>(answer: &'a Answer, wanted: &[WantedOutput], default: bool) -> Vec<(usize, &'a Tensor, bool)> {
    let all = answer.outputs.iter().enumerate();
    if wanted.is_empty() {
        return all.map(|(index, tensor)| (index, tensor, default)).collect();
    }
    // A candidate may call its outputs otherwise: the names in its layout are those that were checked.
    let find = |output: &WantedOutput| {
        let (index, tensor) = answer.outputs.iter().enumerate().find(|(_, tensor)| tensor.name == output.name)?;
        Some((index, tensor, output.is_binary.unwrap_or(default)))
    };
    wanted.iter().filter_map(find).collect()
}

async fn write_answer(
    model: &str,
    answer: &Answer,
    parameters: &Map<String, Value>,
    wanted: &[WantedOutput],
    headers: &HeaderMap,
) -> Result<Response> {
    let Answer { id, rows, .. } = answer;
    let default = parameters.get("binary_data_output").and_then(Value::as_bool).unwrap_or(false);
    let mut binary = Vec::new();
    let outputs = chosen(answer, wanted, default).into_iter().map(|(index, tensor, is_binary)| {
        let begin = binary.len();
        if is_binary {
            tensor.data.write_bytes(&mut binary);
        }
        OutputTensor {
            name: &tensor.name,
            datatype: tensor.data.datatype(),
            shape: &tensor.shape,
            parameters: OutputParameters {
                binary_data_size: is_binary.then(|| binary.len() - begin),
                keys: answer.map_keys(index),
            },
            data: (!is_binary).then_some(Flat(&tensor.data)),
        }
    });
    let outputs: Vec<_> = outputs.collect();
    let is_binary = outputs.iter().any(|output| output.data.is_none());
    let prediction_ids = (*rows > 1).then_some(RowIds(id, *rows));
    let has_parameters = !parameters.is_empty() || prediction_ids.is_some();
    let body = InferAnswer {
        id,
        model_name: model,
        model_version: answer.version(),
        parameters: has_parameters.then_some(AnswerParameters { echoed: parameters, prediction_ids }),
        outputs,
    };
    let mut body = super::tensors::to_json(&body)?;
    let json_len = body.len();
    body.append(&mut binary);
    let (body, encoding) = pack(headers, body).await?;
    let content_type = if is_binary { "application/octet-stream" } else { "application/json" };
    let mut response = ([(CONTENT_TYPE, content_type)], HttpBody::from(body)).into_response();
    if is_binary {
        response.headers_mut().insert(HEADER_LENGTH, HeaderValue::from(json_len));
    }
    set_encoding(&mut response, encoding);
    Ok(response)
}
