use fishy_core::{Error, Result};
use serde::{Deserialize, Serialize};

use super::{Interval, check_confidence, finite_pairs, median, normal_quantile};

/// Most pairs: the slopes between any two of them are kept (36 MB).
pub const MAX_PAIRS: usize = 3_000;

/// Regression of Passing and Bablok (1983): the line `second = intercept + slope * first` when both methods err, without
/// an assumption on how the errors are distributed. Exchanging the methods turns the slope into its inverse.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PassingBablok {
    /// Pairs that were compared.
    pub pairs: u64,
    /// Pairs left out because a value was not finite.
    pub skipped: u64,
    /// Shifted median of the slopes between any two pairs. 1 is in its interval when there is no proportional difference.
    pub slope: f64,
    /// Its interval, by ranks.
    pub slope_interval: Interval,
    /// Median of `second - slope * first`, in the unit of the values. 0 is in its interval when there is no systematic
    /// difference.
    pub intercept: f64,
    /// Its interval: that median with the ends of the slope's.
    pub intercept_interval: Interval,
    /// Whether a line describes the relation at all.
    pub linearity: Linearity,
}

/// Cusum test of linearity.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Linearity {
    /// Largest sum of the scores along the line, over `sqrt(points below + 1)`.
    pub statistic: f64,
    /// Its tail of Kolmogorov's distribution; below 0.05 the relation is no line.
    pub p_value: f64,
}

impl PassingBablok {
    /// Fits the line. A failed precondition with fewer than four pairs, when the two methods do not rise together, and
    /// exhausted with more than [`MAX_PAIRS`].
    pub fn of(first: &[f64], second: &[f64], confidence: f64) -> Result<Self> {
        check_confidence(confidence)?;
        let (pairs, skipped) = finite_pairs(first, second)?;
        if pairs.len() < 4 {
            return Err(Error::precondition(format!("the regression needs four pairs, and there are {}", pairs.len())));
        }
        if pairs.len() > MAX_PAIRS {
            return Err(Error::exhausted(format!("{} pairs: compare at most {MAX_PAIRS}", pairs.len())));
        }
        let slopes = slopes(&pairs);
        let (all, shift) = (slopes.len(), slopes.partition_point(|slope| *slope < -1.0));
        // Ranks count from 1, as in the paper.
        let ranked = |rank: usize| (rank + shift).checked_sub(1).and_then(|place| slopes.get(place)).copied();
        let middle = if all % 2 == 1 {
            ranked(all.div_ceil(2))
        } else {
            ranked(all / 2).zip(ranked(all / 2 + 1)).map(|(low, high)| low.midpoint(high))
        };
        let slope = middle.filter(|slope| slope.is_finite() && *slope > 0.0).ok_or_else(|| {
            Error::precondition("the two methods do not rise together: a line between them says nothing")
        })?;
        let count = pairs.len() as f64;
        let half = normal_quantile(confidence) * (count * (count - 1.0) * (2.0 * count + 5.0) / 18.0).sqrt();
        let lower = ((all as f64 - half) / 2.0).round();
        let ends =
            (lower >= 1.0).then_some(lower as usize).and_then(|lower| ranked(lower).zip(ranked(all - lower + 1)));
        let (low, high) = ends.filter(|(low, high)| low.is_finite() && high.is_finite()).ok_or_else(|| {
            Error::precondition(format!("{} pairs are too few, or too far from a line, for an interval", pairs.len()))
        })?;
        let intercept_of =
            |slope: f64| median(&mut pairs.iter().map(|(first, second)| second - slope * first).collect::<Vec<_>>());
        let intercept = intercept_of(slope);
        Ok(Self {
            pairs: pairs.len() as u64,
            skipped,
            slope,
            slope_interval: Interval { low, high },
            intercept,
            intercept_interval: Interval { low: intercept_of(high), high: intercept_of(low) },
            linearity: linearity(&pairs, slope, intercept),
        })
    }
}

/// Slopes between any two pairs, in ascending order: without those of equal pairs, and without -1, which belongs to
/// neither side.
fn slopes(pairs: &[(f64, f64)]) -> Vec<f64> {
    let mut slopes = Vec::with_capacity(pairs.len() * (pairs.len() - 1) / 2);
    for (place, (first, second)) in pairs.iter().enumerate() {
        for (other_first, other_second) in &pairs[place + 1..] {
            let (run, rise) = (other_first - first, other_second - second);
            // Straight up is straight down: counted from -1 upwards, both infinities stand at the same place.
            let slope = if run == 0.0 { f64::INFINITY } else { rise / run };
            if (run != 0.0 || rise != 0.0) && (slope + 1.0).abs() > 1e-12 {
                slopes.push(slope);
            }
        }
    }
    slopes.sort_unstable_by(f64::total_cmp);
    slopes
}

fn linearity(pairs: &[(f64, f64)], slope: f64, intercept: f64) -> Linearity {
    let scale = pairs.iter().map(|(first, second)| first.abs().max(second.abs())).fold(0.0, f64::max);
    let side = |(first, second): &(f64, f64)| {
        let residual = second - intercept - slope * first;
        if residual.abs() <= 1e-12 * scale { 0.0 } else { residual.signum() }
    };
    let above = pairs.iter().filter(|pair| side(pair) > 0.0).count() as f64;
    let below = pairs.iter().filter(|pair| side(pair) < 0.0).count() as f64;
    if above == 0.0 || below == 0.0 {
        return Linearity { statistic: 0.0, p_value: 1.0 };
    }
    // In the order of the places on the line that the points fall on.
    let mut along: Vec<(f64, f64)> =
        pairs.iter().map(|pair| (pair.1 + pair.0 / slope - intercept, side(pair))).collect();
    along.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (up, down) = ((below / above).sqrt(), (above / below).sqrt());
    let (mut sum, mut largest) = (0.0_f64, 0.0_f64);
    for (_, side) in along {
        sum += if side > 0.0 { up * side } else { down * side };
        largest = largest.max(sum.abs());
    }
    let statistic = largest / (below + 1.0).sqrt();
    Linearity { statistic, p_value: kolmogorov_tail(statistic) }
}

/// Tail of Kolmogorov's limiting distribution: `2 sum (-1)^(k-1) exp(-2 k² x²)`.
fn kolmogorov_tail(x: f64) -> f64 {
    if x < 0.2 {
        return 1.0;
    }
    let term = |k: i32| (-2.0 * f64::from(k * k) * x * x).exp() * if k % 2 == 1 { 2.0 } else { -2.0 };
    (1..=100).map(term).sum::<f64>().clamp(0.0, 1.0)
}
