//! Distribution of the one-sample, two-sided Kolmogorov-Smirnov statistic, after Simard and L'Ecuyer, "Computing the
//! Two-Sided Kolmogorov-Smirnov Distribution", Journal of Statistical Software 39(11), 2011: each method where it is best.

use std::f64::consts::PI;

/// Terms of a sum, about; of fewer readings all are added up.
const TERMS: u64 = 4_096;

/// Probability that the statistic of `n` readings is at least `d`; absolute error below 1e-10.
pub(super) fn survival(n: u64, d: f64) -> f64 {
    if n == 0 || d.is_nan() {
        return f64::NAN;
    }
    let count = n as f64;
    let (steps, scaled) = (count * d, count * d * d);
    if d >= 1.0 {
        return 0.0;
    }
    if steps <= 0.5 {
        return 1.0;
    }
    if steps <= 1.0 {
        // Ruben and Gambino: n! (2 d - 1/n)^n.
        let log: f64 = (1..=n).map(|i| (i as f64 / count).ln()).sum::<f64>() + count * (2.0 * steps - 1.0).ln();
        return 1.0 - log.exp();
    }
    if scaled < 0.045 {
        // The distribution function is below 1e-10 here, and the matrix would be large.
        return 1.0;
    }
    if scaled >= 370.0 {
        return 0.0;
    }
    // Miller 1956: the two one-sided events hardly ever coincide this far out, and cannot for d >= 1/2.
    let is_tail = d >= 0.5 || scaled >= if n <= 140 { 4.0 } else { 2.2 };
    let survival = if is_tail {
        2.0 * one_sided(n, d)
    } else if n <= 140 || (n <= 100_000 && count * d.powf(1.5) <= 1.4) {
        1.0 - durbin_matrix(n, d)
    } else {
        1.0 - pelz_good(count, d)
    };
    survival.clamp(0.0, 1.0)
}

/// Probability that the one-sided statistic is at least `d` (Smirnov 1944, Birnbaum and Tingey 1951):
/// `d sum C(n, j) (d + j/n)^(j-1) (1 - d - j/n)^(n-j)` over `0 <= j <= n (1 - d)`. All terms are positive; each is a
/// binomial probability, evaluated by the saddle point form of Loader 2000, which neither overflows nor cancels.
///
/// Of many readings every so manieth term stands for its neighbours: the terms are a smooth function of `j / n` that is
/// flat at zero at both ends, of which such a sum misses less than rounding does.
fn one_sided(n: u64, d: f64) -> f64 {
    let count = n as f64;
    let shift = count * d;
    let stride = (n / TERMS).max(1);
    let mut sum = (count * (-d).ln_1p()).exp() / stride as f64;
    let whole = stirling_error(n);
    for j in (stride..n).step_by(stride as usize) {
        let (hits, misses) = (j as f64, (n - j) as f64);
        let (expected_hits, expected_misses) = (hits + shift, misses - shift);
        if expected_misses <= 0.0 {
            break;
        }
        let log = whole
            - stirling_error(j)
            - stirling_error(n - j)
            - deviance(hits, expected_hits)
            - deviance(misses, expected_misses);
        let binomial = log.exp() / (2.0 * PI * hits * misses / count).sqrt();
        sum += binomial * shift / expected_hits;
    }
    sum * stride as f64
}

/// `ln n! - ln(sqrt(2 pi n) (n / e)^n)`.
fn stirling_error(n: u64) -> f64 {
    let x = n as f64;
    if n <= 15 {
        let log_factorial = (2..=n).map(|i| i as f64).product::<f64>().ln();
        log_factorial - (x + 0.5) * x.ln() + x - 0.5 * (2.0 * PI).ln()
    } else {
        let square = x * x;
        let tail = 1.0 / 1260.0 - (1.0 / 1680.0 - 1.0 / 1188.0 / square) / square;
        (1.0 / 12.0 - (1.0 / 360.0 - tail / square) / square) / x
    }
}

/// `x ln(x / mean) + mean - x`, without cancellation when the two are near.
fn deviance(x: f64, mean: f64) -> f64 {
    let difference = x - mean;
    if difference.abs() >= 0.1 * (x + mean) {
        return x * (x / mean).ln() - difference;
    }
    let ratio = difference / (x + mean);
    let mut sum = difference * ratio;
    let mut power = 2.0 * x * ratio;
    for k in 1..1000 {
        power *= ratio * ratio;
        let next = sum + power / f64::from(2 * k + 1);
        if next.to_bits() == sum.to_bits() {
            break;
        }
        sum = next;
    }
    sum
}

/// A square matrix whose entries are to be multiplied by `2^exponent`.
struct Scaled {
    size: usize,
    cells: Vec<f64>,
    exponent: i32,
}

impl Scaled {
    fn times(&self, other: &Self) -> Self {
        let size = self.size;
        let mut cells = vec![0.0; size * size];
        for (row, left) in cells.chunks_exact_mut(size).zip(self.cells.chunks_exact(size)) {
            for (factor, right) in left.iter().zip(other.cells.chunks_exact(size)) {
                for (cell, value) in row.iter_mut().zip(right) {
                    *cell += factor * value;
                }
            }
        }
        let mut product = Self { size, cells, exponent: self.exponent + other.exponent };
        if product.cells[(size / 2) * size + size / 2] > 2.0_f64.powi(128) {
            product.cells.iter_mut().for_each(|cell| *cell *= 2.0_f64.powi(-128));
            product.exponent += 128;
        }
        product
    }
}

/// Distribution function at `d`, exactly: Durbin 1968 in the form of Marsaglia, Tsang and Wang 2003.
fn durbin_matrix(n: u64, d: f64) -> f64 {
    let steps = n as f64 * d;
    let k = steps.ceil() as usize;
    let h = k as f64 - steps;
    let size = 2 * k - 1;

    let mut inverse_factorial = vec![1.0; size + 1];
    for i in 1..=size {
        inverse_factorial[i] = inverse_factorial[i - 1] / i as f64;
    }
    let mut edge: Vec<f64> = (1..=size).map(|i| (1.0 - h.powi(i as i32)) * inverse_factorial[i]).collect();
    let corner = (2.0 * h - 1.0).max(0.0).powi(size as i32) - 2.0 * h.powi(size as i32);
    edge[size - 1] = (1.0 + corner) * inverse_factorial[size];

    let mut cells = vec![0.0; size * size];
    for row in 0..size {
        for column in 1..=(row + 1).min(size - 1) {
            cells[row * size + column] = inverse_factorial[row + 1 - column];
        }
        cells[row * size] = edge[row];
    }
    for column in 0..size {
        cells[(size - 1) * size + column] = edge[size - 1 - column];
    }
    let mut square = Scaled { size, cells, exponent: 0 };
    let mut power: Option<Scaled> = None;
    let mut left = n;
    while left > 0 {
        if left & 1 == 1 {
            power = Some(power.map_or_else(
                || Scaled { size, cells: square.cells.clone(), exponent: square.exponent },
                |so_far| so_far.times(&square),
            ));
        }
        left >>= 1;
        if left > 0 {
            square = square.times(&square);
        }
    }
    let Some(power) = power else { return 0.0 };
    let (mut value, mut exponent) = (power.cells[(k - 1) * size + k - 1], power.exponent);
    for i in 1..=n {
        value *= i as f64 / n as f64;
        if value < 2.0_f64.powi(-128) {
            value *= 2.0_f64.powi(128);
            exponent -= 128;
        }
    }
    value * 2.0_f64.powi(exponent)
}

/// Distribution function at `d`: the limit with three correction terms, Pelz and Good 1976.
fn pelz_good(n: f64, d: f64) -> f64 {
    let z = n.sqrt() * d;
    let (z2, z3, z4, z6, z7, z8, z10) = (z * z, z.powi(3), z.powi(4), z.powi(6), z.powi(7), z.powi(8), z.powi(10));
    let (pi2, pi4, pi6) = (PI * PI, PI.powi(4), PI.powi(6));
    let root = (2.0 * PI).sqrt();
    let terms = 4 + (16.0 * z / PI).ceil() as i32;
    let mut sums = [0.0_f64; 4];
    // Half integers.
    for k in 0..terms {
        let m2 = f64::from(2 * k + 1).powi(2);
        let weight = (-pi2 * m2 / (8.0 * z2)).exp();
        let (m4, m6) = (m2 * m2, m2 * m2 * m2);
        sums[0] += weight;
        sums[1] += weight * (pi2 / 4.0 * m2 - z2);
        sums[2] += weight
            * (6.0 * z6 + 2.0 * z4 + (2.0 * z4 - 5.0 * z2) * pi2 / 4.0 * m2 + pi4 * (1.0 - 2.0 * z2) / 16.0 * m4);
        sums[3] += weight
            * (-30.0 * z6 - 90.0 * z8
                + pi2 * (135.0 * z4 - 96.0 * z6) / 4.0 * m2
                + pi4 * (212.0 * z4 - 60.0 * z2) / 16.0 * m4
                + pi6 * (5.0 - 30.0 * z2) / 64.0 * m6);
    }
    let divisors = [z, 6.0 * z4, 72.0 * z7, 6480.0 * z10];
    for (sum, divisor) in sums.iter_mut().zip(divisors) {
        *sum *= root / divisor;
    }
    // Whole numbers.
    for k in 1..terms {
        let k2 = f64::from(k * k);
        let weight = (-pi2 * k2 / (2.0 * z2)).exp();
        sums[2] -= weight * k2 * pi2 * root / (36.0 * z3);
        sums[3] += weight * k2 * (3.0 * z2 - pi2 * k2) * pi2 * root / (216.0 * z6);
    }
    sums[0] + sums[1] / n.sqrt() + sums[2] / n + sums[3] / (n * n.sqrt())
}

#[cfg(test)]
#[expect(clippy::unreadable_literal, reason = "the numbers stand as SciPy printed them")]
mod tests {
    use super::*;

    #[test]
    fn every_method_agrees_with_scipy() {
        for (n, d, expected) in KSTWO_SF {
            let value = survival(n, d);
            assert!((value - expected).abs() <= 1e-10, "n {n}, d {d}: {value} instead of {expected}");
            if d * d * n as f64 >= 4.0 {
                assert!((value / expected - 1.0).abs() < 1e-10, "n {n}, d {d}: {value} instead of {expected}");
            }
        }
    }

    /// `scipy.stats.kstwo.sf(d, n)` of SciPy 1.17.1.
    const KSTWO_SF: [(u64, f64, f64); 37] = [
        (1, 0.7, 0.6000000000000001),
        (3, 0.25, 0.9722222222222222),
        (3, 0.3, 0.8862222222222222),
        (10, 0.06, 0.9999999999628411),
        (10, 0.09, 0.9999610360566907),
        (10, 0.2, 0.7487190399999999),
        (10, 0.35, 0.1339605462624991),
        (10, 0.6, 0.0005681672000000003),
        (10, 0.95, 1.9531250000000172e-13),
        (50, 0.1, 0.6623112704658186),
        (50, 0.25, 0.0030657620198693003),
        (140, 0.05, 0.8576480297656114),
        (140, 0.1, 0.11353657290090946),
        (140, 0.16, 0.0013440163244194184),
        (140, 0.2, 2.1981563302200222e-05),
        (141, 0.004, 1.0),
        (141, 0.05, 0.854845693009663),
        (141, 0.1, 0.11128445516467944),
        (300, 0.02, 0.9995956727697175),
        (300, 0.026, 0.9841877255585283),
        (300, 0.06, 0.221275575895042),
        (1000, 0.01, 0.9999496745370611),
        (1000, 0.03, 0.3226902143914636),
        (1000, 0.05, 0.013012074781090332),
        (667, 0.10483333333333333, 7.762652170469664e-07),
        (5000, 0.003, 0.9999999999740126),
        (5000, 0.012, 0.4639912166690192),
        (5000, 0.02, 0.03613941395325637),
        (5000, 0.05, 2.6523052328711187e-11),
        (60000, 0.0009, 0.9999999998749171),
        (60000, 0.003, 0.651565751976552),
        (60000, 0.005, 0.09923009902066682),
        (60000, 0.009, 0.00011940470766305551),
        (500000, 0.0005, 0.9996286945544336),
        (500000, 0.0015, 0.21034190155828947),
        (500000, 0.0022, 0.01579088281358738),
        (500000, 0.004, 2.2445978493851467e-07),
    ];
}
