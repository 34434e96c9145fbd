use fishy_core::{Error, Result};
use serde::{Deserialize, Serialize};

use super::binary::{Confusion, check_lengths, roc_auc};
use super::ratio;

/// Most classes that a confusion matrix may have.
const MAX_CLASSES: usize = 1024;

/// Metrics of one class against the rest. What a class without predictions or without truths does not define is 0, as in
/// scikit-learn, since the averages need a number.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ClassMetrics {
    /// Share of the predictions of this class that are right.
    pub precision: f64,
    /// Share of this class that was found.
    pub recall: f64,
    /// Harmonic mean of both.
    pub f1: f64,
    /// Share of the other classes that was not taken for this one.
    pub specificity: f64,
    /// Truths of this class.
    pub support: u64,
}

/// Right and wrong predictions among several classes, numbered from 0. Matrices of several windows merge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MulticlassMetrics {
    /// `matrix[truth][predicted]`.
    matrix: Vec<Vec<u64>>,
}

impl MulticlassMetrics {
    /// No predictions yet among so many classes, 2 to 1024.
    pub fn new(classes: usize) -> Result<Self> {
        if (2..=MAX_CLASSES).contains(&classes) {
            Ok(Self { matrix: vec![vec![0; classes]; classes] })
        } else {
            Err(Error::invalid(format!("a classifier has between 2 and {MAX_CLASSES} classes, and this one {classes}")))
        }
    }

    /// Counts predictions and truths, pair by pair.
    pub fn of(predicted: &[usize], truth: &[usize], classes: usize) -> Result<Self> {
        check_lengths(predicted.len(), truth.len())?;
        let mut metrics = Self::new(classes)?;
        for (predicted, truth) in predicted.iter().zip(truth) {
            metrics.push(*predicted, *truth)?;
        }
        Ok(metrics)
    }

    /// Adds one prediction; a class that is not below the number of classes is refused.
    pub fn push(&mut self, predicted: usize, truth: usize) -> Result<()> {
        let classes = self.matrix.len();
        let cell = self.matrix.get_mut(truth).and_then(|row| row.get_mut(predicted)).ok_or_else(|| {
            Error::invalid(format!("classes are numbered from 0 to {}: got {predicted} for {truth}", classes - 1))
        })?;
        *cell += 1;
        Ok(())
    }

    /// Adds another window; refused when it has another number of classes.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        if self.matrix.len() != other.matrix.len() {
            return Err(Error::invalid(format!(
                "only windows of the same classes can be put together: {} and {} classes",
                self.matrix.len(),
                other.matrix.len()
            )));
        }
        for (row, theirs) in self.matrix.iter_mut().zip(&other.matrix) {
            for (cell, their) in row.iter_mut().zip(theirs) {
                *cell += their;
            }
        }
        Ok(())
    }

    /// The confusion matrix: `[truth][predicted]`.
    pub fn matrix(&self) -> &[Vec<u64>] {
        &self.matrix
    }

    /// Share of right predictions; equals precision, recall and F1 averaged over all predictions (micro). `None` without a
    /// prediction.
    pub fn accuracy(&self) -> Option<f64> {
        let right: u64 = self.matrix.iter().enumerate().map(|(class, row)| row[class]).sum();
        let count: u64 = self.matrix.iter().flatten().sum();
        ratio(right as f64, count as f64)
    }

    /// One class against the rest.
    pub fn confusion(&self, class: usize) -> Option<Confusion> {
        let row = self.matrix.get(class)?;
        let true_positives = row[class];
        let count: u64 = self.matrix.iter().flatten().sum();
        let support: u64 = row.iter().sum();
        let predicted: u64 = self.matrix.iter().map(|row| row[class]).sum();
        Some(Confusion {
            true_positives,
            false_positives: predicted - true_positives,
            false_negatives: support - true_positives,
            true_negatives: count + true_positives - support - predicted,
        })
    }

    /// The metrics of each class.
    pub fn classes(&self) -> Vec<ClassMetrics> {
        let confusions = (0..self.matrix.len()).filter_map(|class| self.confusion(class));
        let metrics = confusions.map(|confusion| ClassMetrics {
            precision: confusion.precision().unwrap_or(0.0),
            recall: confusion.recall().unwrap_or(0.0),
            f1: confusion.f1().unwrap_or(0.0),
            specificity: confusion.specificity().unwrap_or(0.0),
            support: confusion.true_positives + confusion.false_negatives,
        });
        metrics.collect()
    }

    /// Mean over the classes, each counting the same (macro); the support is the sum.
    pub fn macro_average(&self) -> ClassMetrics {
        self.average(|_| 1.0)
    }

    /// Mean over the classes, each counting by its support; `None` without a prediction.
    pub fn weighted_average(&self) -> Option<ClassMetrics> {
        self.accuracy().map(|_| self.average(|class| class.support as f64))
    }

    fn average(&self, weight: impl Fn(&ClassMetrics) -> f64) -> ClassMetrics {
        let classes = self.classes();
        let total: f64 = classes.iter().map(&weight).sum();
        let mean =
            |of: fn(&ClassMetrics) -> f64| classes.iter().map(|class| weight(class) * of(class)).sum::<f64>() / total;
        ClassMetrics {
            precision: mean(|class| class.precision),
            recall: mean(|class| class.recall),
            f1: mean(|class| class.f1),
            specificity: mean(|class| class.specificity),
            support: classes.iter().map(|class| class.support).sum(),
        }
    }

    /// Mean over the classes of the area under the ROC curve of each against the rest. `probabilities[class]` holds the
    /// column of that class. `None` when a class has no truth, or no other has.
    pub fn roc_auc(probabilities: &[Vec<f64>], truth: &[usize]) -> Option<f64> {
        let areas: Option<Vec<f64>> = probabilities
            .iter()
            .enumerate()
            .map(|(class, scores)| roc_auc(scores, &truth.iter().map(|truth| *truth == class).collect::<Vec<_>>()))
            .collect();
        areas.and_then(|areas| ratio(areas.iter().sum(), areas.len() as f64))
    }

    /// Mean negative log of the probability given to the truth, in nats, held 2.2e-16 away from 0 and 1; each row is divided
    /// by its sum. `None` without a row, or where a truth has no column.
    pub fn log_loss(probabilities: &[Vec<f64>], truth: &[usize]) -> Option<f64> {
        let mut sum = 0.0;
        for (row, class) in truth.iter().enumerate() {
            let given = probabilities.get(*class)?.get(row)?;
            let total: f64 = probabilities.iter().filter_map(|column| column.get(row)).sum();
            sum -= (given / total).clamp(f64::EPSILON, 1.0 - f64::EPSILON).ln();
        }
        ratio(sum, truth.len() as f64)
    }
}
