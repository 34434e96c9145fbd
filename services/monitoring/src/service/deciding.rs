//! The facts for the trigger's decision as of a midnight.

use std::collections::BTreeMap;

use fishy_contracts::events::TriggerFired;
use fishy_contracts::monitoring::{DataFault, MonitorSpec};
use fishy_core::time::DAY_MS;
use fishy_core::{Error, Result};

use super::Monitoring;
use super::computing::{Computed, Task};
use crate::domain::conditions::{ConditionFacts, OpenAlarm};
use crate::domain::day_of;
use crate::domain::sensors::in_words;
use crate::domain::trigger::{Decision, Facts, TriggerState, days_ms, decide};
use crate::domain::window::{self, DriftCounts};
use crate::store;
use crate::store::monitors::{Champion, MonitorRow};

/// Rows that the usual label delay is taken from.
const DELAY_ROWS: usize = 24;

/// A decision, and what the trigger remembers after it.
pub(super) struct Decided {
    pub state: TriggerState,
    pub decision: Decision,
}

impl Decided {
    /// The decision as it is recorded, and told when it fired.
    pub fn as_trigger(&self, id: String, spec: &MonitorSpec) -> Result<TriggerFired> {
        let figures = &self.decision.figures;
        Ok(TriggerFired {
            id,
            monitor: spec.name.clone(),
            pipeline: spec.trigger.pipeline.clone(),
            as_of_ms: figures.as_of_ms,
            reason: self.decision.reason.clone(),
            inputs: serde_json::to_value(figures)
                .map_err(|error| Error::internal("cannot write the figures of a decision").with_source(error))?,
        })
    }
}

impl Monitoring {
    /// Decides as of a midnight; `None` before there is a champion, and for what was kept before the monitor was made.
    pub(super) async fn decide(
        &self,
        monitor: &MonitorRow,
        task: &Task,
        midnight: i64,
        open_faults: &[DataFault],
        computed: &mut Computed,
    ) -> Result<Option<Decided>> {
        let Some(champion) = &task.champion else { return Ok(None) };
        if midnight <= monitor.decide_after_ms {
            return Ok(None);
        }
        let (deployment, trigger) = (&task.spec.deployment, &task.spec.trigger);
        let earlier = store::decisions::earlier(&self.db, &task.spec.name).await?;
        let newest = store::predictions::newest_labelled(&self.db, deployment, midnight, DELAY_ROWS).await?;
        let from_ms = midnight - days_ms(trigger.error_window_days);
        let (version, least) = (&champion.version, trigger.min_labels);
        let rolling =
            store::predictions::rolling_error(&self.db, deployment, version, from_ms, midnight, least).await?;
        let mut psi = self.drift(task, champion, midnight, computed).await?;
        psi.retain(|feature, _| open_faults.iter().all(|fault| fault.feature != *feature));
        let facts = Facts {
            at_ms: midnight,
            champion: champion.version.clone(),
            // An evaluation that compared nothing says little: a first champion is measured by what it does first.
            evaluation_error: champion
                .number::<f64>("fishy.evaluation.champion_mae")
                .and_then(|_| champion.number::<f64>("fishy.evaluation.mae"))
                .filter(|error| error.is_finite() && *error >= 0.0),
            median_error: champion
                .number::<f64>("fishy.training.median_mae")
                .filter(|error| error.is_finite() && *error >= 0.0),
            rolling,
            psi,
            newest_label_ms: newest.first().map(|(time_ms, _)| *time_ms),
            label_delay_ms: median(newest.iter().map(|(_, delay_ms)| *delay_ms)),
            last_trigger_ms: earlier.last_trigger_ms,
            blocked_until_ms: earlier.last_setback_ms.map(|ms| ms.saturating_add(days_ms(trigger.backoff_days))),
            is_run_open: earlier.is_run_open,
            open_faults: open_faults.iter().map(in_words).collect(),
            condition: self.condition_facts(monitor, midnight, earlier.last_trigger_ms).await?,
        };
        let (state, decision) = decide(trigger, &monitor.state, &facts);
        Ok(Some(Decided { state, decision }))
    }

    /// What the condition of a trigger looks at, where there is one.
    async fn condition_facts(
        &self,
        monitor: &MonitorRow,
        midnight: i64,
        last_trigger_ms: Option<i64>,
    ) -> Result<Option<ConditionFacts>> {
        if monitor.spec.trigger.condition.is_none() {
            return Ok(None);
        }
        let (name, deployment) = (&monitor.spec.name, &monitor.spec.deployment);
        let first_ms = store::predictions::first_ms(&self.db, deployment).await?.unwrap_or_default();
        let since_ms = last_trigger_ms.unwrap_or_else(|| monitor.decide_after_ms.max(first_ms));
        // Windows of this day are looked at after it: the same whether it was closed at once or in a row of many.
        let seen_ms = midnight - DAY_MS;
        let alarms = store::checks::alarms_at(&self.db, name, seen_ms).await?;
        Ok(Some(ConditionFacts {
            since_ms,
            labels: store::predictions::count_labels(&self.db, deployment, since_ms, midnight).await?,
            predictions: store::predictions::count_predictions(&self.db, deployment, since_ms, midnight).await?,
            alarms: alarms.iter().filter_map(|alarm| OpenAlarm::at(alarm, seen_ms)).collect(),
        }))
    }

    /// PSI of the inputs of the drift window, whole days, against the champion's reference.
    async fn drift(
        &self,
        task: &Task,
        champion: &Champion,
        midnight: i64,
        computed: &mut Computed,
    ) -> Result<BTreeMap<String, f64>> {
        let references = self.reference(task, Some(&champion.version)).await?;
        if references.is_empty() {
            return Ok(BTreeMap::new());
        }
        let from_ms = midnight - (task.spec.trigger.drift_window_days.ceil() as i64).saturating_mul(DAY_MS);
        let stored =
            store::windows::drift_days(&self.db, &task.spec.name, &champion.version, from_ms, midnight).await?;
        let mut days: BTreeMap<i64, Option<DriftCounts>> = stored.into_iter().collect();
        for window in computed.windows.iter().filter(|row| row.window.length == "day") {
            let start_ms = window.window.start_ms;
            if (from_ms..midnight).contains(&start_ms) {
                days.insert(start_ms, computed.counts.get(&start_ms).cloned());
            }
        }
        // In its first days a deployment has no inputs of a whole window: history stands for those before.
        let first_ms = store::predictions::first_ms(&self.db, &task.spec.deployment).await?;
        let mut sum = match first_ms.map(day_of).filter(|first_day| *first_day > from_ms) {
            Some(first_day) => self.count_history(task, from_ms, first_day.min(midnight), &references).await?,
            None => DriftCounts::new(),
        };
        for (day_ms, counts) in days {
            let counts = if let Some(counts) = counts {
                counts
            } else {
                // Counted against an earlier champion's reference so far.
                let counts = self.count_day(task, day_ms, &references).await?;
                computed.counts.insert(day_ms, counts.clone());
                counts
            };
            for (feature, counts) in counts {
                sum.entry(feature).or_default().merge(&counts);
            }
        }
        Ok(window::psi(&sum, &references))
    }
}

fn median(values: impl Iterator<Item = i64>) -> i64 {
    let mut values: Vec<i64> = values.collect();
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or(0)
}
