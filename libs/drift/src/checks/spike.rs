use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::{Finding, FindingKind, SpikeSettings};

/// A standard deviation in medians of absolute deviations, and in means of them, of normal readings.
const MEDIAN_SCALE: f64 = 1.4826;
const MEAN_SCALE: f64 = 1.2533;
/// Far more than rounding changes a mean by.
const BOUND_MARGIN: f64 = 1e-9;
/// Of so many values the median is found without asking for memory.
const FEW: usize = 16;

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
        // Hardly any reading lies beyond this lower bound; what costs more is for those that do.
        let least = settings.scales * MEAN_SCALE * self.about_mean() * (1.0 - BOUND_MARGIN);
        deviation > least && self.usual(settings).is_some_and(|usual| deviation > settings.scales * usual)
    }

    /// The mean of the deviations but for rounding: in eight sums, which go on side by side.
    fn about_mean(&self) -> f64 {
        let mut sums = [0.0; 8];
        let (front, back) = self.deviations.as_slices();
        for part in [front, back] {
            let (eights, rest) = part.as_chunks::<8>();
            for eight in eights {
                for (sum, deviation) in sums.iter_mut().zip(eight) {
                    *sum += deviation;
                }
            }
            for (sum, deviation) in sums.iter_mut().zip(rest) {
                *sum += deviation;
            }
        }
        sums.iter().sum::<f64>() / self.deviations.len() as f64
    }

    fn mean(&self) -> f64 {
        self.deviations.iter().sum::<f64>() / self.deviations.len() as f64
    }

    /// The usual deviation, once it is known and not 0.
    fn usual(&self, settings: &SpikeSettings) -> Option<f64> {
        if !settings.enabled || self.deviations.len() < settings.warm_up.max(1) {
            return None;
        }
        // The median ignores past spikes. It is 0 for a sensor that mostly rests: then the mean speaks.
        let usual = (MEDIAN_SCALE * median(&self.deviations)).max(MEAN_SCALE * self.mean());
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
    let mut few = [0.0; FEW];
    let mut many = Vec::new();
    let values = if values.len() <= FEW {
        few.iter_mut().zip(values).for_each(|(place, value)| *place = *value);
        &mut few[..values.len()]
    } else {
        many.extend(values);
        &mut many[..]
    };
    let middle = values.len() / 2;
    let is_even = values.len().is_multiple_of(2);
    let (lower, upper, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
    if is_even { lower.iter().copied().fold(f64::NEG_INFINITY, f64::max).midpoint(*upper) } else { *upper }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_that_of_the_sorted_values_however_many_there_are() {
        for count in [1, 2, 5, 16, 17, 168] {
            let values: VecDeque<f64> = (0..count).map(|i| (f64::from(i) * 0.618).fract() - 0.5).collect();
            let mut sorted: Vec<f64> = values.iter().copied().collect();
            sorted.sort_unstable_by(f64::total_cmp);
            let middle = sorted.len() / 2;
            let expected = if sorted.len().is_multiple_of(2) {
                sorted[middle - 1].midpoint(sorted[middle])
            } else {
                sorted[middle]
            };
            assert_eq!(median(&values).to_bits(), expected.to_bits(), "{count} values");
        }
    }

    #[test]
    fn what_the_bound_lets_pass_is_what_the_usual_deviation_tells() {
        let settings = SpikeSettings::default();
        // Deviations that are all alike, mostly 0, heavy of tail: where the mean decides, and where the median does.
        let shapes: [fn(f64) -> f64; 3] = [|_| 1.0, |x| f64::from(u8::from(x > 0.9)), |x| x.powi(6)];
        for shape in shapes {
            for count in [0_u32, 5, 24, 25, 168] {
                let deviations: VecDeque<f64> = (0..count).map(|i| shape((f64::from(i) * 0.618).fract())).collect();
                let spike = Spike { deviations, ..Spike::default() };
                let limit = spike.usual(&settings).map(|usual| settings.scales * usual);
                for factor in [0.0, 0.5, 1.0 - 1e-15, 1.0, 1.0 + 1e-15, 2.0] {
                    let deviation = limit.unwrap_or(1.0) * factor;
                    let expected = limit.is_some_and(|limit| deviation > limit);
                    assert_eq!(spike.is_far(&settings, deviation), expected, "{count} deviations, {factor}");
                }
            }
        }
    }
}
