//! A registry in this process.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{Method, Request, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use fishy_authz::{Authenticator, Authorizer, Bundle, Identity};
use fishy_blob::{Blob, BlobOptions};
use fishy_bus::Bus;
use fishy_config::{Config, Secret};
use fishy_contracts::{GovernanceClient, RegistryClient};
use fishy_core::{Env, Event, ManualClock, SequentialIds};
use fishy_db::{Db, DbOptions, Engine, OUTBOX, args};
use fishy_http::{Guard, ServiceClient, ServiceSlot};
use fishy_registry::{Deps, MIGRATIONS, Running, start};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// What governance says: the version it lets the alias name (0: none), or -1 for being away.
pub type Allowed = Arc<AtomicI64>;

/// The names of models that governance was asked about.
pub type Asked = Arc<Mutex<Vec<String>>>;

/// Waits until all measurements that arrived lie in their histories.
pub async fn settled(db: &Db) {
    for _ in 0..500 {
        if db.query("SELECT seq FROM metric_arrivals LIMIT 1", args![]).await.unwrap().is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("measurements that arrived are still not in their histories");
}

pub struct Server {
    pub router: Router,
    pub db: Db,
    pub schema: String,
    pub clock: Arc<ManualClock>,
    pub allowed: Allowed,
    pub running: Running,
    pub stop: CancellationToken,
    pub blob: Blob,
    pub bus: Bus,
    pub asked: Asked,
    parts: Parts,
    folder: tempfile::TempDir,
}

/// What a registry is started with.
struct Parts {
    env: Env,
    config: Config,
    authorizer: Authorizer,
    governance: ServiceSlot,
    blob: Blob,
    bus: Bus,
}

impl Parts {
    async fn start(&self, db: &Db) -> fishy_core::Result<(Running, CancellationToken)> {
        let stop = CancellationToken::new();
        let running = start(Deps {
            env: self.env.clone(),
            config: self.config.clone(),
            db: db.clone(),
            bus: self.bus.clone(),
            guard: Guard {
                authenticator: Authenticator::local(),
                authorizer: self.authorizer.clone(),
                max_body_bytes: 4 * 1024 * 1024,
                request_timeout: Duration::from_secs(30),
            },
            governance: GovernanceClient(ServiceClient::local("governance", &self.governance, "registry")),
            blob: self.blob.clone(),
            stop: stop.clone(),
        });
        Ok((running.await?, stop))
    }
}

#[derive(Debug, Clone, Copy)]
pub enum On {
    Sqlite,
    Postgres,
}

async fn check(State((allowed, asked)): State<(Allowed, Asked)>, Query(query): Query<Value>) -> Response {
    asked.lock().unwrap().push(query["model"].as_str().unwrap_or_default().to_owned());
    let allowed = allowed.load(Ordering::SeqCst);
    if allowed < 0 {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let is_allowed = query["version"].as_str() == Some(allowed.to_string().as_str());
    let promotion = is_allowed.then_some("p-1");
    Json(json!({"is_allowed": is_allowed, "promotion_id": promotion, "reason": "not better by 2 %"})).into_response()
}

#[expect(clippy::disallowed_methods, reason = "tests find their services by environment")]
fn postgres_url() -> String {
    std::env::var("FISHY_TEST_POSTGRES").unwrap_or_else(|_| "postgres://postgres@127.0.0.1:5432/test".to_owned())
}

impl Server {
    pub async fn start(on: On) -> Self {
        Self::start_with(on, |_| {}, None).await
    }

    /// With another configuration, and with other access policies.
    pub async fn start_with(on: On, configure: impl FnOnce(&mut Config), policies: Option<&str>) -> Self {
        Self::try_start(on, configure, policies).await.unwrap()
    }

    pub async fn try_start(
        on: On,
        configure: impl FnOnce(&mut Config),
        policies: Option<&str>,
    ) -> fishy_core::Result<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().display();
        let clock = Arc::new(ManualClock::at(1_800_000_000_000));
        let env = Env { clock: clock.clone(), ids: Arc::new(SequentialIds::default()) };
        let number = NUMBER.fetch_add(1, Ordering::SeqCst);
        let (url, schema) = match on {
            On::Sqlite => (format!("sqlite://{path}"), "registry".to_owned()),
            // The folder's name is random.
            On::Postgres => {
                let random: String =
                    path.to_string().chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase();
                (postgres_url(), format!("reg_{number}_{}_{random}", std::process::id()))
            }
        };
        let options = DbOptions { env: env.clone(), ..DbOptions::default() };
        let db = Db::connect(&url, &schema, options).await.unwrap();
        let migrations: Vec<_> = std::iter::once(OUTBOX).chain(MIGRATIONS.iter().copied()).collect();
        db.migrate(&migrations).await.unwrap();
        let (allowed, asked, bus) = (Allowed::default(), Asked::default(), Bus::in_process());
        let slot = ServiceSlot::default();
        slot.fill(
            Router::new().route("/api/v1/promotions/check", get(check)).with_state((allowed.clone(), asked.clone())),
        );
        let mut config = Config::default();
        config.registry.max_artifact_bytes = 1_000_000;
        config.registry.webhook_private_hosts = vec!["127.0.0.1".to_owned()];
        config.registry.webhook_key = Secret::new("a key of thirty-two characters or more");
        config.storage.data_dir = path.to_string();
        configure(&mut config);
        let authorizer = match policies {
            None => Authorizer::embedded(0)?,
            Some(policies) => Authorizer::new(Bundle { version: 1, issued_ms: 0, policies: policies.to_owned() })?,
        };
        let blob = Blob::open(&format!("file://{path}/artifacts"), &BlobOptions::default()).unwrap();
        let parts = Parts { env, config, authorizer, governance: slot, blob: blob.clone(), bus: bus.clone() };
        let (running, stop) = parts.start(&db).await?;
        Ok(Self {
            router: running.router.clone(),
            db,
            schema,
            clock,
            allowed,
            running,
            stop,
            blob,
            bus,
            asked,
            parts,
            folder,
        })
    }

    /// Another registry over the same database and files. The one before was not told to end, as when it was killed.
    pub async fn start_again(self) -> Self {
        let Self { db, schema, clock, allowed, running, stop, blob, bus, asked, parts, folder, router: _ } = self;
        drop(running);
        stop.cancel();
        let (running, stop) = parts.start(&db).await.unwrap();
        let router = running.router.clone();
        Self { router, db, schema, clock, allowed, running, stop, blob, bus, asked, parts, folder }
    }

    /// URL and schema of another, empty database beside its own.
    pub fn another_database(&self) -> (String, String) {
        match self.db.engine() {
            Engine::Sqlite => (format!("sqlite://{}", self.folder.path().display()), "another".to_owned()),
            Engine::Postgres => (postgres_url(), format!("{}_another", self.schema)),
        }
    }

    /// Where everything of it is.
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    pub fn client(&self) -> RegistryClient {
        let slot = ServiceSlot::default();
        slot.fill(self.router.clone());
        RegistryClient::new(ServiceClient::local("registry", &slot, "deployment"))
    }

    /// Status and body of a request of somebody in a workspace; without either, of the administrator in none.
    pub async fn at(
        &self,
        workspace: &str,
        who: Option<&Identity>,
        method: Method,
        path: &str,
        body: impl Into<Body>,
    ) -> (u16, Value) {
        let mut request = Request::builder().method(method).uri(path);
        if !workspace.is_empty() {
            request = request.header("x-mlflow-workspace", workspace);
        }
        if let Some(who) = who {
            request = request.extension(who.clone());
        }
        let response = self.router.clone().oneshot(request.body(body.into()).unwrap()).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let text = || Value::String(String::from_utf8_lossy(&body).into_owned());
        (status, serde_json::from_slice(&body).unwrap_or_else(|_| text()))
    }

    /// Status and body of any request.
    pub async fn raw(&self, method: Method, path: &str, body: impl Into<Body>) -> (u16, Vec<u8>) {
        let request = Request::builder().method(method).uri(path).body(body.into()).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        (status, response.into_body().collect().await.unwrap().to_bytes().to_vec())
    }

    pub async fn json(&self, method: Method, path: &str, body: impl Into<Body>) -> (u16, Value) {
        let (status, body) = self.raw(method, path, body).await;
        (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    pub async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        self.json(Method::POST, &format!("/api/2.0/mlflow/{path}"), body.to_string()).await
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        self.json(Method::GET, &format!("/api/2.0/mlflow/{path}"), Body::empty()).await
    }

    /// A POST that must succeed.
    pub async fn done(&self, path: &str, body: Value) -> Value {
        let (status, answer) = self.post(path, body).await;
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    /// A run of a new experiment: both ids.
    pub async fn run(&self) -> (String, String) {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("experiment {}", NEXT.fetch_add(1, Ordering::SeqCst));
        let experiment = self.done("experiments/create", json!({ "name": name })).await;
        let experiment = experiment["experiment_id"].as_str().unwrap().to_owned();
        let run = self.done("runs/create", json!({"experiment_id": experiment, "start_time": 5})).await;
        (experiment, run["run"]["info"]["run_id"].as_str().unwrap().to_owned())
    }

    /// A registered model with so many versions, each with one file.
    pub async fn model(&self, name: &str, versions: usize) -> String {
        let (experiment, run) = self.run().await;
        self.done("registered-models/create", json!({ "name": name })).await;
        for version in 1..=versions {
            let path = format!("{experiment}/{run}/artifacts/m{version}/model.onnx");
            let door = format!("/api/2.0/mlflow-artifacts/artifacts/{path}");
            assert_eq!(self.raw(Method::PUT, &door, format!("model {version}")).await.0, 200);
            let source = format!("runs:/{run}/m{version}");
            self.done("model-versions/create", json!({"name": name, "source": source, "run_id": run})).await;
        }
        format!("{experiment}/{run}/artifacts")
    }

    /// What waits in the outbox, oldest first.
    pub async fn events(&self) -> Vec<Event> {
        let rows = self.db.query("SELECT event FROM outbox ORDER BY seq", vec![]).await.unwrap();
        rows.iter().map(|row| serde_json::from_str(&row.get::<String>("event").unwrap()).unwrap()).collect()
    }
}

/// Runs a test on both databases.
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {$(
        mod $name {
            #[tokio::test]
            async fn sqlite() {
                super::$name(crate::server::Server::start(crate::server::On::Sqlite).await).await;
            }

            #[tokio::test]
            async fn postgres() {
                let server = crate::server::Server::start(crate::server::On::Postgres).await;
                let (db, schema) = (server.db.clone(), server.schema.clone());
                super::$name(server).await;
                let mut tx = db.begin().await.unwrap();
                tx.execute(&format!("DROP SCHEMA {schema} CASCADE"), vec![]).await.unwrap();
                tx.execute(&format!("DROP SCHEMA IF EXISTS {schema}_another CASCADE"), vec![]).await.unwrap();
                tx.commit().await.unwrap();
            }
        }
    )*};
}
pub(crate) use on_both;
