use serde::{Deserialize, Serialize};

use super::{Episode, Finding, FindingKind, StuckSettings};

const HOUR_MS: f64 = 3_600_000.0;
const DAY_MS: f64 = 24.0 * HOUR_MS;

/// Finds a probe that gives the same value for too long.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Stuck {
    /// The equal readings up to now.
    run: Option<Run>,
    /// The longest natural rest in ms, as it was worth at `longest_at_ms`.
    longest_ms: f64,
    longest_at_ms: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Run {
    episode: Episode,
    value: f64,
    /// How long it lasts, gaps not counted.
    rest_ms: i64,
    is_reported: bool,
    is_natural: bool,
}

impl Stuck {
    /// `is_in_range` is false for a value that a working probe never gives: resting there is not natural.
    pub(super) fn push(
        &mut self,
        settings: &StuckSettings,
        time_ms: i64,
        value: f64,
        is_in_range: bool,
        longest_step_ms: Option<i64>,
    ) -> Option<Finding> {
        if !settings.enabled {
            return None;
        }
        let mut ended = None;
        if let Some(run) = &mut self.run {
            if (value - run.value).abs() <= settings.tolerance {
                let step_ms = time_ms.saturating_sub(run.episode.last_ms);
                let step_ms = longest_step_ms.map_or(step_ms, |longest_ms| step_ms.min(longest_ms));
                run.rest_ms = run.rest_ms.saturating_add(step_ms);
                run.episode.last_ms = time_ms;
                run.episode.readings = run.episode.readings.saturating_add(1);
                return self.report(settings, time_ms);
            }
            let run = *run;
            if run.is_reported {
                ended = Some(run.episode.ended());
            } else if run.is_natural {
                self.longest_ms = self.faded_longest_ms(settings, time_ms).max(run.rest_ms as f64);
                self.longest_at_ms = time_ms;
            }
        }
        let kind = FindingKind::Stuck;
        let episode = Episode { kind, since_ms: time_ms, last_ms: time_ms, value: Some(value), readings: 1 };
        self.run = Some(Run { episode, value, rest_ms: 0, is_reported: false, is_natural: is_in_range });
        ended
    }

    /// How much of the time has passed after which the rest that goes on is a fault: 1 when it is one.
    pub(super) fn ratio(&self, settings: &StuckSettings, time_ms: i64) -> f64 {
        let Some(run) = self.run.filter(|run| settings.enabled && run.episode.readings > 1) else { return 0.0 };
        let rest_ms = run.rest_ms as f64;
        let longest_ms = settings.times_longest * self.faded_longest_ms(settings, time_ms);
        let parts = [
            f64::from(run.episode.readings) / f64::from(settings.readings.max(1)),
            rest_ms / (settings.hours * HOUR_MS),
            rest_ms / longest_ms,
        ];
        // Without hours, or a natural rest to compare with, there is nothing to wait for.
        parts.into_iter().filter(|part| part.is_finite()).fold(f64::INFINITY, f64::min)
    }

    pub(super) fn open(&self) -> Option<Finding> {
        self.run.filter(|run| run.is_reported).map(|run| run.episode.going_on())
    }

    fn report(&mut self, settings: &StuckSettings, time_ms: i64) -> Option<Finding> {
        let longest_ms = self.faded_longest_ms(settings, time_ms);
        let run = self.run.as_mut().filter(|run| !run.is_reported)?;
        let rest_ms = run.rest_ms as f64;
        let is_stuck = run.episode.readings >= settings.readings
            && rest_ms >= settings.hours * HOUR_MS
            && rest_ms >= settings.times_longest * longest_ms;
        if !is_stuck {
            return None;
        }
        run.is_reported = true;
        Some(run.episode.going_on())
    }

    fn faded_longest_ms(&self, settings: &StuckSettings, time_ms: i64) -> f64 {
        let age_days = time_ms.saturating_sub(self.longest_at_ms) as f64 / DAY_MS;
        // 0 / 0 has no meaning for "forget at once".
        if settings.memory_days > 0.0 { self.longest_ms * (-age_days / settings.memory_days).exp() } else { 0.0 }
    }
}
