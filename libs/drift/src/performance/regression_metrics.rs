use fishy_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// Metrics of a regression model over a window whose pairs are at hand; [`RegressionError`](crate::RegressionError) keeps a
/// few of them in sums that merge.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RegressionMetrics {
    /// Pairs of which both values are finite.
    pub count: u64,
    /// Pairs left out because a value was not finite.
    pub skipped: u64,
    /// Mean absolute error, in the unit of the truth.
    pub mae: f64,
    /// Mean squared error.
    pub mse: f64,
    /// Root of the mean squared error, in the unit of the truth.
    pub rmse: f64,
    /// Median absolute error, in the unit of the truth.
    pub median_absolute_error: f64,
    /// Largest absolute error, in the unit of the truth.
    pub max_absolute_error: f64,
    /// Mean of prediction minus truth, in the unit of the truth.
    pub mean_error: f64,
    /// Standard deviation of prediction minus truth (divisor `n`), in the unit of the truth.
    pub error_deviation: f64,
    /// Mean absolute error as a share of the truth; 0.1 is ten percent. A truth of 0 counts as 2.2e-16, as in scikit-learn.
    pub mape: f64,
    /// Mean squared error of `ln(1 + x)`; `None` when a value is -1 or below.
    pub msle: Option<f64>,
    /// Coefficient of determination: 1 is perfect, 0 is no better than the mean of the truth; `None` when the truth does not
    /// vary.
    pub r2: Option<f64>,
    /// Share of the variance explained: as `r2`, but blind to a constant error.
    pub explained_variance: Option<f64>,
}

impl RegressionMetrics {
    /// The metrics of predictions and truths, pair by pair; refused when the lengths differ or no pair is finite.
    pub fn of(predicted: &[f64], truth: &[f64]) -> Result<Self> {
        if predicted.len() != truth.len() {
            return Err(Error::invalid(format!(
                "each prediction needs its truth, and there are {} and {}",
                predicted.len(),
                truth.len()
            )));
        }
        let pairs: Vec<(f64, f64)> =
            predicted.iter().copied().zip(truth.iter().copied()).filter(|(p, t)| (p - t).is_finite()).collect();
        if pairs.is_empty() {
            return Err(Error::invalid(format!(
                "metrics need at least one finite pair, and none of the {} given is",
                truth.len()
            )));
        }
        let count = pairs.len() as f64;
        let mean = |of: &dyn Fn(f64, f64) -> f64| pairs.iter().map(|(p, t)| of(*p, *t)).sum::<f64>() / count;
        let mut absolute: Vec<f64> = pairs.iter().map(|(p, t)| (p - t).abs()).collect();
        absolute.sort_unstable_by(f64::total_cmp);
        let mse = mean(&|p, t| (p - t).powi(2));
        let mean_error = mean(&|p, t| p - t);
        let error_variance = mean(&|p, t| (p - t - mean_error).powi(2));
        let mean_truth = mean(&|_, t| t);
        let variance = mean(&|_, t| (t - mean_truth).powi(2));
        let share = |unexplained: f64| (variance > 0.0).then(|| 1.0 - unexplained / variance);
        Ok(Self {
            count: pairs.len() as u64,
            skipped: (truth.len() - pairs.len()) as u64,
            mae: mean(&|p, t| (p - t).abs()),
            mse,
            rmse: mse.sqrt(),
            median_absolute_error: crate::sample::quantile(&absolute, 0.5),
            max_absolute_error: absolute[absolute.len() - 1],
            mean_error,
            error_deviation: error_variance.sqrt(),
            mape: mean(&|p, t| (p - t).abs() / t.abs().max(f64::EPSILON)),
            msle: pairs
                .iter()
                .all(|(p, t)| *p > -1.0 && *t > -1.0)
                .then(|| mean(&|p, t| (p.ln_1p() - t.ln_1p()).powi(2))),
            r2: share(mse),
            explained_variance: share(error_variance),
        })
    }
}
