use serde::{Deserialize, Serialize};

use crate::sample::Sample;

/// Most bins that any rule makes.
pub(crate) const MAX_BINS: usize = 1024;

/// Up to this many distinct reference values [`Binning::auto`] gives each its own bin.
pub(crate) const DISTINCT_UP_TO: usize = 20;

/// How two numeric samples are cut into common bins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Binning {
    /// At the distinct deciles of the reference; the outer bins are open. One outlier changes nothing.
    ReferenceDeciles,
    /// Equal widths over the range of both samples, as many as Sturges' rule gives for both together (Evidently).
    PooledSturges,
    /// Equal widths over the range of the reference, as many as Doane's rule gives for it, and one more bin for current
    /// values outside (NannyML).
    ReferenceDoane,
    /// So many equal widths (1 to 1024) over the range of both samples.
    PooledEqualWidth(usize),
    /// Each distinct value of either sample is a bin, up to 1024; further ones share the last.
    Distinct,
}

impl Binning {
    /// [`Distinct`](Self::Distinct) for a reference of at most 20 distinct values, else
    /// [`PooledSturges`](Self::PooledSturges): the choice of Evidently.
    pub fn auto(reference: &Sample) -> Self {
        if reference.distinct_up_to(DISTINCT_UP_TO + 1) <= DISTINCT_UP_TO {
            Self::Distinct
        } else {
            Self::PooledSturges
        }
    }
}

/// Shares of two samples over the same bins; each sums to 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BinnedShares {
    /// Share of the reference in each bin.
    pub reference: Vec<f64>,
    /// Share of the current sample in each bin.
    pub current: Vec<f64>,
    /// Where the bins are cut, ascending. The inner edges for deciles, all edges for equal widths, the values for distinct
    /// ones. A bin holds `[a, b)`, the last one `[a, b]`.
    pub edges: Vec<f64>,
}

impl BinnedShares {
    /// Bins two samples: some binary searches, since they are sorted.
    pub fn new(reference: &Sample, current: &Sample, binning: Binning) -> Self {
        let pooled = || {
            let (a, b) = (reference.range(), current.range());
            (a.0.min(b.0), a.1.max(b.1))
        };
        let total = reference.count() + current.count();
        let edges = match binning {
            Binning::ReferenceDeciles => {
                let mut edges: Vec<f64> = (1..10).map(|decile| reference.quantile(f64::from(decile) / 10.0)).collect();
                edges.dedup();
                edges
            }
            Binning::PooledSturges => equal_widths(pooled(), sturges_bins(total)),
            Binning::PooledEqualWidth(bins) => equal_widths(pooled(), bins),
            Binning::ReferenceDoane => equal_widths(reference.range(), doane_bins(reference)),
            Binning::Distinct => distinct(reference, current),
        };
        let shares = |sample: &Sample| {
            let mut counts: Vec<usize> = match binning {
                Binning::ReferenceDeciles => {
                    let mut ends: Vec<usize> = edges.iter().map(|edge| sample.below(*edge)).collect();
                    ends.push(sample.count());
                    ends.insert(0, 0);
                    ends
                }
                Binning::Distinct => {
                    let mut ends: Vec<usize> = edges.iter().map(|edge| sample.below(*edge)).collect();
                    ends.push(sample.count());
                    ends
                }
                Binning::PooledSturges | Binning::PooledEqualWidth(_) | Binning::ReferenceDoane => {
                    let last = edges.len() - 1;
                    let mut ends: Vec<usize> = edges[..last].iter().map(|edge| sample.below(*edge)).collect();
                    ends.push(sample.up_to(edges[last]));
                    ends
                }
            };
            let inside = counts[counts.len() - 1] - counts[0];
            counts = counts.windows(2).map(|pair| pair[1] - pair[0]).collect();
            if binning == Binning::ReferenceDoane {
                counts.push(sample.count() - inside);
            }
            counts.iter().map(|count| *count as f64 / sample.count() as f64).collect()
        };
        Self { reference: shares(reference), current: shares(current), edges }
    }
}

/// Sturges 1926.
pub(crate) fn sturges_bins(total: usize) -> usize {
    ((total as f64).log2() + 1.0).ceil() as usize
}

/// Edges of so many equal widths; a range without width is widened by half a unit on both sides, as NumPy does.
pub(crate) fn equal_widths((low, high): (f64, f64), bins: usize) -> Vec<f64> {
    let bins = bins.clamp(1, MAX_BINS);
    let (low, high) = if low < high { (low, high) } else { (low - 0.5, high + 0.5) };
    let width = (high - low) / bins as f64;
    let mut edges: Vec<f64> = (0..bins).map(|bin| bin as f64 * width + low).collect();
    edges.push(high);
    edges
}

/// Doane 1976: Sturges' rule, widened by the skewness.
fn doane_bins(sample: &Sample) -> usize {
    let (count, mean, deviation) = (sample.count() as f64, sample.mean(), sample.variance(0).sqrt());
    if count < 3.0 || deviation <= 0.0 {
        return 1;
    }
    let skewness = sample.values().iter().map(|value| ((value - mean) / deviation).powi(3)).sum::<f64>() / count;
    let of_skewness = (6.0 * (count - 2.0) / ((count + 1.0) * (count + 3.0))).sqrt();
    (1.0 + count.log2() + (1.0 + skewness.abs() / of_skewness).log2()).ceil() as usize
}

/// The distinct values of both, ascending, at most [`MAX_BINS`].
fn distinct(a: &Sample, b: &Sample) -> Vec<f64> {
    let mut values: Vec<f64> = Vec::new();
    let mut next = Some(a.range().0.min(b.range().0));
    while let Some(value) = next.filter(|_| values.len() < MAX_BINS) {
        values.push(value);
        let after = |sample: &Sample| sample.values().get(sample.up_to(value)).copied();
        next = match (after(a), after(b)) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(reference: &[f64], current: &[f64], binning: Binning) -> BinnedShares {
        BinnedShares::new(&Sample::new(reference).unwrap(), &Sample::new(current).unwrap(), binning)
    }

    #[test]
    fn a_bin_holds_its_lower_edge_and_the_last_one_both() {
        let binned = shares(&[0.0, 1.0, 2.0, 4.0], &[3.0, 4.0], Binning::PooledEqualWidth(4));
        assert_eq!(binned.edges, [0.0, 1.0, 2.0, 3.0, 4.0]);
        assert_eq!((binned.reference, binned.current), (vec![0.25; 4], vec![0.0, 0.0, 0.0, 1.0]));
    }

    #[test]
    fn values_outside_the_reference_have_a_bin_of_their_own() {
        let binned = shares(&[0.0, 1.0, 2.0, 3.0], &[-5.0, 1.0, 2.0, 9.0], Binning::ReferenceDoane);
        assert_eq!(binned.reference.last(), Some(&0.0));
        assert_eq!(binned.current.last(), Some(&0.5));
    }

    #[test]
    fn few_distinct_values_are_bins() {
        let (reference, current) = ([1.0, 1.0, 3.0, 3.0], [0.0, 3.0]);
        assert_eq!(Binning::auto(&Sample::new(&reference).unwrap()), Binning::Distinct);
        let binned = shares(&reference, &current, Binning::Distinct);
        assert_eq!(binned.edges, [0.0, 1.0, 3.0]);
        assert_eq!((binned.reference, binned.current), (vec![0.0, 0.5, 0.5], vec![0.5, 0.0, 0.5]));
    }

    #[test]
    fn constants_fit_every_rule() {
        for binning in [
            Binning::ReferenceDeciles,
            Binning::PooledSturges,
            Binning::ReferenceDoane,
            Binning::PooledEqualWidth(0),
            Binning::Distinct,
        ] {
            let binned = shares(&[7.0; 5], &[7.0; 3], binning);
            assert_eq!(binned.reference, binned.current, "{binning:?}");
            assert!((binned.reference.iter().sum::<f64>() - 1.0).abs() < 1e-15, "{binning:?}");
        }
    }
}
