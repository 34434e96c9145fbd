//! How well raters, and methods of measurement, agree.
//!
//! Labels are numbers of categories; values are numbers, of which pairs with a part that is not finite are left out and
//! counted. An interval is two-sided at the confidence that was asked for.

mod bland_altman;
mod bootstrap;
mod kappa;
mod passing_bablok;

use fishy_core::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::special::{normal_sf, student_two_sided};

pub use bland_altman::{BlandAltman, ProportionalBias};
pub use bootstrap::{BootstrapMethod, bootstrap};
pub use kappa::{CohenKappa, FleissKappa, KappaWeights};
pub use passing_bablok::{Linearity, MAX_PAIRS, PassingBablok};

/// Where a figure may lie.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Interval {
    /// Whether a value lies in it, its ends included.
    pub const fn contains(&self, value: f64) -> bool {
        self.low <= value && value <= self.high
    }

    fn around(centre: f64, half: f64) -> Self {
        Self { low: centre - half, high: centre + half }
    }
}

fn check_confidence(confidence: f64) -> Result<()> {
    if confidence > 0.0 && confidence < 1.0 {
        Ok(())
    } else {
        Err(Error::invalid(format!("confidence is {confidence}: use a share between 0 and 1, such as 0.95")))
    }
}

/// The pairs whose parts are both finite, and how many were left out.
fn finite_pairs(first: &[f64], second: &[f64]) -> Result<(Vec<(f64, f64)>, u64)> {
    if first.len() != second.len() {
        return Err(Error::invalid(format!(
            "both methods need a value of each item, and they have {} and {}",
            first.len(),
            second.len()
        )));
    }
    let pairs: Vec<(f64, f64)> =
        first.iter().copied().zip(second.iter().copied()).filter(|(a, b)| a.is_finite() && b.is_finite()).collect();
    let skipped = (first.len() - pairs.len()) as u64;
    Ok((pairs, skipped))
}

/// The point that a standard normal variable is beyond, to either side, with probability `1 - confidence`.
fn normal_quantile(confidence: f64) -> f64 {
    above_zero(|z| 2.0 * normal_sf(z) > 1.0 - confidence)
}

/// As [`normal_quantile`] of Student's variable with `dof` degrees of freedom.
fn student_quantile(confidence: f64, dof: f64) -> f64 {
    above_zero(|t| student_two_sided(t, dof) > 1.0 - confidence)
}

/// The last number from 0 on of which the statement holds, by halving: to the last digit.
fn above_zero(holds: impl Fn(f64) -> bool) -> f64 {
    let (mut low, mut high) = (0.0_f64, 1.0_f64);
    while holds(high) && high < 1e300 {
        low = high;
        high *= 2.0;
    }
    loop {
        let middle = low.midpoint(high);
        if middle <= low || middle >= high {
            return middle;
        }
        if holds(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
}

/// The middle value; of an even number of values the mean of the two in the middle. There must be one.
fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let half = values.len() / 2;
    if values.len() % 2 == 1 { values[half] } else { values[half - 1].midpoint(values[half]) }
}

#[cfg(test)]
#[expect(clippy::unreadable_literal, reason = "the numbers stand as SciPy printed them")]
mod tests {
    use super::*;

    /// `norm.ppf(0.975)`, `t.ppf(0.975, 16)`, `t.ppf(0.995, 3)` of SciPy 1.17.1.
    #[test]
    fn quantiles_are_scipys() {
        for (got, expected) in [
            (normal_quantile(0.95), 1.959963984540054),
            (student_quantile(0.95, 16.0), 2.1199052992210112),
            (student_quantile(0.99, 3.0), 5.84090930973336),
        ] {
            assert!((got / expected - 1.0).abs() < 1e-10, "{got} not {expected}");
        }
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!((median(&mut [3.0, 1.0, 2.0]), median(&mut [4.0, 1.0, 2.0, 3.0])), (2.0, 2.5));
    }
}
