use super::Parts;
use crate::numeric::{BinnedShares, MAX_BINS, equal_widths, sturges_bins};
use crate::sample::{between, rank};

/// A distribution function that rises at some values: each with how many values lie up to it, ascending; the last has all.
/// Of counted values it is exact, of a sketch an estimate.
pub(super) struct Steps<'a> {
    pub steps: &'a [(f64, u64)],
    pub range: (f64, f64),
}

impl Steps<'_> {
    fn count(&self) -> u64 {
        self.steps.last().map_or(0, |step| step.1)
    }

    /// The value that so many others come before.
    fn at(&self, rank: u64) -> f64 {
        let place = self.steps.partition_point(|(_, up_to)| *up_to <= rank);
        self.steps.get(place).map_or(self.range.1, |step| step.0)
    }

    fn quantile(&self, share: f64) -> f64 {
        let count = self.count();
        let (below, t) = rank(count as usize, share);
        between(self.at(below as u64), self.at((below as u64 + 1).min(count - 1)), t)
    }

    fn below(&self, edge: f64) -> u64 {
        let place = self.steps.partition_point(|(value, _)| *value < edge);
        place.checked_sub(1).map_or(0, |last| self.steps[last].1)
    }

    /// Shares of the bins between ascending inner edges.
    fn shares(&self, inner: &[f64]) -> Vec<f64> {
        let mut ends = vec![0];
        ends.extend(inner.iter().map(|edge| self.below(*edge)));
        ends.push(self.count());
        ends.windows(2).map(|pair| (pair[1] - pair[0]) as f64 / self.count() as f64).collect()
    }
}

/// What the figures are made of, of two sides that have a value; `are_few` where each value is a bin.
pub(super) fn parts(a: &Steps<'_>, b: &Steps<'_>, are_few: bool) -> Parts {
    let binned =
        |inner: &[f64], edges: Vec<f64>| BinnedShares { reference: a.shares(inner), current: b.shares(inner), edges };
    let mut deciles: Vec<f64> = (1..10).map(|decile| a.quantile(f64::from(decile) / 10.0)).collect();
    deciles.dedup();
    let edges = if are_few {
        let mut values: Vec<f64> = a.steps.iter().chain(b.steps).map(|step| step.0).collect();
        values.sort_unstable_by(f64::total_cmp);
        values.dedup();
        values.truncate(MAX_BINS);
        values
    } else {
        let range = (a.range.0.min(b.range.0), a.range.1.max(b.range.1));
        equal_widths(range, sturges_bins((a.count() + b.count()) as usize))
    };
    // Of values the first begins the first bin and the last is one of its own, of equal widths both ends are closed.
    let inner = if are_few { edges[1..].to_vec() } else { edges[1..edges.len() - 1].to_vec() };
    let (widest, area) = walk(a, b);
    Parts { deciles: binned(&deciles, deciles.clone()), binned: binned(&inner, edges), widest, area }
}

/// Largest distance of the distribution functions and the area between them, times the product of the counts.
fn walk(a: &Steps<'_>, b: &Steps<'_>) -> (u64, f64) {
    let (n, m) = (i128::from(a.count()), i128::from(b.count()));
    let (mut past_a, mut past_b, mut widest, mut area) = (0, 0, 0, 0.0);
    let (mut gap, mut last) = (0_u128, a.range.0.min(b.range.0));
    let next = |side: &Steps<'_>, past: usize| side.steps.get(past).map(|step| step.0);
    let up_to = |side: &Steps<'_>, past: usize| i128::from(past.checked_sub(1).map_or(0, |last| side.steps[last].1));
    loop {
        let value = match (next(a, past_a), next(b, past_b)) {
            (Some(a), Some(b)) => a.min(b),
            (Some(only), None) | (None, Some(only)) => only,
            (None, None) => return (u64::try_from(widest).unwrap_or(u64::MAX), area),
        };
        area += gap as f64 * (value - last);
        while next(a, past_a).is_some_and(|next| next <= value) {
            past_a += 1;
        }
        while next(b, past_b).is_some_and(|next| next <= value) {
            past_b += 1;
        }
        gap = (up_to(a, past_a) * m - up_to(b, past_b) * n).unsigned_abs();
        widest = widest.max(gap);
        last = value;
    }
}
