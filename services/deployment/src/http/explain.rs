//! `POST …/explain`: an inference request, answered with what each feature did to the prediction.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use fishy_core::{Error, Result};
use fishy_explain::{Choice, Explanation, Method};
use fishy_http::Failure;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::encoding::{pack, set_encoding};
use super::extract::{Body, Path};
use super::infer::{
    InputTensor, RawOutput, WantedOutput, json_length, no_bytes_left, prepare, read_inputs, split_body, wanted_outputs,
};
use super::tensors::to_json;
use crate::domain::{NamedInput, RequestMeta};
use crate::service::{ExplainSettings, Explained, Service, blocking};

type App = State<Arc<Service>>;

const DEFAULT_EVALUATIONS: usize = 20_000;
const DEFAULT_BACKGROUND: usize = 100;

#[derive(Deserialize)]
struct RawRequest {
    id: Option<String>,
    #[serde(default)]
    parameters: Map<String, Value>,
    inputs: Vec<InputTensor>,
    #[serde(default)]
    outputs: Vec<RawOutput>,
    background: Option<Background>,
}

/// Rows to explain against, in the form of the inputs.
#[derive(Deserialize)]
struct Background {
    inputs: Vec<InputTensor>,
}

/// The parameters that mean something here.
#[derive(Deserialize)]
struct Parameters {
    #[serde(default)]
    method: RawMethod,
    max_evaluations: Option<usize>,
    max_background: Option<usize>,
    #[serde(default)]
    seed: u64,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "snake_case")]
enum RawMethod {
    #[default]
    Auto,
    Exact,
    Permutation,
}

struct Request {
    id: Option<String>,
    settings: ExplainSettings,
    inputs: Vec<NamedInput>,
    background: Option<Vec<NamedInput>>,
    wanted: Vec<WantedOutput>,
}

#[derive(Serialize)]
struct OfOutput<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    element: Option<&'a str>,
    prediction: f64,
    base_value: f64,
    /// In the order of `features`.
    values: Vec<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    standard_errors: Option<Vec<f64>>,
    additivity_gap: f64,
}

pub(super) async fn explain(
    State(service): App,
    Path(model): Path<String>,
    headers: HeaderMap,
    Body(body): Body,
) -> Result<Response, Failure> {
    Ok(run(&service, &model, None, &headers, body).await?)
}

pub(super) async fn explain_version(
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
    let json_len = json_length(headers)?;
    let Request { id, settings, inputs, background, wanted } = blocking(move || parse(&body, json_len)).await?;
    let names: Vec<String> = wanted.iter().map(|output| output.name.clone()).collect();
    let prepare = |layout: &_| {
        let asked = prepare(layout, inputs, &wanted)?;
        let background = background.map(|inputs| prepare(layout, inputs, &[])).transpose();
        Ok((asked, background.map_err(|error| error.context("background"))?))
    };
    let seed = settings.seed;
    let explained = service.explain(model, version, settings, &names, prepare).await?;
    let id = id.unwrap_or_else(|| service.env.new_id());
    let (body, encoding) = pack(headers, to_json(&answer(model, &id, seed, &explained))?).await?;
    let mut response = ([(CONTENT_TYPE, "application/json")], body).into_response();
    set_encoding(&mut response, encoding);
    Ok(response)
}

fn parse(body: &[u8], json_len: Option<usize>) -> Result<Request> {
    let (json, mut binary) = split_body(body, json_len)?;
    let raw: RawRequest =
        serde_json::from_slice(json).map_err(|error| Error::invalid(format!("request body: {error}")))?;
    let inputs = read_inputs(raw.inputs, &mut binary)?;
    let background = raw.background.map(|background| read_inputs(background.inputs, &mut binary)).transpose();
    let background = background.map_err(|error| error.context("background"))?;
    no_bytes_left(binary)?;
    let meta = RequestMeta::new(raw.id, &raw.parameters)?;
    let parameters =
        Parameters::deserialize(&raw.parameters).map_err(|error| Error::invalid(format!("parameters: {error}")))?;
    Ok(Request {
        id: meta.id,
        settings: ExplainSettings {
            max_evaluations: parameters.max_evaluations.unwrap_or(DEFAULT_EVALUATIONS),
            max_background: parameters.max_background.unwrap_or(DEFAULT_BACKGROUND),
            choice: match parameters.method {
                RawMethod::Auto => Choice::Auto,
                RawMethod::Exact => Choice::Exact,
                RawMethod::Permutation => Choice::Permutation,
            },
            seed: parameters.seed,
            timeout: meta.timeout.filter(|timeout| *timeout > Duration::ZERO),
        },
        inputs,
        background,
        wanted: wanted_outputs(raw.outputs),
    })
}

fn answer(model: &str, id: &str, seed: u64, explained: &Explained) -> Value {
    let Explained { live, rows, outputs, background_rows } = explained;
    let evaluations: usize = rows.iter().map(|row| row.evaluations).sum();
    let method = match rows.first().map(|row| row.method) {
        Some(Method::Permutation { pairs }) => json!({"name": "permutation", "pairs": pairs, "seed": seed}),
        _ => json!({"name": "exact"}),
    };
    let explanations: Vec<Value> =
        rows.iter().enumerate().map(|(index, row)| json!({"row": index, "outputs": of_row(row, outputs)})).collect();
    json!({
        "id": id,
        "model_name": model,
        "model_version": live.revision.version,
        "method": method,
        "evaluations": evaluations,
        "background_rows": background_rows,
        "features": live.layout.features(),
        "explanations": explanations,
    })
}

fn of_row<'a>(row: &Explanation, outputs: &'a [(String, Option<String>)]) -> Vec<OfOutput<'a>> {
    let column = |matrix: &[Vec<f64>], output: usize| matrix.iter().map(|of_feature| of_feature[output]).collect();
    let one = |(index, (name, element)): (usize, &'a (String, Option<String>))| OfOutput {
        name,
        element: element.as_deref(),
        prediction: row.prediction[index],
        base_value: row.base[index],
        values: column(&row.values, index),
        standard_errors: row.standard_errors.as_ref().map(|errors| column(errors, index)),
        additivity_gap: row.additivity_gap[index],
    };
    outputs.iter().take(row.base.len()).enumerate().map(one).collect()
}
