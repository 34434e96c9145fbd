//! Monitors: what they watch, how they stand, and what they hear of champions and runs.

use std::collections::BTreeSet;

use fishy_authz::Identity;
use fishy_contracts::List;
use fishy_contracts::events::{RevisionActivated, RunFinished};
use fishy_contracts::monitoring::{Alarm, CheckWindow, DataFault, MonitorSpec, MonitorStatus, Window};
use fishy_core::time::DAY_MS;
use fishy_core::{Error, Result};
use fishy_db::Tx;
use serde_json::{Value, json};

use super::Monitoring;
use crate::domain::{self, hour_of, is_time};
use crate::store;
use crate::store::monitors::{Champion, DeploymentRow, MonitorRow};

/// Windows, faults or decisions of one answer at most.
const MAX_LISTED: usize = 20_000;
/// How far a watermark may lie before the data, in days: each day on the way is closed.
const MAX_AHEAD_DAYS: i64 = 3_660;

impl Monitoring {
    /// Makes or changes a monitor.
    pub async fn apply(&self, name: &str, spec: MonitorSpec, caller: &Identity) -> Result<MonitorStatus> {
        domain::monitor::check(name, &spec)?;
        let newest_ms = store::monitors::deployment(&self.db, &spec.deployment).await?.newest_ms;
        let mut tx = self.db.begin().await?;
        let turn = store::take_turn(&mut tx).await?;
        let before = store::monitors::get_in(&mut tx, name).await?.map(|monitor| monitor.spec);
        if before.as_ref() == Some(&spec) {
            drop(tx);
            return self.status(name).await;
        }
        if let Some(before) = before.as_ref().filter(|before| before.deployment != spec.deployment) {
            return Err(Error::precondition(format!(
                "monitor {name:?} watches deployment {:?}: make another monitor for {:?}",
                before.deployment, spec.deployment
            )));
        }
        let watching = store::monitors::watching(&mut tx).await?.remove(&spec.deployment).unwrap_or_default();
        let other = watching.iter().find(|other| other.name != name && other.output != spec.output);
        if let Some(other) = other {
            return Err(Error::precondition(format!(
                "monitor {:?} compares output {:?} of deployment {:?}: the monitors of a deployment compare one output",
                other.name, other.output, spec.deployment
            )));
        }
        if before.is_some() {
            store::monitors::set_spec(&mut tx, &spec).await?;
        } else {
            store::monitors::insert(&mut tx, &spec, newest_ms.unwrap_or(-1), self.env.now_ms()).await?;
        }
        let has_other_output = before.as_ref().map_or("", |before| &before.output) != spec.output;
        if has_other_output && store::predictions::has_several_outputs(&mut tx, &spec.deployment).await? {
            choose_output(&mut tx, &spec).await?;
        }
        if before.is_none() || has_other_output {
            store::predictions::touch_all(&mut tx, turn, name, &spec.deployment).await?;
        }
        let details = json!({"before": before, "after": spec});
        self.audit(&mut tx, &caller.to_string(), "monitoring:write", &format!("monitors/{name}"), details).await?;
        tx.commit().await?;
        self.wake.notify_one();
        self.status(name).await
    }

    /// How a monitor stands.
    pub async fn status(&self, name: &str) -> Result<MonitorStatus> {
        let monitor = self.monitor(name).await?;
        let deployment = store::monitors::deployment(&self.db, &monitor.spec.deployment).await?;
        let champion = store::monitors::champion(&self.db, &monitor.spec.deployment).await?;
        let figures = monitor.evaluation.as_ref().map(|evaluation| &evaluation.figures);
        Ok(MonitorStatus {
            watermark_ms: looked_at_until(&monitor, &deployment),
            predictions: deployment.predictions as u64,
            labels: (deployment.labels + monitor.observations) as u64,
            champion_version: champion.map(|champion| champion.version),
            rolling_error: figures.and_then(|figures| figures.rolling_error),
            baseline_error: figures.and_then(|figures| figures.baseline_error),
            open_faults: store::faults::open(&self.db, name).await?,
            last_trigger: store::decisions::newest_fired(&self.db, name).await?,
            triggers: store::decisions::count_fired(&self.db, name).await?,
            spec: monitor.spec,
        })
    }

    /// All monitors.
    pub async fn list(&self) -> Result<List<MonitorStatus>> {
        let mut items = Vec::new();
        for name in store::monitors::names(&self.db).await? {
            items.push(self.status(&name).await?);
        }
        Ok(List { items, next_page_token: None })
    }

    /// Takes an explicit watermark, closes everything up to it and decides, then answers.
    pub async fn set_watermark(&self, name: &str, time_ms: i64) -> Result<MonitorStatus> {
        if !is_time(time_ms) {
            return Err(Error::invalid(format!("time_ms {time_ms}: use milliseconds since the epoch")));
        }
        let monitor = self.monitor(name).await?;
        let newest_ms = store::monitors::deployment(&self.db, &monitor.spec.deployment).await?.newest_ms;
        let latest_ms = newest_ms.unwrap_or(0).max(self.env.now_ms()) + MAX_AHEAD_DAYS * DAY_MS;
        if time_ms > latest_ms {
            return Err(Error::invalid(format!(
                "time_ms {time_ms} lies more than {MAX_AHEAD_DAYS} days after all data: use milliseconds since the epoch"
            )));
        }
        let mut tx = self.db.begin().await?;
        store::monitors::set_explicit(&mut tx, name, time_ms).await?;
        tx.commit().await?;
        self.advance(name).await?;
        self.status(name).await
    }

    /// Windows of one length, oldest first; those that changed are computed again before.
    pub async fn windows(&self, name: &str, length: &str, from_ms: i64, to_ms: i64) -> Result<List<Window>> {
        if !matches!(length, "hour" | "day") {
            return Err(Error::invalid(format!("length {length:?}: use hour or day")));
        }
        self.monitor(name).await?;
        self.advance(name).await?;
        self.refresh(name).await?;
        let items = store::windows::list(&self.db, name, length, from_ms, to_ms, MAX_LISTED + 1).await?;
        if items.len() > MAX_LISTED {
            return Err(Error::exhausted(format!("more than {MAX_LISTED} windows: ask for a shorter span")));
        }
        Ok(List { items, next_page_token: None })
    }

    /// Figures of checks whose windows end in a span, oldest first; those that changed are computed again before.
    pub async fn checks(&self, name: &str, check: &str, from_ms: i64, to_ms: i64) -> Result<List<CheckWindow>> {
        let monitor = self.monitor(name).await?;
        if !check.is_empty() && monitor.spec.checks.iter().all(|spec| spec.name != check) {
            return Err(Error::not_found(format!("monitor {name:?} has no check {check:?}")));
        }
        self.advance(name).await?;
        self.refresh(name).await?;
        let items = store::checks::windows(&self.db, name, check, from_ms, to_ms, MAX_LISTED + 1).await?;
        if items.len() > MAX_LISTED {
            return Err(Error::exhausted(format!("more than {MAX_LISTED} windows: ask for a shorter span")));
        }
        Ok(List { items, next_page_token: None })
    }

    /// Alarms of the checks, newest first.
    pub async fn alarms(&self, name: &str, is_open: bool) -> Result<List<Alarm>> {
        self.monitor(name).await?;
        self.advance(name).await?;
        let items = if is_open {
            store::checks::open_alarms(&self.db, name, "").await?
        } else {
            store::checks::alarms(&self.db, name, MAX_LISTED).await?
        };
        Ok(List { items, next_page_token: None })
    }

    /// Data faults, newest first.
    pub async fn faults(&self, name: &str, is_open: bool) -> Result<List<DataFault>> {
        self.monitor(name).await?;
        self.advance(name).await?;
        let items = if is_open {
            store::faults::open(&self.db, name).await?
        } else {
            store::faults::list(&self.db, name, MAX_LISTED).await?
        };
        Ok(List { items, next_page_token: None })
    }

    /// Decisions that fired or that a data fault kept from firing, newest first, after the newest evaluation if that
    /// did neither.
    pub async fn triggers(&self, name: &str) -> Result<List<Value>> {
        self.monitor(name).await?;
        self.advance(name).await?;
        let monitor = self.monitor(name).await?;
        let decisions = store::decisions::list(&self.db, name, MAX_LISTED).await?;
        let mut items = Vec::new();
        if let Some(evaluation) = monitor.evaluation {
            let as_of_ms = evaluation.figures.as_of_ms;
            if decisions.first().is_none_or(|newest| newest.trigger.as_of_ms < as_of_ms) {
                items.push(json!({
                    "monitor": name,
                    "as_of_ms": as_of_ms,
                    "fired": false,
                    "reason": evaluation.reason,
                    "inputs": evaluation.figures,
                }));
            }
        }
        for decision in decisions {
            let trigger = decision.trigger;
            items.push(json!({
                "id": trigger.id,
                "monitor": trigger.monitor,
                "pipeline": trigger.pipeline,
                "as_of_ms": trigger.as_of_ms,
                "fired": decision.has_fired,
                "reason": trigger.reason,
                "inputs": trigger.inputs,
                "run_status": decision.run_status,
                "decided_ms": decision.decided_ms,
            }));
        }
        Ok(List { items, next_page_token: None })
    }

    /// A deployment serves another revision.
    pub async fn champion_changed(&self, event_id: &str, activated: &RevisionActivated) -> Result<()> {
        let mut tx = self.db.begin().await?;
        if !tx.receive("monitoring", event_id).await? {
            return Ok(());
        }
        if store::monitors::set_champion(&mut tx, activated).await? {
            let (deployment, version) = (&activated.deployment, &activated.version);
            tracing::info!(deployment, version, revision = activated.revision, "the champion changed");
        }
        tx.commit().await?;
        self.wake.notify_one();
        Ok(())
    }

    /// A run ended: the trigger behind it may have another, or waits after a setback.
    pub async fn run_finished(&self, event_id: &str, finished: &RunFinished) -> Result<()> {
        let Some(trigger_id) = finished.trigger_id.as_deref().filter(|_| finished.status.is_final()) else {
            return Ok(());
        };
        let mut tx = self.db.begin().await?;
        if tx.receive("monitoring", event_id).await? {
            let status = serde_json::to_value(finished.status).unwrap_or_default();
            store::decisions::finish(&mut tx, trigger_id, status.as_str().unwrap_or("finished")).await?;
            self.resolve(&mut tx, trigger_id, self.env.now_ms()).await?;
            tx.commit().await?;
        }
        Ok(())
    }
}

/// Chooses another output of the predictions that were kept with all of theirs.
async fn choose_output(tx: &mut Tx, spec: &MonitorSpec) -> Result<()> {
    let mut after = String::new();
    loop {
        let page = store::predictions::outputs_after(tx, &spec.deployment, &after, super::PAGE).await?;
        let Some((last, _)) = page.last() else { return Ok(()) };
        after = last.clone();
        for (id, outputs) in page {
            let outputs: std::collections::BTreeMap<String, f64> = store::from_json(&outputs)?;
            let output =
                outputs.get(&spec.output).or_else(|| outputs.values().next().filter(|_| spec.output.is_empty()));
            store::predictions::set_output(tx, &id, output.copied()).await?;
        }
    }
}

/// Event time up to which no more data are expected.
pub(super) fn watermark(monitor: &MonitorRow, deployment: &DeploymentRow) -> Option<i64> {
    let by_data = deployment.newest_ms.map(|newest_ms| newest_ms - monitor.spec.lateness_ms);
    monitor.explicit_ms.max(by_data)
}

/// The watermark, as far as everything before it is closed.
fn looked_at_until(monitor: &MonitorRow, deployment: &DeploymentRow) -> i64 {
    let watermark_ms = watermark(monitor, deployment).unwrap_or(0).max(0);
    match monitor.closed_ms {
        Some(closed_ms) if closed_ms < hour_of(watermark_ms) => closed_ms,
        _ => watermark_ms,
    }
}

/// The features that are looked at; empty means all those of a row.
pub(super) fn watched(spec: &MonitorSpec, champion: Option<&Champion>) -> BTreeSet<String> {
    if spec.features.is_empty() {
        champion.map(|champion| champion.features.iter().cloned().collect()).unwrap_or_default()
    } else {
        spec.features.iter().cloned().collect()
    }
}
