//! Metrics of models whose ground truth has arrived. A metric that the data does not define is `None`, never 0 or NaN.

mod binary;
mod multiclass;
mod ranking;
mod regression_metrics;

pub(crate) use binary::Curve;
pub use binary::{BinaryMetrics, Confusion, average_precision, roc_auc};
pub use multiclass::{ClassMetrics, MulticlassMetrics};
pub use ranking::{RankedQuery, RankingMetrics};
pub use regression_metrics::RegressionMetrics;

/// `numerator / denominator`, if there is a denominator.
pub(crate) fn ratio(numerator: f64, denominator: f64) -> Option<f64> {
    (denominator > 0.0).then(|| numerator / denominator)
}
