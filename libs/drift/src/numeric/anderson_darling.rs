use fishy_core::{Error, Result};

use crate::effect::{EffectKind, TestResult};
use crate::ks::ks_statistic;
use crate::sample::{Sample, for_each_step};

/// Upper significance levels of the table of Scholz and Stephens, and the coefficients of its critical values
/// `b0 + b1 / sqrt(k - 1) + b2 / (k - 1)`, which for two samples (`k = 2`) add up.
const TABLE: [(f64, [f64; 3]); 7] = [
    (0.25, [0.675, -0.245, -0.105]),
    (0.1, [1.281, 0.25, -0.305]),
    (0.05, [1.645, 0.678, -0.362]),
    (0.025, [1.96, 1.149, -0.391]),
    (0.01, [2.326, 1.822, -0.396]),
    (0.005, [2.573, 2.364, -0.345]),
    (0.001, [3.085, 3.615, -0.154]),
];

/// Two-sample Anderson-Darling test with midranks for ties (Scholz and Stephens 1987), which weighs the tails more than
/// KS does. The statistic is the normalised one; the p-value is interpolated from the table of that paper and held within
/// it: 0.001 to 0.25, as SciPy. Needs four values in all, of which at least two differ.
pub fn anderson_darling(a: &Sample, b: &Sample) -> Result<TestResult> {
    let (n, m) = (a.count(), b.count());
    if n + m < 4 {
        return Err(Error::precondition(format!(
            "an Anderson-Darling test needs at least four values in all, and there are {n} and {m}: use a longer window"
        )));
    }
    let (n, m) = (n as f64, m as f64);
    let total = n + m;
    let (mut of_a, mut of_b, mut distinct) = (0.0, 0.0, 0);
    for_each_step(a, b, |step| {
        let tied = (step.at.0 + step.at.1) as f64;
        let below = (step.up_to.0 + step.up_to.1) as f64 - tied / 2.0;
        let weight = tied / total / (below * (total - below) - total * tied / 4.0);
        let part = |up_to: usize, at: usize, count: f64| {
            weight * (total * (up_to as f64 - at as f64 / 2.0) - below * count).powi(2)
        };
        of_a += part(step.up_to.0, step.at.0, n);
        of_b += part(step.up_to.1, step.at.1, m);
        distinct += 1;
    });
    if distinct < 2 {
        return Err(Error::precondition("an Anderson-Darling test needs at least two distinct values: all are equal"));
    }
    let raw = (of_a / n + of_b / m) * (total - 1.0) / total;
    let statistic = (raw - 1.0) / variance(n, m).sqrt();
    Ok(TestResult::new(statistic, p_value(statistic), EffectKind::KsDistance, ks_statistic(a, b)))
}

/// Variance of the raw statistic under the null hypothesis for two samples: equation 4 of the paper with `k = 2`.
fn variance(n: f64, m: f64) -> f64 {
    let total = n + m;
    let inverse_sizes = 1.0 / n + 1.0 / m;
    // h is the harmonic number of N - 1; g the double sum over i < j of 1 / ((N - i) j).
    let (mut partial, mut g) = (0.0, 0.0);
    for i in 1..(total as u64 - 1) {
        partial += 1.0 / (total - i as f64);
        g += partial / (i + 1) as f64;
    }
    let h = partial + 1.0;
    let cubic = (4.0 * g - 6.0) + (10.0 - 6.0 * g) * inverse_sizes;
    let square =
        (2.0 * g - 4.0) * 4.0 + 16.0 * h + (2.0 * g - 14.0 * h - 4.0) * inverse_sizes - 8.0 * h + 4.0 * g - 6.0;
    let linear =
        (6.0 * h + 2.0 * g - 2.0) * 4.0 + (4.0 * h - 4.0 * g + 6.0) * 2.0 + (2.0 * h - 6.0) * inverse_sizes + 4.0 * h;
    let constant = (2.0 * h + 6.0) * 4.0 - 8.0 * h;
    (((cubic * total + square) * total + linear) * total + constant) / ((total - 1.0) * (total - 2.0) * (total - 3.0))
}

/// The logarithm of the level is a quadratic of the critical value, fitted to the table by least squares.
fn p_value(statistic: f64) -> f64 {
    let points = TABLE.map(|(level, [b0, b1, b2])| (b0 + b1 + b2, level));
    if statistic < points[0].0 {
        return points[0].1;
    }
    if statistic > points[6].0 {
        return points[6].1;
    }
    // Normal equations around the middle of the table, solved by elimination.
    let centre = points[3].0;
    let mut rows = [[0.0_f64; 4]; 3];
    for (critical, level) in points {
        let x = critical - centre;
        let powers = [1.0, x, x * x];
        for (row, factor) in rows.iter_mut().zip(powers) {
            for (cell, power) in row.iter_mut().zip(powers) {
                *cell += factor * power;
            }
            row[3] += factor * level.ln();
        }
    }
    for pivot in 0..3 {
        let lead = rows[pivot];
        for (place, row) in rows.iter_mut().enumerate() {
            if place != pivot {
                let factor = row[pivot] / lead[pivot];
                for (cell, above) in row.iter_mut().zip(lead) {
                    *cell -= factor * above;
                }
            }
        }
    }
    let x = statistic - centre;
    let log = rows[0][3] / rows[0][0] + x * (rows[1][3] / rows[1][1] + x * rows[2][3] / rows[2][2]);
    log.exp().clamp(points[6].1, points[0].1)
}
