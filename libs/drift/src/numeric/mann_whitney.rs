use crate::effect::{Alternative, EffectKind, TestResult};
use crate::sample::{Sample, for_each_step};
use crate::special::normal_sf;

/// Up to this many values in the smaller sample, without ties, the p-value is exact.
const EXACT_UP_TO: usize = 8;
/// The larger sample may then have at most this many.
const EXACT_LARGER_UP_TO: usize = 10_000;

/// Mann-Whitney U test (Wilcoxon rank sum). The statistic is U of the reference: how many of the pairs have the reference
/// value above, ties counting half.
///
/// The p-value is exact (Mann and Whitney 1947) while the smaller sample has at most 8 values, the larger at most 10,000,
/// and none are tied; otherwise normal, with the variance corrected for ties and U for continuity, as SciPy's `auto`.
/// Two samples of one single value give 1.
pub fn mann_whitney(reference: &Sample, current: &Sample, alternative: Alternative) -> TestResult {
    let (n, m) = (reference.count(), current.count());
    let (mut ranks, mut ties) = (0.0, 0.0);
    for_each_step(reference, current, |step| {
        let tied = (step.at.0 + step.at.1) as f64;
        ranks += step.at.0 as f64 * step.midrank();
        ties += tied * (tied * tied - 1.0);
    });
    let pairs = n as f64 * m as f64;
    let of_reference = ranks - (n as f64 * (n as f64 + 1.0)) / 2.0;
    let of_current = pairs - of_reference;
    let (high, sides) = match alternative {
        Alternative::TwoSided => (of_reference.max(of_current), 2.0),
        Alternative::Lower => (of_reference, 1.0),
        Alternative::Higher => (of_current, 1.0),
    };
    let is_exact = ties <= 0.0 && n.min(m) <= EXACT_UP_TO && n.max(m) <= EXACT_LARGER_UP_TO;
    let tail = if is_exact { exact_sf(n, m, high) } else { asymptotic_sf(n, m, high, ties) };
    let effect = (of_current - of_reference) / pairs;
    TestResult::new(of_reference, (sides * tail).min(1.0), EffectKind::RankBiserial, effect)
}

fn asymptotic_sf(n: usize, m: usize, high: f64, ties: f64) -> f64 {
    let (n, m) = (n as f64, m as f64);
    let total = n + m;
    let variance = n * m / 12.0 * (total + 1.0 - ties / (total * (total - 1.0)));
    if variance <= 0.0 || variance.is_nan() { 1.0 } else { normal_sf((high - n * m / 2.0 - 0.5) / variance.sqrt()) }
}

/// Probability that U is at least `high`, a whole number: by symmetry, that it is at most `n m - high`.
///
/// The counts are the coefficients of the Gaussian binomial `prod (1 - q^(m + i)) / (1 - q^i)`.
fn exact_sf(n: usize, m: usize, high: f64) -> f64 {
    let (short, long) = (n.min(m), n.max(m));
    let last = (n as f64 * m as f64 - high).max(0.0) as usize;
    let mut counts = vec![0.0_f64; last + 1];
    counts[0] = 1.0;
    for i in 1..=short {
        for place in (long + i..=last).rev() {
            counts[place] -= counts[place - long - i];
        }
        for place in i..=last {
            counts[place] += counts[place - i];
        }
    }
    let all: f64 = (1..=short).map(|i| (long + i) as f64 / i as f64).product();
    counts.iter().sum::<f64>() / all
}
