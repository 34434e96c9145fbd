//! What the service stands in: registry, governance, database, bus, engine.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{Path as UrlPath, Query, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use bytes::Bytes;
use fishy_authz::{Authenticator, Authorizer};
use fishy_blob::{Blob, BlobOptions};
use fishy_bus::Bus;
use fishy_config::Config;
use fishy_contracts::deployment::{Deployment, DeploymentSpec, PREDICTION_STREAM, PredictionRecord};
use fishy_contracts::events::{ALIAS_MOVED, AliasMoved};
use fishy_contracts::monitoring::{LoggedPage, LoggedPrediction};
use fishy_contracts::{DeploymentClient, GovernanceClient, MonitoringClient, RegistryClient};
use fishy_core::{Env, Event, ManualClock, SequentialIds};
use fishy_db::{Db, DbOptions, OUTBOX};
use fishy_deployment::{Deps, MIGRATIONS, Running, start};
use fishy_http::{Call, Guard, ServiceClient, ServiceSlot};
use fishy_inference::{Engine, OnnxRuntime};
use futures::FutureExt;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// 2012-01-01T05:00:00Z
pub const NOW_MS: i64 = 1_325_394_000_000;
pub const HALF: &str = "linear_half.onnx";
pub const HUNDRED: &str = "linear_hundred.onnx";

/// The files of a version by path.
pub type Files = BTreeMap<String, Vec<u8>>;

#[derive(Default)]
pub struct FakeRegistry {
    pub versions: HashMap<String, Files>,
    pub champion: Option<String>,
    pub is_away: bool,
    /// It takes requests and never answers.
    pub is_stuck: bool,
    pub protected: Vec<Value>,
    /// Content of a file that goes over the wire instead of the true one.
    pub damaged: HashMap<String, Vec<u8>>,
    pub downloads: usize,
    /// Versions the gate lets through.
    pub allowed: HashSet<String>,
    /// What monitoring has, in event-time order.
    pub logged: Vec<LoggedPrediction>,
    /// Pages that were asked for.
    pub pages: usize,
    /// Monitoring does not answer.
    pub is_monitoring_stuck: bool,
}

pub type Shared = Arc<Mutex<FakeRegistry>>;

pub struct World {
    pub dir: TempDir,
    pub registry: Shared,
    pub bus: Bus,
    pub db: Db,
    pub env: Env,
    pub clock: Arc<ManualClock>,
    pub blob: Blob,
    /// The registry is an MLflow server: it has none of what only ours has.
    pub is_foreign: bool,
    /// Who may do what.
    pub authorizer: Authorizer,
    /// Every record that came over the stream.
    pub streamed: Arc<Mutex<Vec<PredictionRecord>>>,
}

pub struct App {
    pub running: Running,
    pub client: ServiceClient,
    pub api: DeploymentClient,
    slot: ServiceSlot,
    stop: CancellationToken,
}

pub struct Answered {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: String,
    pub raw: Bytes,
}

impl Answered {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {} {}", self.status, self.body))
    }
}

/// A folder with one ONNX file, of this crate or of the inference library, and nothing else.
pub fn bare_files(onnx: &str) -> Files {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(onnx);
    let other = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../libs/inference/tests/fixtures").join(onnx);
    let bytes = std::fs::read(own).or_else(|_| std::fs::read(other)).unwrap();
    Files::from([("model.onnx".to_owned(), bytes)])
}

/// The files of a model that MLflow's client would log.
pub fn model_files(onnx: &str, columns: &[&str]) -> Files {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(onnx);
    let inputs: Vec<Value> = columns.iter().map(|name| json!({"type": "double", "name": name})).collect();
    let mlmodel = format!(
        "flavors:\n  onnx: {{data: model.onnx}}\n  python_function: {{data: model.onnx, loader_module: mlflow.onnx}}\n\
         saved_input_example_info: {{artifact_path: input_example.json, serving_input_path: serving_input_example.json}}\n\
         signature:\n  inputs: '{}'\n",
        Value::from(inputs)
    );
    let example = json!({"dataframe_split": {"columns": columns, "data": [[1.0, 2.0, 3.0]]}});
    Files::from([
        ("MLmodel".to_owned(), mlmodel.into_bytes()),
        ("model.onnx".to_owned(), std::fs::read(fixture).unwrap()),
        ("serving_input_example.json".to_owned(), example.to_string().into_bytes()),
    ])
}

pub const COLUMNS: [&str; 3] = ["temperature", "salinity", "ph"];

#[expect(clippy::disallowed_methods, reason = "tests find their services by environment")]
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn engine() -> Arc<dyn Engine> {
    let library = variable("FISHY_ONNXRUNTIME").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.fishy/onnxruntime/libonnxruntime.so"),
        PathBuf::from,
    );
    let runtime = OnnxRuntime::load_library(&library);
    Arc::new(runtime.unwrap_or_else(|error| panic!("these tests need it: {}", error.chain())))
}

impl World {
    pub async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", dir.path().display());
        let db = Db::connect(&url, "deployment", DbOptions::default()).await.unwrap();
        Self::with_db(dir, db).await
    }

    pub async fn with_db(dir: TempDir, db: Db) -> Self {
        let migrations: Vec<_> = [OUTBOX].into_iter().chain(MIGRATIONS.iter().copied()).collect();
        db.migrate(&migrations).await.unwrap();
        let clock = Arc::new(ManualClock::at(NOW_MS));
        let world = Self {
            dir,
            registry: Shared::default(),
            bus: Bus::in_process(),
            db,
            env: Env { clock: Arc::clone(&clock) as _, ids: Arc::new(SequentialIds::default()) },
            clock,
            blob: Blob::open("memory:", &BlobOptions::default()).unwrap(),
            is_foreign: false,
            authorizer: Authorizer::embedded(NOW_MS).unwrap(),
            streamed: Arc::default(),
        };
        {
            let mut registry = world.registry.lock().unwrap();
            registry.versions.insert("1".into(), model_files(HALF, &COLUMNS));
            registry.versions.insert("2".into(), model_files(HUNDRED, &COLUMNS));
            registry.champion = Some("1".into());
        }
        world
    }

    /// Collects what comes over the stream of this world's bus.
    pub async fn collect_stream(&self) {
        let streamed = Arc::clone(&self.streamed);
        let handler = move |_: u64, batch: Bytes| {
            let lines = batch.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
            let records = lines.map(|line| serde_json::from_slice::<PredictionRecord>(line).unwrap());
            streamed.lock().unwrap().extend(records);
            async { Ok(()) }.boxed()
        };
        let stream = self.bus.stream(PREDICTION_STREAM).await.unwrap();
        stream.consume("monitoring", None, Arc::new(handler)).await.unwrap();
    }

    pub fn config(&self) -> Config {
        let mut config = Config::default();
        config.storage.data_dir = self.dir.path().display().to_string();
        config.deployment.registry_poll_ms = 50;
        config
    }

    pub async fn start(&self) -> App {
        self.start_with(self.config()).await
    }

    pub async fn start_with(&self, config: Config) -> App {
        self.try_start(config).await.unwrap_or_else(|error| panic!("{}", error.chain()))
    }

    pub async fn try_start(&self, config: Config) -> fishy_core::Result<App> {
        let stop = CancellationToken::new();
        let (registry, deployment) = (ServiceSlot::default(), ServiceSlot::default());
        registry.fill(fakes(Arc::clone(&self.registry)));
        let to_registry = ServiceClient::local("registry", &registry, "deployment");
        let deps = Deps {
            env: self.env.clone(),
            config,
            db: self.db.clone(),
            bus: self.bus.clone(),
            guard: Guard {
                authenticator: Authenticator::local(),
                authorizer: self.authorizer.clone(),
                max_body_bytes: 64 * 1024,
                request_timeout: Duration::from_mins(1),
            },
            registry: if self.is_foreign {
                RegistryClient::mlflow(to_registry)
            } else {
                RegistryClient::new(to_registry)
            },
            governance: GovernanceClient(ServiceClient::local("governance", &registry, "deployment")),
            monitoring: MonitoringClient(ServiceClient::local("monitoring", &registry, "deployment")),
            blob: self.blob.clone(),
            engine: engine(),
            stop: stop.clone(),
        };
        let running = start(deps).await?;
        deployment.fill(running.router.clone());
        let client = ServiceClient::local("deployment", &deployment, "pipelines");
        Ok(App { running, api: DeploymentClient(client.clone()), client, slot: deployment, stop })
    }

    /// Moves the alias, and tells of it unless the event gets lost.
    pub async fn move_alias(&self, version: &str, is_told: bool) {
        let from = self.registry.lock().unwrap().champion.replace(version.to_owned());
        if is_told {
            let data = AliasMoved {
                model: "oxygen".into(),
                alias: "champion".into(),
                from,
                to: Some(version.to_owned()),
                actor: "user:ada".into(),
            };
            let data = serde_json::to_value(data).unwrap();
            let event = Event::new(self.env.new_id(), "registry", ALIAS_MOVED, "oxygen", NOW_MS, data);
            self.bus.publish(event).await.unwrap();
        }
    }

    /// The data of the events of one kind, in the order they were written.
    pub async fn emitted(&self, kind: &str) -> Vec<Value> {
        let rows = self.db.query("select event from outbox where kind = $1 order by seq", fishy_db::args![kind]).await;
        let texts = rows.unwrap().into_iter().map(|row| row.get::<String>("event").unwrap());
        texts.map(|text| serde_json::from_str::<Event>(&text).unwrap().data).collect()
    }
}

pub fn spec(is_gated: bool) -> DeploymentSpec {
    DeploymentSpec { name: "virtual-oxygen".into(), model: "models:/oxygen@champion".into(), is_gated }
}

pub const INFER: &str = "/v2/models/virtual-oxygen/infer";
pub const INVOKE: &str = "/deployments/virtual-oxygen/invocations";

/// One row by column; the models answer `1·t + 2·s + 3·p + b`.
pub fn columns(id: &str, temperature: f64) -> Value {
    let column = |name: &str, value: f64| json!({"name": name, "shape": [1], "datatype": "FP64", "data": [value]});
    json!({"id": id, "inputs": [column("ph", 1.0), column("temperature", temperature), column("salinity", 1.0)]})
}

impl App {
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<axum::body::Body>,
    ) -> Answered {
        call(&self.client, method, path, headers, body).await
    }

    /// A client that calls as another service.
    pub fn as_service(&self, name: &str) -> ServiceClient {
        ServiceClient::local("deployment", &self.slot, name)
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answered {
        self.call(Method::POST, path, &[("content-type", "application/json")], body.to_string()).await
    }

    pub async fn get(&self, path: &str) -> Answered {
        self.call(Method::GET, path, &[], "").await
    }

    pub async fn served(&self) -> Deployment {
        self.api.get("virtual-oxygen").await.unwrap()
    }

    /// Waits until the deployment is as it should be.
    pub async fn until(&self, is_so: impl Fn(&Deployment) -> bool) -> Deployment {
        let mut last = None;
        for _ in 0..2000 {
            let deployment = self.served().await;
            if is_so(&deployment) {
                return deployment;
            }
            last = Some(deployment);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it never came to that: {last:?}");
    }

    /// Waits until version `version` serves.
    pub async fn until_version(&self, version: &str) -> Deployment {
        self.until(|deployment| deployment.current.as_ref().is_some_and(|current| current.version == version)).await
    }

    pub async fn shutdown(self) {
        self.stop.cancel();
        self.running.shutdown().await;
    }
}

pub async fn call(
    client: &ServiceClient,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<axum::body::Body>,
) -> Answered {
    let mut call = Call::new(method, path);
    call.body = body.into();
    for (name, value) in headers {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        call.headers.insert(name, HeaderValue::from_str(value).unwrap());
    }
    let reply = client.send(call).await.unwrap();
    let (status, headers) = (reply.status, reply.headers.clone());
    let raw = reply.bytes().await.unwrap();
    Answered { status, headers, body: String::from_utf8_lossy(&raw).into_owned(), raw }
}

/// Waits for something that happens in the background.
pub async fn eventually(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..2000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it never came to that: {what}");
}

/// The registry's and the governance's doors that the service knocks at.
fn fakes(shared: Shared) -> Router {
    Router::new()
        .route("/api/2.0/mlflow/registered-models/alias", get(by_alias).post(set_alias))
        .route("/api/2.0/mlflow/model-versions/get", get(by_version))
        .route("/api/2.0/mlflow/model-versions/get-download-uri", get(download_uri))
        .route("/api/2.0/mlflow-artifacts/artifacts/{*path}", get(artifact))
        .route("/api/2.0/mlflow-artifacts/artifacts", get(listing))
        .route("/api/v1/registry/models/{model}/versions/{version}/files", get(files))
        .route("/api/v1/registry/protected-aliases", put(protect))
        .route("/api/v1/promotions/check", get(check))
        .route("/api/v1/predictions", get(logged))
        .layer(from_fn_with_state(Arc::clone(&shared), away))
        .with_state(shared)
}

async fn away(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let (is_away, is_stuck) = {
        let registry = shared.lock().unwrap();
        (registry.is_away, registry.is_stuck)
    };
    if is_stuck {
        return futures::future::pending().await;
    }
    if is_away { StatusCode::SERVICE_UNAVAILABLE.into_response() } else { next.run(request).await }
}

fn json_answer(value: &Value) -> Response {
    value.to_string().into_response()
}

fn version_json(shared: &Shared, version: &str) -> Response {
    if !shared.lock().unwrap().versions.contains_key(version) {
        let body = json!({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no such version"});
        return (StatusCode::NOT_FOUND, body.to_string()).into_response();
    }
    json_answer(&json!({"model_version": {
        "name": "oxygen", "version": version, "status": "READY",
        "tags": [{"key": "fishy.made", "value": format!("v{version}")}],
    }}))
}

async fn by_alias(State(shared): State<Shared>) -> Response {
    let champion = shared.lock().unwrap().champion.clone();
    if let Some(version) = champion {
        return version_json(&shared, &version);
    }
    let body = json!({"error_code": "INVALID_PARAMETER_VALUE", "message": "no such alias"});
    (StatusCode::BAD_REQUEST, body.to_string()).into_response()
}

async fn set_alias(State(shared): State<Shared>, body: String) -> Response {
    let body: Value = serde_json::from_str(&body).unwrap();
    shared.lock().unwrap().champion = Some(body["version"].as_str().unwrap().to_owned());
    json_answer(&json!({}))
}

async fn by_version(State(shared): State<Shared>, Query(query): Query<HashMap<String, String>>) -> Response {
    version_json(&shared, &query["version"])
}

async fn download_uri(Query(query): Query<HashMap<String, String>>) -> Response {
    json_answer(&json!({"artifact_uri": format!("mlflow-artifacts:/{}", query["version"])}))
}

async fn artifact(State(shared): State<Shared>, UrlPath(path): UrlPath<String>) -> Response {
    let (version, file) = path.split_once('/').unwrap();
    let mut registry = shared.lock().unwrap();
    registry.downloads += 1;
    let content = registry.damaged.get(file).cloned().or_else(|| registry.versions[version].get(file).cloned());
    content.map_or_else(|| StatusCode::NOT_FOUND.into_response(), IntoResponse::into_response)
}

/// What MLflow's server tells of the folder of a version: names and sizes.
async fn listing(State(shared): State<Shared>, Query(query): Query<HashMap<String, String>>) -> Response {
    let registry = shared.lock().unwrap();
    let files: Vec<Value> = registry.versions[&query["path"]]
        .iter()
        .map(|(path, content)| json!({"path": path, "is_dir": false, "file_size": content.len()}))
        .collect();
    json_answer(&json!({"files": files}))
}

async fn logged(State(shared): State<Shared>, Query(query): Query<HashMap<String, String>>) -> Response {
    let stuck = {
        let mut registry = shared.lock().unwrap();
        registry.pages += 1;
        registry.is_monitoring_stuck
    };
    if stuck {
        return futures::future::pending().await;
    }
    let number = |name: &str| query[name].parse::<i64>().unwrap();
    let (from_ms, to_ms, limit) = (number("from_ms"), number("to_ms"), number("limit") as usize);
    let after = query["page_token"].parse::<usize>().unwrap_or(0);
    let registry = shared.lock().unwrap();
    let within = registry.logged.iter().filter(|one| (from_ms..to_ms).contains(&one.time_ms));
    let items: Vec<_> = within.skip(after).take(limit).cloned().collect();
    let next_page_token = (items.len() == limit).then(|| (after + limit).to_string());
    let page = LoggedPage { output: String::new(), items, next_page_token };
    json_answer(&serde_json::to_value(page).unwrap())
}

async fn files(State(shared): State<Shared>, UrlPath((_, version)): UrlPath<(String, String)>) -> Response {
    let registry = shared.lock().unwrap();
    let items: Vec<Value> = registry.versions[&version]
        .iter()
        .map(|(path, content)| {
            json!({"path": path, "size_bytes": content.len(), "sha256": hex::encode(Sha256::digest(content))})
        })
        .collect();
    json_answer(&json!({"items": items}))
}

async fn protect(State(shared): State<Shared>, body: String) -> Response {
    shared.lock().unwrap().protected.push(serde_json::from_str(&body).unwrap());
    json_answer(&json!({}))
}

async fn check(State(shared): State<Shared>, Query(query): Query<HashMap<String, String>>) -> Response {
    let version = &query["version"];
    let is_allowed = shared.lock().unwrap().allowed.contains(version);
    json_answer(&json!({
        "is_allowed": is_allowed,
        "promotion_id": is_allowed.then(|| format!("promotion-{version}")),
        "reason": if is_allowed { "" } else { "no promotion asks for it" },
    }))
}

/// A world with the deployment of [`spec`], and the process that serves it.
pub async fn serving() -> (World, App) {
    let world = World::new().await;
    let app = world.start().await;
    app.api.apply(&spec(false)).await.unwrap();
    (world, app)
}
