//! How far a model's answers are from the truth.

use serde::{Deserialize, Serialize};

use super::definition::Metric;

/// The errors of one model over some rows, in the unit of the target.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Mean absolute error.
    pub mae: f64,
    /// Root of the mean squared error.
    pub rmse: f64,
    /// Mean of answer minus truth.
    pub bias: f64,
}

impl Figures {
    /// The figures of answers and true values, pair by pair; `None` without any.
    pub fn of(pairs: impl IntoIterator<Item = (f64, f64)>) -> Option<Self> {
        let (mut count, mut absolute, mut squared, mut signed) = (0_u64, 0.0, 0.0, 0.0);
        for (answer, truth) in pairs {
            let error = answer - truth;
            count += 1;
            absolute += error.abs();
            squared += error * error;
            signed += error;
        }
        let n = count as f64;
        (count > 0).then(|| Self { mae: absolute / n, rmse: (squared / n).sqrt(), bias: signed / n })
    }

    /// The one that the gate decides on.
    pub const fn get(&self, metric: Metric) -> f64 {
        match metric {
            Metric::Mae => self.mae,
            Metric::Rmse => self.rmse,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_known_errors() {
        let figures = Figures::of([(2.0, 1.0), (0.0, 3.0)]).unwrap();
        assert_eq!((figures.mae, figures.bias, figures.rmse), (2.0, -1.0, 5.0_f64.sqrt()));
        assert_eq!(Figures::of([]), None);
    }
}
