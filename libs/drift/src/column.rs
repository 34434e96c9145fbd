//! The drift of one numeric column.

mod partition;
mod sketched;
mod steps;

use fishy_core::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::ks::{KsMethod, KsTest, p_value};
use crate::numeric::{BinnedShares, Binning, DISTINCT_UP_TO, LogBase, SMALLEST_DEVIATION, js_distance};
use crate::psi::psi_of_shares;
use crate::sample::{Moments, Sample};

pub use sketched::ColumnSketch;

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

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Finite values.
    pub count: u64,
    /// Values that are missing or not finite.
    pub missing: u64,
    /// The smallest value.
    pub least: f64,
    /// The largest value.
    pub most: f64,
    /// Arithmetic mean.
    pub mean: f64,
    /// Standard deviation, divisor `n`.
    pub deviation: f64,
}

/// Two samples of one numeric column, from unsorted values or from sketches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// What the reference holds.
    pub reference: Summary,
    /// What the current sample holds.
    pub current: Summary,
    /// The four figures.
    #[serde(flatten)]
    pub drift: ColumnDrift,
    /// Wasserstein-1 distance in standard deviations of the reference, as [`normed_wasserstein`](crate::normed_wasserstein).
    pub normed_wasserstein: f64,
    /// The bins behind the Jensen-Shannon distance, for a chart.
    pub binned: BinnedShares,
}

impl ColumnDrift {
    /// All four exactly, from samples that are sorted already: one pass over both and some binary searches. The same values
    /// as from the single functions, within rounding.
    pub fn of(reference: &Sample, current: &Sample) -> Self {
        Parts::of(reference, current).drift(reference.count() as u64, current.count() as u64)
    }
}

impl Comparison {
    /// All figures exactly, from values in any order; most of them are not sorted. The same values as from sorted samples,
    /// within rounding. A side without a finite value is refused.
    pub fn of(reference: Vec<f64>, current: Vec<f64>) -> Result<Self> {
        let (reference, missing_before) = finite(reference, "reference")?;
        let (current, missing_now) = finite(current, "current")?;
        let moments = (Moments::of(&reference), Moments::of(&current));
        let counts = (reference.len() as u64, current.len() as u64);
        let parts = if has_more_distinct(&reference, DISTINCT_UP_TO) {
            partition::parts((&reference, moments.0), (&current, moments.1))
        } else {
            None
        };
        let parts = match parts {
            Some(parts) => parts,
            None => Parts::of(&Sample::from_vec(reference)?, &Sample::from_vec(current)?),
        };
        let summary = |moments: Moments, count, missing| {
            let Moments { least, most, mean, deviation } = moments;
            Summary { count, missing, least, most, mean, deviation }
        };
        Ok(parts.comparison(summary(moments.0, counts.0, missing_before), summary(moments.1, counts.1, missing_now)))
    }
}

/// The finite values, and how many others there were.
fn finite(mut values: Vec<f64>, side: &str) -> Result<(Vec<f64>, u64)> {
    let given = values.len();
    values.retain(|value| value.is_finite());
    if values.is_empty() {
        return Err(Error::invalid(format!("the {side} sample has no finite value among {given}")));
    }
    let missing = (given - values.len()) as u64;
    Ok((values, missing))
}

fn has_more_distinct(values: &[f64], limit: usize) -> bool {
    let mut seen: Vec<f64> = Vec::with_capacity(limit);
    for value in values {
        if !seen.contains(value) {
            if seen.len() == limit {
                return true;
            }
            seen.push(*value);
        }
    }
    false
}

/// What the figures are made of.
struct Parts {
    deciles: BinnedShares,
    binned: BinnedShares,
    /// Largest distance of the distribution functions, times the product of the counts.
    widest: u64,
    /// The area between them, times the same.
    area: f64,
}

impl Parts {
    fn of(reference: &Sample, current: &Sample) -> Self {
        let (a, b) = (reference.values(), current.values());
        let walked = walk((a, b.len() as i64), (b, a.len() as i64), (0, a[0].min(b[0])));
        Self {
            deciles: BinnedShares::new(reference, current, Binning::ReferenceDeciles),
            binned: BinnedShares::new(reference, current, Binning::auto(reference)),
            widest: walked.widest,
            area: walked.area,
        }
    }

    fn drift(&self, n: u64, m: u64) -> ColumnDrift {
        let pairs = n as f64 * m as f64;
        let p_value = p_value(n, m, u128::from(self.widest), KsMethod::Auto);
        ColumnDrift {
            psi: psi_of_shares(&self.deciles.reference, &self.deciles.current),
            ks: KsTest { statistic: self.widest as f64 / pairs, p_value },
            wasserstein: self.area / pairs,
            js_distance: js_distance(&self.binned.reference, &self.binned.current, LogBase::Natural),
        }
    }

    fn comparison(self, reference: Summary, current: Summary) -> Comparison {
        let drift = self.drift(reference.count, current.count);
        let normed_wasserstein = drift.wasserstein / reference.deviation.max(SMALLEST_DEVIATION);
        Comparison { reference, current, drift, normed_wasserstein, binned: self.binned }
    }
}

/// Where a walk over two ascending samples has come.
struct Walked {
    /// Largest distance of the distribution functions before the last value, times the product of the counts.
    widest: u64,
    /// The area between them up to the last value, times the same.
    area: f64,
    /// Their distance after the last value.
    gap: i64,
    /// The last value.
    last: f64,
}

/// Walks over two ascending samples from a distance of the distribution functions at a value before them. Beside each
/// sample stands by how much one of its values moves the distance: how many values the other side has in all, so that
/// distances are whole numbers. They fit 63 bits up to three billion readings a side.
///
/// A step takes at most one value from each side and has no branch to mispredict; a distance counts where the next value is
/// a greater one, so that tied values step together.
fn walk((a, up): (&[f64], i64), (b, down): (&[f64], i64), (mut gap, mut last): (i64, f64)) -> Walked {
    let (mut past_a, mut past_b) = (0, 0);
    let (mut widest, mut area) = (0_u64, 0.0);
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
        gap += i64::from(takes_a) * up - i64::from(takes_b) * down;
    }
    let rest_of_a = a[past_a..].iter().map(|value| (*value, up));
    let rest_of_b = b[past_b..].iter().map(|value| (*value, -down));
    for (value, step) in rest_of_a.chain(rest_of_b) {
        let reached = gap.unsigned_abs();
        widest = widest.max(if value > last { reached } else { 0 });
        area += reached as f64 * (value - last);
        last = value;
        gap += step;
    }
    Walked { widest, area, gap, last }
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

    /// Draws that are not sorted, by a linear congruence.
    fn drawn(count: usize, seed: u64, shape: impl Fn(f64) -> f64) -> Vec<f64> {
        let mut state = seed;
        (0..count)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                shape((state >> 11) as f64 / (1_u64 << 53) as f64)
            })
            .collect()
    }

    type Shape = fn(f64) -> f64;

    const SHAPES: [(&str, Shape); 8] = [
        ("even", |share| share),
        ("around zero", |share| (share - 0.5).powi(3) * 40.0),
        ("long tail", |share| (share * 60.0).exp()),
        ("narrow and far from zero", |share| 1013.0 + share * 0.1),
        ("a mark for missing", |share| if share < 0.05 { -9_999.0 } else { 13.0 + share * 0.01 }),
        ("steps", |share| (share * 900.0).round() / 100.0),
        ("whole numbers", |share| 1.7e9 + (share * 1e7).round()),
        ("two lumps", |share| if share < 0.5 { share } else { share + 1e6 }),
    ];

    #[test]
    fn unsorted_values_give_what_sorted_ones_give() {
        let mut partitioned = 0;
        for (name, shape) in SHAPES {
            for (n, m, shift, spread) in [
                (40_000, 40_000, 0.0, 1.0),
                (60_000, 30_000, 0.02, 1.0),
                (20_000, 70_001, -0.3, 1.2),
                (90_000, 3, 0.0, 0.5),
            ] {
                let reference = drawn(n, 1, shape);
                let current: Vec<f64> = drawn(m, 2, |share| shape((share * spread + shift).clamp(0.0, 1.0)));
                let (a, b) = (Sample::new(&reference).unwrap(), Sample::new(&current).unwrap());
                let plain = ColumnDrift::of(&a, &b);
                let got = Comparison::of(reference.clone(), current.clone()).unwrap();
                assert_eq!((got.drift.psi, got.drift.ks), (plain.psi, plain.ks), "{name} {n} {m} {shift}");
                assert_eq!(got.drift.js_distance.to_bits(), plain.js_distance.to_bits(), "{name} {n} {m} {shift}");
                let off = (got.drift.wasserstein - plain.wasserstein).abs();
                assert!(off <= 1e-11 * plain.wasserstein, "{name} {n} {m} {shift}: {off} of {}", plain.wasserstein);
                assert_eq!(got.binned, BinnedShares::new(&a, &b, Binning::auto(&a)), "{name} {n} {m} {shift}");
                let moments = (Moments::of(&reference), Moments::of(&current));
                partitioned += usize::from(partition::parts((&reference, moments.0), (&current, moments.1)).is_some());
            }
        }
        // Where most values are equal or both sides are, sorting is left to itself.
        assert!(partitioned >= 20, "{partitioned}");
    }

    #[test]
    fn the_same_values_on_both_sides_have_not_drifted() {
        let values = drawn(50_000, 3, |share| share * share);
        let mut turned = values.clone();
        turned.reverse();
        let got = Comparison::of(values, turned).unwrap();
        assert_eq!((got.drift.ks.statistic, got.drift.ks.p_value, got.drift.wasserstein), (0.0, 1.0, 0.0));
        assert!(got.drift.psi.abs() < 1e-15 && got.drift.js_distance < 1e-9);
    }

    #[test]
    fn missing_values_are_counted_and_left_out() {
        let mut reference = drawn(40_000, 4, |share| share);
        let current = drawn(40_000, 5, |share| share + 0.01);
        let whole = Comparison::of(reference.clone(), current.clone()).unwrap();
        reference.insert(20_000, f64::NAN);
        reference.push(f64::NEG_INFINITY);
        let got = Comparison::of(reference, current).unwrap();
        assert_eq!((got.reference.missing, got.reference.count, got.drift), (2, 40_000, whole.drift));
        assert!(Comparison::of(vec![f64::NAN], vec![1.0]).is_err() && Comparison::of(vec![1.0], Vec::new()).is_err());
    }

    #[test]
    fn normed_distance_is_that_of_the_single_function() {
        let (reference, current) = (drawn(40_000, 6, |share| share * 9.0), drawn(35_000, 7, |share| share * 9.5 + 0.1));
        let (a, b) = (Sample::new(&reference).unwrap(), Sample::new(&current).unwrap());
        let got = Comparison::of(reference, current).unwrap();
        assert!((got.normed_wasserstein / crate::normed_wasserstein(&a, &b) - 1.0).abs() < 1e-11);
    }
}
