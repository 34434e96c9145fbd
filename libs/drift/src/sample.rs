mod moments;
mod sort;

use fishy_core::{Error, Result};

pub(crate) use moments::Moments;
pub(crate) use sort::{key, sort, value_of};

/// The finite values of one column, ascending, ready for every numeric statistic: sorted once, used by all.
///
/// Values that are not finite (NaN, infinities) are missing: they are left out and counted.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    sorted: Vec<f64>,
    missing: u64,
}

impl Sample {
    /// Sorts a copy of the values; a sample without a finite value is refused.
    pub fn new(values: &[f64]) -> Result<Self> {
        Self::from_vec(values.to_vec())
    }

    /// Sorts the values where they are; a sample without a finite value is refused.
    pub fn from_vec(mut values: Vec<f64>) -> Result<Self> {
        let given = values.len();
        values.retain(|value| value.is_finite());
        if values.is_empty() {
            return Err(Error::invalid(format!(
                "a sample needs at least one finite value, and none of the {given} given is"
            )));
        }
        sort(&mut values);
        let missing = (given - values.len()) as u64;
        Ok(Self { sorted: values, missing })
    }

    /// The finite values, ascending.
    pub fn values(&self) -> &[f64] {
        &self.sorted
    }

    /// Finite values; at least one.
    pub const fn count(&self) -> usize {
        self.sorted.len()
    }

    /// Values that were not finite.
    pub const fn missing(&self) -> u64 {
        self.missing
    }

    /// Arithmetic mean.
    pub fn mean(&self) -> f64 {
        self.sorted.iter().sum::<f64>() / self.sorted.len() as f64
    }

    /// Sum of squared deviations from the mean divided by `count - ddof`; NaN when that is not positive.
    pub fn variance(&self, ddof: usize) -> f64 {
        let Some(divisor) = self.sorted.len().checked_sub(ddof).filter(|divisor| *divisor > 0) else { return f64::NAN };
        let mean = self.mean();
        self.sorted.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / divisor as f64
    }

    /// Quantile by linear interpolation (Hyndman and Fan 1996, type 7, as NumPy); `share` is held within 0 to 1.
    pub fn quantile(&self, share: f64) -> f64 {
        quantile(&self.sorted, share)
    }

    /// The smallest and the largest value.
    pub fn range(&self) -> (f64, f64) {
        (self.sorted[0], self.sorted[self.sorted.len() - 1])
    }

    /// How many distinct values there are, counted no further than `limit`.
    pub fn distinct_up_to(&self, limit: usize) -> usize {
        let steps = self.sorted.windows(2).filter(|pair| pair[0] < pair[1]);
        if limit == 0 { 0 } else { 1 + steps.take(limit - 1).count() }
    }

    /// Values below `value`.
    pub(crate) fn below(&self, value: f64) -> usize {
        self.sorted.partition_point(|held| *held < value)
    }

    /// Values up to and at `value`.
    pub(crate) fn up_to(&self, value: f64) -> usize {
        self.sorted.partition_point(|held| *held <= value)
    }
}

/// Quantile of an ascending, non-empty slice (type 7).
pub(crate) fn quantile(sorted: &[f64], share: f64) -> f64 {
    let (below, t) = rank(sorted.len(), share);
    between(sorted[below], sorted[(below + 1).min(sorted.len() - 1)], t)
}

/// Where a quantile (type 7) of so many values lies: how many values come before the one below it, and how far it is from
/// there to the next.
pub(crate) fn rank(count: usize, share: f64) -> (usize, f64) {
    let place = share.clamp(0.0, 1.0) * (count - 1) as f64;
    (place.floor() as usize, place - place.floor())
}

/// The value at a share of the way from one to another.
pub(crate) fn between(a: f64, b: f64, t: f64) -> f64 {
    // From the nearer end, as NumPy does: the edges then agree to the last bit, and so do readings that lie on one.
    if t >= 0.5 { b - (b - a) * (1.0 - t) } else { a + (b - a) * t }
}

/// One distinct value of two samples together.
pub(crate) struct Step {
    /// The value.
    pub value: f64,
    /// Readings of each sample up to and at the value.
    pub up_to: (usize, usize),
    /// Readings of each sample at the value.
    pub at: (usize, usize),
}

impl Step {
    /// Rank of every reading at this value in the pooled sample, counted from 1: the middle of the tied ones.
    pub fn midrank(&self) -> f64 {
        let (pooled, tied) = (self.up_to.0 + self.up_to.1, self.at.0 + self.at.1);
        (pooled - tied) as f64 + f64::midpoint(tied as f64, 1.0)
    }
}

/// Calls `visit` at every distinct value of both samples, ascending.
pub(crate) fn for_each_step(a: &Sample, b: &Sample, mut visit: impl FnMut(&Step)) {
    let (a, b) = (a.values(), b.values());
    let (mut past_a, mut past_b) = (0, 0);
    loop {
        let value = match (a.get(past_a), b.get(past_b)) {
            (Some(a), Some(b)) => a.min(*b),
            (Some(only), None) | (None, Some(only)) => *only,
            (None, None) => return,
        };
        let before = (past_a, past_b);
        while past_a < a.len() && a[past_a] <= value {
            past_a += 1;
        }
        while past_b < b.len() && b[past_b] <= value {
            past_b += 1;
        }
        visit(&Step { value, up_to: (past_a, past_b), at: (past_a - before.0, past_b - before.1) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_values_are_counted_and_the_rest_is_ascending() {
        let sample = Sample::new(&[3.0, f64::NAN, -1.0, f64::INFINITY, 2.0, -0.0, 0.0]).unwrap();
        assert_eq!(sample.values(), [-1.0, 0.0, 0.0, 2.0, 3.0]);
        assert_eq!((sample.count(), sample.missing(), sample.range()), (5, 2, (-1.0, 3.0)));
        assert_eq!((sample.distinct_up_to(9), sample.distinct_up_to(2), sample.distinct_up_to(0)), (4, 2, 0));
        assert!(Sample::new(&[f64::NAN]).is_err());
    }

    #[test]
    fn moments_are_the_textbook_ones() {
        let sample = Sample::new(&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]).unwrap();
        assert!((sample.mean() - 5.0).abs() < 1e-15 && (sample.variance(0) - 4.0).abs() < 1e-15);
        assert!((sample.variance(1) - 32.0 / 7.0).abs() < 1e-14);
        assert!(Sample::new(&[1.0]).unwrap().variance(1).is_nan());
    }

    #[test]
    fn steps_tell_of_ties_within_and_between() {
        let (a, b) = (Sample::new(&[1.0, 2.0, 2.0]).unwrap(), Sample::new(&[2.0, 3.0]).unwrap());
        let mut seen = Vec::new();
        for_each_step(&a, &b, |step| seen.push((step.value, step.up_to, step.at, step.midrank())));
        assert_eq!(seen, [(1.0, (1, 0), (1, 0), 1.0), (2.0, (3, 1), (2, 1), 3.0), (3.0, (3, 2), (0, 1), 5.0)]);
    }
}
