use serde::{Deserialize, Serialize};

use crate::reference::Reference;

/// Most inner edges that decile bins can have.
pub(crate) const MAX_EDGES: usize = 9;

/// What an empty share counts as, so that its logarithm is finite.
const EMPTY_SHARE: f64 = 1e-4;

/// How many readings of a window fell into each bin of a [`Reference`]. Windows over the same reference merge.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BinCounts {
    pub(crate) bins: [u64; MAX_EDGES + 1],
    pub(crate) missing: u64,
}

impl BinCounts {
    /// Readings in each bin. A reference with repeated deciles has fewer than ten bins: the rest stay 0.
    pub const fn bins(&self) -> &[u64; MAX_EDGES + 1] {
        &self.bins
    }

    /// Readings counted, without the missing ones.
    pub fn count(&self) -> u64 {
        self.bins.iter().sum()
    }

    /// Readings that were not finite.
    pub const fn missing(&self) -> u64 {
        self.missing
    }

    /// Adds another window counted against the same reference.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.bins.iter_mut().zip(other.bins) {
            *mine += theirs;
        }
        self.missing += other.missing;
    }

    /// Counts one sample against inner edges in ascending order.
    pub(crate) fn count_sample(edges: &[f64], values: &[f64]) -> Self {
        // No reading is `>=` NaN, so the places without an edge never count: nine comparisons, no branch to mispredict.
        let mut padded = [f64::NAN; MAX_EDGES];
        for (place, edge) in padded.iter_mut().zip(edges) {
            *place = *edge;
        }
        let mut bins = [0_u64; MAX_EDGES + 1];
        let mut missing = 0;
        for &value in values {
            let bin: usize = padded.iter().map(|edge| usize::from(value >= *edge)).sum();
            let is_missing = u64::from(!value.is_finite());
            bins[bin.min(MAX_EDGES)] += 1 - is_missing;
            missing += is_missing;
        }
        Self { bins, missing }
    }
}

/// Population stability index between two sets of shares over the same bins: the sum of `(p - q) ln(p / q)`, where an
/// empty share counts as 1e-4. Bins that only one of the two has are ignored.
pub fn psi_of_shares(reference: &[f64], current: &[f64]) -> f64 {
    reference
        .iter()
        .zip(current)
        .map(|(p, q)| {
            let (p, q) = (filled(*p), filled(*q));
            (p - q) * (p / q).ln()
        })
        .sum()
}

/// The share, or what an empty one counts as.
pub(crate) const fn filled(share: f64) -> f64 {
    if share > 0.0 { share } else { EMPTY_SHARE }
}

/// PSI of `current` over the decile bins of `reference`; `None` when either has no finite value.
///
/// To compare many windows with one reference build a [`Reference`] once.
pub fn psi(reference: &[f64], current: &[f64]) -> Option<f64> {
    Reference::from_sample(reference).ok()?.psi(current)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bin_holds_its_lower_edge_and_missing_values_are_counted_apart() {
        let values = [0.5, 1.0, 1.5, 2.0, f64::NAN, f64::INFINITY];
        let counts = BinCounts::count_sample(&[1.0, 2.0], &values);
        assert_eq!(counts.bins()[..4], [1, 2, 1, 0]);
        assert_eq!((counts.count(), counts.missing()), (4, 2));
    }

    #[test]
    fn shares_give_the_textbook_value() {
        let expected = (0.5_f64 - 0.25) * 2.0_f64.ln() + (0.5_f64 - 0.75) * (0.5_f64 / 0.75).ln();
        assert!((psi_of_shares(&[0.5, 0.5], &[0.25, 0.75]) - expected).abs() < 1e-15);
        let emptied = psi_of_shares(&[1.0, 0.0], &[0.5, 0.5]);
        assert!((emptied - (0.5 * 2.0_f64.ln() + (1e-4 - 0.5) * (1e-4_f64 / 0.5).ln())).abs() < 1e-15);
    }
}
