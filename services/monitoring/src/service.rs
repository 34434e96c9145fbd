//! The use cases.

mod alerting;
mod check_rows;
mod checking;
mod closing;
mod computing;
mod dataset;
mod deciding;
mod experts;
mod feedback;
mod gauges;
mod ingest;
mod logged;
mod looking_back;
mod monitors;
mod opinions;
mod overview;
mod reference;
mod served;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use fishy_audit::{Entry, Outcome};
use fishy_contracts::events::AUDIT_ENTRY;
use fishy_core::time::{DAY_MS, rfc3339};
use fishy_core::{Env, Error, Event, Result, TraceContext};
use fishy_db::{Db, Tx};
use serde::Serialize;
use serde_json::Value;
use tokio::sync::Notify;

use crate::domain::checks::spans::Span;
use crate::domain::window::{References, Row};
use crate::store::monitors::MonitorRow;
use crate::{Deps, store};

use alerting::Receivers;
pub use gauges::describe as describe_metrics;

const SERVICE: &str = "monitoring";
/// Rows of a page.
const PAGE: usize = 5_000;
/// Most rows that one round of forgetting deletes of each kind.
const FORGET: usize = 2_000;

/// References that do not move, by monitor and span.
type CheckReferences = BTreeMap<(String, Span), Arc<Vec<Row>>>;

/// The service.
pub struct Monitoring {
    env: Env,
    config: fishy_config::Monitoring,
    db: Db,
    /// The stream's consumer by the kind of bus: offsets of one mean nothing to another.
    consumer: &'static str,
    /// One closing of a monitor at a time in this process; between processes the monitor's revision decides.
    turns: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    references: Mutex<BTreeMap<(String, String), Arc<References>>>,
    check_references: Mutex<CheckReferences>,
    wake: Notify,
    receivers: Receivers,
    alert_wake: Notify,
    stream_problem: Mutex<Option<String>>,
    closing_problems: Mutex<BTreeMap<String, String>>,
}

impl Monitoring {
    pub fn new(deps: Deps) -> Result<Self> {
        let is_in_process = deps.config.bus.url.is_empty();
        Ok(Self {
            receivers: Receivers::new(&deps.config.monitoring.receivers)?,
            env: deps.env,
            config: deps.config.monitoring,
            db: deps.db,
            consumer: if is_in_process { "in-process" } else { "amqp" },
            turns: Mutex::default(),
            references: Mutex::default(),
            check_references: Mutex::default(),
            wake: Notify::new(),
            alert_wake: Notify::new(),
            stream_problem: Mutex::default(),
            closing_problems: Mutex::default(),
        })
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<()> {
        self.db.ping().await
    }

    /// What fails again and again, in words.
    pub fn problems(&self) -> Vec<String> {
        let stream = self.stream_problem.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let closing = self.closing_problems.lock().unwrap_or_else(PoisonError::into_inner);
        let closing = closing.iter().map(|(monitor, problem)| format!("windows of monitor {monitor}: {problem}"));
        stream.map(|problem| format!("prediction stream: {problem}")).into_iter().chain(closing).collect()
    }

    /// Waits until data came in.
    pub async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Closes what is due of every monitor.
    pub async fn advance_all(&self) {
        let names = match store::monitors::names(&self.db).await {
            Ok(names) => names,
            Err(error) => {
                tracing::warn!(error = error.chain(), "cannot read the monitors");
                return;
            }
        };
        for name in names {
            let problem = match self.advance(&name).await {
                Ok(()) => None,
                Err(error) => {
                    tracing::warn!(monitor = name, error = error.chain(), "cannot close windows");
                    Some(error.to_string())
                }
            };
            let mut problems = self.closing_problems.lock().unwrap_or_else(PoisonError::into_inner);
            match problem {
                Some(problem) => problems.insert(name, problem),
                None => problems.remove(&name),
            };
        }
    }

    /// Deletes some of what is older than it is kept for.
    pub async fn forget_old(&self) {
        if let Err(error) = self.try_forget_old().await {
            tracing::warn!(error = error.chain(), "cannot delete what is too old");
        }
    }

    async fn try_forget_old(&self) -> Result<()> {
        let retention_ms = self.config.retention_days.max(1).saturating_mul(DAY_MS);
        let cutoffs = store::retention::cutoffs(&self.db, retention_ms).await?;
        let mut is_more = false;
        for (deployment, before_ms) in cutoffs {
            if store::predictions::first_ms(&self.db, &deployment).await?.is_some_and(|first_ms| first_ms < before_ms) {
                let mut tx = self.db.begin().await?;
                store::take_turn(&mut tx).await?;
                let purged = store::retention::purge_predictions(&mut tx, &deployment, before_ms, FORGET).await?;
                tx.commit().await?;
                is_more |= purged == FORGET;
            }
            for monitor in store::retention::with_old_history(&self.db, &deployment, before_ms).await? {
                let mut tx = self.db.begin().await?;
                let purged = store::retention::purge_observations(&mut tx, &monitor, before_ms, FORGET).await?;
                tx.commit().await?;
                is_more |= purged == FORGET as u64;
            }
        }
        let received_before_ms = self.env.now_ms() - retention_ms;
        if store::retention::has_waiting(&self.db, received_before_ms).await? {
            let mut tx = self.db.begin().await?;
            store::take_turn(&mut tx).await?;
            store::retention::purge_waiting(&mut tx, received_before_ms, FORGET).await?;
            tx.commit().await?;
        }
        is_more |= self.forget_old_alerts().await?;
        if is_more {
            self.wake.notify_one();
        }
        Ok(())
    }

    async fn monitor(&self, name: &str) -> Result<MonitorRow> {
        let monitor = store::monitors::get(&self.db, name).await?;
        monitor.ok_or_else(|| Error::not_found(format!("no monitor {name:?}")))
    }

    /// Whose turn it is to close windows of a monitor.
    fn turn_of(&self, name: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.entry(name.to_owned()).or_default().clone()
    }

    /// Writes an event into the transaction.
    async fn emit<T: Serialize + Sync>(&self, tx: &mut Tx, kind: &str, subject: &str, data: &T) -> Result<()> {
        let data =
            serde_json::to_value(data).map_err(|error| Error::internal("cannot write an event").with_source(error))?;
        tx.emit(&Event::new(self.env.new_id(), SERVICE, kind, subject, self.env.now_ms(), data)).await
    }

    /// Writes an audit entry into the transaction.
    async fn audit(&self, tx: &mut Tx, actor: &str, action: &str, resource: &str, details: Value) -> Result<()> {
        let entry = Entry {
            id: self.env.new_id(),
            time: rfc3339(self.env.now_ms()),
            service: SERVICE.to_owned(),
            actor: actor.to_owned(),
            action: action.to_owned(),
            resource: resource.to_owned(),
            outcome: Outcome::Done,
            details,
            traceparent: TraceContext::current().map(|trace| trace.traceparent()),
        };
        self.emit(tx, AUDIT_ENTRY, resource, &entry).await
    }
}

/// The service as an actor of audit entries.
fn itself() -> String {
    format!("service:{SERVICE}")
}

/// Runs what needs a processor for long enough to disturb others, away from the async threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(Error::internal("a computation ended unexpectedly").with_source(error)))
}
