use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::{Episode, Finding, FindingKind, QuietSettings};

const DAY_MS: i64 = 24 * 3_600_000;

/// Finds a probe that still gives readings, but none of the water: it jitters where it used to go up and down.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Quiet {
    day: Option<Day>,
    /// Ranges of the latest natural days.
    ranges: VecDeque<f64>,
    episode: Option<Episode>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Day {
    start_ms: i64,
    first_ms: i64,
    last_ms: i64,
    first: f64,
    low: f64,
    high: f64,
    readings: u32,
}

impl Day {
    const fn new(start_ms: i64, time_ms: i64, value: f64) -> Self {
        Self { start_ms, first_ms: time_ms, last_ms: time_ms, first: value, low: value, high: value, readings: 1 }
    }
}

impl Quiet {
    pub(super) fn push(&mut self, settings: &QuietSettings, time_ms: i64, value: f64) -> Option<Finding> {
        if !settings.enabled {
            return None;
        }
        let start_ms = time_ms.saturating_sub(time_ms.rem_euclid(DAY_MS));
        if let Some(day) = self.day.as_mut().filter(|day| day.start_ms == start_ms) {
            day.last_ms = time_ms;
            day.low = day.low.min(value);
            day.high = day.high.max(value);
            day.readings = day.readings.saturating_add(1);
            return None;
        }
        let over = self.day.replace(Day::new(start_ms, time_ms, value))?;
        self.close(settings, &over)
    }

    fn close(&mut self, settings: &QuietSettings, day: &Day) -> Option<Finding> {
        if day.readings < settings.readings {
            return None;
        }
        let range = day.high - day.low;
        // A range of nothing is a probe that is stuck: that has a check of its own.
        let calmest = self.ranges.iter().copied().fold(f64::INFINITY, f64::min);
        let is_known = self.ranges.len() >= settings.days.max(1) as usize / 3;
        if is_known && range > 0.0 && range < settings.share * calmest {
            if let Some(quiet) = &mut self.episode {
                quiet.last_ms = day.last_ms;
                quiet.readings = quiet.readings.saturating_add(day.readings);
                return None;
            }
            let (since_ms, last_ms, readings) = (day.first_ms, day.last_ms, day.readings);
            let kind = FindingKind::Quiet;
            let quiet = Episode { kind, since_ms, last_ms, value: Some(day.first), readings };
            self.episode = Some(quiet);
            return Some(quiet.going_on());
        }
        if range > 0.0 {
            self.ranges.push_back(range);
            while self.ranges.len() > settings.days.max(1) as usize {
                self.ranges.pop_front();
            }
        }
        self.episode.take().map(|quiet| quiet.ended())
    }

    pub(super) fn open(&self) -> Option<Finding> {
        self.episode.map(|quiet| quiet.going_on())
    }
}
