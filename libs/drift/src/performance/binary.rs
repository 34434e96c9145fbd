use fishy_core::{Error, Result};
use serde::{Deserialize, Serialize};

use super::ratio;

/// How often a binary classifier was right and wrong. Counts of several windows merge.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confusion {
    /// Predicted positive, and is.
    pub true_positives: u64,
    /// Predicted positive, and is not.
    pub false_positives: u64,
    /// Predicted negative, and is.
    pub true_negatives: u64,
    /// Predicted negative, and is not.
    pub false_negatives: u64,
}

impl Confusion {
    /// Adds one prediction.
    pub const fn push(&mut self, predicted: bool, truth: bool) {
        match (predicted, truth) {
            (true, true) => self.true_positives += 1,
            (true, false) => self.false_positives += 1,
            (false, false) => self.true_negatives += 1,
            (false, true) => self.false_negatives += 1,
        }
    }

    /// Adds another window.
    pub const fn merge(&mut self, other: &Self) {
        self.true_positives += other.true_positives;
        self.false_positives += other.false_positives;
        self.true_negatives += other.true_negatives;
        self.false_negatives += other.false_negatives;
    }

    /// Predictions counted.
    pub const fn count(&self) -> u64 {
        self.true_positives + self.false_positives + self.true_negatives + self.false_negatives
    }

    /// Share of right predictions; `None` without a prediction.
    pub fn accuracy(&self) -> Option<f64> {
        ratio((self.true_positives + self.true_negatives) as f64, self.count() as f64)
    }

    /// Share of the predicted positives that are; `None` without a predicted positive.
    pub fn precision(&self) -> Option<f64> {
        ratio(self.true_positives as f64, (self.true_positives + self.false_positives) as f64)
    }

    /// Recall, sensitivity, true positive rate: share of the positives that were found; `None` without a positive.
    pub fn recall(&self) -> Option<f64> {
        ratio(self.true_positives as f64, (self.true_positives + self.false_negatives) as f64)
    }

    /// Specificity, true negative rate: share of the negatives that were found; `None` without a negative.
    pub fn specificity(&self) -> Option<f64> {
        ratio(self.true_negatives as f64, (self.true_negatives + self.false_positives) as f64)
    }

    /// False positive rate: 1 less the specificity.
    pub fn false_positive_rate(&self) -> Option<f64> {
        ratio(self.false_positives as f64, (self.true_negatives + self.false_positives) as f64)
    }

    /// False negative rate: 1 less the recall.
    pub fn false_negative_rate(&self) -> Option<f64> {
        ratio(self.false_negatives as f64, (self.true_positives + self.false_negatives) as f64)
    }

    /// Harmonic mean of precision and recall; `None` when nothing is or was predicted positive.
    pub fn f1(&self) -> Option<f64> {
        let hits = 2.0 * self.true_positives as f64;
        ratio(hits, hits + (self.false_positives + self.false_negatives) as f64)
    }

    /// Matthews correlation coefficient, -1 to 1; `None` when either side has one class only.
    pub fn matthews(&self) -> Option<f64> {
        let [tp, fp, tn, fn_] =
            [self.true_positives, self.false_positives, self.true_negatives, self.false_negatives].map(|n| n as f64);
        ratio(tp * tn - fp * fn_, ((tp + fp) * (tp + fn_) * (tn + fp) * (tn + fn_)).sqrt())
    }
}

/// Metrics of a binary classifier that gives a score.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BinaryMetrics {
    /// Right and wrong at the threshold.
    pub confusion: Confusion,
    /// Pairs left out because the score was not finite.
    pub skipped: u64,
    /// Area under the ROC curve; `None` with one class only.
    pub roc_auc: Option<f64>,
    /// Average precision: area under the precision-recall curve, as a step function; `None` without a positive.
    pub average_precision: Option<f64>,
    /// Mean negative log likelihood in nats, scores taken as probabilities and held 2.2e-16 away from 0 and 1.
    pub log_loss: Option<f64>,
    /// Mean squared difference of score and truth.
    pub brier: Option<f64>,
}

impl BinaryMetrics {
    /// The metrics of scores (0 to 1) and truths, pair by pair; a score of at least `threshold` is a predicted positive.
    pub fn of(scores: &[f64], truth: &[bool], threshold: f64) -> Result<Self> {
        check_lengths(scores.len(), truth.len())?;
        let pairs: Vec<(f64, bool)> =
            scores.iter().copied().zip(truth.iter().copied()).filter(|(score, _)| score.is_finite()).collect();
        if let Some((score, _)) = pairs.iter().find(|(score, _)| !(0.0..=1.0).contains(score)) {
            return Err(Error::invalid(format!("a score is a probability between 0 and 1, and one is {score}")));
        }
        let mut confusion = Confusion::default();
        for (score, truth) in &pairs {
            confusion.push(*score >= threshold, *truth);
        }
        let (mut log_loss, mut brier) = (0.0, 0.0);
        for (score, truth) in &pairs {
            let held = score.clamp(f64::EPSILON, 1.0 - f64::EPSILON);
            log_loss -= if *truth { held.ln() } else { (1.0 - held).ln() };
            brier += (score - f64::from(u8::from(*truth))).powi(2);
        }
        let count = pairs.len() as f64;
        let curve = Curve::new(pairs.iter().map(|(score, truth)| (*score, f64::from(u8::from(*truth)))));
        Ok(Self {
            confusion,
            skipped: (truth.len() - pairs.len()) as u64,
            roc_auc: curve.roc_auc(),
            average_precision: curve.average_precision(),
            log_loss: ratio(log_loss, count),
            brier: ratio(brier, count),
        })
    }
}

/// Area under the ROC curve: the probability that a positive has a higher score than a negative, ties counting half. `None`
/// when either class is missing. Scores that are not finite are left out.
pub fn roc_auc(scores: &[f64], truth: &[bool]) -> Option<f64> {
    Curve::of(scores, truth).roc_auc()
}

/// Average precision: precision at each score, weighted by the recall it adds. `None` without a positive. Scores that are
/// not finite are left out.
pub fn average_precision(scores: &[f64], truth: &[bool]) -> Option<f64> {
    Curve::of(scores, truth).average_precision()
}

/// Positives and negatives at or above each distinct score, from the highest score down. Truths may be probabilities: then
/// the counts are expectations.
pub(crate) struct Curve {
    points: Vec<(f64, f64)>,
}

impl Curve {
    fn of(scores: &[f64], truth: &[bool]) -> Self {
        Self::new(scores.iter().zip(truth).map(|(score, truth)| (*score, f64::from(u8::from(*truth)))))
    }

    pub(crate) fn new(pairs: impl Iterator<Item = (f64, f64)>) -> Self {
        let mut pairs: Vec<(f64, f64)> = pairs.filter(|(score, _)| score.is_finite()).collect();
        pairs.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        let mut points = Vec::with_capacity(pairs.len());
        let (mut positives, mut count) = (0.0, 0.0);
        for (place, (score, truth)) in pairs.iter().enumerate() {
            positives += truth;
            count += 1.0;
            if pairs.get(place + 1).is_none_or(|(next, _)| next < score) {
                points.push((positives, count - positives));
            }
        }
        Self { points }
    }

    pub(crate) fn roc_auc(&self) -> Option<f64> {
        let &(positives, negatives) = self.points.last()?;
        let (mut area, mut last) = (0.0, (0.0, 0.0));
        for point in &self.points {
            area += (point.1 - last.1) * f64::midpoint(point.0, last.0);
            last = *point;
        }
        ratio(area, positives * negatives)
    }

    pub(crate) fn average_precision(&self) -> Option<f64> {
        let &(positives, _) = self.points.last()?;
        let (mut sum, mut last) = (0.0, 0.0);
        for (hits, misses) in &self.points {
            sum += (hits - last) * hits / (hits + misses);
            last = *hits;
        }
        ratio(sum, positives)
    }
}

pub(crate) fn check_lengths(predicted: usize, truth: usize) -> Result<()> {
    if predicted == truth {
        Ok(())
    } else {
        Err(Error::invalid(format!("each prediction needs its truth, and there are {predicted} and {truth}")))
    }
}
