use serde::{Deserialize, Serialize};

/// Errors of a regression model over a window: push pairs, merge windows, read MAE, RMSE and bias.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct RegressionError {
    count: u64,
    skipped: u64,
    sum: f64,
    sum_absolute: f64,
    sum_squared: f64,
}

impl RegressionError {
    /// The errors of pairs of prediction and truth.
    pub fn from_pairs(pairs: impl IntoIterator<Item = (f64, f64)>) -> Self {
        let mut errors = Self::default();
        for (predicted, truth) in pairs {
            errors.push(predicted, truth);
        }
        errors
    }

    /// Adds one pair. A pair of which either value is not finite is counted as skipped and changes nothing else.
    pub fn push(&mut self, predicted: f64, truth: f64) {
        let error = predicted - truth;
        if error.is_finite() {
            self.count += 1;
            self.sum += error;
            self.sum_absolute += error.abs();
            self.sum_squared += error * error;
        } else {
            self.skipped += 1;
        }
    }

    /// Adds another window.
    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.skipped += other.skipped;
        self.sum += other.sum;
        self.sum_absolute += other.sum_absolute;
        self.sum_squared += other.sum_squared;
    }

    /// Pairs counted.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Pairs left out because a value was not finite.
    pub const fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Mean absolute error, in the unit of the truth; `None` without a pair.
    pub fn mae(&self) -> Option<f64> {
        self.mean_of(self.sum_absolute)
    }

    /// Root of the mean squared error, in the unit of the truth; `None` without a pair.
    pub fn rmse(&self) -> Option<f64> {
        self.mean_of(self.sum_squared).map(f64::sqrt)
    }

    /// Mean of prediction minus truth: positive when the model says too much; `None` without a pair.
    pub fn bias(&self) -> Option<f64> {
        self.mean_of(self.sum)
    }

    fn mean_of(&self, sum: f64) -> Option<f64> {
        (self.count > 0).then(|| sum / self.count as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_figures_of_three_pairs() {
        let errors = RegressionError::from_pairs([(3.0, 1.0), (1.0, 2.0), (5.0, 5.0), (f64::NAN, 1.0)]);
        assert_eq!((errors.count(), errors.skipped()), (3, 1));
        assert!((errors.mae().unwrap() - 1.0).abs() < 1e-15);
        assert!((errors.bias().unwrap() - 1.0 / 3.0).abs() < 1e-15);
        assert!((errors.rmse().unwrap() - (5.0_f64 / 3.0).sqrt()).abs() < 1e-15);
        assert_eq!(RegressionError::default().mae(), None);
    }
}
