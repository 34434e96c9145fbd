use fishy_core::{Error, Result};

use crate::effect::{EffectKind, TestResult};
use crate::ks::ks_statistic;
use crate::linear::symmetric_eigen;
use crate::sample::{Sample, quantile};
use crate::special::chi2_sf;

/// Where the characteristic functions are compared, in half interquartile ranges of the pooled sample: the recommendation
/// of the paper.
const POINTS: [f64; 2] = [0.4, 0.8];

/// Below this many values in the larger sample the statistic is corrected.
const SMALL: usize = 25;

/// Epps-Singleton test of equal characteristic functions (Epps and Singleton 1986; small sample correction of Goerg and
/// Kaiser 2009), which also fits discrete values. Needs five values in each sample and an interquartile range above 0.
pub fn epps_singleton(a: &Sample, b: &Sample) -> Result<TestResult> {
    let (n, m) = (a.count(), b.count());
    if n < 5 || m < 5 {
        return Err(Error::precondition(format!(
            "an Epps-Singleton test needs at least five values in each sample, and there are {n} and {m}: use a longer \
             window"
        )));
    }
    let mut pooled = [a.values(), b.values()].concat();
    // Two ascending runs: the stable sort merges them.
    pooled.sort_by(f64::total_cmp);
    let half_range = (quantile(&pooled, 0.75) - quantile(&pooled, 0.25)) / 2.0;
    if half_range <= 0.0 {
        return Err(Error::precondition(
            "an Epps-Singleton test needs an interquartile range above 0: more than half of the values are equal",
        ));
    }
    let (of_a, of_b) = (Moments::of(a, half_range), Moments::of(b, half_range));
    let (count_a, count_b) = (n as f64, m as f64);
    let total = count_a + count_b;
    let covariance: Vec<f64> =
        (0..16).map(|cell| total / count_a * of_a.covariance[cell] + total / count_b * of_b.covariance[cell]).collect();
    let (values, vectors) = symmetric_eigen(&covariance, 4);
    let least = values[0] * 4.0 * f64::EPSILON;
    let (mut statistic, mut rank) = (0.0, 0.0);
    for (value, vector) in values.iter().zip(&vectors).filter(|(value, _)| **value > least) {
        let along: f64 = vector.iter().zip(of_a.mean.iter().zip(of_b.mean)).map(|(v, (a, b))| v * (a - b)).sum();
        statistic += total * along * along / value;
        rank += 1.0;
    }
    if n.max(m) < SMALL {
        statistic /= 1.0 + total.powf(-0.45) + 10.1 * (count_a.powf(-1.7) + count_b.powf(-1.7));
    }
    Ok(TestResult::new(statistic, chi2_sf(statistic, rank), EffectKind::KsDistance, ks_statistic(a, b)))
}

/// Mean and covariance (divisor `n`) of cosines and sines of a sample.
struct Moments {
    mean: [f64; 4],
    covariance: [f64; 16],
}

impl Moments {
    fn of(sample: &Sample, half_range: f64) -> Self {
        let waves = |value: f64| {
            let [(sin_1, cos_1), (sin_2, cos_2)] = POINTS.map(|point| (point / half_range * value).sin_cos());
            [cos_1, cos_2, sin_1, sin_2]
        };
        let count = sample.count() as f64;
        let mut mean = [0.0; 4];
        for value in sample.values() {
            mean.iter_mut().zip(waves(*value)).for_each(|(sum, wave)| *sum += wave);
        }
        for sum in &mut mean {
            *sum /= count;
        }
        let mut covariance = [0.0; 16];
        for value in sample.values() {
            let mut off = waves(*value);
            off.iter_mut().zip(mean).for_each(|(wave, mean)| *wave -= mean);
            for (row, left) in covariance.chunks_exact_mut(4).zip(off) {
                row.iter_mut().zip(off).for_each(|(cell, right)| *cell += left * right);
            }
        }
        for sum in &mut covariance {
            *sum /= count;
        }
        Self { mean, covariance }
    }
}
