//! Divergences of two sets of shares over the same bins or categories. Shares need not sum to 1: each set is divided by its
//! sum where the definition asks for it. Bins that only one of the two has are ignored.

use std::f64::consts::{LN_2, SQRT_2};

use serde::{Deserialize, Serialize};

use crate::psi::filled;

/// Base of the logarithm in a divergence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogBase {
    /// Natural logarithm (Evidently): the Jensen-Shannon distance is at most 0.83.
    #[default]
    Natural,
    /// Logarithm to base 2 (NannyML): the Jensen-Shannon distance is at most 1.
    Two,
}

/// Jensen-Shannon divergence (Lin 1991): mean Kullback-Leibler divergence from the average of the two.
pub fn js_divergence(p: &[f64], q: &[f64], base: LogBase) -> f64 {
    let (sum_p, sum_q) = sums(p, q);
    let nats: f64 = p
        .iter()
        .zip(q)
        .map(|(p, q)| {
            let (p, q) = (p / sum_p, q / sum_q);
            let middle = f64::midpoint(p, q);
            relative_entropy(p, middle) + relative_entropy(q, middle)
        })
        .sum();
    let scale = match base {
        LogBase::Natural => 1.0,
        LogBase::Two => LN_2,
    };
    (nats / 2.0 / scale).max(0.0)
}

/// Jensen-Shannon distance: the root of the divergence.
pub fn js_distance(p: &[f64], q: &[f64], base: LogBase) -> f64 {
    js_divergence(p, q, base).sqrt()
}

/// Kullback-Leibler divergence of `p` from `q`, in nats: infinite when `q` has no share where `p` has one.
pub fn kl_divergence(p: &[f64], q: &[f64]) -> f64 {
    let (sum_p, sum_q) = sums(p, q);
    p.iter().zip(q).map(|(p, q)| relative_entropy(p / sum_p, q / sum_q)).sum()
}

/// Kullback-Leibler divergence where an empty share counts as 1e-4, so that it stays finite (Evidently).
pub fn kl_of_shares(p: &[f64], q: &[f64]) -> f64 {
    let filled = |shares: &[f64]| shares.iter().map(|share| filled(*share)).collect::<Vec<_>>();
    kl_divergence(&filled(p), &filled(q))
}

/// Hellinger distance, 0 to 1: `sqrt(sum (sqrt p - sqrt q)²) / sqrt 2`.
pub fn hellinger(p: &[f64], q: &[f64]) -> f64 {
    p.iter().zip(q).map(|(p, q)| (p.sqrt() - q.sqrt()).powi(2)).sum::<f64>().sqrt() / SQRT_2
}

/// Total variation distance, 0 to 1: half the sum of the absolute differences.
pub fn total_variation(p: &[f64], q: &[f64]) -> f64 {
    p.iter().zip(q).map(|(p, q)| (p - q).abs()).sum::<f64>() / 2.0
}

/// L-infinity distance, 0 to 1: the largest absolute difference.
pub fn l_infinity(p: &[f64], q: &[f64]) -> f64 {
    p.iter().zip(q).map(|(p, q)| (p - q).abs()).fold(0.0, f64::max)
}

fn sums(p: &[f64], q: &[f64]) -> (f64, f64) {
    (p.iter().sum(), q.iter().sum())
}

fn relative_entropy(p: f64, q: f64) -> f64 {
    if p > 0.0 { p * (p / q).ln() } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disjoint_shares_are_as_far_apart_as_can_be() {
        let (p, q) = ([0.5, 0.5, 0.0], [0.0, 0.0, 1.0]);
        assert!((js_distance(&p, &q, LogBase::Two) - 1.0).abs() < 1e-15);
        assert!((js_distance(&p, &q, LogBase::Natural) - LN_2.sqrt()).abs() < 1e-15);
        assert!((hellinger(&p, &q) - 1.0).abs() < 1e-15 && (total_variation(&p, &q) - 1.0).abs() < 1e-15);
        assert!(kl_divergence(&p, &q).is_infinite() && kl_of_shares(&p, &q).is_finite());
        assert_eq!(l_infinity(&p, &q).to_bits(), 1.0_f64.to_bits());
    }
}
