//! The figures of windows, from their rows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fishy_contracts::monitoring::{MonitorSpec, Window};
use fishy_core::Result;
use fishy_core::time::{DAY_MS, HOUR_MS};

use super::{Monitoring, PAGE, blocking};
use crate::domain::day_of;
use crate::domain::sensors::{self, Seen, Sensors};
use crate::domain::window::{Counts, Day, DriftCounts, References, Row};
use crate::store;
use crate::store::monitors::Champion;
use crate::store::predictions::RawRow;
use crate::store::windows::{SensorState, WindowRow};

/// What a closing works with.
pub(super) struct Task {
    pub spec: Arc<MonitorSpec>,
    pub watched: Arc<BTreeSet<String>>,
    pub champion: Option<Champion>,
}

/// What came of it, to be written in one transaction.
#[derive(Default)]
pub(super) struct Computed {
    pub windows: Vec<WindowRow>,
    /// Days whose rows changed: earlier counts of theirs are void.
    pub changed_days: Vec<i64>,
    /// New counts against the champion's reference.
    pub counts: BTreeMap<i64, DriftCounts>,
    pub seen: Vec<Seen>,
    pub sensor_states: Vec<SensorState>,
    pub neighbour_states: Vec<(String, String)>,
}

/// What goes through the pages of a day.
#[derive(Default)]
struct Pass {
    day: Day,
    sensors: Option<Sensors>,
    seen: Vec<Seen>,
}

impl Monitoring {
    /// Computes the windows of changed hours, and of their days before `days_until_ms`; `closing_day` is computed in any
    /// case, and the sensors are checked on its rows.
    pub(super) async fn compute(
        &self,
        task: &Task,
        hours: &[i64],
        days_until_ms: i64,
        closing_day: Option<i64>,
    ) -> Result<Computed> {
        let mut days: BTreeMap<i64, BTreeSet<i64>> = BTreeMap::new();
        for hour in hours {
            days.entry(day_of(*hour)).or_default().insert(*hour);
        }
        if let Some(day_ms) = closing_day {
            days.entry(day_ms).or_default();
        }
        let mut computed = Computed::default();
        for (day_ms, hours) in days {
            if day_ms < days_until_ms {
                self.compute_day(task, day_ms, &hours, closing_day == Some(day_ms), &mut computed).await?;
            } else {
                self.compute_hours(task, &hours, &mut computed).await?;
            }
        }
        Ok(computed)
    }

    async fn compute_hours(&self, task: &Task, hours: &BTreeSet<i64>, computed: &mut Computed) -> Result<()> {
        let (Some(first), Some(last)) = (hours.first(), hours.last()) else { return Ok(()) };
        let none = Arc::new(References::new());
        let pass = self.pass(task, *first, last + HOUR_MS, &none, Pass::default()).await?;
        computed.windows.extend(hour_windows(&pass.day, hours));
        Ok(())
    }

    async fn compute_day(
        &self,
        task: &Task,
        day_ms: i64,
        hours: &BTreeSet<i64>,
        is_closing: bool,
        computed: &mut Computed,
    ) -> Result<()> {
        let current = task.champion.as_ref().map(|champion| champion.version.clone());
        // A late label does not change what a day was compared with when it was closed.
        let before = store::windows::day_reference(&self.db, &task.spec.name, day_ms).await?;
        let version = before.flatten().or_else(|| current.clone());
        let references = self.reference(task, version.as_deref()).await?;
        let mut pass = Pass::default();
        if is_closing {
            let states = store::windows::sensor_states(&self.db, &task.spec.name).await?;
            let neighbours = store::windows::neighbour_states(&self.db, &task.spec.name).await?;
            pass.sensors = Some(blocking(move || store::windows::read_sensors(&states, &neighbours)).await?);
        }
        let pass = self.pass(task, day_ms, day_ms + DAY_MS, &references, pass).await?;
        computed.windows.extend(hour_windows(&pass.day, hours));
        computed.changed_days.push(day_ms);
        if pass.day.whole.predictions > 0 {
            let (day, window) = blocking(move || {
                let (psi, ks) = (pass.day.psi(&references), pass.day.ks(&references));
                let window = Window { psi, ks, ..window_of("day", day_ms, &pass.day.whole) };
                Ok(((pass.day, pass.sensors, pass.seen, references.is_empty()), window))
            })
            .await?;
            let (day, sensors, seen, has_no_reference) = day;
            computed
                .windows
                .push(WindowRow { window, reference_version: version.clone().filter(|_| !has_no_reference) });
            if version == current && !has_no_reference {
                computed.counts.insert(day_ms, day.into_counts());
            }
            computed.seen = if is_closing { seen } else { std::mem::take(&mut computed.seen) };
            if let Some(sensors) = sensors {
                (computed.sensor_states, computed.neighbour_states) =
                    blocking(move || store::windows::write_sensors(&sensors)).await?;
            }
        }
        Ok(())
    }

    /// The counts of one day against the champion's reference.
    pub(super) async fn count_day(
        &self,
        task: &Task,
        day_ms: i64,
        references: &Arc<References>,
    ) -> Result<DriftCounts> {
        let pass = self.pass(task, day_ms, day_ms + DAY_MS, references, Pass::default()).await?;
        Ok(pass.day.into_counts())
    }

    /// The counts of labelled history of a span against the champion's reference.
    pub(super) async fn count_history(
        &self,
        task: &Task,
        from_ms: i64,
        to_ms: i64,
        references: &Arc<References>,
    ) -> Result<DriftCounts> {
        let mut day = Day::default();
        let mut after = (from_ms, String::new());
        loop {
            let page = store::predictions::observed_page(&self.db, &task.spec.name, &after, to_ms, PAGE).await?;
            let Some(last) = page.last() else { return Ok(day.into_counts()) };
            after = (last.time_ms, last.id.clone());
            let (watched, references) = (task.watched.clone(), references.clone());
            day = blocking(move || {
                let rows: Vec<Row> = page.iter().map(RawRow::window_row).collect::<Result<_>>()?;
                day.push(&rows, &watched, &references);
                Ok(day)
            })
            .await?;
        }
    }

    /// Goes through the rows of a span, a page at a time.
    async fn pass(
        &self,
        task: &Task,
        from_ms: i64,
        to_ms: i64,
        references: &Arc<References>,
        mut pass: Pass,
    ) -> Result<Pass> {
        let mut after = (from_ms, String::new());
        loop {
            let page = store::predictions::page(&self.db, &task.spec.deployment, &after, to_ms, PAGE).await?;
            let Some(last) = page.last() else { return Ok(pass) };
            after = (last.time_ms, last.id.clone());
            let is_last = page.len() < PAGE;
            let (spec, watched) = (task.spec.clone(), task.watched.clone());
            let references = references.clone();
            pass = blocking(move || {
                let rows: Vec<Row> = page.iter().map(RawRow::window_row).collect::<Result<_>>()?;
                pass.day.push(&rows, &watched, &references);
                if let Some(sensors) = &mut pass.sensors {
                    pass.seen.extend(sensors::push(&spec, &watched, sensors, &rows));
                }
                Ok(pass)
            })
            .await?;
            if is_last {
                return Ok(pass);
            }
        }
    }
}

fn hour_windows<'a>(day: &'a Day, hours: &'a BTreeSet<i64>) -> impl Iterator<Item = WindowRow> + 'a {
    hours
        .iter()
        .filter_map(|hour| day.hours.get_key_value(hour))
        .map(|(hour, counts)| WindowRow { window: window_of("hour", *hour, counts), reference_version: None })
}

fn window_of(length: &str, start_ms: i64, counts: &Counts) -> Window {
    Window {
        length: length.to_owned(),
        start_ms,
        predictions: counts.predictions,
        labels: counts.labels,
        mae: counts.errors.mae(),
        rmse: counts.errors.rmse(),
        psi: BTreeMap::new(),
        ks: BTreeMap::new(),
        missing: counts.missing_share(),
    }
}
