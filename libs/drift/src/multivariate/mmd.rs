use fishy_core::{Error, Result};
use serde::{Deserialize, Serialize};

use super::both_rows;
use crate::random::SplitMix;

/// Most rows of both samples together: memory and work grow with their square (8 bytes a pair).
const MAX_ROWS: usize = 4_000;
/// Most permutations.
const MAX_PERMUTATIONS: usize = 100_000;

/// Result of a test by maximum mean discrepancy.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct MmdTest {
    /// Squared discrepancy, without bias: about 0, and as often below, when nothing has changed. It is its own effect size.
    pub statistic: f64,
    /// Share of the permutations, the given order among them, with a statistic at least as large; 1 without permutations.
    pub p_value: f64,
    /// Width of the kernel that was used, in the unit of the distances.
    pub bandwidth: f64,
}

/// Maximum mean discrepancy (Gretton et al. 2012) with the kernel `exp(-d² / (2 bandwidth²))`, and a permutation test.
///
/// Without a bandwidth the median distance of all pairs is taken. Columns should have comparable scales. Rows with a value
/// that is not finite are left out. Refused for fewer than two rows on either side, or more than 4,000 together: draw some.
pub fn mmd(
    reference: &[Vec<f64>],
    current: &[Vec<f64>],
    bandwidth: Option<f64>,
    permutations: usize,
    seed: u64,
) -> Result<MmdTest> {
    both_rows(reference, current)?;
    let mut rows = finite_rows(reference);
    let n = rows.len();
    rows.extend(finite_rows(current));
    let total = rows.len();
    if n < 2 || total - n < 2 || total > MAX_ROWS || permutations > MAX_PERMUTATIONS {
        return Err(Error::invalid(format!(
            "MMD needs at least two finite rows a side, at most {MAX_ROWS} together and {MAX_PERMUTATIONS} permutations: \
             {n} and {} rows, {permutations} permutations; draw some of the rows",
            total - n
        )));
    }
    let distance = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>();
    let mut kernel = vec![0.0; total * total];
    for i in 0..total {
        for j in 0..i {
            let squared = distance(&rows[i], &rows[j]);
            kernel[i * total + j] = squared;
            kernel[j * total + i] = squared;
        }
    }
    let bandwidth = match bandwidth {
        Some(given) if given > 0.0 && given.is_finite() => given,
        Some(given) => return Err(Error::invalid(format!("the bandwidth of MMD must be above 0, and is {given}"))),
        None => median_distance(&kernel, total)?,
    };
    for cell in &mut kernel {
        *cell = (-*cell / (2.0 * bandwidth * bandwidth)).exp();
    }
    let mut order: Vec<usize> = (0..total).collect();
    let statistic = discrepancy(&kernel, &order, n);
    let mut random = SplitMix::new(seed);
    let mut as_large = 1_usize;
    for _ in 0..permutations {
        random.shuffle(&mut order);
        as_large += usize::from(discrepancy(&kernel, &order, n) >= statistic);
    }
    Ok(MmdTest { statistic, p_value: as_large as f64 / (permutations + 1) as f64, bandwidth })
}

fn finite_rows(columns: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let count = columns.first().map_or(0, Vec::len);
    let rows = (0..count).map(|row| columns.iter().map(|column| column[row]).collect::<Vec<f64>>());
    rows.filter(|row| row.iter().all(|value| value.is_finite())).collect()
}

fn median_distance(squared: &[f64], total: usize) -> Result<f64> {
    let mut distances: Vec<f64> = (0..total).flat_map(|i| (0..i).map(move |j| squared[i * total + j])).collect();
    let middle = distances.len() / 2;
    let (_, median, _) = distances.select_nth_unstable_by(middle, f64::total_cmp);
    let median = median.sqrt();
    if median > 0.0 {
        Ok(median)
    } else {
        Err(Error::precondition("most rows are equal, so that MMD finds no bandwidth: give one"))
    }
}

/// The statistic when the first `n` rows of `order` are the reference.
fn discrepancy(kernel: &[f64], order: &[usize], n: usize) -> f64 {
    let total = order.len();
    let mut is_reference = vec![false; total];
    for row in &order[..n] {
        is_reference[*row] = true;
    }
    let (mut of_reference, mut of_current, mut between) = (0.0, 0.0, 0.0);
    for (row, values) in kernel.chunks_exact(total).enumerate() {
        let (mut to_reference, mut to_current) = (0.0, 0.0);
        for (value, is_reference) in values[..row].iter().zip(&is_reference) {
            if *is_reference { to_reference += value } else { to_current += value }
        }
        if is_reference[row] {
            of_reference += to_reference;
            between += to_current;
        } else {
            of_current += to_current;
            between += to_reference;
        }
    }
    let (n, m) = (n as f64, (total - n) as f64);
    2.0 * of_reference / (n * (n - 1.0)) + 2.0 * of_current / (m * (m - 1.0)) - 2.0 * between / (n * m)
}
