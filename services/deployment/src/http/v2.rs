//! `/v2`: the Open Inference Protocol over REST: health, metadata, statistics; the rest in `infer` and `repository`.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use fishy_core::{Error, Result};
use fishy_http::{ErrorForm, Failure, Guard, Routes};
use fishy_inference::TensorSpec;
use serde::Serialize;
use serde_json::{Value, json};

use super::explain::{explain, explain_version};
use super::extract::Path;
use super::infer::{infer, infer_version};
use super::repository;
use super::tensors::to_json;
use crate::events::SERVICE;
use crate::service::{Live, Service, Slot};

type App = State<Arc<Service>>;

pub(super) fn routes(guard: &Guard) -> Router<Arc<Service>> {
    Routes::new(SERVICE, ErrorForm::Inference, guard)
        .get("/v2", "deployment:read", server_metadata)
        .get("/v2/health/live", "deployment:read", live)
        .get("/v2/health/ready", "deployment:read", ready)
        .get("/v2/models/{model}", "deployment:read", metadata)
        .get("/v2/models/{model}/ready", "deployment:read", model_ready)
        .post("/v2/models/{model}/infer", "deployment:predict", infer)
        .get("/v2/models/{model}/versions/{version}", "deployment:read", version_metadata)
        .get("/v2/models/{model}/versions/{version}/ready", "deployment:read", version_ready)
        .post("/v2/models/{model}/versions/{version}/infer", "deployment:predict", infer_version)
        .post("/v2/models/{model}/explain", "deployment:predict", explain)
        .post("/v2/models/{model}/versions/{version}/explain", "deployment:predict", explain_version)
        .get("/v2/models/stats", "deployment:read", all_statistics)
        .get("/v2/models/{model}/stats", "deployment:read", model_statistics)
        .get("/v2/models/{model}/versions/{version}/stats", "deployment:read", version_statistics)
        .post("/v2/repository/index", "deployment:read", repository::index)
        .post("/v2/repository/models/{model}/load", "deployment:write", repository::load)
        .post("/v2/repository/models/{model}/unload", "deployment:write", repository::unload)
        .finish()
        .route("/v2/{*rest}", any(unknown))
        .method_not_allowed_fallback(wrong_method)
}

/// What the protocol does not have is told in the protocol's words.
async fn unknown(uri: Uri) -> Response {
    ErrorForm::Inference.respond(&Error::not_found(format!("the protocol has no path {}", uri.path())))
}

async fn wrong_method(method: Method, uri: Uri) -> Response {
    let body = json!({"error": format!("{} does not take {method}", uri.path())});
    (StatusCode::METHOD_NOT_ALLOWED, [(CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

#[derive(Serialize)]
struct Metadata<'a> {
    name: &'a str,
    versions: Vec<&'a str>,
    platform: &'static str,
    inputs: &'a [TensorSpec],
    outputs: &'a [TensorSpec],
}

fn answer_json(status: StatusCode, value: &impl Serialize) -> Result<Response, Failure> {
    Ok((status, [(CONTENT_TYPE, "application/json")], to_json(value)?).into_response())
}

/// What the server has beyond the protocol's core.
pub(crate) const EXTENSIONS: [&str; 3] = ["binary_tensor_data", "model_repository", "statistics"];
/// What runs an inference graph, in the words of the protocol.
pub(crate) const GRAPH_PLATFORM: &str = "ensemble";

async fn server_metadata() -> Result<Response, Failure> {
    let body = json!({"name": "fishy", "version": env!("CARGO_PKG_VERSION"), "extensions": EXTENSIONS});
    answer_json(StatusCode::OK, &body)
}

async fn live() -> Result<Response, Failure> {
    answer_json(StatusCode::OK, &json!({"live": true}))
}

/// Ready when every deployment serves some revision.
async fn ready(State(service): App) -> Result<Response, Failure> {
    let is_ready = service.is_ready();
    answer_json(status_of(is_ready), &json!({"ready": is_ready}))
}

const fn status_of(is_ready: bool) -> StatusCode {
    if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

async fn metadata(State(service): App, Path(model): Path<String>) -> Result<Response, Failure> {
    describe(&service, &model, None).await
}

async fn version_metadata(
    State(service): App,
    Path((model, version)): Path<(String, String)>,
) -> Result<Response, Failure> {
    describe(&service, &model, Some(&version)).await
}

async fn describe(service: &Arc<Service>, model: &str, version: Option<&str>) -> Result<Response, Failure> {
    if let Some((graph, plan)) = service.graph_interface(model, version).await? {
        let number = graph.version();
        let (inputs, outputs) = (plan.layout.inputs(), plan.layout.outputs());
        let body = Metadata { name: model, versions: vec![&number], platform: GRAPH_PLATFORM, inputs, outputs };
        return answer_json(StatusCode::OK, &body);
    }
    let (slot, live) = service.serving(model, version).await?;
    let versions = served_versions(&slot, &live, version);
    let body = Metadata {
        name: slot.name(),
        versions: versions.iter().map(String::as_str).collect(),
        platform: live.batcher.model().platform(),
        inputs: live.layout.inputs(),
        outputs: live.layout.outputs(),
    };
    answer_json(StatusCode::OK, &body)
}

/// The version that is asked for, or all that can be.
pub(crate) fn served_versions(slot: &Slot, live: &Live, version: Option<&str>) -> Vec<String> {
    let mut versions = vec![live.revision.version.clone()];
    if let Some(traffic) = slot.traffic().filter(|_| version.is_none()) {
        versions.extend(traffic.candidates().map(|live| live.revision.version.clone()));
        versions.sort();
        versions.dedup();
    }
    versions
}

async fn all_statistics(State(service): App) -> Result<Response, Failure> {
    let slots = service.slots.load();
    let mut names: Vec<&String> = slots.keys().collect();
    names.sort();
    let mut models = Vec::new();
    for slot in names.into_iter().filter_map(|name| slots.get(name)) {
        models.extend(statistics_of(slot));
    }
    answer_json(StatusCode::OK, &json!({"model_stats": models}))
}

async fn model_statistics(State(service): App, Path(model): Path<String>) -> Result<Response, Failure> {
    let (slot, _) = service.known(&model, None)?;
    answer_json(StatusCode::OK, &json!({"model_stats": statistics_of(&slot)}))
}

async fn version_statistics(
    State(service): App,
    Path((model, version)): Path<(String, String)>,
) -> Result<Response, Failure> {
    let (slot, live) = service.known(&model, Some(&version))?;
    let of_version: Vec<Value> = live.iter().map(|live| statistics_json(slot.name(), live)).collect();
    answer_json(StatusCode::OK, &json!({"model_stats": of_version}))
}

fn statistics_of(slot: &Slot) -> Vec<Value> {
    let traffic = slot.traffic();
    let candidates = traffic.iter().flat_map(|traffic| traffic.candidates().cloned());
    slot.live().into_iter().chain(candidates).map(|live| statistics_json(slot.name(), &live)).collect()
}

/// One entry of the statistics extension; times in nanoseconds, `last_inference` in milliseconds.
fn statistics_json(name: &str, live: &Live) -> Value {
    let statistics = &live.statistics;
    let timer = |(count, ns): (u64, u64)| json!({"count": count, "ns": ns});
    let batches: Vec<Value> = statistics
        .batches()
        .into_iter()
        .map(|(rows, infer)| {
            json!({"batch_size": rows, "compute_input": timer((infer.0, 0)), "compute_infer": timer(infer),
                "compute_output": timer((infer.0, 0))})
        })
        .collect();
    json!({
        "name": name,
        "version": live.revision.version,
        "last_inference": statistics.last_ms.load(Ordering::Relaxed),
        "inference_count": statistics.inferences.load(Ordering::Relaxed),
        "execution_count": statistics.executions.load(Ordering::Relaxed),
        "inference_stats": {
            "success": timer(statistics.success.read()),
            "fail": timer(statistics.fail.read()),
            "queue": timer(statistics.queue.read()),
            "compute_input": timer(statistics.input.read()),
            "compute_infer": timer(statistics.infer.read()),
            "compute_output": timer(statistics.output.read()),
            "cache_hit": timer((0, 0)),
            "cache_miss": timer((0, 0)),
        },
        "batch_stats": batches,
    })
}

async fn model_ready(State(service): App, Path(model): Path<String>) -> Result<Response, Failure> {
    tell_ready(&service, &model, None)
}

async fn version_ready(
    State(service): App,
    Path((model, version)): Path<(String, String)>,
) -> Result<Response, Failure> {
    tell_ready(&service, &model, Some(&version))
}

fn tell_ready(service: &Service, model: &str, version: Option<&str>) -> Result<Response, Failure> {
    let is_ready = service.is_model_ready(model, version)?;
    answer_json(status_of(is_ready), &json!({"name": model, "ready": is_ready}))
}
