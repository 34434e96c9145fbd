//! The services around this one, as small as their contracts allow.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use axum::extract::{Path, Query, Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use fishy_contracts::deployment::ReplayRequest;
use fishy_contracts::governance::{Promotion, PromotionRequest, PromotionStatus};
use fishy_contracts::monitoring::{DatasetRequest, LabelledRow};
use fishy_core::time::DAY_MS;
use fishy_http::ServiceSlot;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// What the fakes know and do.
#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a thing that a test can have go wrong")]
pub struct State_ {
    /// Services that answer 503.
    pub away: BTreeSet<&'static str>,
    /// Labelled rows of the monitor.
    pub rows: Vec<LabelledRow>,
    /// Whether monitoring forgets to look at when labels arrived.
    pub is_leaking: bool,
    pub open_faults: usize,
    /// Source and tags of each version, from 1.
    pub versions: Vec<(String, BTreeMap<String, String>)>,
    pub champion: Option<String>,
    pub metrics: BTreeMap<String, f64>,
    pub promotions: BTreeMap<String, Promotion>,
    /// What governance says to every request; by the figures when `None`.
    pub decision: Option<PromotionStatus>,
    /// What is served; follows the alias unless it is stuck.
    pub is_stuck: bool,
    pub has_deployment: bool,
    /// Replays that were asked for.
    pub replays: Vec<ReplayRequest>,
    /// How many of 100 decisions flip in a replay.
    pub flips: u64,
    /// Another replay is under way.
    pub is_replaying: bool,
}

#[derive(Clone, Default)]
pub struct Fakes(Arc<Mutex<State_>>);

type Shared = State<Fakes>;

impl Fakes {
    pub fn state(&self) -> MutexGuard<'_, State_> {
        self.0.lock().unwrap()
    }

    pub fn slot(&self, service: &'static str) -> ServiceSlot {
        let router = match service {
            "registry" => registry(),
            "monitoring" => monitoring(),
            "governance" => governance(),
            _ => deployment(),
        };
        let is_away = |State((fakes, service)): State<(Fakes, &'static str)>, request: Request, next: Next| async move {
            if fakes.state().away.contains(service) {
                let body = json!({"code": "UNAVAILABLE", "detail": format!("{service} cannot be reached")});
                return (StatusCode::SERVICE_UNAVAILABLE, body.to_string()).into_response();
            }
            next.run(request).await
        };
        let slot = ServiceSlot::default();
        slot.fill(router.layer(from_fn_with_state((self.clone(), service), is_away)).with_state(self.clone()));
        slot
    }

    /// One labelled row a day, known two days later.
    pub fn add_rows(&self, days: std::ops::Range<i64>) {
        let row = |day: i64| LabelledRow {
            id: format!("day-{day}"),
            time_ms: day * DAY_MS,
            arrived_ms: (day + 2) * DAY_MS,
            inputs: BTreeMap::from([
                ("temp".to_owned(), Some(day as f64)),
                ("sal".to_owned(), (day % 7 != 0).then_some(30.0)),
            ]),
            value: day as f64,
            prediction: None,
            version: None,
        };
        self.state().rows.extend(days.map(row));
    }

    /// A version that was made by hand, and the champion.
    pub fn add_champion(&self, bias: f64, trained_to_ms: Option<i64>) {
        let tags = trained_to_ms.map(|to| ("fishy.training.to_ms".to_owned(), to.to_string())).into_iter().collect();
        let mut state = self.state();
        state.versions.push((format!("models:/m-{bias}"), tags));
        state.champion = Some(state.versions.len().to_string());
    }
}

fn refused(status: u16, code: &str) -> Response {
    let status = StatusCode::from_u16(status).unwrap();
    let key = if code == "NOT_FOUND" { "code" } else { "error_code" };
    (status, json!({key: code, "message": format!("the fake says {code}")}).to_string()).into_response()
}

fn version_of(state: &State_, number: &str) -> Value {
    let (source, tags) = &state.versions[number.parse::<usize>().unwrap() - 1];
    let tags: Vec<Value> = tags.iter().map(|(key, value)| json!({"key": key, "value": value})).collect();
    json!({"name": "oxygen", "version": number, "source": source, "run_id": "ml-1", "status": "READY", "tags": tags})
}

/// `models:/m-<bias>`; with `-wide` the model takes a third feature, with `-two` it has a second output.
fn files_of(source: &str) -> [(&'static str, String); 2] {
    let (source, outputs) = match source.strip_suffix("-two") {
        Some(source) => (source, vec![json!({"type": "double"}); 2]),
        None => (source, vec![json!({"type": "double"})]),
    };
    let outputs = Value::from(outputs).to_string();
    let (bias, names) = match source.trim_start_matches("models:/m-").strip_suffix("-wide") {
        Some(bias) => (bias, vec!["temp", "sal", "ph"]),
        None => (source.trim_start_matches("models:/m-"), vec!["temp", "sal"]),
    };
    let inputs: Vec<Value> = names.iter().map(|name| json!({"type": "float", "name": name})).collect();
    let inputs = Value::from(inputs).to_string();
    let yaml =
        format!("flavors:\n  onnx:\n    data: model.onnx\nsignature:\n  inputs: '{inputs}'\n  outputs: '{outputs}'\n");
    [("MLmodel", yaml), ("model.onnx", bias.to_owned())]
}

fn registry() -> Router<Fakes> {
    type Asked = Query<BTreeMap<String, String>>;
    Router::new()
        .route("/api/2.0/mlflow/registered-models/create", post(|| async { refused(400, "RESOURCE_ALREADY_EXISTS") }))
        .route(
            "/api/2.0/mlflow/model-versions/create",
            post(|State(fakes): Shared, Json(body): Json<Value>| async move {
                let tag = |tag: &Value| {
                    let text = |key: &str| tag[key].as_str().unwrap().to_owned();
                    (text("key"), text("value"))
                };
                let tags = body["tags"].as_array().unwrap().iter().map(tag).collect();
                let mut state = fakes.state();
                state.versions.push((body["source"].as_str().unwrap().to_owned(), tags));
                Json(json!({"model_version": version_of(&state, &state.versions.len().to_string())}))
            }),
        )
        .route(
            "/api/2.0/mlflow/model-versions/search",
            get(|State(fakes): Shared, Query(asked): Asked| async move {
                let state = fakes.state();
                let has_tag = |tags: &BTreeMap<String, String>| {
                    tags.iter().any(|(key, value)| asked["filter"].contains(&format!("tags.`{key}` = '{value}'")))
                };
                let numbers = (1..=state.versions.len()).filter(|number| has_tag(&state.versions[number - 1].1));
                let found: Vec<Value> = numbers.map(|number| version_of(&state, &number.to_string())).collect();
                Json(json!({"model_versions": found}))
            }),
        )
        .route(
            "/api/2.0/mlflow/model-versions/get",
            get(|State(fakes): Shared, Query(asked): Asked| async move {
                Json(json!({"model_version": version_of(&fakes.state(), &asked["version"])}))
            }),
        )
        .route(
            "/api/2.0/mlflow/registered-models/alias",
            get(|State(fakes): Shared| async move {
                let state = fakes.state();
                match &state.champion {
                    Some(number) => Json(json!({"model_version": version_of(&state, number)})).into_response(),
                    None => refused(404, "RESOURCE_DOES_NOT_EXIST"),
                }
            })
            .post(|State(fakes): Shared, Json(body): Json<Value>| async move {
                fakes.state().champion = body["version"].as_str().map(str::to_owned);
                Json(json!({}))
            }),
        )
        .route(
            "/api/2.0/mlflow/model-versions/set-tag",
            post(|State(fakes): Shared, Json(body): Json<Value>| async move {
                let text = |key: &str| body[key].as_str().unwrap().to_owned();
                let number: usize = text("version").parse().unwrap();
                fakes.state().versions[number - 1].1.insert(text("key"), text("value"));
                Json(json!({}))
            }),
        )
        .route(
            "/api/2.0/mlflow/runs/log-batch",
            post(|State(fakes): Shared, Json(body): Json<Value>| async move {
                for metric in body["metrics"].as_array().unwrap() {
                    let key = metric["key"].as_str().unwrap().to_owned();
                    fakes.state().metrics.insert(key, metric["value"].as_f64().unwrap());
                }
                Json(json!({}))
            }),
        )
        .route(
            "/api/v1/registry/models/{model}/versions/{version}/files",
            get(|State(fakes): Shared, Path((_, version)): Path<(String, usize)>| async move {
                let files = files_of(&fakes.state().versions[version - 1].0);
                let items = files.map(|(path, text)| {
                    json!({"path": path, "size_bytes": text.len(), "sha256": hex::encode(Sha256::digest(text))})
                });
                Json(json!({"items": items}))
            }),
        )
        .route(
            "/api/2.0/mlflow/model-versions/get-download-uri",
            get(|Query(asked): Asked| async move {
                Json(json!({"artifact_uri": format!("mlflow-artifacts:/{}", asked["version"])}))
            }),
        )
        .route(
            "/api/2.0/mlflow-artifacts/artifacts/{version}/{file}",
            get(|State(fakes): Shared, Path((version, file)): Path<(usize, String)>| async move {
                let files = files_of(&fakes.state().versions[version - 1].0);
                files.into_iter().find(|(path, _)| *path == file).map(|(_, text)| text).ok_or(StatusCode::NOT_FOUND)
            }),
        )
}

fn monitoring() -> Router<Fakes> {
    Router::new()
        .route(
            "/api/v1/monitors/{name}/dataset",
            post(|State(fakes): Shared, Json(request): Json<DatasetRequest>| async move {
                assert!(request.without_faults, "rows under a data fault must not be asked for");
                let state = fakes.state();
                let is_asked = |row: &&LabelledRow| {
                    (request.from_ms..request.to_ms).contains(&row.time_ms)
                        && (state.is_leaking || row.arrived_ms <= request.as_of_ms)
                };
                let rows: Vec<&LabelledRow> = state.rows.iter().filter(is_asked).collect();
                let newest = rows.len().saturating_sub(request.newest.unwrap_or(u64::MAX) as usize);
                rows[newest..].iter().map(|row| serde_json::to_string(row).unwrap() + "\n").collect::<String>()
            }),
        )
        .route(
            "/api/v1/monitors/{name}/faults",
            get(|State(fakes): Shared| async move {
                let fault = json!({"id": "f", "monitor": "oxygen", "feature": "sal", "series": "", "kind": "stuck",
                    "since_ms": 0, "until_ms": null, "message": "stuck"});
                Json(json!({"items": vec![fault; fakes.state().open_faults]}))
            }),
        )
}

fn governance() -> Router<Fakes> {
    Router::new()
        .route(
            "/api/v1/promotions",
            post(|State(fakes): Shared, Json(request): Json<PromotionRequest>| async move {
                let mut state = fakes.state();
                let is_better = request.champion_error.is_none_or(|champion| {
                    request.challenger_error <= champion * (1.0 - request.rules.min_improvement)
                });
                let may_flip = request.rules.replay.as_ref().is_none_or(|rules| {
                    let share = request.replay.as_ref().map(|replay| replay.flips as f64 / replay.compared as f64);
                    request.champion_version.is_none() || share.is_some_and(|share| share <= rules.max_flips_share)
                });
                let is_fine = is_better
                    && may_flip
                    && request.is_held_out
                    && request.signature_matches
                    && request.open_data_faults == 0
                    && request.evaluated_labels >= request.rules.min_labels;
                let by_figures = if is_fine { PromotionStatus::Approved } else { PromotionStatus::Rejected };
                let promotion = Promotion {
                    status: state.decision.unwrap_or(by_figures),
                    reasons: vec!["by the figures".to_owned()],
                    approver: None,
                    created_ms: 0,
                    decided_ms: None,
                    request,
                };
                let id = promotion.request.id.clone();
                Json(state.promotions.entry(id).or_insert(promotion).clone())
            }),
        )
        .route(
            "/api/v1/promotions/{id}",
            get(|State(fakes): Shared, Path(id): Path<String>| async move {
                match fakes.state().promotions.get(&id) {
                    Some(promotion) => Json(promotion.clone()).into_response(),
                    None => refused(404, "NOT_FOUND"),
                }
            }),
        )
}

fn deployment() -> Router<Fakes> {
    Router::new().route("/api/v1/deployments/{name}/replay", post(replay)).route(
        "/api/v1/deployments/{name}/refresh",
        post(|State(fakes): Shared, Path(name): Path<String>| async move {
            let state = fakes.state();
            if !state.has_deployment {
                return refused(404, "NOT_FOUND");
            }
            let served = if state.is_stuck { Some("0") } else { state.champion.as_deref() };
            let current = served.map(|version| {
                json!({"number": 7, "model": "oxygen", "version": version, "digest": "d", "features": [], "tags": {},
                    "activated_ms": 0})
            });
            let problem = state.is_stuck.then_some("the new version cannot be loaded");
            let spec = json!({"name": name, "model": "models:/oxygen@champion", "is_gated": true});
            Json(json!({"spec": spec, "current": current, "problem": problem, "created_ms": 0})).into_response()
        }),
    )
}

async fn replay(State(fakes): Shared, Path(name): Path<String>, Json(request): Json<ReplayRequest>) -> Response {
    let mut state = fakes.state();
    if state.is_replaying {
        let body = json!({"code": "RESOURCE_EXHAUSTED", "detail": "a replay is under way"});
        return (StatusCode::TOO_MANY_REQUESTS, body.to_string()).into_response();
    }
    state.replays.push(request.clone());
    let flips: Vec<Value> = request
        .thresholds
        .iter()
        .map(|threshold| json!({"threshold": threshold, "to_below": state.flips, "to_above": 0}))
        .collect();
    Json(json!({
        "deployment": name, "version": request.version, "request": request, "output": "y", "kind": "quantity",
        "is_complete": true, "last_ms": 1, "unsliced": 0, "latency": {},
        "overall": {
            "rows": 100, "compared": 100, "failed": 0, "changed": 100, "flips": flips,
            "recorded": {"labels": 40, "mae": 0.5}, "candidate": {"labels": 40, "mae": 0.25},
        },
    }))
    .into_response()
}
