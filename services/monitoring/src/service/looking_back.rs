//! Looking back: what moved an alarm, and whether figures come out the same again.

use std::collections::{BTreeMap, BTreeSet};

use fishy_contracts::monitoring::{Explanation, Replay};
use fishy_core::time::{DAY_MS, HOUR_MS};
use fishy_core::{Error, Result};

use super::Monitoring;
use crate::domain::checks::{limits, spans};
use crate::domain::replay::{Figures, compare};
use crate::domain::{attribution, day_of, hour_of, is_time};
use crate::store;
use crate::store::monitors::MonitorRow;

/// Windows that an explanation looks back on.
const WINDOWS_BACK: usize = 60;
/// Longest span of one replay, in days: each of its rows is read again.
const MAX_REPLAYED_DAYS: i64 = 100;
/// Windows of checks that are computed together.
const BATCH: usize = 32;

impl Monitoring {
    /// What moves the alarms of the newest windows, and how drift went with error.
    pub async fn explain(&self, name: &str) -> Result<Explanation> {
        let monitor = self.monitor(name).await?;
        self.advance(name).await?;
        self.refresh(name).await?;
        let mut explanation = Explanation { tests: Vec::new(), correlations: Vec::new() };
        for spec in &monitor.spec.checks {
            let windows = store::checks::before(&self.db, name, &spec.name, i64::MAX, WINDOWS_BACK + 1).await?;
            let Some((newest, before)) = windows.split_last() else { continue };
            explanation.tests.extend(attribution::explain(newest, before));
            let (from_ms, to_ms) = (windows[0].start_ms, newest.end_ms);
            let hours = store::windows::list(&self.db, name, "hour", from_ms, to_ms, usize::MAX >> 1).await?;
            let errors: BTreeMap<i64, f64> = windows
                .iter()
                .filter_map(|window| {
                    let within = hours.iter().filter(|hour| (window.start_ms..window.end_ms).contains(&hour.start_ms));
                    let (labels, total) = within.fold((0, 0.0), |(labels, total), hour| {
                        (labels + hour.labels, hour.labels as f64 * hour.mae.unwrap_or(0.0) + total)
                    });
                    (labels > 0).then(|| (window.end_ms, total / labels as f64))
                })
                .collect();
            explanation.correlations.extend(attribution::correlations(&windows, &errors));
        }
        explanation.correlations.sort_by(|a, b| b.correlation.abs().total_cmp(&a.correlation.abs()));
        Ok(explanation)
    }

    /// Computes the windows that end in a span once more from their rows, and compares them with those that are stored.
    /// Nothing is written.
    pub async fn replay(&self, name: &str, from_ms: i64, to_ms: i64) -> Result<Replay> {
        if !is_time(from_ms) || !is_time(to_ms) || from_ms >= to_ms {
            return Err(Error::invalid(format!("from_ms {from_ms} and to_ms {to_ms}: use a span of time")));
        }
        if to_ms - from_ms > MAX_REPLAYED_DAYS * DAY_MS {
            return Err(Error::exhausted(format!("more than {MAX_REPLAYED_DAYS} days: replay them piece by piece")));
        }
        self.monitor(name).await?;
        self.advance(name).await?;
        self.refresh(name).await?;
        let turn = self.turn_of(name);
        let _turn = turn.lock().await;
        let monitor = self.monitor(name).await?;
        let mut replay = Replay::default();
        let first_ms = store::predictions::first_ms(&self.db, &monitor.spec.deployment).await?;
        let (Some(closed_ms), Some(first_ms)) = (monitor.closed_ms, first_ms) else { return Ok(replay) };
        self.replay_days(&monitor, first_ms, from_ms, to_ms.min(closed_ms), &mut replay).await?;
        self.replay_checks(&monitor, first_ms, from_ms, to_ms, &mut replay).await?;
        Ok(replay)
    }

    async fn replay_days(
        &self,
        monitor: &MonitorRow,
        first_ms: i64,
        from_ms: i64,
        to_ms: i64,
        replay: &mut Replay,
    ) -> Result<()> {
        let name = &monitor.spec.name;
        let task = self.task(monitor).await?;
        let closed_until_ms = day_of(monitor.closed_ms.unwrap_or_default());
        let mut day_ms = day_of(from_ms);
        while day_ms < to_ms {
            let hours: Vec<i64> = (0..24)
                .map(|hour| day_ms + hour * HOUR_MS)
                .filter(|hour_ms| *hour_ms >= from_ms && hour_ms + HOUR_MS <= to_ms)
                .collect();
            let is_whole = hours.len() == 24 && day_ms < closed_until_ms;
            let mut live = Vec::new();
            for (length, length_ms) in [("hour", HOUR_MS), ("day", DAY_MS)] {
                if length == "day" && !is_whole {
                    continue;
                }
                let stored = store::windows::list(&self.db, name, length, day_ms, day_ms + DAY_MS, 24).await?;
                let asked = stored.iter().filter(|window| length == "day" || hours.contains(&window.start_ms));
                live.extend(asked.map(|window| Figures::of_window(window, length_ms)));
            }
            if day_ms < hour_of(first_ms) - DAY_MS + HOUR_MS {
                replay.without_rows += live.len() as u64;
            } else {
                let until_ms = if is_whole { day_ms + DAY_MS } else { day_ms };
                let again = self.compute(&task, &hours, until_ms, None).await?;
                let again: Vec<Figures> = again
                    .windows
                    .iter()
                    .map(|row| {
                        Figures::of_window(&row.window, if row.window.length == "day" { DAY_MS } else { HOUR_MS })
                    })
                    .collect();
                compare(replay, &live, &again);
            }
            day_ms += DAY_MS;
        }
        Ok(())
    }

    async fn replay_checks(
        &self,
        monitor: &MonitorRow,
        first_ms: i64,
        from_ms: i64,
        to_ms: i64,
        replay: &mut Replay,
    ) -> Result<()> {
        let name = &monitor.spec.name;
        for spec in &monitor.spec.checks {
            let Some(state) = store::checks::state(&self.db, name, &spec.name).await? else { continue };
            let task = self.check_task(monitor, spec).await?;
            let stored =
                store::checks::windows(&self.db, name, &spec.name, from_ms + 1, to_ms, usize::MAX >> 1).await?;
            let mut ends: BTreeSet<i64> = stored.iter().map(|window| window.end_ms).collect();
            let mut end_ms = spans::first_end(spec, from_ms).max(state.first_end_ms);
            while end_ms <= to_ms.min(state.closed_ms) {
                ends.insert(end_ms);
                end_ms += spans::every_ms(spec);
            }
            let (gone, ends): (Vec<i64>, Vec<i64>) =
                ends.into_iter().partition(|end_ms| spans::window(spec, *end_ms).to_ms <= hour_of(first_ms));
            replay.without_rows += gone.len() as u64;
            let Some(first_end_ms) = ends.first() else { continue };
            let mut past = limits::Past::default();
            let reach = limits::past_windows(spec);
            for window in store::checks::before(&self.db, name, &spec.name, *first_end_ms, reach).await? {
                past.push(&window);
            }
            for ends in ends.chunks(BATCH) {
                let mut again = self.computed(&task, ends, &stored).await?;
                for window in &mut again {
                    limits::judge(spec, window, &past);
                    past.push(window);
                }
                let asked = stored.iter().filter(|window| ends.contains(&window.end_ms));
                let live: Vec<Figures> = asked.map(Figures::of_check).collect();
                let again: Vec<Figures> = again.iter().map(Figures::of_check).collect();
                compare(replay, &live, &again);
            }
        }
        Ok(())
    }
}
