mod kolmogorov;

use serde::{Deserialize, Serialize};

use crate::effect::{EffectKind, TestResult};
use crate::sample::Sample;

/// Up to this many readings in either sample the p-value of [`KsMethod::Auto`] is exact.
const EXACT_UP_TO: u64 = 10_000;

/// Result of a two-sided, two-sample Kolmogorov-Smirnov test.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct KsTest {
    /// Largest distance between the two distribution functions, 0 to 1.
    pub statistic: f64,
    /// Probability of a distance at least as large if both samples came from one continuous distribution.
    pub p_value: f64,
}

impl From<KsTest> for TestResult {
    /// The statistic is its own effect size.
    fn from(test: KsTest) -> Self {
        Self::new(test.statistic, test.p_value, EffectKind::KsDistance, test.statistic)
    }
}

/// How the p-value is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KsMethod {
    /// Exact while neither sample has more than 10,000 readings, asymptotic beyond.
    #[default]
    Auto,
    /// Counts lattice paths: time grows with the product of the sizes and the statistic (a tenth of a second for two
    /// samples of about 10,000 that differ by 0.2).
    Exact,
    /// The one-sample distribution with `round(n m / (n + m))` readings.
    Asymptotic,
}

/// Two-sample Kolmogorov-Smirnov test of two samples in any order; `None` when either has no finite value.
///
/// Values that are not finite are left out. Ties, within and between the samples, are handled: both distribution functions
/// step at the same value together (the p-value is then conservative, as in every implementation).
pub fn ks_two_sample(a: &[f64], b: &[f64], method: KsMethod) -> Option<KsTest> {
    Some(ks(&Sample::new(a).ok()?, &Sample::new(b).ok()?, method))
}

/// Two-sample Kolmogorov-Smirnov test of two samples that are sorted already: see [`ks_two_sample`].
pub fn ks(a: &Sample, b: &Sample, method: KsMethod) -> KsTest {
    let widest = widest_gap(a.values(), b.values());
    let (n, m) = (a.count() as u64, b.count() as u64);
    KsTest { statistic: widest as f64 / (n as f64 * m as f64), p_value: p_value(n, m, widest, method) }
}

/// The statistic alone.
pub(crate) fn ks_statistic(a: &Sample, b: &Sample) -> f64 {
    widest_gap(a.values(), b.values()) as f64 / (a.count() as f64 * b.count() as f64)
}

/// The statistic of two ascending samples times the product of their sizes, in whole numbers and so without rounding.
fn widest_gap(a: &[f64], b: &[f64]) -> u128 {
    let (mut past_a, mut past_b, mut widest) = (0, 0, 0);
    while past_a < a.len() && past_b < b.len() {
        let value = a[past_a].min(b[past_b]);
        while past_a < a.len() && a[past_a] <= value {
            past_a += 1;
        }
        while past_b < b.len() && b[past_b] <= value {
            past_b += 1;
        }
        widest = widest.max((past_a as i128 * b.len() as i128 - past_b as i128 * a.len() as i128).unsigned_abs());
    }
    widest
}

/// The p-value of a statistic that is `widest / (n m)`.
pub(crate) fn p_value(n: u64, m: u64, widest: u128, method: KsMethod) -> f64 {
    if widest == 0 {
        return 1.0;
    }
    let is_exact = match method {
        KsMethod::Auto => n.max(m) <= EXACT_UP_TO,
        KsMethod::Exact => true,
        KsMethod::Asymptotic => false,
    };
    let p_value = if is_exact {
        exact_p_value(n, m, widest)
    } else {
        let (n, m) = (n as f64, m as f64);
        kolmogorov::survival((n * m / (n + m)).round_ties_even() as u64, widest as f64 / (n * m))
    };
    p_value.clamp(0.0, 1.0)
}

/// Probability that a random lattice path from (0, 0) to (n, m) leaves the band around the diagonal: Hodges 1958, in the
/// form that carries the probability of having left, which stays accurate when it is tiny (Viehmann 2021).
fn exact_p_value(n: u64, m: u64, widest: u128) -> f64 {
    let (long, short) = (n.max(m) as i64, n.min(m) as i64);
    let divisor = gcd(n, m);
    let (long_step, short_step) = (long / divisor as i64, short / divisor as i64);
    // The largest allowed distance in steps of 1 / lcm(n, m).
    let bound = (widest / u128::from(divisor)) as i64;

    let ceil_div = |a: i64, b: i64| a.div_euclid(b) + i64::from(a.rem_euclid(b) != 0);
    let inverse: Vec<f64> = (0..=long + short).map(|sum| 1.0 / sum.max(1) as f64).collect();
    let mut first = 0;
    let mut end = ceil_div(bound, long_step).min(short + 1);
    let mut outside = vec![1.0_f64; ((2 * end + 2).min(short + 1)) as usize];
    outside[..end as usize].fill(0.0);
    for i in 1..=long {
        let (last_first, last_len) = (first, end - first);
        first = ((short_step * i - bound).div_euclid(long_step) + 1).max(0).min(short);
        end = ceil_div(short_step * i + bound, long_step).min(short + 1);
        if end <= first {
            return 1.0;
        }
        let (len, shift) = ((end - first) as usize, (first - last_first) as usize);
        let mut value = if first == 0 { 0.0 } else { 1.0 };
        for place in 0..len {
            let j = place as i64 + first;
            value = (outside[place + shift] * i as f64 + value * j as f64) * inverse[(i + j) as usize];
            outside[place] = value;
        }
        // What the window has left behind is outside for certain.
        outside[len..(last_len as usize).max(len)].fill(1.0);
    }
    outside[(end - first - 1) as usize]
}

const fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_samples_give_what_counting_by_hand_gives() {
        // 1, 2 | 3, 4: D = 1; of the 6 interleavings of 2 and 2 the two extreme ones have D = 1.
        let test = ks_two_sample(&[1.0, 2.0], &[4.0, 3.0], KsMethod::Auto).unwrap();
        assert!((test.statistic - 1.0).abs() < 1e-15 && (test.p_value - 1.0 / 3.0).abs() < 1e-15, "{test:?}");
        // 1 | 2, 3: both of the extreme ones of 3 interleavings.
        let test = ks_two_sample(&[1.0], &[2.0, 3.0], KsMethod::Auto).unwrap();
        assert!((test.statistic - 1.0).abs() < 1e-15 && (test.p_value - 2.0 / 3.0).abs() < 1e-15, "{test:?}");
    }

    #[test]
    fn ties_step_together_and_missing_values_are_left_out() {
        let test = ks_two_sample(&[1.0, 2.0, f64::NAN, 2.0], &[2.0, 1.0, 2.0], KsMethod::Auto).unwrap();
        assert_eq!(test, KsTest { statistic: 0.0, p_value: 1.0 });
        assert_eq!(ks_two_sample(&[f64::NAN], &[1.0], KsMethod::Auto), None);
        assert_eq!(ks_two_sample(&[1.0], &[], KsMethod::Auto), None);
    }
}
