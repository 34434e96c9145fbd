use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::{CheckSettings, Episode, Finding, FindingKind};

/// Steps of which the median is the interval.
const STEPS: usize = 9;

/// Finds readings that do not come: rows without a value and rows that are not there are the same.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Gap {
    last_ms: Option<i64>,
    steps_ms: VecDeque<i64>,
    /// The readings that are missing now, whether enough for a finding or not.
    missing: Option<Episode>,
    is_reported: bool,
}

impl Gap {
    pub(super) fn push(&mut self, settings: &CheckSettings, time_ms: i64, is_present: bool) -> Option<Finding> {
        let interval_ms = self.interval_ms(settings);
        if let Some(last_ms) = self.last_ms.replace(time_ms) {
            let step_ms = time_ms.saturating_sub(last_ms);
            self.steps_ms.push_back(step_ms);
            while self.steps_ms.len() > STEPS {
                self.steps_ms.pop_front();
            }
            if let Some(interval_ms) = interval_ms {
                let skipped = (step_ms as f64 / interval_ms as f64).round() - 1.0;
                if skipped >= 1.0 {
                    self.miss(last_ms.saturating_add(interval_ms), time_ms.saturating_sub(interval_ms), skipped as u32);
                }
            }
        }
        if !is_present {
            self.miss(time_ms, time_ms, 1);
            let missing = self.missing.filter(|missing| !self.is_reported && is_long(missing, settings))?;
            self.is_reported = true;
            return Some(missing.going_on());
        }
        let missing = self.missing.take()?;
        let was_reported = std::mem::take(&mut self.is_reported);
        (was_reported || is_long(&missing, settings)).then(|| missing.ended())
    }

    pub(super) fn open(&self) -> Option<Finding> {
        self.missing.filter(|_| self.is_reported).map(|missing| missing.going_on())
    }

    /// The longest step between two readings that is not a gap.
    pub(super) fn longest_step_ms(&self, settings: &CheckSettings) -> Option<i64> {
        self.interval_ms(settings)
            .map(|interval_ms| interval_ms.saturating_mul(i64::from(settings.missing_readings.max(1))))
    }

    fn interval_ms(&self, settings: &CheckSettings) -> Option<i64> {
        settings.interval_ms.filter(|interval_ms| *interval_ms > 0).or_else(|| {
            let mut latest = [0; STEPS];
            latest.iter_mut().zip(&self.steps_ms).for_each(|(place, step_ms)| *place = *step_ms);
            let steps = &mut latest[..self.steps_ms.len().min(STEPS)];
            steps.sort_unstable();
            // Fewer steps tell nothing: the first one may itself be a gap.
            (steps.len() >= 3).then(|| steps[steps.len() / 2])
        })
    }

    fn miss(&mut self, since_ms: i64, last_ms: i64, readings: u32) {
        let first = Episode { kind: FindingKind::Missing, since_ms, last_ms, value: None, readings: 0 };
        let missing = self.missing.get_or_insert(first);
        missing.last_ms = last_ms;
        missing.readings = missing.readings.saturating_add(readings);
    }
}

const fn is_long(missing: &Episode, settings: &CheckSettings) -> bool {
    missing.readings >= settings.missing_readings
}
