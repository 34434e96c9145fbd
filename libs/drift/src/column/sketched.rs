use fishy_core::{Error, Result};

use super::steps::{self, Steps};
use super::{Comparison, Summary};
use crate::numeric::DISTINCT_UP_TO;
use crate::sketch::QuantileSketch;

/// A numeric column in bounded memory, however long it is: a [`QuantileSketch`], the moments, and exact counts as long as
/// there are at most 20 distinct values. Columns that were cut and sketched apart merge.
#[derive(Debug, Clone, PartialEq)]
pub struct ColumnSketch {
    quantiles: QuantileSketch,
    /// Each distinct value with its count, ascending; `None` once there were too many.
    few: Option<Vec<(f64, u64)>>,
    /// Values are added up as differences from the first, so that digits are not lost.
    origin: f64,
    sum: f64,
    squares: f64,
}

impl ColumnSketch {
    /// An empty sketch whose quantiles have the size `k`: see [`QuantileSketch::new`].
    pub fn new(k: usize, seed: u64) -> Result<Self> {
        let quantiles = QuantileSketch::new(k, seed)?;
        Ok(Self { quantiles, few: Some(Vec::new()), origin: 0.0, sum: 0.0, squares: 0.0 })
    }

    /// Adds values; those that are not finite are counted and left out.
    pub fn extend(&mut self, values: &[f64]) {
        if let (0, Some(first)) = (self.quantiles.count(), values.iter().find(|value| value.is_finite())) {
            self.origin = *first;
        }
        for value in values.iter().filter(|value| value.is_finite()) {
            let above = value - self.origin;
            self.sum += above;
            self.squares += above * above;
        }
        for value in values.iter().filter(|value| value.is_finite()) {
            if self.few.is_none() {
                break;
            }
            self.count(*value, 1);
        }
        self.quantiles.extend(values);
    }

    /// Adds missing values.
    pub fn add_missing(&mut self, times: u64) {
        self.quantiles.add_missing(times);
    }

    /// Adds another part of the column.
    pub fn merge(&mut self, other: &Self) {
        if self.quantiles.count() == 0 {
            self.origin = other.origin;
        }
        // The other's sums, as differences from our origin.
        let (count, apart) = (other.quantiles.count() as f64, other.origin - self.origin);
        self.squares += other.squares + 2.0 * apart * other.sum + count * apart * apart;
        self.sum += other.sum + count * apart;
        match &other.few {
            Some(few) => few.iter().for_each(|(value, times)| self.count(*value, *times)),
            None => self.few = None,
        }
        self.quantiles.merge(&other.quantiles);
    }

    fn count(&mut self, value: f64, times: u64) {
        let Some(few) = &mut self.few else { return };
        let value = value + 0.0;
        match few.binary_search_by(|(held, _)| held.total_cmp(&value)) {
            Ok(place) => few[place].1 += times,
            Err(_) if few.len() == DISTINCT_UP_TO => self.few = None,
            Err(place) => few.insert(place, (value, times)),
        }
    }

    /// What the column holds; `None` before the first finite value.
    pub fn summary(&self) -> Option<Summary> {
        let (least, most) = self.quantiles.range()?;
        let count = self.quantiles.count();
        let above = self.sum / count as f64;
        let variance = (self.squares / count as f64 - above * above).max(0.0);
        Some(Summary {
            count,
            missing: self.quantiles.missing(),
            least,
            most,
            mean: self.origin + above,
            deviation: variance.sqrt(),
        })
    }

    /// The distribution function, ascending.
    fn steps(&self, are_few: bool) -> Vec<(f64, u64)> {
        let Some(few) = self.few.as_ref().filter(|_| are_few) else { return self.quantiles.steps() };
        let mut up_to = 0;
        few.iter()
            .map(|(value, times)| {
                up_to += times;
                (*value, up_to)
            })
            .collect()
    }
}

impl Comparison {
    /// All figures from sketches: exact where both sides have at most 20 distinct values, or fewer than the size of their
    /// sketches. Otherwise the distribution functions are off by at most their rank errors, and so PSI and JS; KS by at
    /// most the sum of the two. Counts, missing values, range, mean and deviation are exact. A side without a finite value
    /// is refused.
    pub fn of_sketches(reference: &ColumnSketch, current: &ColumnSketch) -> Result<Self> {
        let summary = |sketch: &ColumnSketch, side: &str| {
            let missing = sketch.quantiles.missing();
            let none = || Error::invalid(format!("the {side} sample has no finite value among {missing}"));
            sketch.summary().ok_or_else(none)
        };
        let (before, now) = (summary(reference, "reference")?, summary(current, "current")?);
        let are_few = reference.few.is_some() && current.few.is_some();
        let (a, b) = (reference.steps(are_few), current.steps(are_few));
        let a = Steps { steps: &a, range: (before.least, before.most) };
        let b = Steps { steps: &b, range: (now.least, now.most) };
        Ok(steps::parts(&a, &b, are_few).comparison(before, now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sketch(values: &[f64]) -> ColumnSketch {
        let mut sketch = ColumnSketch::new(1024, 1).unwrap();
        values.chunks(777).for_each(|part| sketch.extend(part));
        sketch
    }

    fn wave(count: usize, step: f64, scale: f64) -> Vec<f64> {
        (0..count).map(|i| (i as f64 * step).fract().powi(2) * scale).collect()
    }

    #[test]
    fn few_distinct_values_are_exact_and_so_is_what_fits_the_sketch() {
        let few = |count, step, scale| wave(count, step, scale).iter().map(|value| value.round()).collect::<Vec<_>>();
        for (a, b) in [
            (few(30_000, 0.618_034, 12.0), few(20_000, 0.414_214, 14.0)),
            (wave(900, 0.618_034, 3.0), wave(1_000, 0.414_214, 3.3)),
        ] {
            let (got, exact) =
                (Comparison::of_sketches(&sketch(&a), &sketch(&b)).unwrap(), Comparison::of(a, b).unwrap());
            assert_eq!(got.drift.ks, exact.drift.ks);
            assert!((got.drift.psi - exact.drift.psi).abs() < 1e-12, "{got:?} {exact:?}");
            assert!((got.drift.js_distance - exact.drift.js_distance).abs() < 1e-12, "{got:?} {exact:?}");
            assert!((got.drift.wasserstein - exact.drift.wasserstein).abs() < 1e-12, "{got:?} {exact:?}");
            assert_eq!(got.binned, exact.binned);
        }
    }

    #[test]
    fn long_columns_keep_the_stated_error_and_exact_moments() {
        let (a, b) = (wave(200_000, 0.618_034, 7.0), wave(150_000, 0.414_214, 7.4));
        let mut whole = sketch(&a);
        let mut merged = sketch(&a[..70_000]);
        merged.merge(&sketch(&a[70_000..]));
        let exact = Comparison::of(a, b.clone()).unwrap();
        for reference in [&whole, &merged] {
            let got = Comparison::of_sketches(reference, &sketch(&b)).unwrap();
            assert!((got.drift.ks.statistic - exact.drift.ks.statistic).abs() < 0.009, "{got:?} {exact:?}");
            assert!((got.drift.wasserstein - exact.drift.wasserstein).abs() < 0.009 * 7.4, "{got:?} {exact:?}");
            assert!((got.drift.psi - exact.drift.psi).abs() < 0.01, "{got:?} {exact:?}");
            assert!((got.drift.js_distance - exact.drift.js_distance).abs() < 0.02, "{got:?} {exact:?}");
            assert!((got.reference.mean - exact.reference.mean).abs() < 1e-10);
            assert!((got.reference.deviation - exact.reference.deviation).abs() < 1e-10);
            assert_eq!((got.reference.least, got.reference.count), (exact.reference.least, 200_000));
        }
        whole.extend(&[f64::NAN]);
        whole.add_missing(2);
        assert_eq!(whole.summary().unwrap().missing, 3);
        assert!(Comparison::of_sketches(&ColumnSketch::new(64, 1).unwrap(), &whole).is_err());
    }
}
