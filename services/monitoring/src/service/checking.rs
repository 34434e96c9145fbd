//! Checks: their windows are computed once the data they hold are closed, and again when those change.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use fishy_contracts::events::ALARM_CHANGED;
use fishy_contracts::monitoring::{Alarm, CheckSpec, CheckWindow, MonitorSpec, ReferenceUsed};
use fishy_core::{Error, ErrorCode, Result};
use serde_json::json;

use super::monitors::watched;
use super::{Monitoring, blocking, gauges, itself};
use crate::domain::alerts::of_alarm;
use crate::domain::checks::reference::Reference;
use crate::domain::checks::spans::{self, Span};
use crate::domain::checks::{CheckRow, alarms, figures, limits};
use crate::domain::is_time;
use crate::store;
use crate::store::checks::CheckState;
use crate::store::monitors::{Champion, MonitorRow};

/// Windows of one transaction.
const BATCH: usize = 32;
/// Changed hours of one round.
const MAX_MARKS: usize = 744;
/// How often somebody else may write first.
const MAX_CONFLICTS: usize = 20;

/// A reference with its rows.
type Referenced = Option<(ReferenceUsed, Arc<Vec<CheckRow>>)>;

/// The rows of a window, some of many that were read together.
struct Rows {
    all: Arc<Vec<CheckRow>>,
    places: Range<usize>,
}

/// What the windows of one check are computed with.
pub(super) struct Task {
    monitor: String,
    monitor_spec: Arc<MonitorSpec>,
    deployment: String,
    spec: Arc<CheckSpec>,
    features: Arc<Vec<String>>,
    champion: Option<Champion>,
}

impl Monitoring {
    /// Computes what is due of every check of a monitor.
    pub(super) async fn check(&self, name: &str) -> Result<()> {
        let mut conflicts = 0;
        loop {
            match self.check_round(name).await {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(error) if error.code() == ErrorCode::Conflict && conflicts < MAX_CONFLICTS => conflicts += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether more is due after this round.
    async fn check_round(&self, name: &str) -> Result<bool> {
        let monitor = self.monitor(name).await?;
        self.forget_checks(&monitor).await?;
        let Some(closed_ms) = monitor.closed_ms.filter(|_| !monitor.spec.checks.is_empty()) else { return Ok(false) };
        let marks = store::checks::marks(&self.db, name, MAX_MARKS).await?;
        let mut is_more = marks.len() == MAX_MARKS;
        for spec in &monitor.spec.checks {
            let Some(state) = self.check_state(&monitor, spec).await? else { continue };
            let task = self.check_task(&monitor, spec).await?;
            is_more |= self.check_due(&task, state, closed_ms, &marks).await?;
        }
        if !marks.is_empty() {
            let mut tx = self.db.begin().await?;
            store::checks::clear_marks(&mut tx, name, &marks).await?;
            tx.commit().await?;
        }
        Ok(is_more)
    }

    async fn forget_checks(&self, monitor: &MonitorRow) -> Result<()> {
        let name = &monitor.spec.name;
        for check in store::checks::names(&self.db, name).await? {
            if monitor.spec.checks.iter().any(|spec| spec.name == check) {
                continue;
            }
            let open = store::checks::open_alarms(&self.db, name, &check).await?;
            let mut tx = self.db.begin().await?;
            let until_ms = Some(monitor.closed_ms.unwrap_or_default());
            for alarm in open {
                self.tell_alarm(&mut tx, &monitor.spec, &Alarm { until_ms, ..alarm }).await?;
            }
            store::checks::forget(&mut tx, name, &check).await?;
            tx.commit().await?;
        }
        Ok(())
    }

    /// The state of a check, begun where it is new or was changed; `None` before there are data.
    async fn check_state(&self, monitor: &MonitorRow, spec: &CheckSpec) -> Result<Option<CheckState>> {
        let name = &monitor.spec.name;
        let text = store::checks::text_of(spec)?;
        let before = store::checks::state(&self.db, name, &spec.name).await?;
        if let Some(state) = before.as_ref().filter(|state| state.spec == text) {
            return Ok(Some(state.clone()));
        }
        let Some(first_ms) = store::predictions::first_ms(&self.db, &monitor.spec.deployment).await? else {
            return Ok(None);
        };
        let first_end_ms = spans::first_end(spec, first_ms);
        let alarm_after_ms = match &before {
            Some(before) => before.alarm_after_ms,
            None => monitor.decide_after_ms,
        };
        let revision = before.map_or(0, |before| before.revision + 1);
        let state = CheckState { spec: text, first_end_ms, closed_ms: first_end_ms - 1, alarm_after_ms, revision };
        let mut tx = self.db.begin().await?;
        if !store::checks::begin(&mut tx, name, &spec.name, &state).await? {
            return Err(written_by_another(name, &spec.name));
        }
        tx.commit().await?;
        Ok(Some(state))
    }

    pub(super) async fn check_task(&self, monitor: &MonitorRow, spec: &CheckSpec) -> Result<Task> {
        let champion = store::monitors::champion(&self.db, &monitor.spec.deployment).await?;
        let features = if spec.features.is_empty() {
            watched(&monitor.spec, champion.as_ref()).into_iter().collect()
        } else {
            spec.features.clone()
        };
        Ok(Task {
            monitor: monitor.spec.name.clone(),
            monitor_spec: Arc::new(monitor.spec.clone()),
            deployment: monitor.spec.deployment.clone(),
            spec: Arc::new(spec.clone()),
            features: Arc::new(features),
            champion,
        })
    }

    /// Computes changed windows again, then the next that are closed; whether more are.
    async fn check_due(&self, task: &Task, state: CheckState, closed_ms: i64, marks: &[(i64, i64)]) -> Result<bool> {
        let spec = &task.spec;
        let mut state = state;
        let mut again = BTreeSet::new();
        for (hour_ms, _) in marks {
            again.extend(spans::ends_with(spec, *hour_ms, state.first_end_ms, state.closed_ms));
        }
        let again: Vec<i64> = again.into_iter().collect();
        for ends in again.chunks(BATCH) {
            self.check_batch(task, &mut state, ends, true).await?;
        }
        let next_ms = spans::first_end(spec, state.closed_ms).max(state.first_end_ms);
        let every_ms = spans::every_ms(spec);
        let mut ends: Vec<i64> =
            (0..=BATCH as i64).map(|place| next_ms + place * every_ms).filter(|end_ms| *end_ms <= closed_ms).collect();
        let is_more = ends.len() > BATCH;
        ends.truncate(BATCH);
        if !ends.is_empty() {
            self.check_batch(task, &mut state, &ends, false).await?;
        }
        Ok(is_more)
    }

    async fn check_batch(&self, task: &Task, state: &mut CheckState, ends: &[i64], is_again: bool) -> Result<()> {
        let (Some(first_ms), Some(last_ms)) = (ends.first(), ends.last()) else { return Ok(()) };
        let (monitor, check) = (&task.monitor, &task.spec.name);
        let stored = if is_again {
            // A window keeps the reference it was closed with; those after it are judged by it.
            let reach_ms = limits::past_windows(&task.spec) as i64 * spans::every_ms(&task.spec);
            store::checks::windows(
                &self.db,
                monitor,
                check,
                *first_ms,
                last_ms.saturating_add(reach_ms),
                usize::MAX >> 1,
            )
            .await?
        } else {
            Vec::new()
        };
        let mut windows = self.computed(task, ends, &stored).await?;
        let computed: BTreeSet<i64> = ends.iter().copied().collect();
        windows.extend(stored.iter().filter(|window| !computed.contains(&window.end_ms)).cloned());
        windows.sort_unstable_by_key(|window| window.end_ms);
        let mut past = limits::Past::default();
        let before = limits::past_windows(&task.spec);
        for window in store::checks::before(&self.db, monitor, check, *first_ms, before).await? {
            past.push(&window);
        }
        for window in &mut windows {
            limits::judge(&task.spec, window, &past);
            past.push(window);
        }
        let closed_ms = state.closed_ms.max(*last_ms);
        let mut open = store::checks::open_alarms(&self.db, monitor, check).await?;
        let mut tx = self.db.begin().await?;
        if !store::checks::set_closed(&mut tx, monitor, check, state.revision, closed_ms).await? {
            return Err(written_by_another(monitor, check));
        }
        // An alarm is about what is now: of a window that is computed again only if it is the newest.
        let tells = |window: &&CheckWindow| window.end_ms > state.alarm_after_ms && window.end_ms >= state.closed_ms;
        for window in windows.iter().filter(tells) {
            for alarm in alarms::changes(monitor, &task.spec, &open, window, || self.env.new_id()) {
                self.tell_alarm(&mut tx, &task.monitor_spec, &alarm).await?;
                open.retain(|other| other.id != alarm.id);
                open.extend(Some(alarm).filter(|alarm| alarm.until_ms.is_none()));
            }
        }
        windows.retain(|window| stored.iter().all(|before| before != window));
        store::checks::put(&mut tx, monitor, &windows).await?;
        tx.commit().await?;
        state.closed_ms = closed_ms;
        state.revision += 1;
        gauges::check(monitor, &task.spec, windows.last().filter(|window| window.end_ms == closed_ms), &open);
        gauges::check_windows(monitor, ends.len(), is_again);
        Ok(())
    }

    async fn tell_alarm(&self, tx: &mut fishy_db::Tx, spec: &MonitorSpec, alarm: &Alarm) -> Result<()> {
        store::checks::put_alarm(tx, alarm).await?;
        match alarm.until_ms {
            None => self.raise(tx, of_alarm(spec, alarm)).await?,
            Some(until_ms) => self.resolve(tx, &alarm.id, until_ms).await?,
        }
        self.emit(tx, ALARM_CHANGED, &alarm.monitor, alarm).await?;
        self.audit(tx, &itself(), "monitoring:alarm", &format!("monitors/{}", alarm.monitor), json!(alarm)).await
    }

    /// The figures of windows, from their rows.
    pub(super) async fn computed(&self, task: &Task, ends: &[i64], stored: &[CheckWindow]) -> Result<Vec<CheckWindow>> {
        let (Some(first), Some(last)) = (ends.first(), ends.last()) else { return Ok(Vec::new()) };
        let whole = Span { from_ms: spans::window(&task.spec, *first).from_ms, to_ms: *last };
        let all = self.check_rows_within(&task.monitor, &task.deployment, whole).await?.map(Arc::new);
        let mut windows = Vec::with_capacity(ends.len());
        let mut same: Vec<(Span, Rows)> = Vec::new();
        let mut reference: Referenced = None;
        for (place, end_ms) in ends.iter().enumerate() {
            let span = spans::window(&task.spec, *end_ms);
            let before = stored.iter().find(|window| window.end_ms == *end_ms);
            let used = self.check_reference(task, span, before).await?;
            let is_same = match (&used, &reference) {
                (Some((used, _)), Some((before, _))) => used == before,
                (None, None) => true,
                _ => false,
            };
            if !is_same && !same.is_empty() {
                windows.extend(compute(task, std::mem::take(&mut same), reference.take()).await?);
            }
            reference = used;
            let rows = if let Some(all) = &all {
                let from = all.partition_point(|row| row.row.time_ms < span.from_ms);
                let to = all.partition_point(|row| row.row.time_ms < span.to_ms);
                Rows { all: all.clone(), places: from..to }
            } else {
                let all = Arc::new(self.check_rows(&task.monitor, &task.deployment, span).await?);
                Rows { places: 0..all.len(), all }
            };
            same.push((span, rows));
            if place + 1 == ends.len() {
                windows.extend(compute(task, std::mem::take(&mut same), reference.take()).await?);
            }
        }
        Ok(windows)
    }

    /// What a window is compared with: what it was compared with before, or what its check asks for.
    async fn check_reference(&self, task: &Task, window: Span, before: Option<&CheckWindow>) -> Result<Referenced> {
        let known = before.and_then(|before| before.reference.as_ref()).filter(|_| spans::is_kept(&task.spec));
        let (span, version) = match (known, spans::reference(&task.spec, window)?) {
            (Some(used), _) => (Some(Span { from_ms: used.from_ms, to_ms: used.to_ms }), used.version.clone()),
            (None, Some(span)) => (Some(span), None),
            (None, None) => {
                let champion = task.champion.as_ref();
                (champion.and_then(training_span), champion.map(|champion| champion.version.clone()))
            }
        };
        let Some(span) = span else { return Ok(None) };
        let rows = self.reference_rows(&task.monitor, &task.deployment, span, spans::is_kept(&task.spec)).await?;
        if rows.is_empty() {
            return Ok(None);
        }
        let used = ReferenceUsed { from_ms: span.from_ms, to_ms: span.to_ms, version, rows: rows.len() as u64 };
        Ok(Some((used, rows)))
    }
}

/// The span that a champion was trained on.
pub(super) fn training_span(champion: &Champion) -> Option<Span> {
    let bound = |tag: &str| champion.number::<i64>(tag).filter(|time_ms| is_time(*time_ms));
    Some(Span { from_ms: bound("fishy.training.from_ms")?, to_ms: bound("fishy.training.to_ms")? })
}

async fn compute(task: &Task, windows: Vec<(Span, Rows)>, reference: Referenced) -> Result<Vec<CheckWindow>> {
    let (spec, features) = (task.spec.clone(), task.features.clone());
    blocking(move || {
        let rows = reference.as_ref().map(|(_, rows)| rows.clone()).unwrap_or_default();
        let mut forms = Reference::new(&rows, &features, spec.min_rows as usize);
        let used = reference.as_ref().map(|(used, _)| used);
        let one = |(span, rows): (Span, Rows)| {
            figures::compute(&spec, &features, span, &rows.all[rows.places], used.map(|used| (used, &mut forms)))
        };
        Ok(windows.into_iter().map(one).collect())
    })
    .await
}

fn written_by_another(monitor: &str, check: &str) -> Error {
    let message = format!("another process wrote windows of check {check:?} of monitor {monitor:?} at the same time");
    Error::new(ErrorCode::Conflict, message)
}
