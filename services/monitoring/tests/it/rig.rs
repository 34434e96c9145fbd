//! One running service with a farm that sends it data.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::middleware::map_request;
use bytes::Bytes;
use fishy_authz::{Authenticator, Authorizer, Identity};
use fishy_bus::Bus;
use fishy_contracts::MonitoringClient;
use fishy_contracts::events::{REVISION_ACTIVATED, RUN_FINISHED, RevisionActivated, RunFinished};
use fishy_contracts::monitoring::{GroundTruth, GroundTruthItem, MonitorSpec, MonitorStatus, Watermark};
use fishy_contracts::pipelines::RunStatus;
use fishy_core::time::{DAY_MS, HOUR_MS};
use fishy_core::{Env, Event, Ids, ManualClock, RandomIds};
use fishy_db::{Db, DbOptions, Migration};
use fishy_http::{Guard, ServiceClient, ServiceSlot};
use fishy_monitoring::{Deps, MIGRATIONS, Running};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// The first midnight of the tests: 26 January 2011.
pub const START: i64 = 15_000 * DAY_MS;

/// The midnight so many days after the first.
pub fn day(days: i64) -> i64 {
    START + days * DAY_MS
}

/// The time so many hours after the first midnight.
pub fn hour(hours: i64) -> i64 {
    START + hours * HOUR_MS
}

/// Which database.
#[derive(Clone, Copy)]
pub enum On {
    Sqlite,
    Postgres,
}

pub struct Rig {
    pub db: Db,
    pub bus: Bus,
    pub router: axum::Router,
    pub client: MonitoringClient,
    pub config: fishy_config::Config,
    pub clock: Arc<ManualClock>,
    stop: CancellationToken,
    running: Running,
    on: On,
    url: String,
    schema: String,
    dir: TempDir,
}

fn postgres_url() -> String {
    #[expect(clippy::disallowed_methods, reason = "tests find their services by environment")]
    let url = std::env::var("FISHY_TEST_POSTGRES");
    url.unwrap_or_else(|_| "postgres://postgres@127.0.0.1:5432/test".to_owned())
}

fn all_migrations() -> Vec<Migration> {
    [fishy_db::OUTBOX].iter().chain(MIGRATIONS).copied().collect()
}

/// Where a database that is not there yet will be.
fn place(on: On) -> (String, String, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let schema = format!("m{}", RandomIds.new_id().replace('-', ""));
    let url = match on {
        On::Sqlite => format!("sqlite://{}", dir.path().display()),
        On::Postgres => postgres_url(),
    };
    (url, schema, dir)
}

fn env(clock: &Arc<ManualClock>) -> Env {
    Env { clock: clock.clone(), ids: Arc::new(RandomIds) }
}

impl Rig {
    pub async fn start(on: On) -> Self {
        Self::start_with(on, fishy_config::Config::default()).await
    }

    pub async fn start_with(on: On, config: fishy_config::Config) -> Self {
        let (url, schema, dir) = place(on);
        Self::open(on, config, url, schema, dir).await
    }

    /// Over a database of an older version, the first so many migrations, in which these statements were run.
    pub async fn start_over(on: On, version: i64, kept: &[String]) -> Self {
        let (url, schema, dir) = place(on);
        let db = Db::connect(&url, &schema, DbOptions::default()).await.unwrap();
        let migrations: Vec<_> = all_migrations().into_iter().filter(|step| step.version <= version).collect();
        db.migrate(&migrations).await.unwrap();
        let mut tx = db.begin().await.unwrap();
        for sql in kept {
            tx.execute(sql, vec![]).await.unwrap();
        }
        tx.commit().await.unwrap();
        db.close().await;
        Self::open(on, fishy_config::Config::default(), url, schema, dir).await
    }

    async fn open(on: On, config: fishy_config::Config, url: String, schema: String, dir: TempDir) -> Self {
        let clock = Arc::new(ManualClock::at(day(3_000)));
        let env = || env(&clock);
        let db = Db::connect(&url, &schema, DbOptions { env: env(), ..DbOptions::default() }).await.unwrap();
        db.migrate(&all_migrations()).await.unwrap();
        let bus = Bus::in_process();
        let guard = Guard {
            authenticator: Authenticator::local(),
            authorizer: Authorizer::embedded(0).unwrap(),
            max_body_bytes: config.server.max_body_bytes,
            request_timeout: Duration::from_mins(1),
        };
        let stop = CancellationToken::new();
        let deps =
            Deps { env: env(), config: config.clone(), db: db.clone(), bus: bus.clone(), guard, stop: stop.clone() };
        let running = fishy_monitoring::start(deps).await.unwrap();
        let router = running.router.clone();
        let as_admin = map_request(|mut request: Request| async move {
            request.extensions_mut().insert(Identity::local_admin());
            request
        });
        let slot = ServiceSlot::default();
        slot.fill(router.clone().layer(as_admin));
        let client = MonitoringClient(ServiceClient::local("monitoring", &slot, "test"));
        Self { db, bus, router, client, config, clock, stop, running, on, url, schema, dir }
    }

    /// As after a crash: nothing is told to end.
    pub async fn restart(self) -> Self {
        let Self { bus, db, config, stop, running, on, url, schema, dir, router, client, clock: _ } = self;
        stop.cancel();
        drop((router, client));
        running.shutdown().await;
        bus.close().await;
        db.close().await;
        Self::open(on, config, url, schema, dir).await
    }

    /// Another process over the same database.
    pub async fn replica(&self) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::open(self.on, self.config.clone(), self.url.clone(), self.schema.clone(), dir).await
    }

    /// What keeps it from being ready.
    pub async fn problems(&self) -> Vec<String> {
        self.running.problems().await
    }

    /// Ends, and leaves the database to others.
    pub async fn close(self) {
        assert_eq!(self.problems().await, Vec::<String>::new());
        self.stop.cancel();
        self.running.shutdown().await;
        self.bus.close().await;
        self.db.close().await;
    }

    pub async fn end(self) {
        let (on, url, schema) = (self.on, self.url.clone(), self.schema.clone());
        self.close().await;
        if let On::Postgres = on {
            let db = Db::connect(&url, &schema, DbOptions::default()).await.unwrap();
            let mut tx = db.begin().await.unwrap();
            tx.execute(&format!("drop schema {schema} cascade"), vec![]).await.unwrap();
            tx.commit().await.unwrap();
            db.close().await;
        }
    }

    /// A monitor `oxygen` of the deployment `oxygen`; its watermark is told, not guessed.
    pub async fn monitor(&self, change: Value) -> MonitorStatus {
        self.client.apply(&spec(&change)).await.unwrap()
    }

    pub async fn champion(&self, revision: i64, version: &str, tags: &[(&str, String)]) {
        let activated = RevisionActivated {
            deployment: "oxygen".into(),
            revision,
            model: "oxygen".into(),
            version: version.into(),
            digest: "d".into(),
            features: vec!["ph".into(), "temp".into()],
            tags: tags.iter().map(|(tag, value)| ((*tag).to_owned(), value.clone())).collect(),
        };
        self.tell("deployment", REVISION_ACTIVATED, serde_json::to_value(activated).unwrap()).await;
    }

    pub async fn run_finished(&self, trigger_id: &str, status: RunStatus) {
        let finished = RunFinished {
            run_id: "r".into(),
            pipeline: "retrain".into(),
            trigger_id: Some(trigger_id.into()),
            status,
            as_of_ms: 0,
        };
        self.tell("pipelines", RUN_FINISHED, serde_json::to_value(finished).unwrap()).await;
    }

    pub async fn tell(&self, service: &str, kind: &str, data: Value) {
        let event = Event::new(RandomIds.new_id(), service, kind, "oxygen", 0, data);
        self.bus.publish(event.clone()).await.unwrap();
        // Events come at least once.
        self.bus.publish(event).await.unwrap();
    }

    pub async fn publish(&self, records: &[Value]) {
        let lines: Vec<String> = records.iter().map(Value::to_string).collect();
        let stream = self.bus.stream("predictions").await.unwrap();
        stream.publish(Bytes::from(lines.join("\n"))).await.unwrap();
    }

    /// Hourly predictions `p-HOUR` of a version.
    pub async fn predict(&self, hours: std::ops::Range<i64>, version: &str) {
        let records: Vec<Value> = hours.map(|at| record(at, version)).collect();
        self.publish(&records).await;
    }

    /// True values of hourly predictions, seven days later, at this distance from what was answered.
    pub async fn label(&self, hours: std::ops::Range<i64>, error: f64) {
        let items = hours.map(|at| truth(at, answer(at) + error, Some(hour(at) + 7 * DAY_MS))).collect();
        self.client.ground_truth(&GroundTruth { items }).await.unwrap();
    }

    pub async fn watermark(&self, time_ms: i64) -> MonitorStatus {
        self.client.watermark("oxygen", Watermark { time_ms }).await.unwrap()
    }

    pub async fn triggers(&self) -> Vec<Value> {
        self.client.triggers("oxygen").await.unwrap().items
    }

    /// What was emitted of a type: the data.
    pub async fn emitted(&self, kind: &str) -> Vec<Value> {
        let rows = self.db.query("select event from outbox order by seq", vec![]).await.unwrap();
        rows.iter()
            .map(|row| serde_json::from_str::<Event>(&row.get::<String>("event").unwrap()).unwrap())
            .filter(|event| event.kind == kind)
            .map(|event| event.data)
            .collect()
    }

    /// A request to the router; gives status and body.
    pub async fn send(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        use http_body_util::BodyExt;
        use tower::ServiceExt;
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", "application/json")
            .body(axum::body::Body::from(body.to_owned()))
            .unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }
}

pub fn spec(change: &Value) -> MonitorSpec {
    let mut spec = json!({
        "name": "oxygen", "deployment": "oxygen", "lateness_ms": 360 * DAY_MS,
        "trigger": {
            "pipeline": "retrain", "error_window_days": 7.0, "error_ratio": 1.25,
            "min_labels": 24, "psi_above": null, "drift_window_days": 7.0, "cooldown_days": 14.0,
            "backoff_days": 7.0, "budget_days": 32.0, "budget_burst": 2.0, "budget_start": 1.0,
            "reserve_ratio": 1.0,
        },
    });
    for (key, value) in change.as_object().unwrap() {
        match (spec.get_mut(key).and_then(Value::as_object_mut), value.as_object()) {
            (Some(mine), Some(theirs)) => mine.extend(theirs.clone()),
            _ => spec[key] = value.clone(),
        }
    }
    serde_json::from_value(spec).unwrap()
}

/// What the model answers at an hour.
pub fn answer(hour: i64) -> f64 {
    7.0 + (hour as f64 * 0.26).sin()
}

/// Water that moves with the tide.
pub fn temp(hour: i64) -> f64 {
    ((15.0 + (hour as f64 * 0.506).sin() + 0.3 * (hour as f64 * 0.262).cos()) * 1000.0).round() / 1000.0
}

pub fn record(at: i64, version: &str) -> Value {
    record_with(&format!("p-{at}"), at, version, &json!(temp(at)))
}

pub fn record_with(id: &str, at: i64, version: &str, temp: &Value) -> Value {
    let ph = 8.0 + (at as f64 * 0.1).cos() * 0.2;
    json!({
        "id": id, "deployment": "oxygen", "revision": 1, "version": version, "time_ms": hour(at),
        "received_ms": hour(at), "latency_us": 50, "inputs": {"temp": temp, "ph": ph},
        "outputs": {"do_mgl": answer(at)},
    })
}

pub fn truth(at: i64, value: f64, time_ms: Option<i64>) -> GroundTruthItem {
    GroundTruthItem { prediction_id: format!("p-{at}"), value, time_ms }
}

pub fn training(from_day: i64, to_day: i64) -> Vec<(&'static str, String)> {
    vec![("fishy.training.from_ms", day(from_day).to_string()), ("fishy.training.to_ms", day(to_day).to_string())]
}

pub fn inputs(at: i64) -> BTreeMap<String, Option<f64>> {
    BTreeMap::from([("temp".to_owned(), Some(temp(at))), ("ph".to_owned(), Some(8.0 + (at as f64 * 0.1).cos() * 0.2))])
}

/// Makes a test for each database of a function that takes [`On`].
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(crate::rig::On::Sqlite).await;
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(crate::rig::On::Postgres).await;
            })*
        }
    };
}
pub(crate) use on_both;
