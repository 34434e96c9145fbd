//! One service with everything around it; it can be killed and started again on the same database.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fishy_authz::{Authenticator, Authorizer, RunTokens};
use fishy_bus::Bus;
use fishy_contracts::events::{AUDIT_ENTRY, RUN_FINISHED, RunFinished};
use fishy_contracts::pipelines::{PipelineSpec, Run, RunStatus, StartRun};
use fishy_contracts::{DeploymentClient, GovernanceClient, MonitoringClient, PipelinesClient, RegistryClient};
use fishy_core::time::DAY_MS;
use fishy_core::{Env, Event, ManualClock, RandomIds};
use fishy_db::{Db, DbOptions, OUTBOX, Relay};
use fishy_http::{Guard, ServiceClient, ServiceSlot};
use fishy_pipelines::{Deps, MIGRATIONS, Running};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::fakes::Fakes;
use crate::model::FakeEngine;

/// The event time that runs are started for.
pub const AS_OF_MS: i64 = 100 * DAY_MS;
/// Longer than any test takes on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

pub struct World {
    pub folder: tempfile::TempDir,
    pub fakes: Fakes,
    pub clock: Arc<ManualClock>,
    pub max_running: usize,
    database: String,
    schema: String,
    events: Arc<Mutex<Vec<Event>>>,
}

/// A start of the service. Dropped, it is a killed process: nothing is tidied up.
pub struct Process {
    pub client: PipelinesClient,
    pub http: ServiceClient,
    pub bus: Bus,
    running: Running,
    stop: CancellationToken,
    _relay: AbortOnDropHandle<()>,
}

impl World {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = format!("sqlite://{}", folder.path().join("db").display());
        Self::on(folder, database, "pipelines".to_owned())
    }

    /// On PostgreSQL, in a schema of its own.
    #[expect(clippy::disallowed_methods, reason = "tests find their services by environment")]
    pub fn on_postgres() -> Self {
        let database = std::env::var("FISHY_TEST_POSTGRES")
            .unwrap_or_else(|_| "postgres://postgres@127.0.0.1:5432/test".to_owned());
        let id = Env::system().new_id().replace('-', "");
        Self::on(tempfile::tempdir().unwrap(), database, format!("pipelines_{id}"))
    }

    fn on(folder: tempfile::TempDir, database: String, schema: String) -> Self {
        let fakes = Fakes::default();
        fakes.add_rows(0..100);
        fakes.state().has_deployment = true;
        let clock = Arc::new(ManualClock::at(1_700_000_000_000));
        let events = Arc::default();
        std::fs::create_dir(folder.path().join("scripts")).unwrap();
        Self { folder, fakes, clock, max_running: 1, database, schema, events }
    }

    /// Where the pipelines' scripts work.
    pub fn scripts(&self) -> PathBuf {
        self.folder.path().join("scripts")
    }

    pub fn env(&self) -> Env {
        Env { clock: self.clock.clone(), ids: Arc::new(RandomIds) }
    }

    pub async fn start(&self) -> Process {
        let env = self.env();
        let options = DbOptions { env: env.clone(), ..DbOptions::default() };
        let db = Db::connect(&self.database, &self.schema, options).await.unwrap();
        db.migrate(&[&[OUTBOX], MIGRATIONS].concat()).await.unwrap();
        let (bus, stop) = (Bus::in_process(), CancellationToken::new());
        let events = self.events.clone();
        let collect = Arc::new(move |event: Event| -> futures::future::BoxFuture<'static, fishy_core::Result<()>> {
            events.lock().unwrap().push(event);
            Box::pin(async { Ok(()) })
        });
        bus.subscribe("test", &["fishy.*"], collect).await.unwrap();
        let relay_bus = bus.clone();
        let publish = move |event| -> futures::future::BoxFuture<'static, fishy_core::Result<()>> {
            let bus = relay_bus.clone();
            Box::pin(async move { bus.publish(event).await })
        };
        let relay = AbortOnDropHandle::new(Relay::spawn(db.clone(), publish, env.clone(), stop.clone()));
        let mut config = fishy_config::Config::default();
        config.storage.data_dir = self.folder.path().join("data").to_string_lossy().into_owned();
        config.pipelines.tick_ms = 20;
        config.pipelines.max_running = self.max_running;
        let client = |service| ServiceClient::local(service, &self.fakes.slot(service), "pipelines");
        let running = fishy_pipelines::start(Deps {
            config,
            db,
            bus: bus.clone(),
            guard: Guard {
                authenticator: Authenticator::local(),
                authorizer: Authorizer::embedded(env.now_ms()).unwrap(),
                max_body_bytes: 1024 * 1024,
                request_timeout: Duration::from_mins(1),
            },
            registry: RegistryClient::new(client("registry")),
            monitoring: MonitoringClient(client("monitoring")),
            deployment: DeploymentClient(client("deployment")),
            governance: GovernanceClient(client("governance")),
            engine: Arc::new(FakeEngine),
            tracking_uri: "http://registry.test".to_owned(),
            run_tokens: Some(RunTokens::new("a secret that no step may see, of 32 bytes")),
            step_environment: BTreeMap::new(),
            stop: stop.clone(),
            env,
        })
        .await
        .unwrap();
        let http = ServiceClient::local("pipelines", &from_outside(running.router.clone()), "test");
        Process { client: PipelinesClient(http.clone()), http, bus, running, stop, _relay: relay }
    }

    /// Events of a type so far.
    pub fn events(&self, kind: &str) -> Vec<Event> {
        self.events.lock().unwrap().iter().filter(|event| event.kind == kind).cloned().collect()
    }

    /// Data of the audit entries so far: action, outcome and details.
    pub fn audit(&self) -> Vec<(String, String, Value)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let entries = self.events(AUDIT_ENTRY).into_iter().map(|event| event.data);
        entries.map(|data| (text(&data["action"]), text(&data["outcome"]), data["details"].clone())).collect()
    }

    /// The run, once the event of its end has come.
    pub async fn ended(&self, process: &Process, id: &str) -> Run {
        let has_ended = || async {
            self.events(RUN_FINISHED).iter().any(|event| {
                let finished: RunFinished = serde_json::from_value(event.data.clone()).unwrap();
                finished.run_id == id
            })
        };
        eventually(&format!("the end of run {id}"), has_ended).await;
        let run = process.client.run(id).await.unwrap();
        assert!(run.status.is_final(), "{run:?}");
        run
    }
}

/// Requests without an identity, as they come from outside: the guard makes a local administrator of them.
fn from_outside(router: axum::Router) -> ServiceSlot {
    let slot = ServiceSlot::default();
    slot.fill(router.layer(axum::middleware::map_request(|mut request: axum::extract::Request| async {
        request.extensions_mut().remove::<fishy_authz::Identity>();
        request
    })));
    slot
}

impl Process {
    /// As the process ends on a signal.
    pub async fn shut_down(self) {
        self.stop.cancel();
        self.running.shutdown().await;
    }

    /// A client as another of our services has it.
    pub fn as_service(&self, name: &str) -> PipelinesClient {
        let slot = ServiceSlot::default();
        slot.fill(self.running.router.clone());
        PipelinesClient(ServiceClient::local("pipelines", &slot, name))
    }

    pub async fn problems(&self) -> Vec<String> {
        self.running.problems().await
    }

    /// Applies a pipeline whose scripts work in the world's folder.
    pub async fn apply(&self, world: &World, definition: &str) {
        let name = definition.split('"').nth(1).unwrap().to_owned();
        let folder = world.scripts().to_string_lossy().into_owned();
        self.client.apply(&PipelineSpec { name, definition: definition.to_owned(), folder }).await.unwrap();
    }

    pub async fn start_run(&self, pipeline: &str) -> Run {
        self.start_with(pipeline, &[]).await
    }

    pub async fn start_with(&self, pipeline: &str, params: &[(&str, &str)]) -> Run {
        let start = StartRun {
            as_of_ms: Some(AS_OF_MS),
            reason: "a test".to_owned(),
            trigger_id: None,
            params: params.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        };
        let run = self.client.start(pipeline, &start).await.unwrap();
        // The scheduler may have taken it up before the answer was read.
        assert!(matches!(run.status, RunStatus::Queued | RunStatus::Running), "{:?}", run.status);
        run
    }

    /// The run, once it has this status.
    pub async fn reaches(&self, id: &str, status: RunStatus) -> Run {
        let has_it = || async { self.client.run(id).await.unwrap().status == status };
        eventually(&format!("{status:?} of run {id}"), has_it).await;
        self.client.run(id).await.unwrap()
    }
}

/// Waits until something is so: what it waits for is the condition, however long that takes.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(waited.await.is_ok(), "waited in vain for {what}");
}

pub async fn file_appears(path: &Path) {
    eventually(&path.display().to_string(), || async { path.exists() }).await;
}
