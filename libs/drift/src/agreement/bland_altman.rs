use fishy_core::{Error, Result};
use serde::{Deserialize, Serialize};

use super::{Interval, check_confidence, finite_pairs, normal_quantile, student_quantile};
use crate::special::student_two_sided;

/// Method comparison of Bland and Altman (1986, 1999): by how much one method differs from the other, item by item.
/// Everything is in the unit of the values.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BlandAltman {
    /// Pairs that were compared.
    pub pairs: u64,
    /// Pairs left out because a value was not finite.
    pub skipped: u64,
    /// Mean of first minus second.
    pub bias: f64,
    /// Its interval, by Student's distribution.
    pub bias_interval: Interval,
    /// Standard deviation of the differences.
    pub deviation: f64,
    /// Limits of agreement: between them lie 95 % of the differences if these are normal, `bias ± 1.96 deviation`.
    pub limits: Interval,
    /// Interval of the lower limit, from the standard error `deviation sqrt(1/n + z²/(2(n-1)))` (1999, section 2).
    pub lower_limit_interval: Interval,
    /// Interval of the upper limit.
    pub upper_limit_interval: Interval,
    /// Whether the difference grows with the size of what is measured; `None` when all sizes are one.
    pub proportional: Option<ProportionalBias>,
}

/// Line through the differences over the means of the two methods, by least squares.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ProportionalBias {
    /// Change of the difference for each unit of the mean.
    pub slope: f64,
    /// Its interval, by Student's distribution.
    pub slope_interval: Interval,
    /// Difference at a mean of 0.
    pub intercept: f64,
    /// Probability of a slope at least so far from 0 if the difference does not depend on the size.
    pub p_value: f64,
}

impl BlandAltman {
    /// Compares two methods. `confidence` is that of the intervals; the limits of agreement are always those of 95 %.
    /// A failed precondition with fewer than three pairs.
    pub fn of(first: &[f64], second: &[f64], confidence: f64) -> Result<Self> {
        check_confidence(confidence)?;
        let (pairs, skipped) = finite_pairs(first, second)?;
        if pairs.len() < 3 {
            return Err(Error::precondition(format!("a comparison needs three pairs, and there are {}", pairs.len())));
        }
        let count = pairs.len() as f64;
        let differences: Vec<f64> = pairs.iter().map(|(first, second)| first - second).collect();
        let bias = differences.iter().sum::<f64>() / count;
        let squares: f64 = differences.iter().map(|difference| (difference - bias).powi(2)).sum();
        let deviation = (squares / (count - 1.0)).sqrt();
        let (t, z) = (student_quantile(confidence, count - 1.0), normal_quantile(0.95));
        let limits = Interval::around(bias, z * deviation);
        let of_limit = t * deviation * (1.0 / count + z * z / (2.0 * (count - 1.0))).sqrt();
        Ok(Self {
            pairs: pairs.len() as u64,
            skipped,
            bias,
            bias_interval: Interval::around(bias, t * deviation / count.sqrt()),
            deviation,
            limits,
            lower_limit_interval: Interval::around(limits.low, of_limit),
            upper_limit_interval: Interval::around(limits.high, of_limit),
            proportional: proportional(&pairs, &differences, bias, confidence),
        })
    }
}

fn proportional(pairs: &[(f64, f64)], differences: &[f64], bias: f64, confidence: f64) -> Option<ProportionalBias> {
    let count = pairs.len() as f64;
    let means: Vec<f64> = pairs.iter().map(|(first, second)| first.midpoint(*second)).collect();
    let centre = means.iter().sum::<f64>() / count;
    let spread: f64 = means.iter().map(|mean| (mean - centre).powi(2)).sum();
    if spread <= 0.0 {
        return None;
    }
    let both = means.iter().zip(differences);
    let slope = both.clone().map(|(mean, difference)| (mean - centre) * (difference - bias)).sum::<f64>() / spread;
    let intercept = bias - slope * centre;
    let residual: f64 = both.map(|(mean, difference)| (difference - intercept - slope * mean).powi(2)).sum();
    let dof = count - 2.0;
    let error = (residual / dof / spread).sqrt();
    let p_value = if error > 0.0 { student_two_sided(slope / error, dof) } else { f64::from(u8::from(slope == 0.0)) };
    let slope_interval = Interval::around(slope, student_quantile(confidence, dof) * error);
    Some(ProportionalBias { slope, slope_interval, intercept, p_value })
}
