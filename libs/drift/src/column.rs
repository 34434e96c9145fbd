use serde::{Deserialize, Serialize};

use crate::ks::{KsMethod, KsTest, p_value};
use crate::numeric::{BinnedShares, Binning, LogBase, js_distance};
use crate::psi::psi_of_shares;
use crate::sample::Sample;

/// The four usual figures of the drift of one numeric column.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ColumnDrift {
    /// Population stability index over the deciles of the reference.
    pub psi: f64,
    /// Kolmogorov-Smirnov test; the p-value is asymptotic above 10,000 readings.
    pub ks: KsTest,
    /// Wasserstein-1 distance, in the unit of the values.
    pub wasserstein: f64,
    /// Jensen-Shannon distance, natural logarithm, bins of [`Binning::auto`].
    pub js_distance: f64,
}

impl ColumnDrift {
    /// All four exactly, from samples that are sorted already: one pass over both and some binary searches. The same values
    /// as from the single functions, within rounding.
    pub fn of(reference: &Sample, current: &Sample) -> Self {
        let deciles = BinnedShares::new(reference, current, Binning::ReferenceDeciles);
        let binned = BinnedShares::new(reference, current, Binning::auto(reference));
        let (widest, area) = walk(reference.values(), current.values());
        let (n, m) = (reference.count() as u64, current.count() as u64);
        let pairs = n as f64 * m as f64;
        Self {
            psi: psi_of_shares(&deciles.reference, &deciles.current),
            ks: KsTest { statistic: widest as f64 / pairs, p_value: p_value(n, m, u128::from(widest), KsMethod::Auto) },
            wasserstein: area / pairs,
            js_distance: js_distance(&binned.reference, &binned.current, LogBase::Natural),
        }
    }
}

/// Largest distance of the distribution functions and the area between them, both times the product of the counts, which
/// fits 63 bits up to three billion readings a side.
///
/// A step takes at most one value from each side and has no branch to mispredict; a distance counts where the next value is
/// a greater one, so that tied values step together.
fn walk(a: &[f64], b: &[f64]) -> (u64, f64) {
    let (n, m) = (a.len() as i64, b.len() as i64);
    let (mut past_a, mut past_b, mut gap) = (0, 0, 0_i64);
    let (mut widest, mut area, mut last) = (0_u64, 0.0, a[0].min(b[0]));
    while past_a < a.len() && past_b < b.len() {
        let value = a[past_a].min(b[past_b]);
        let reached = gap.unsigned_abs();
        let is_greater = value > last;
        widest = widest.max(if is_greater { reached } else { 0 });
        area += reached as f64 * (value - last);
        last = value;
        let (takes_a, takes_b) = (a[past_a] <= value, b[past_b] <= value);
        past_a += usize::from(takes_a);
        past_b += usize::from(takes_b);
        gap += i64::from(takes_a) * m - i64::from(takes_b) * n;
    }
    // Of the side that is left every value brings the functions nearer, all ties of the other side being taken.
    for (value, step) in a[past_a..].iter().map(|value| (*value, m)).chain(b[past_b..].iter().map(|value| (*value, -n)))
    {
        let reached = gap.unsigned_abs();
        widest = widest.max(if value > last { reached } else { 0 });
        area += reached as f64 * (value - last);
        last = value;
        gap += step;
    }
    (widest, area)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ks::ks;
    use crate::numeric::wasserstein;

    #[test]
    fn one_pass_gives_what_the_single_functions_give() {
        let wave = |n: usize, step: f64, scale: f64, grain: f64| -> Sample {
            let value = |i: usize| ((i as f64 * step).fract() * scale / grain).round() * grain;
            Sample::from_vec((0..n).map(value).collect()).unwrap()
        };
        for (n, m, grain) in
            [(1, 1, 1.0), (1, 40, 0.5), (300, 200, 0.001), (200, 300, 0.25), (50, 400, 1.0), (20, 20, 9.0)]
        {
            for (step, scale) in [(0.618_034, 3.0), (0.414_214, 8.0), (0.1, 1.0)] {
                let (a, b) = (wave(n, step, scale, grain), wave(m, 0.732_051, 5.0, grain));
                let drift = ColumnDrift::of(&a, &b);
                assert_eq!(drift.ks, ks(&a, &b, KsMethod::Auto), "{n} {m} {grain} {step}");
                assert!((drift.wasserstein - wasserstein(&a, &b)).abs() < 1e-12, "{n} {m} {grain} {step}");
            }
        }
    }
}
