//! Closing windows: the watermark moves, hours and days end, and at each UTC midnight the trigger is decided.
//!
//! A day is closed in one transaction: its windows, those of earlier days that changed, the state of the sensor checks,
//! data faults, the decision and what it emits. So a crash loses none of them and doubles none.

use std::sync::Arc;

use fishy_contracts::events::{DATA_FAULT_CHANGED, TRIGGER_FIRED};
use fishy_contracts::monitoring::DataFault;
use fishy_core::time::{DAY_MS, HOUR_MS};
use fishy_core::{Error, ErrorCode, Result};
use serde_json::json;

use super::computing::{Computed, Task};
use super::deciding::Decided;
use super::monitors::{watched, watermark};
use super::{Monitoring, gauges, itself};
use crate::domain::trigger::Verdict;
use crate::domain::{alerts, sensors};
use crate::domain::{day_of, hour_of};
use crate::store;
use crate::store::monitors::{Evaluation, MonitorRow};

/// Changed hours that one transaction computes again at most: a month.
const MAX_HOURS: usize = 744;
/// How often somebody else may close first.
const MAX_CONFLICTS: usize = 20;
/// Days for which counts are kept beyond the drift window.
const SPARE_DAYS: i64 = 31;

impl Monitoring {
    /// Closes everything that the watermark has passed, day by day, then the windows of the checks.
    pub async fn advance(&self, name: &str) -> Result<()> {
        let turn = self.turn_of(name);
        let _turn = turn.lock().await;
        let mut conflicts = 0;
        loop {
            match self.step(name).await {
                Ok(true) => conflicts = 0,
                Ok(false) => return self.check(name).await,
                Err(error) if error.code() == ErrorCode::Conflict && conflicts < MAX_CONFLICTS => conflicts += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// Computes closed windows again whose data changed since.
    pub async fn refresh(&self, name: &str) -> Result<()> {
        let turn = self.turn_of(name);
        let _turn = turn.lock().await;
        let mut conflicts = 0;
        loop {
            match self.refresh_some(name).await {
                Ok(true) => {}
                Ok(false) => return self.check(name).await,
                Err(error) if error.code() == ErrorCode::Conflict && conflicts < MAX_CONFLICTS => conflicts += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// Closes the rest of a day, or the hours of it that are over; `false` when nothing is due.
    async fn step(&self, name: &str) -> Result<bool> {
        let monitor = self.monitor(name).await?;
        let deployment = store::monitors::deployment(&self.db, &monitor.spec.deployment).await?;
        let Some(watermark_ms) = watermark(&monitor, &deployment) else { return Ok(false) };
        let closed_ms = match monitor.closed_ms {
            Some(closed_ms) => closed_ms,
            None => match store::predictions::first_ms(&self.db, &monitor.spec.deployment).await? {
                Some(first_ms) => day_of(first_ms),
                None => return Ok(false),
            },
        };
        let midnight = day_of(closed_ms) + DAY_MS;
        gauges::watermark(name, watermark_ms);
        if watermark_ms >= midnight {
            if monitor.spec.trigger.condition.is_some() {
                // What it looks at: the alarms of everything before this day.
                self.check(name).await?;
            }
            self.close_day(&monitor, midnight).await?;
            return Ok(true);
        }
        if hour_of(watermark_ms) > closed_ms {
            self.close_hours(&monitor, closed_ms, hour_of(watermark_ms)).await?;
            return Ok(true);
        }
        Ok(false)
    }

    pub(super) async fn task(&self, monitor: &MonitorRow) -> Result<Task> {
        let champion = store::monitors::champion(&self.db, &monitor.spec.deployment).await?;
        Ok(Task {
            watched: Arc::new(watched(&monitor.spec, champion.as_ref())),
            spec: Arc::new(monitor.spec.clone()),
            champion,
        })
    }

    async fn close_hours(&self, monitor: &MonitorRow, from_ms: i64, to_ms: i64) -> Result<()> {
        let name = &monitor.spec.name;
        let turn = store::turn(&self.db).await?;
        let hours = store::windows::touched(&self.db, name, from_ms, to_ms, turn, MAX_HOURS).await?;
        let task = self.task(monitor).await?;
        let computed = self.compute(&task, &hours, day_of(from_ms), None).await?;
        let mut tx = self.db.begin().await?;
        let evaluation = monitor.evaluation.as_ref();
        if !store::monitors::set_closed(&mut tx, name, monitor.revision, to_ms, &monitor.state, evaluation).await? {
            return Err(closed_by_another(name));
        }
        store::windows::put(&mut tx, name, &computed.windows).await?;
        hand_on_marks(&mut tx, monitor, from_ms, to_ms, turn).await?;
        tx.commit().await
    }

    async fn refresh_some(&self, name: &str) -> Result<bool> {
        let monitor = self.monitor(name).await?;
        let Some(closed_ms) = monitor.closed_ms else { return Ok(false) };
        let turn = store::turn(&self.db).await?;
        let hours = store::windows::touched(&self.db, name, 0, closed_ms, turn, MAX_HOURS).await?;
        let Some(last_hour) = hours.last() else { return Ok(false) };
        let task = self.task(&monitor).await?;
        let computed = self.compute(&task, &hours, day_of(closed_ms), None).await?;
        let mut tx = self.db.begin().await?;
        let evaluation = monitor.evaluation.as_ref();
        if !store::monitors::set_closed(&mut tx, name, monitor.revision, closed_ms, &monitor.state, evaluation).await? {
            return Err(closed_by_another(name));
        }
        self.put(&mut tx, &task, &computed, i64::MIN).await?;
        hand_on_marks(&mut tx, &monitor, 0, last_hour + HOUR_MS, turn).await?;
        tx.commit().await?;
        Ok(true)
    }

    async fn close_day(&self, monitor: &MonitorRow, midnight: i64) -> Result<()> {
        let name = &monitor.spec.name;
        let turn = store::turn(&self.db).await?;
        let hours = store::windows::touched(&self.db, name, 0, midnight, turn, MAX_HOURS).await?;
        let touched_until = if hours.len() < MAX_HOURS { midnight } else { hours[MAX_HOURS - 1] + HOUR_MS };
        let task = self.task(monitor).await?;
        let mut computed = self.compute(&task, &hours, midnight, Some(midnight - DAY_MS)).await?;
        let faults = self.faults_of(&task, &computed);
        let open_faults = self.open_faults(&task, &faults).await?;
        let decided = self.decide(monitor, &task, midnight, &open_faults, &mut computed).await?;

        let mut tx = self.db.begin().await?;
        let state = decided.as_ref().map_or(&monitor.state, |decided| &decided.state);
        let evaluation = decided.as_ref().map(|decided| Evaluation {
            has_fired: decided.decision.verdict == Verdict::Fire,
            reason: decided.decision.reason.clone(),
            figures: decided.decision.figures.clone(),
        });
        let evaluation = evaluation.as_ref().or(monitor.evaluation.as_ref());
        if !store::monitors::set_closed(&mut tx, name, monitor.revision, midnight, state, evaluation).await? {
            return Err(closed_by_another(name));
        }
        let window_ms = (monitor.spec.trigger.drift_window_days.ceil() as i64 + SPARE_DAYS) * DAY_MS;
        self.put(&mut tx, &task, &computed, midnight - window_ms).await?;
        store::windows::put_sensor_states(&mut tx, name, &computed.sensor_states).await?;
        store::windows::put_neighbour_states(&mut tx, name, &computed.neighbour_states).await?;
        hand_on_marks(&mut tx, monitor, 0, touched_until, turn).await?;
        if !monitor.spec.checks.is_empty() {
            // Readings under a fault are none for the checks: windows that were closed before it was noticed change.
            let since_ms = faults.iter().map(|fault| fault.since_ms).min().unwrap_or(midnight);
            let since_ms = hour_of(since_ms).max(midnight - MAX_HOURS as i64 * HOUR_MS);
            let hours = (since_ms..midnight).step_by(HOUR_MS as usize);
            store::checks::mark(&mut tx, name, hours, turn).await?;
        }
        for fault in faults {
            let fault = store::faults::put(&mut tx, fault).await?;
            match (fault.until_ms, alerts::of_fault(&task.spec, &fault, midnight)) {
                (Some(until_ms), _) => self.resolve(&mut tx, &fault.id, until_ms).await?,
                // What was kept before the monitor was made alarms nobody.
                (None, Some(finding)) if midnight > monitor.decide_after_ms => self.raise(&mut tx, finding).await?,
                (None, _) => {}
            }
            self.emit(&mut tx, DATA_FAULT_CHANGED, name, &fault).await?;
            let (action, resource) = ("monitoring:data_fault", format!("monitors/{name}"));
            self.audit(&mut tx, &itself(), action, &resource, json!(fault)).await?;
        }
        if let Some(decided) = &decided {
            self.record_decision(&mut tx, &task, decided).await?;
        }
        tx.commit().await?;

        gauges::day(name, &computed, decided.as_ref().map(|decided| &decided.decision), &open_faults);
        let deployment = store::monitors::deployment(&self.db, &monitor.spec.deployment).await?;
        gauges::coverage(name, &deployment);
        if let Some(Decided { decision, .. }) = &decided
            && decision.verdict == Verdict::Fire
        {
            gauges::trigger(name);
            tracing::info!(monitor = name, as_of_ms = midnight, reason = decision.reason, "a trigger fired");
        }
        Ok(())
    }

    /// Writes windows and counts by bin.
    async fn put(&self, tx: &mut fishy_db::Tx, task: &Task, computed: &Computed, counts_from_ms: i64) -> Result<()> {
        let name = &task.spec.name;
        store::windows::put(tx, name, &computed.windows).await?;
        store::windows::clear_drift_counts(tx, name, &computed.changed_days, counts_from_ms).await?;
        if let Some(champion) = &task.champion {
            store::windows::put_drift_counts(tx, name, &champion.version, &computed.counts).await?;
        }
        Ok(())
    }

    async fn record_decision(&self, tx: &mut fishy_db::Tx, task: &Task, decided: &Decided) -> Result<()> {
        let name = &task.spec.name;
        let has_fired = match decided.decision.verdict {
            Verdict::Fire => true,
            Verdict::DataFault { is_new: true } => false,
            Verdict::DataFault { is_new: false } | Verdict::Quiet => return Ok(()),
        };
        let trigger = decided.as_trigger(self.env.new_id(), &task.spec)?;
        store::decisions::insert(tx, &trigger, has_fired, self.env.now_ms()).await?;
        if has_fired && !trigger.pipeline.is_empty() {
            self.emit(tx, TRIGGER_FIRED, name, &trigger).await?;
            self.raise(tx, alerts::of_trigger(&task.spec, &trigger)).await?;
        }
        let action = if has_fired { "monitoring:trigger" } else { "monitoring:trigger_suppressed" };
        self.audit(tx, &itself(), action, &format!("monitors/{name}"), json!(trigger)).await
    }

    /// What the sensor checks saw, as data faults of watched features.
    fn faults_of(&self, task: &Task, computed: &Computed) -> Vec<DataFault> {
        let fault = |seen| sensors::fault(self.env.new_id(), &task.spec.name, seen, &task.spec);
        computed.seen.iter().map(fault).collect()
    }

    /// The faults that are open once these are written.
    async fn open_faults(&self, task: &Task, changed: &[DataFault]) -> Result<Vec<DataFault>> {
        let mut open = store::faults::open(&self.db, &task.spec.name).await?;
        for fault in changed {
            let is_same = |other: &DataFault| {
                (&other.feature, &other.series, &other.kind, other.since_ms)
                    == (&fault.feature, &fault.series, &fault.kind, fault.since_ms)
            };
            open.retain(|other| !is_same(other));
            if fault.until_ms.is_none() {
                open.push(fault.clone());
            }
        }
        open.retain(|fault| task.watched.is_empty() || task.watched.contains(&fault.feature));
        Ok(open)
    }
}

/// Forgets which hours changed; the checks still have to hear of it.
async fn hand_on_marks(tx: &mut fishy_db::Tx, monitor: &MonitorRow, from_ms: i64, to_ms: i64, turn: i64) -> Result<()> {
    let name = &monitor.spec.name;
    if !monitor.spec.checks.is_empty() {
        store::checks::take_marks(tx, name, from_ms, to_ms, turn).await?;
    }
    store::windows::clear_touched(tx, name, from_ms, to_ms, turn).await
}

fn closed_by_another(name: &str) -> Error {
    Error::new(ErrorCode::Conflict, format!("another process closed windows of monitor {name:?} at the same time"))
}
