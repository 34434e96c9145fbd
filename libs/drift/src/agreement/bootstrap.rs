use fishy_core::{Error, Result};
use serde::{Deserialize, Serialize};

use super::{Interval, check_confidence};
use crate::random::SplitMix;
use crate::special::normal_sf;

/// Least and most resamples.
const RESAMPLES: std::ops::RangeInclusive<usize> = 50..=100_000;

/// How an interval is read from the resamples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BootstrapMethod {
    /// Their quantiles (Efron 1979).
    Percentile,
    /// Quantiles corrected for bias and for acceleration, from the jackknife (Efron 1987).
    #[default]
    Bca,
}

/// Bootstrap interval of a statistic of `count` items. The statistic gets the places of the items drawn (with those that
/// were drawn twice given twice); what it gives that is not finite is left out. The same seed gives the same interval.
///
/// Refused with a confidence that is no share, and unless there are 50 to 100,000 resamples; a failed precondition with
/// fewer than two items, or when the statistic is hardly ever defined.
pub fn bootstrap(
    count: usize,
    statistic: impl Fn(&[usize]) -> f64,
    resamples: usize,
    seed: u64,
    confidence: f64,
    method: BootstrapMethod,
) -> Result<Interval> {
    check_confidence(confidence)?;
    if !RESAMPLES.contains(&resamples) {
        return Err(Error::invalid(format!("{resamples} resamples: use {} to {}", RESAMPLES.start(), RESAMPLES.end())));
    }
    if count < 2 {
        return Err(Error::precondition(format!("a bootstrap needs two items, and there are {count}")));
    }
    let mut random = SplitMix::new(seed);
    let mut places = vec![0; count];
    let mut drawn = Vec::with_capacity(resamples);
    for _ in 0..resamples {
        for place in &mut places {
            *place = random.below(count);
        }
        drawn.push(statistic(&places));
    }
    drawn.retain(|value| value.is_finite());
    if drawn.len() * 2 < resamples {
        return Err(Error::precondition("the statistic is not defined on most resamples: there are too few items"));
    }
    drawn.sort_unstable_by(f64::total_cmp);
    let tail = (1.0 - confidence) / 2.0;
    let (low, high) = match method {
        BootstrapMethod::Percentile => (tail, 1.0 - tail),
        BootstrapMethod::Bca => bca(count, &statistic, &drawn, tail)?,
    };
    Ok(Interval { low: quantile(&drawn, low), high: quantile(&drawn, high) })
}

/// The shares at which the corrected interval is read.
fn bca(count: usize, statistic: &impl Fn(&[usize]) -> f64, drawn: &[f64], tail: f64) -> Result<(f64, f64)> {
    let all: Vec<usize> = (0..count).collect();
    let whole = statistic(&all);
    if !whole.is_finite() {
        return Err(Error::precondition("the statistic is not defined on the items"));
    }
    let (below, up_to) =
        (drawn.partition_point(|value| *value < whole), drawn.partition_point(|value| *value <= whole));
    // Half of the ties count; an estimate outside all resamples is read as half a resample inside.
    let size = drawn.len() as f64;
    let bias = normal_point(((below + up_to) as f64 / 2.0 / size).clamp(0.5 / size, 1.0 - 0.5 / size));
    let mut places: Vec<usize> = (1..count).collect();
    let mut without = Vec::with_capacity(count);
    for left_out in 0..count {
        if left_out > 0 {
            places[left_out - 1] = left_out - 1;
        }
        without.push(statistic(&places));
    }
    without.retain(|value| value.is_finite());
    let mean = without.iter().sum::<f64>() / without.len() as f64;
    let cubes: f64 = without.iter().map(|value| (mean - value).powi(3)).sum();
    let squares: f64 = without.iter().map(|value| (mean - value).powi(2)).sum();
    let acceleration = if squares > 0.0 { cubes / (6.0 * squares.powf(1.5)) } else { 0.0 };
    let share = |tail: f64| {
        let shifted = bias + normal_point(tail);
        normal_sf(-(bias + shifted / (1.0 - acceleration * shifted)))
    };
    Ok((share(tail), share(1.0 - tail)))
}

/// The point that a standard normal variable is below with this probability.
fn normal_point(share: f64) -> f64 {
    let size = super::normal_quantile((1.0 - 2.0 * share).abs());
    if share < 0.5 { -size } else { size }
}

/// Between the sorted values, as the usual definition has it (type 7 of Hyndman and Fan 1996).
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share.clamp(0.0, 1.0) * (sorted.len() - 1) as f64;
    let (low, high) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    low + (high - low) * place.fract()
}
