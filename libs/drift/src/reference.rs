use fishy_core::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::ks::{KsMethod, KsTest, p_value};
use crate::psi::{BinCounts, MAX_EDGES, psi_of_shares};
use crate::sample::quantile;

/// Points of the distribution function that a reference keeps.
const POINTS: usize = 1000;

/// The reference sample of one feature, reduced to what drift tests need.
///
/// It keeps the inner edges and shares of decile bins (PSI), and up to 1000 values of the sample with the exact number of
/// readings below and up to each (KS). A sample with at most 1000 distinct values loses nothing that KS could see; of a
/// larger one the KS statistic comes out at most `1 / 999` too small, never too large.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Parts", into = "Parts")]
pub struct Reference {
    parts: Parts,
}

/// What is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Parts {
    /// Finite readings in the sample.
    count: u64,
    /// Readings that were not finite.
    missing: u64,
    /// Inner edges of the bins, ascending.
    edges: Vec<f64>,
    /// Share of each bin; one more than edges.
    shares: Vec<f64>,
    /// Values of the sample, ascending and distinct.
    points: Vec<f64>,
    /// Readings below each point.
    below: Vec<u64>,
    /// Readings up to and at each point.
    up_to: Vec<u64>,
}

impl From<Reference> for Parts {
    fn from(reference: Reference) -> Self {
        reference.parts
    }
}

impl TryFrom<Parts> for Reference {
    type Error = Error;

    fn try_from(parts: Parts) -> Result<Self> {
        let is_ascending = |values: &[f64]| {
            values.iter().all(|value| value.is_finite()) && values.windows(2).all(|pair| pair[0] < pair[1])
        };
        let counts: Vec<u64> =
            parts.below.iter().zip(&parts.up_to).flat_map(|(below, up_to)| [*below, *up_to]).collect();
        let is_whole = parts.count > 0
            && parts.edges.len() <= MAX_EDGES
            && parts.shares.len() == parts.edges.len() + 1
            && parts.shares.iter().all(|share| (0.0..=1.0).contains(share))
            && !parts.points.is_empty()
            && parts.points.len() <= POINTS
            && parts.below.len() == parts.points.len()
            && parts.up_to.len() == parts.points.len()
            && is_ascending(&parts.edges)
            && is_ascending(&parts.points)
            && counts.windows(2).all(|pair| pair[0] <= pair[1])
            && counts.first() == Some(&0)
            && counts.last() == Some(&parts.count);
        if is_whole {
            Ok(Self { parts })
        } else {
            Err(Error::invalid("the stored drift reference is damaged: build it again from its sample"))
        }
    }
}

impl Reference {
    /// Reduces a sample. Values that are not finite are left out and counted; a sample without a finite value is refused.
    pub fn from_sample(values: &[f64]) -> Result<Self> {
        let mut sorted: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
        if sorted.is_empty() {
            return Err(Error::invalid(format!(
                "a drift reference needs at least one finite value, and none of the {} given is",
                values.len()
            )));
        }
        sorted.sort_unstable_by(f64::total_cmp);
        let count = sorted.len() as u64;

        let mut edges: Vec<f64> = (1..=MAX_EDGES).map(|decile| quantile(&sorted, decile as f64 / 10.0)).collect();
        edges.dedup();
        let counts = BinCounts::count_sample(&edges, &sorted);
        let shares = counts.bins[..=edges.len()].iter().map(|bin| *bin as f64 / count as f64).collect();

        let mut points = distinct_up_to(&sorted, POINTS).unwrap_or_else(|| {
            let last = sorted.len() - 1;
            (0..POINTS).map(|k| sorted[(k * last + (POINTS - 1) / 2) / (POINTS - 1)]).collect()
        });
        points.dedup();
        let below = points.iter().map(|point| sorted.partition_point(|value| value < point) as u64).collect();
        let up_to = points.iter().map(|point| sorted.partition_point(|value| value <= point) as u64).collect();

        let missing = values.len() as u64 - count;
        Ok(Self { parts: Parts { count, missing, edges, shares, points, below, up_to } })
    }

    /// Finite readings in the sample.
    pub const fn count(&self) -> u64 {
        self.parts.count
    }

    /// Share of the sample that was missing, 0 to 1.
    pub fn missing_share(&self) -> f64 {
        self.parts.missing as f64 / (self.parts.missing + self.parts.count) as f64
    }

    /// Inner edges of the bins, ascending and distinct: at most nine.
    pub fn edges(&self) -> &[f64] {
        &self.parts.edges
    }

    /// Share of the sample in each bin; one more than there are edges.
    pub fn shares(&self) -> &[f64] {
        &self.parts.shares
    }

    /// The smallest and the largest value of the sample.
    pub fn range(&self) -> (f64, f64) {
        let at = |point: Option<&f64>| point.copied().unwrap_or(f64::NAN);
        (at(self.parts.points.first()), at(self.parts.points.last()))
    }

    /// Whether the kept points hold the whole distribution, so that KS against them is exact.
    pub fn is_lossless(&self) -> bool {
        self.parts.up_to.iter().zip(self.parts.below.iter().skip(1)).all(|(up_to, below)| up_to == below)
    }

    /// Counts a window into the bins. Counts of several windows [`merge`](BinCounts::merge).
    pub fn bin_counts(&self, current: &[f64]) -> BinCounts {
        BinCounts::count_sample(&self.parts.edges, current)
    }

    /// PSI of a window; `None` when it holds no finite value.
    pub fn psi(&self, current: &[f64]) -> Option<f64> {
        self.psi_of_counts(&self.bin_counts(current))
    }

    /// PSI of counts that [`bin_counts`](Self::bin_counts) of this reference gave; `None` when they are empty.
    pub fn psi_of_counts(&self, counts: &BinCounts) -> Option<f64> {
        let total = counts.count();
        if total == 0 {
            return None;
        }
        let shares: Vec<f64> = counts.bins.iter().map(|bin| *bin as f64 / total as f64).collect();
        Some(psi_of_shares(&self.parts.shares, &shares))
    }

    /// Kolmogorov-Smirnov test of a window with [`KsMethod::Auto`]; `None` when it holds no finite value.
    pub fn ks(&self, current: &[f64]) -> Option<KsTest> {
        let mut sorted: Vec<f64> = current.iter().copied().filter(|value| value.is_finite()).collect();
        if sorted.is_empty() {
            return None;
        }
        sorted.sort_unstable_by(f64::total_cmp);
        let (reference_n, current_n) = (self.parts.count, sorted.len() as u64);
        let gap = |of_reference: u64, of_current: usize| {
            (i128::from(of_reference) * i128::from(current_n) - of_current as i128 * i128::from(reference_n))
                .unsigned_abs()
        };
        let (mut widest, mut below, mut up_to) = (0, 0, 0);
        for (k, point) in self.parts.points.iter().enumerate() {
            while below < sorted.len() && sorted[below] < *point {
                below += 1;
            }
            up_to = up_to.max(below);
            while up_to < sorted.len() && sorted[up_to] <= *point {
                up_to += 1;
            }
            widest = widest.max(gap(self.parts.below[k], below)).max(gap(self.parts.up_to[k], up_to));
        }
        let statistic = widest as f64 / (reference_n as f64 * current_n as f64);
        let p_value = p_value(reference_n, current_n, widest, KsMethod::Auto);
        Some(KsTest { statistic, p_value })
    }
}

/// The distinct values of an ascending sample, unless there are more than `limit`.
fn distinct_up_to(sorted: &[f64], limit: usize) -> Option<Vec<f64>> {
    let mut distinct: Vec<f64> = Vec::new();
    for value in sorted {
        if distinct.last() != Some(value) {
            if distinct.len() == limit {
                return None;
            }
            distinct.push(*value);
        }
    }
    Some(distinct)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ks::ks_two_sample;

    fn wave(n: usize, shift: f64) -> Vec<f64> {
        (0..n).map(|i| (i as f64 * 0.618_034).fract().powi(2) + shift).collect()
    }

    #[test]
    fn a_sample_without_values_is_refused() {
        assert!(Reference::from_sample(&[]).is_err());
        assert!(Reference::from_sample(&[f64::NAN, f64::INFINITY]).is_err());
    }

    #[test]
    fn the_sketch_of_a_large_sample_is_small_and_near() {
        let (sample, current) = (wave(50_000, 0.0), wave(800, 0.05));
        let reference = Reference::from_sample(&sample).unwrap();
        assert!(!reference.is_lossless());
        assert!(serde_json::to_vec(&reference).unwrap().len() < 40_000);
        let (near, exact) =
            (reference.ks(&current).unwrap(), ks_two_sample(&sample, &current, KsMethod::Auto).unwrap());
        assert!(
            near.statistic <= exact.statistic && exact.statistic - near.statistic < 1.0 / 999.0,
            "{near:?} {exact:?}"
        );
    }

    #[test]
    fn a_reference_with_few_distinct_values_gives_the_exact_test() {
        let sample: Vec<f64> = wave(5_000, 0.0).iter().map(|v| (v * 20.0).round()).collect();
        let current: Vec<f64> = wave(700, 0.03).iter().map(|v| (v * 20.0).round()).collect();
        let reference = Reference::from_sample(&sample).unwrap();
        assert!(reference.is_lossless());
        assert_eq!(reference.ks(&current), ks_two_sample(&sample, &current, KsMethod::Auto));
    }

    #[test]
    fn it_survives_storage_and_damage_is_noticed() {
        let reference = Reference::from_sample(&wave(3_000, 0.0)).unwrap();
        let text = serde_json::to_string(&reference).unwrap();
        assert!(serde_json::from_str::<Reference>(&text).unwrap() == reference);
        let mut damaged: serde_json::Value = serde_json::from_str(&text).unwrap();
        damaged["shares"].as_array_mut().unwrap().pop();
        assert!(serde_json::from_value::<Reference>(damaged).is_err());
        let miscounted = text.replacen("\"count\":3000", "\"count\":2999", 1);
        assert!(serde_json::from_str::<Reference>(&miscounted).is_err());
    }

    #[test]
    fn a_constant_reference_works() {
        let reference = Reference::from_sample(&[7.0; 50]).unwrap();
        assert_eq!((reference.edges(), reference.range()), (&[7.0][..], (7.0, 7.0)));
        assert!(reference.psi(&[7.0; 9]).unwrap().abs() < 1e-12);
        assert!(reference.psi(&[6.0; 9]).unwrap() > 5.0);
        assert!(reference.psi(&[f64::NAN]).is_none());
    }
}
