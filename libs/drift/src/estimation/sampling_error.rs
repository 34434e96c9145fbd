//! Standard errors of realised metrics, learnt from the reference: how far the value of a window of `n` rows scatters by
//! chance. Each function gives the variance for one row; a window of `n` rows has that over `n`. After the derivations that
//! NannyML documents.

use super::cbpe::CbpeMetric;
use crate::performance::{Confusion, average_precision};
use crate::random::SplitMix;

/// Resamples for the metric without a formula.
const RESAMPLES: usize = 50;
/// Rows of a resample.
const MOST_RESAMPLED: usize = 50_000;

/// Variance of a binary metric for one row; NaN where the reference does not define it.
pub(super) fn binary(metric: CbpeMetric, rows: &[(f64, bool, bool)], seed: u64) -> f64 {
    let count = rows.len() as f64;
    let confusion = confusion(rows);
    let [tp, fp, tn, fn_] =
        [confusion.true_positives, confusion.false_positives, confusion.true_negatives, confusion.false_negatives]
            .map(|cell| cell as f64);
    // Among `relevant` rows `hits` count 1, the others 0, each times `scale`.
    let share = |hits: f64, relevant: f64, scale: f64| {
        let p = hits / relevant;
        scale * scale * p * (1.0 - p) / (relevant / count)
    };
    match metric {
        CbpeMetric::Accuracy => share(tp + tn, count, 1.0),
        CbpeMetric::Precision => share(tp, tp + fp, 1.0),
        CbpeMetric::Recall => share(tp, tp + fn_, 1.0),
        CbpeMetric::Specificity => share(tn, tn + fp, 1.0),
        CbpeMetric::F1 => share(tp, tp + fp + fn_, (tp + fp + fn_) / (0.5 * (fn_ + fp) + tp)),
        CbpeMetric::TruePositives => share(tp, count, 1.0),
        CbpeMetric::FalsePositives => share(fp, count, 1.0),
        CbpeMetric::TrueNegatives => share(tn, count, 1.0),
        CbpeMetric::FalseNegatives => share(fn_, count, 1.0),
        CbpeMetric::RocAuc => roc_auc(rows),
        CbpeMetric::AveragePrecision => resampled(rows, seed),
    }
}

/// Variance of a macro average over classes for one row: that of the mean of independent classes. NannyML leaves out the
/// scale of F1 here and widens the ROC AUC by a fifth, as the classes are not independent.
pub(super) fn multiclass(metric: CbpeMetric, classes: &[Vec<(f64, bool, bool)>], seed: u64) -> f64 {
    let count = classes.len() as f64;
    let of_class = |rows: &Vec<(f64, bool, bool)>| {
        if metric == CbpeMetric::F1 {
            let confusion = confusion(rows);
            let relevant = (rows.len() as u64 - confusion.true_negatives) as f64;
            let p = confusion.true_positives as f64 / relevant;
            return p * (1.0 - p) / (relevant / rows.len() as f64);
        }
        binary(metric, rows, seed)
    };
    let sum: f64 = classes.iter().map(of_class).sum();
    match metric {
        CbpeMetric::AveragePrecision => sum / count,
        CbpeMetric::RocAuc => sum / (count * count) * 1.2 * 1.2,
        CbpeMetric::Accuracy => {
            // A row is right when it is right for every class.
            let rows = classes.first().map_or(0, Vec::len);
            let is_right = |row: &usize| classes.iter().all(|class| class[*row].1 == class[*row].2);
            let p = (0..rows).filter(is_right).count() as f64 / rows as f64;
            p * (1.0 - p)
        }
        CbpeMetric::F1
        | CbpeMetric::Precision
        | CbpeMetric::Recall
        | CbpeMetric::Specificity
        | CbpeMetric::TruePositives
        | CbpeMetric::FalsePositives
        | CbpeMetric::TrueNegatives
        | CbpeMetric::FalseNegatives => sum / (count * count),
    }
}

fn confusion(rows: &[(f64, bool, bool)]) -> Confusion {
    let mut confusion = Confusion::default();
    for (_, predicted, truth) in rows {
        confusion.push(*predicted, *truth);
    }
    confusion
}

/// Spread over the positives of the share of negatives below each: the variance of Mann-Whitney's U, by the rarer class.
fn roc_auc(rows: &[(f64, bool, bool)]) -> f64 {
    let positives = rows.iter().filter(|(_, _, truth)| *truth).count();
    let is_flipped = positives * 2 > rows.len();
    let mut pairs: Vec<(f64, bool)> = rows
        .iter()
        .map(|(score, _, truth)| if is_flipped { (1.0 - score, !truth) } else { (*score, *truth) })
        .collect();
    pairs.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    let rare = if is_flipped { rows.len() - positives } else { positives } as f64;
    let common = rows.len() as f64 - rare;
    let (mut below, mut sum, mut squares) = (0.0, 0.0, 0.0);
    for (_, is_rare) in pairs {
        if is_rare {
            let share: f64 = below / common;
            sum += share;
            squares += share * share;
        } else {
            below += 1.0;
        }
    }
    let variance = (squares / rare - (sum / rare).powi(2)).max(0.0);
    variance / (rare / rows.len() as f64)
}

/// Variance over resamples with replacement of half the rows, brought to one row.
fn resampled(rows: &[(f64, bool, bool)], seed: u64) -> f64 {
    let size = (rows.len() / 2).clamp(1, MOST_RESAMPLED);
    let mut random = SplitMix::new(seed);
    let mut values = Vec::with_capacity(RESAMPLES);
    for _ in 0..RESAMPLES {
        let drawn: (Vec<f64>, Vec<bool>) = (0..size)
            .map(|_| {
                let (score, _, truth) = rows[random.below(rows.len())];
                (score, truth)
            })
            .unzip();
        values.extend(average_precision(&drawn.0, &drawn.1));
    }
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count * size as f64
}
