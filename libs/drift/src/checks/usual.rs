use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::sample::quantile;

/// Readings that are kept: a month of one every six hours.
const KEPT: usize = 120;
const EVERY_MS: i64 = 6 * 3_600_000;
/// Readings before which nothing is usual.
const LEAST: usize = 16;

/// Where the readings of the last month lie, by few of them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Usual {
    kept: VecDeque<f64>,
    last_ms: Option<i64>,
}

impl Usual {
    /// How far a reading lies from the median, in five interquartile ranges, of the readings before it; then it is one of
    /// them.
    pub(super) fn push(&mut self, time_ms: i64, value: f64) -> f64 {
        let beyond = self.beyond(value);
        if self.last_ms.is_none_or(|last_ms| time_ms.saturating_sub(last_ms) >= EVERY_MS) {
            self.last_ms = Some(time_ms);
            self.kept.push_back(value);
            while self.kept.len() > KEPT {
                self.kept.pop_front();
            }
        }
        beyond
    }

    fn beyond(&self, value: f64) -> f64 {
        if self.kept.len() < LEAST {
            return 0.0;
        }
        let mut sorted: Vec<f64> = self.kept.iter().copied().collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let range = quantile(&sorted, 0.75) - quantile(&sorted, 0.25);
        if range > 0.0 { (value - quantile(&sorted, 0.5)).abs() / (5.0 * range) } else { 0.0 }
    }
}
