//! `ModelInfer` and `ModelStreamInfer`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use fishy_core::{Error, ErrorCode, Result};
use fishy_http::grpc::{self, Deadline, status_of};
use fishy_inference::Datatype;
use futures::StreamExt;
use serde_json::{Map, Value};

use super::contents::{contents_of, elements_of};
use super::messages::infer_parameter::ParameterChoice;
use super::messages::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
use super::messages::model_infer_response::InferOutputTensor;
use super::messages::{InferParameter, ModelInferRequest, ModelInferResponse, ModelStreamInferResponse};
use crate::domain::{NamedInput, RequestMeta};
use crate::http::infer::{RowIds, WantedOutput, binary_elements, chosen, prepare};
use crate::service::{Answer, Service};

type App = State<Arc<Service>>;
type Parameters = HashMap<String, InferParameter>;

/// So many requests of one stream are under way at once; what a client sends beyond them waits in its connection.
const IN_FLIGHT: usize = 8;

pub(super) async fn infer(State(service): App, request: Request) -> Response {
    let deadline = request.extensions().get::<Deadline>().copied();
    let limit = service.max_body_bytes;
    grpc::unary(request, limit, |asked| async move { run(&service, asked, deadline).await }).await
}

pub(super) async fn stream(State(service): App, request: Request) -> Response {
    let deadline = request.extensions().get::<Deadline>().copied();
    let limit = service.max_body_bytes;
    let answer = |requests: grpc::Messages<ModelInferRequest>| {
        let answers = requests.map(move |asked| {
            let service = Arc::clone(&service);
            async move { Ok(one_of_stream(&service, asked?, deadline).await) }
        });
        answers.buffered(IN_FLIGHT)
    };
    grpc::streaming(request, limit, answer).await
}

/// A request that fails is told so, and those after it are answered.
async fn one_of_stream(
    service: &Arc<Service>,
    asked: ModelInferRequest,
    deadline: Option<Deadline>,
) -> ModelStreamInferResponse {
    let id = asked.id.clone();
    match run(service, asked, deadline).await {
        Ok(mut answer) => {
            answer.parameters.insert("triton_final_response".to_owned(), parameter(ParameterChoice::BoolParam(true)));
            ModelStreamInferResponse { error_message: String::new(), infer_response: Some(answer) }
        }
        Err(error) => {
            if error.code() == ErrorCode::Internal {
                tracing::error!(error = error.chain(), "a request of a stream failed");
            }
            let told = status_of(&error).message().to_owned();
            let infer_response = Some(ModelInferResponse { id, ..ModelInferResponse::default() });
            ModelStreamInferResponse { error_message: told, infer_response }
        }
    }
}

async fn run(
    service: &Arc<Service>,
    asked: ModelInferRequest,
    deadline: Option<Deadline>,
) -> Result<ModelInferResponse> {
    let ModelInferRequest { model_name, model_version, id, parameters, inputs, outputs, raw_input_contents } = asked;
    let is_raw = !raw_input_contents.is_empty();
    let answered = async {
        let id = Some(id).filter(|id| !id.is_empty());
        let mut meta = RequestMeta::new(id, &read_parameters(&parameters)?)?;
        if let Some(Deadline(at)) = deadline {
            let left = at.saturating_duration_since(Instant::now());
            meta.timeout = Some(meta.timeout.map_or(left, |timeout| timeout.min(left)));
        }
        let inputs = read_inputs(inputs, &raw_input_contents)?;
        let wanted = outputs.into_iter().map(wanted_output).collect::<Result<Vec<_>>>()?;
        let version = Some(model_version.as_str()).filter(|version| !version.is_empty());
        let answer = service.predict(&model_name, version, meta, |layout| prepare(layout, inputs, &wanted)).await?;
        Ok::<_, Error>((answer, wanted))
    };
    let (answer, wanted) = answered.await.inspect_err(|error| service.count_refused(&model_name, error))?;
    write_answer(model_name, answer, parameters, &wanted, is_raw)
}

fn read_inputs(inputs: Vec<InferInputTensor>, raw: &[Bytes]) -> Result<Vec<NamedInput>> {
    if !raw.is_empty() && raw.len() != inputs.len() {
        return Err(Error::invalid(format!(
            "raw_input_contents has {} entries for {} inputs: send one for each",
            raw.len(),
            inputs.len()
        )));
    }
    let mut raw = raw.iter();
    let inputs = inputs.into_iter().map(|input| {
        let InferInputTensor { name, datatype, shape, parameters, contents } = input;
        refuse_shared_memory("input", &name, &parameters)?;
        let declared = Datatype::parse(&datatype).ok_or_else(|| {
            Error::invalid(format!("input {name:?} has the datatype {datatype:?}, which the protocol does not have"))
        })?;
        let elements = match (raw.next(), contents) {
            (Some(_), Some(_)) => {
                return Err(Error::invalid(format!("input {name:?} has both contents and raw contents: send one")));
            }
            (Some(raw), None) => binary_elements(&name, declared, &shape, raw)?,
            (None, contents) => elements_of(&name, declared, contents.unwrap_or_default())?,
        };
        Ok(NamedInput { name, shape, elements })
    });
    inputs.collect()
}

fn wanted_output(output: InferRequestedOutputTensor) -> Result<WantedOutput> {
    refuse_shared_memory("output", &output.name, &output.parameters)?;
    Ok(WantedOutput { name: output.name, is_binary: None })
}

fn refuse_shared_memory(what: &str, name: &str, parameters: &Parameters) -> Result<()> {
    if parameters.contains_key("shared_memory_region") {
        return Err(Error::invalid(format!("{what} {name:?} is in shared memory, which this server does not have")));
    }
    Ok(())
}

/// The parameters as JSON has them. Labels, which are an object there, are the text of one here.
fn read_parameters(parameters: &Parameters) -> Result<Map<String, Value>> {
    let mut read = Map::new();
    for (name, value) in parameters {
        let value = match &value.parameter_choice {
            None => continue,
            Some(ParameterChoice::BoolParam(value)) => Value::from(*value),
            Some(ParameterChoice::Int64Param(value)) => Value::from(*value),
            Some(ParameterChoice::Uint64Param(value)) => Value::from(*value),
            Some(ParameterChoice::DoubleParam(value)) => Value::from(*value),
            Some(ParameterChoice::StringParam(text)) if name == "labels" => serde_json::from_str(text)
                .map_err(|error| Error::invalid(format!("parameter labels is no JSON object: {error}")))?,
            Some(ParameterChoice::StringParam(text)) => Value::from(text.as_str()),
        };
        read.insert(name.clone(), value);
    }
    Ok(read)
}

fn parameter(choice: ParameterChoice) -> InferParameter {
    InferParameter { parameter_choice: Some(choice) }
}

/// A list, which the protocol's parameters cannot hold, as the text of its JSON.
fn list(values: &impl serde::Serialize) -> Result<InferParameter> {
    let text =
        serde_json::to_string(values).map_err(|error| Error::internal("cannot write the answer").with_source(error))?;
    Ok(parameter(ParameterChoice::StringParam(text)))
}

/// Outputs go as the inputs came, in binary or in the fields of their types; all in binary where one has no field.
fn write_answer(
    model_name: String,
    answer: Answer,
    mut parameters: Parameters,
    wanted: &[WantedOutput],
    is_raw: bool,
) -> Result<ModelInferResponse> {
    let outputs = chosen(&answer, wanted, is_raw);
    let has_no_field = |datatype| matches!(datatype, Datatype::Fp16 | Datatype::Bf16);
    let is_raw = is_raw || outputs.iter().any(|(_, tensor, _)| has_no_field(tensor.data.datatype()));
    let mut raw = Vec::new();
    let mut written = Vec::with_capacity(outputs.len());
    for (index, tensor, _) in outputs {
        if is_raw {
            let mut bytes = Vec::new();
            tensor.data.write_bytes(&mut bytes);
            raw.push(Bytes::from(bytes));
        }
        let mut parameters = Parameters::new();
        if let Some(keys) = answer.map_keys(index) {
            parameters.insert("keys".to_owned(), list(&keys)?);
        }
        written.push(InferOutputTensor {
            name: tensor.name.clone(),
            datatype: tensor.data.datatype().as_str().to_owned(),
            shape: tensor.shape.clone(),
            parameters,
            contents: (!is_raw).then(|| contents_of(&tensor.data)),
        });
    }
    if answer.rows > 1 {
        parameters.insert("prediction_ids".to_owned(), list(&RowIds(&answer.id, answer.rows))?);
    }
    Ok(ModelInferResponse {
        model_name,
        model_version: answer.version().to_owned(),
        id: answer.id,
        parameters,
        outputs: written,
        raw_output_contents: raw,
    })
}
