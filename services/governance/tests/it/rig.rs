//! Governance in this process; it can be stopped and started again on the same database.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, Request};
use fishy_audit::{Entry, Outcome, Report, VerifyOptions, verify_export};
use fishy_authz::{Authenticator, Authorizer, Identity};
use fishy_blob::{Blob, BlobOptions};
use fishy_bus::Bus;
use fishy_config::Config;
use fishy_contracts::events::AUDIT_ENTRY;
use fishy_core::{Env, Event, ManualClock, RandomIds, Result};
use fishy_db::{Db, DbOptions, OUTBOX, Relay, Value as Arg};
use fishy_governance::{Deps, MIGRATIONS, Running, start};
use fishy_http::Guard;
use futures::future::BoxFuture;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tower::ServiceExt;

pub const NOW_MS: i64 = 1_800_000_000_000;

#[derive(Debug, Clone, Copy)]
pub enum On {
    Sqlite,
    Postgres,
}

pub struct Rig {
    pub folder: Arc<tempfile::TempDir>,
    pub env: Env,
    pub db: Db,
    pub schema: String,
    pub bus: Bus,
    pub blob: Blob,
    pub authorizer: Authorizer,
    pub running: Running,
    config: Config,
    url: String,
    stop: CancellationToken,
    _relay: AbortOnDropHandle<()>,
}

#[expect(clippy::disallowed_methods, reason = "tests find their services by environment")]
fn postgres_url() -> String {
    std::env::var("FISHY_TEST_POSTGRES").unwrap_or_else(|_| "postgres://postgres@127.0.0.1:5432/test".to_owned())
}

impl Rig {
    pub async fn new(on: On) -> Self {
        Self::with(on, |_| ()).await
    }

    pub async fn with(on: On, configure: impl FnOnce(&mut Config)) -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let env = Env { clock: Arc::new(ManualClock::at(NOW_MS)), ids: Arc::new(RandomIds) };
        let (url, schema) = match on {
            On::Sqlite => (format!("sqlite://{}", folder.path().display()), "governance".to_owned()),
            On::Postgres => (postgres_url(), format!("gov_{}", env.new_id().replace('-', ""))),
        };
        let mut config = Config::default();
        config.storage.data_dir = folder.path().join("data").display().to_string();
        // Checkpoints are signed when a test asks for one, or at the end.
        config.governance.checkpoint_every_ms = 3_600_000;
        config.governance.checkpoint_every_entries = 1_000_000;
        configure(&mut config);
        Self::begin(folder, env, url, schema, config).await.unwrap()
    }

    async fn begin(
        folder: Arc<tempfile::TempDir>,
        env: Env,
        url: String,
        schema: String,
        config: Config,
    ) -> Result<Self> {
        let options = DbOptions { env: env.clone(), ..DbOptions::default() };
        let db = Db::connect(&url, &schema, options).await?;
        db.migrate(&[&[OUTBOX], MIGRATIONS].concat()).await?;
        let blob = Blob::open(&format!("file://{}/blobs", folder.path().display()), &BlobOptions::default())?;
        let (bus, stop) = (Bus::in_process(), CancellationToken::new());
        let authorizer = Authorizer::embedded(NOW_MS)?;
        let guard = Guard {
            authenticator: Authenticator::local(),
            authorizer: authorizer.clone(),
            max_body_bytes: 64 * 1024,
            request_timeout: Duration::from_secs(30),
        };
        let running = start(Deps {
            env: env.clone(),
            config: config.clone(),
            db: db.clone(),
            bus: bus.clone(),
            guard,
            blob: blob.clone(),
            stop: stop.clone(),
        })
        .await?;
        let relay_bus = bus.clone();
        let publish = move |event| -> BoxFuture<'static, Result<()>> {
            let bus = relay_bus.clone();
            Box::pin(async move { bus.publish(event).await })
        };
        let relay = AbortOnDropHandle::new(Relay::spawn(db.clone(), publish, env.clone(), stop.clone()));
        Ok(Self { folder, env, db, schema, bus, blob, authorizer, running, config, url, stop, _relay: relay })
    }

    /// Stops, and starts again on what is there; `configure` may change the configuration.
    pub async fn restart_with(self, configure: impl FnOnce(&mut Config)) -> Result<Self> {
        self.stop.cancel();
        self.running.shutdown().await;
        let mut config = self.config;
        configure(&mut config);
        Self::begin(self.folder, self.env, self.url, self.schema, config).await
    }

    pub async fn restart(self) -> Self {
        Box::pin(self.restart_with(|_| ())).await.unwrap()
    }

    /// Status, content type and body of any request; without an identity the guard takes it for the local administrator.
    pub async fn raw(&self, who: Option<Identity>, method: Method, path: &str, body: impl Into<Body>) -> Answer {
        let mut request = Request::builder().method(method).uri(path).body(body.into()).unwrap();
        if let Some(who) = who {
            request.extensions_mut().insert(who);
        }
        let response = self.running.router.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let form = response.headers().get("content-type").map_or("", |form| form.to_str().unwrap()).to_owned();
        Answer { status, form, body: response.into_body().collect().await.unwrap().to_bytes().to_vec() }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.raw(None, Method::GET, path, "").await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.raw(None, Method::POST, path, body.to_string()).await
    }

    pub async fn post_as(&self, who: Identity, path: &str, body: &Value) -> Answer {
        self.raw(Some(who), Method::POST, path, body.to_string()).await
    }

    /// Waits until the relay has delivered everything.
    pub async fn settle(&self) {
        let empty = async {
            while self.count("outbox").await > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_mins(1), empty).await.unwrap();
        assert_eq!(self.count("outbox_dead").await, 0);
    }

    pub async fn count(&self, table: &str) -> i64 {
        let rows = self.db.query(&format!("select count(*) as n from {table}"), vec![]).await.unwrap();
        rows[0].get("n").unwrap()
    }

    /// What somebody with the password of the database does.
    pub async fn tamper(&self, sql: &str, args: Vec<Arg>) {
        let mut tx = self.db.begin().await.unwrap();
        assert!(tx.execute(sql, args).await.unwrap() > 0, "{sql}");
        tx.commit().await.unwrap();
    }

    /// Delivers an entry of another service, as the bus does.
    pub async fn deliver(&self, id: &str) -> Result<()> {
        self.bus.publish(event(id)).await
    }

    pub async fn deliver_some(&self, numbers: std::ops::Range<u32>) {
        for number in numbers {
            self.deliver(&format!("e{number}")).await.unwrap();
        }
    }

    /// Actions of the audit log in their order, with their outcome.
    pub async fn audited(&self) -> Vec<(String, String)> {
        self.settle().await;
        let entries = self.get("/api/v1/audit/entries?limit=1000").await.json();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let items = entries["items"].as_array().unwrap();
        items.iter().map(|item| (text(&item["entry"]["action"]), text(&item["entry"]["outcome"]))).collect()
    }

    /// The lines of an export.
    pub async fn export(&self) -> Vec<String> {
        let answer = self.get("/api/v1/audit/export").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.text().lines().map(str::to_owned).collect()
    }

    /// Signed heads that were written outside, oldest first.
    pub async fn heads(&self) -> Vec<String> {
        let mut heads = Vec::new();
        let mut files = self.blob.list_recursive("audit/checkpoints").await.unwrap_or_default();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        for file in files {
            let bytes = self.blob.get_bytes(&file.path, 100_000).await.unwrap();
            heads.push(String::from_utf8(bytes.to_vec()).unwrap());
        }
        heads
    }
}

pub struct Answer {
    pub status: u16,
    pub form: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The JSON of an answer that must be a success.
    #[track_caller]
    pub fn json(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text());
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The code of a refusal, which must be problem+json.
    #[track_caller]
    pub fn code(&self) -> String {
        assert!(self.status >= 400, "{}", self.text());
        assert_eq!(self.form, "application/problem+json", "{}", self.text());
        let problem: Value = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(problem["status"], self.status);
        problem["code"].as_str().unwrap().to_owned()
    }
}

pub fn event(id: &str) -> Event {
    let entry = Entry {
        id: id.to_owned(),
        time: "2027-01-15T08:00:00.000Z".to_owned(),
        service: "registry".to_owned(),
        actor: "user:ada".to_owned(),
        action: "alias.moved".to_owned(),
        resource: format!("models/oxygen/{id}"),
        outcome: Outcome::Done,
        details: json!({"why": "a test\nin two lines", "share": 0.25}),
        traceparent: None,
    };
    Event::new(id.to_owned(), "registry", AUDIT_ENTRY, "models/oxygen", NOW_MS, serde_json::to_value(entry).unwrap())
}

pub fn verify(lines: &[String], heads: &[String]) -> Report {
    let options = VerifyOptions { trusted_key: None, heads: heads.to_vec() };
    verify_export(lines.join("\n").as_bytes(), &options).unwrap()
}

pub fn compliance(name: &str) -> Identity {
    Identity::user(name, ["compliance"])
}

/// The relay that was just aborted may still hold a lock: then PostgreSQL refuses, and it is tried again.
pub async fn drop_schema(db: &Db, schema: &str) {
    for _ in 0..10 {
        let mut tx = db.begin().await.unwrap();
        if tx.execute(&format!("drop schema {schema} cascade"), vec![]).await.is_ok() {
            return tx.commit().await.unwrap();
        }
    }
    panic!("schema {schema} could not be dropped");
}

/// Runs a test on both databases.
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {$(
        mod $name {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                super::$name(crate::rig::Rig::new(crate::rig::On::Sqlite).await).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                let rig = crate::rig::Rig::new(crate::rig::On::Postgres).await;
                let (db, schema) = (rig.db.clone(), rig.schema.clone());
                super::$name(rig).await;
                crate::rig::drop_schema(&db, &schema).await;
            }
        }
    )*};
}
pub(crate) use on_both;
