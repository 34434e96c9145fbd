use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::{Finding, FindingKind, SpikeSettings};

/// Finds short excursions from the rolling median.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Spike {
    /// The latest readings that belong to the series.
    window: VecDeque<f64>,
    /// Their distances from the median before them.
    deviations: VecDeque<f64>,
    /// Readings too far away, of which the next ones will tell what they are: time, value, distance.
    pending: Vec<(i64, f64, f64)>,
    /// Distance of the latest reading from the median before it.
    #[serde(skip)]
    distance: f64,
}

impl Spike {
    pub(super) fn push(&mut self, settings: &SpikeSettings, time_ms: i64, value: f64) -> Option<Finding> {
        if !settings.enabled || settings.window == 0 {
            return None;
        }
        self.distance = 0.0;
        if self.window.len() < settings.window {
            self.window.push_back(value);
            return None;
        }
        let deviation = (value - median(&self.window)).abs();
        self.distance = deviation;
        if self.is_far(settings, deviation) {
            self.pending.push((time_ms, value, deviation));
            if self.pending.len() > settings.longest {
                // It has come to stay.
                for (_, value, deviation) in std::mem::take(&mut self.pending) {
                    self.accept(settings, value, deviation);
                }
            }
            return None;
        }
        let spike = std::mem::take(&mut self.pending);
        self.accept(settings, value, deviation);
        let (first, last) = (spike.first()?, spike.last()?);
        Some(Finding {
            kind: FindingKind::Spike,
            since_ms: first.0,
            until_ms: Some(last.0),
            value: Some(first.1),
            readings: spike.len() as u32,
        })
    }

    /// The distance of the latest reading in what is too far.
    pub(super) fn ratio(&self, settings: &SpikeSettings) -> f64 {
        self.usual(settings).map_or(0.0, |usual| self.distance / (settings.scales * usual))
    }

    fn is_far(&self, settings: &SpikeSettings, deviation: f64) -> bool {
        self.usual(settings).is_some_and(|usual| deviation > settings.scales * usual)
    }

    /// The usual deviation, once it is known and not 0.
    fn usual(&self, settings: &SpikeSettings) -> Option<f64> {
        if !settings.enabled || self.deviations.len() < settings.warm_up.max(1) {
            return None;
        }
        // The median ignores past spikes. It is 0 for a sensor that mostly rests: then the mean speaks.
        let mean = self.deviations.iter().sum::<f64>() / self.deviations.len() as f64;
        let usual = (1.4826 * median(&self.deviations)).max(1.2533 * mean);
        Some(usual).filter(|usual| *usual > 0.0)
    }

    fn accept(&mut self, settings: &SpikeSettings, value: f64, deviation: f64) {
        self.window.push_back(value);
        while self.window.len() > settings.window {
            self.window.pop_front();
        }
        self.deviations.push_back(deviation);
        while self.deviations.len() > settings.history.max(settings.warm_up) {
            self.deviations.pop_front();
        }
    }
}

/// Median of a few values; of an even number the mean of the two in the middle.
fn median(values: &VecDeque<f64>) -> f64 {
    let mut values: Vec<f64> = values.iter().copied().collect();
    let middle = values.len() / 2;
    let is_even = values.len().is_multiple_of(2);
    let (lower, upper, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
    if is_even { lower.iter().copied().fold(f64::NEG_INFINITY, f64::max).midpoint(*upper) } else { *upper }
}
