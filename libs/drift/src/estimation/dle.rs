use fishy_core::{Error, Result};
use serde::{Deserialize, Serialize};

use super::{Estimate, Fitted, chunks};
use crate::boosting::{Boosted, Objective};

/// Fewest rows of the reference.
const LEAST_ROWS: usize = 100;

/// Metrics of a regression model that can be estimated without ground truth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DleMetric {
    /// Mean absolute error, in the unit of the truth.
    Mae,
    /// Mean absolute error as a share of the truth.
    Mape,
    /// Mean squared error.
    Mse,
    /// Root of the mean squared error, in the unit of the truth.
    Rmse,
    /// Mean squared error of `ln(1 + x)`; only fitted when every truth and prediction is above -1.
    Msle,
    /// Root of the mean squared error of `ln(1 + x)`; fitted as [`Msle`](Self::Msle).
    Rmsle,
}

/// How one row's loss is measured: the metrics are means of one of these, or the root of the mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loss {
    Absolute,
    Relative,
    Squared,
    SquaredLog,
}

impl Loss {
    const ALL: [Self; 4] = [Self::Absolute, Self::Relative, Self::Squared, Self::SquaredLog];

    fn of(self, predicted: f64, truth: f64) -> f64 {
        match self {
            Self::Absolute => (predicted - truth).abs(),
            Self::Relative => (predicted - truth).abs() / truth.abs().max(f64::EPSILON),
            Self::Squared => (predicted - truth).powi(2),
            Self::SquaredLog => (predicted.ln_1p() - truth.ln_1p()).powi(2),
        }
    }

    /// The metrics that come from it; the second is the root of the mean.
    const fn metrics(self) -> (DleMetric, Option<DleMetric>) {
        match self {
            Self::Absolute => (DleMetric::Mae, None),
            Self::Relative => (DleMetric::Mape, None),
            Self::Squared => (DleMetric::Mse, Some(DleMetric::Rmse)),
            Self::SquaredLog => (DleMetric::Msle, Some(DleMetric::Rmsle)),
        }
    }
}

/// Direct loss estimation (NannyML): a second model learns, on a reference with ground truth, how large the first one's
/// error is, from the features and the prediction; gradient boosted trees as LightGBM's defaults make them.
///
/// It fails under concept drift: it takes it that the model still errs where it erred.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Parts", into = "Parts")]
pub struct Dle {
    features: usize,
    models: Vec<LossModel>,
}

/// What is stored.
#[derive(Serialize, Deserialize)]
struct Parts {
    features: usize,
    models: Vec<LossModel>,
}

impl From<Dle> for Parts {
    fn from(Dle { features, models }: Dle) -> Self {
        Self { features, models }
    }
}

impl TryFrom<Parts> for Dle {
    type Error = Error;

    fn try_from(Parts { features, models }: Parts) -> Result<Self> {
        // The prediction is the last column.
        if models.iter().all(|model| model.trees.is_whole(features + 1)) {
            Ok(Self { features, models })
        } else {
            Err(Error::invalid("the stored loss estimator is damaged: fit it again to the reference"))
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct LossModel {
    trees: Boosted,
    mean: Fitted<DleMetric>,
    root: Option<Fitted<DleMetric>>,
}

impl Dle {
    /// Learns from a reference: feature columns (missing values as NaN, categories as numbers), predictions, and truths.
    /// Thresholds come from chunks of `chunk` rows. Refused when the lengths differ, a prediction or truth is not finite, or
    /// there are fewer than 100 rows.
    pub fn fit(features: &[Vec<f64>], predicted: &[f64], truth: &[f64], chunk: usize) -> Result<Self> {
        let rows = truth.len();
        if predicted.len() != rows || predicted.iter().chain(truth).any(|value| !value.is_finite()) {
            return Err(Error::invalid(format!(
                "DLE needs a finite prediction for each of {rows} finite truths: leave out the rows without either"
            )));
        }
        if rows < LEAST_ROWS {
            return Err(Error::precondition(format!(
                "DLE needs a reference of at least {LEAST_ROWS} rows, and this one has {rows}"
            )));
        }
        let columns = with_prediction(features, predicted);
        let has_logs = predicted.iter().chain(truth).all(|value| *value > -1.0);
        let mut models = Vec::new();
        for loss in Loss::ALL.into_iter().filter(|loss| has_logs || *loss != Loss::SquaredLog) {
            let losses: Vec<f64> = predicted.iter().zip(truth).map(|(p, t)| loss.of(*p, *t)).collect();
            models.push(LossModel::fit(&columns, &losses, loss, chunk)?);
        }
        Ok(Self { features: features.len(), models })
    }

    /// Estimates every metric of a window from its features and predictions; an empty window, or other columns than those
    /// that were fitted, are refused.
    pub fn estimate(&self, features: &[Vec<f64>], predicted: &[f64]) -> Result<Vec<Estimate<DleMetric>>> {
        let rows = predicted.len();
        if rows == 0 || features.len() != self.features || features.iter().any(|column| column.len() != rows) {
            return Err(Error::invalid(format!(
                "DLE was fitted with {} features and needs them for each of {rows} predictions (at least one)",
                self.features
            )));
        }
        let columns = with_prediction(features, predicted);
        let mut estimates = Vec::new();
        for model in &self.models {
            let losses = (0..rows).map(|row| model.trees.predict(|feature| columns[feature][row]).max(0.0));
            let mean = losses.sum::<f64>() / rows as f64;
            let range = (0.0, f64::INFINITY);
            estimates.push(model.mean.estimate(mean, rows, range));
            estimates.extend(model.root.map(|root| root.estimate(mean.sqrt(), rows, range)));
        }
        Ok(estimates)
    }
}

impl LossModel {
    fn fit(columns: &[Vec<f64>], losses: &[f64], loss: Loss, chunk: usize) -> Result<Self> {
        let range = (0.0, f64::INFINITY);
        let count = losses.len() as f64;
        let mean = losses.iter().sum::<f64>() / count;
        let deviation = (losses.iter().map(|loss| (loss - mean).powi(2)).sum::<f64>() / count).sqrt();
        let realised: Vec<f64> = chunks(losses.len(), chunk)
            .into_iter()
            .map(|range| losses[range.clone()].iter().sum::<f64>() / range.len() as f64)
            .collect();
        let (metric, root) = loss.metrics();
        let root = root.map(|metric| {
            let roots: Vec<f64> = realised.iter().map(|mean| mean.sqrt()).collect();
            // The error of a root, by the delta method.
            let error = if mean > 0.0 { deviation / (2.0 * mean.sqrt()) } else { 0.0 };
            Fitted::new(metric, &roots, error, range)
        });
        Ok(Self {
            trees: Boosted::fit(columns, losses, Objective::Squared)?,
            mean: Fitted::new(metric, &realised, deviation, range),
            root,
        })
    }
}

fn with_prediction(features: &[Vec<f64>], predicted: &[f64]) -> Vec<Vec<f64>> {
    features.iter().cloned().chain([predicted.to_vec()]).collect()
}
