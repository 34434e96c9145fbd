use fishy_core::{Error, Result};
use serde::{Deserialize, Serialize};

use super::calibration::Isotonic;
use super::{Estimate, Fitted, chunks, sampling_error};
use crate::performance::{Confusion, Curve, average_precision, ratio, roc_auc};

/// What a metric of a classifier can be.
const RANGE: (f64, f64) = (0.0, 1.0);

/// Fewest rows of the reference.
const LEAST_ROWS: usize = 50;

/// Metrics that can be estimated from probabilities alone. With more than two classes each is the mean over the classes,
/// one against the rest, except accuracy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CbpeMetric {
    /// Area under the ROC curve.
    RocAuc,
    /// Harmonic mean of precision and recall.
    F1,
    /// Share of the predicted positives that are.
    Precision,
    /// Share of the positives that are found.
    Recall,
    /// Share of the negatives that are found.
    Specificity,
    /// Share of right predictions.
    Accuracy,
    /// Area under the precision-recall curve.
    AveragePrecision,
    /// Share of all rows that are predicted positive, and are. With the three below it makes the confusion matrix, and by
    /// their worths, the value of the predictions.
    TruePositives,
    /// Share of all rows that are predicted positive, and are not.
    FalsePositives,
    /// Share of all rows that are predicted negative, and are.
    TrueNegatives,
    /// Share of all rows that are predicted negative, and are not.
    FalseNegatives,
}

impl CbpeMetric {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::RocAuc,
        Self::F1,
        Self::Precision,
        Self::Recall,
        Self::Specificity,
        Self::Accuracy,
        Self::AveragePrecision,
        Self::TruePositives,
        Self::FalsePositives,
        Self::TrueNegatives,
        Self::FalseNegatives,
    ];
}

/// One class against the rest, row by row: the model's probability of the class, and whether it predicted the class. A
/// binary model has one column, of its positive class; others have a column for each class.
#[derive(Debug, Clone, Copy)]
pub struct ClassColumn<'a> {
    /// Probability of the class, 0 to 1.
    pub scores: &'a [f64],
    /// Whether the class was predicted.
    pub predicted: &'a [bool],
}

/// Confidence-based performance estimation (NannyML): the expected confusion matrix, given that the probabilities are
/// calibrated. They are calibrated by isotonic regression where that helps on held-out rows.
///
/// It fails under concept drift: it takes it that a probability of 0.8 still means 8 in 10.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cbpe {
    calibrations: Vec<Option<Isotonic>>,
    fitted: Vec<Fitted<CbpeMetric>>,
}

impl Cbpe {
    /// Learns from a reference with ground truth: calibration, thresholds over chunks of `chunk` rows, and how far metrics
    /// scatter. `truth[class]` says row by row whether the class is true, in the order of `columns`. The seed draws the rows
    /// that are held out. Refused when columns differ in length or in rows from the truth, a score is no probability, there
    /// are fewer than 50 rows, or only one class.
    pub fn fit(columns: &[ClassColumn<'_>], truth: &[&[bool]], chunk: usize, seed: u64) -> Result<Self> {
        let rows = check(columns)?;
        if truth.len() != columns.len() || truth.iter().any(|truth| truth.len() != rows) {
            return Err(Error::invalid(format!(
                "CBPE needs the truth of each of {} columns of {rows} rows, and has {} of {:?} rows",
                columns.len(),
                truth.len(),
                truth.iter().map(|truth| truth.len()).take(8).collect::<Vec<_>>()
            )));
        }
        if rows < LEAST_ROWS || truth.iter().any(|truth| truth.iter().all(|t| *t) || !truth.iter().any(|t| *t)) {
            return Err(Error::precondition(format!(
                "CBPE needs a reference of at least {LEAST_ROWS} rows in which every class comes, and one other: {rows} rows"
            )));
        }
        let calibrations = columns
            .iter()
            .zip(truth)
            .map(|(column, truth)| {
                let pairs: Vec<(f64, bool)> = column.scores.iter().copied().zip(truth.iter().copied()).collect();
                Isotonic::if_needed(&pairs, seed)
            })
            .collect();
        let classes: Vec<Vec<(f64, bool, bool)>> = columns
            .iter()
            .zip(truth)
            .map(|(column, truth)| {
                let scored = column.scores.iter().zip(column.predicted).zip(*truth);
                scored.map(|((score, predicted), truth)| (*score, *predicted, *truth)).collect()
            })
            .collect();
        let fitted = CbpeMetric::ALL
            .iter()
            .map(|metric| {
                let variance = match &classes[..] {
                    [only] => sampling_error::binary(*metric, only, seed),
                    several => sampling_error::multiclass(*metric, several, seed),
                };
                let realised: Vec<f64> =
                    chunks(rows, chunk).into_iter().filter_map(|range| realised(*metric, &classes, range)).collect();
                Fitted::new(*metric, &realised, variance.sqrt(), RANGE)
            })
            .collect();
        Ok(Self { calibrations, fitted })
    }

    /// Whether any class needed calibration.
    pub fn is_calibrated(&self) -> bool {
        self.calibrations.iter().any(Option::is_some)
    }

    /// Estimates every metric of a window; one that the window does not define (no row, nothing predicted) is left out.
    pub fn estimate(&self, columns: &[ClassColumn<'_>]) -> Result<Vec<Estimate<CbpeMetric>>> {
        let rows = check(columns)?;
        if columns.len() != self.calibrations.len() {
            return Err(Error::invalid(format!(
                "CBPE was fitted with {} columns, and is given {}",
                self.calibrations.len(),
                columns.len()
            )));
        }
        let mut probabilities: Vec<Vec<f64>> = columns
            .iter()
            .zip(&self.calibrations)
            .map(|(column, calibration)| match calibration {
                Some(calibration) => column.scores.iter().map(|score| calibration.value(*score)).collect(),
                None => column.scores.to_vec(),
            })
            .collect();
        if columns.len() > 1 {
            normalise(&mut probabilities);
        }
        let estimates = self.fitted.iter().filter_map(|fitted| {
            let values: Option<Vec<f64>> = columns
                .iter()
                .zip(&probabilities)
                .map(|(column, probabilities)| expected(fitted.metric, column, probabilities))
                .collect();
            let value = if fitted.metric == CbpeMetric::Accuracy && columns.len() > 1 {
                let right = columns.iter().zip(&probabilities).map(|(column, probabilities)| {
                    column.predicted.iter().zip(probabilities).filter(|(p, _)| **p).map(|(_, q)| q).sum::<f64>()
                });
                ratio(right.sum(), rows as f64)
            } else {
                values.and_then(|values| ratio(values.iter().sum(), values.len() as f64))
            };
            Some(fitted.estimate(value?, rows, RANGE))
        });
        Ok(estimates.collect())
    }
}

/// Divides each row by its sum; a row of zeros becomes uniform.
fn normalise(columns: &mut [Vec<f64>]) {
    let (rows, classes) = (columns.first().map_or(0, Vec::len), columns.len() as f64);
    for row in 0..rows {
        let total: f64 = columns.iter().map(|column| column[row]).sum();
        for column in columns.iter_mut() {
            column[row] = if total > 0.0 { column[row] / total } else { 1.0 / classes };
        }
    }
}

/// The metric that is to be expected when each row is positive with its probability.
fn expected(metric: CbpeMetric, column: &ClassColumn<'_>, probabilities: &[f64]) -> Option<f64> {
    let curve = || Curve::new(column.scores.iter().copied().zip(probabilities.iter().copied()));
    let (mut tp, mut fp, mut tn, mut fn_) = (0.0, 0.0, 0.0, 0.0);
    for (predicted, probability) in column.predicted.iter().zip(probabilities) {
        if *predicted {
            tp += probability;
            fp += 1.0 - probability;
        } else {
            fn_ += probability;
            tn += 1.0 - probability;
        }
    }
    match metric {
        CbpeMetric::RocAuc => curve().roc_auc(),
        CbpeMetric::AveragePrecision => curve().average_precision(),
        CbpeMetric::F1 => ratio(tp, tp + 0.5 * (fp + fn_)),
        CbpeMetric::Precision => ratio(tp, tp + fp),
        CbpeMetric::Recall => ratio(tp, tp + fn_),
        CbpeMetric::Specificity => ratio(tn, tn + fp),
        CbpeMetric::Accuracy => ratio(tp + tn, tp + fp + tn + fn_),
        CbpeMetric::TruePositives => ratio(tp, tp + fp + tn + fn_),
        CbpeMetric::FalsePositives => ratio(fp, tp + fp + tn + fn_),
        CbpeMetric::TrueNegatives => ratio(tn, tp + fp + tn + fn_),
        CbpeMetric::FalseNegatives => ratio(fn_, tp + fp + tn + fn_),
    }
}

/// The metric of a chunk with ground truth; `None` where a class is missing.
fn realised(metric: CbpeMetric, classes: &[Vec<(f64, bool, bool)>], range: std::ops::Range<usize>) -> Option<f64> {
    if metric == CbpeMetric::Accuracy && classes.len() > 1 {
        let is_right = |row: &usize| classes.iter().all(|class| class[*row].1 == class[*row].2);
        return ratio(range.clone().filter(is_right).count() as f64, range.len() as f64);
    }
    let of_class = |class: &Vec<(f64, bool, bool)>| {
        let rows = &class[range.clone()];
        let mut confusion = Confusion::default();
        for (_, predicted, truth) in rows {
            confusion.push(*predicted, *truth);
        }
        let (scores, truth): (Vec<f64>, Vec<bool>) = rows.iter().map(|(score, _, truth)| (*score, *truth)).unzip();
        let share = |cell: u64| ratio(cell as f64, rows.len() as f64);
        match metric {
            CbpeMetric::RocAuc => roc_auc(&scores, &truth),
            CbpeMetric::AveragePrecision => average_precision(&scores, &truth),
            CbpeMetric::F1 => confusion.f1(),
            CbpeMetric::Precision => confusion.precision(),
            CbpeMetric::Recall => confusion.recall(),
            CbpeMetric::Specificity => confusion.specificity(),
            CbpeMetric::Accuracy => confusion.accuracy(),
            CbpeMetric::TruePositives => share(confusion.true_positives),
            CbpeMetric::FalsePositives => share(confusion.false_positives),
            CbpeMetric::TrueNegatives => share(confusion.true_negatives),
            CbpeMetric::FalseNegatives => share(confusion.false_negatives),
        }
    };
    let values: Option<Vec<f64>> = classes.iter().map(of_class).collect();
    values.and_then(|values| ratio(values.iter().sum(), values.len() as f64))
}

/// The common number of rows of the columns, whose scores are probabilities.
fn check(columns: &[ClassColumn<'_>]) -> Result<usize> {
    let rows = columns.first().map_or(0, |column| column.scores.len());
    if columns.is_empty() || columns.iter().any(|c| c.scores.len() != rows || c.predicted.len() != rows) {
        return Err(Error::invalid("CBPE needs at least one column, and all scores and predictions of one length"));
    }
    let bad = columns.iter().flat_map(|column| column.scores).find(|score| !(0.0..=1.0).contains(*score));
    match bad {
        Some(score) => Err(Error::invalid(format!("a score is a probability between 0 and 1, and one is {score}"))),
        None => Ok(rows),
    }
}
