use fishy_core::{Error, Result};
use serde::{Deserialize, Serialize};

use super::both_rows;
use crate::boosting::{Boosted, Objective};
use crate::performance::roc_auc;
use crate::random::SplitMix;

/// Parts of the cross validation.
const FOLDS: usize = 5;
/// Fewest rows of either sample.
const LEAST_ROWS: usize = 50;

/// How well a classifier tells the current sample from the reference.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DomainClassifier {
    /// Area under the ROC curve on held-out rows: 0.5 when the samples cannot be told apart, 1 when they always can. It is
    /// its own effect size; NannyML alerts outside 0.45 to 0.65.
    pub roc_auc: f64,
    /// The same with one column shuffled among the held-out rows: the lower, the more that column gives the sample away.
    pub without_column: Vec<f64>,
}

/// Trains gradient boosted trees to tell the two samples apart, with five-fold cross validation, stratified. The seed draws
/// the folds and the shuffles. Categories go in as numbers. Refused for fewer than 50 rows a side.
pub fn domain_classifier(reference: &[Vec<f64>], current: &[Vec<f64>], seed: u64) -> Result<DomainClassifier> {
    let (n, m) = both_rows(reference, current)?;
    if n < LEAST_ROWS || m < LEAST_ROWS {
        return Err(Error::precondition(format!(
            "a domain classifier needs at least {LEAST_ROWS} rows of either sample, and there are {n} and {m}"
        )));
    }
    let columns: Vec<Vec<f64>> =
        reference.iter().zip(current).map(|(reference, current)| [&reference[..], current].concat()).collect();
    let mut random = SplitMix::new(seed);
    let mut fold = vec![0; n + m];
    for (start, count) in [(0, n), (n, m)] {
        let mut order: Vec<usize> = (start..start + count).collect();
        random.shuffle(&mut order);
        for (place, row) in order.into_iter().enumerate() {
            fold[row] = place % FOLDS;
        }
    }
    // Scores of each held-out row: of the row as it is, and with each column in turn from another row.
    let mut scores = vec![vec![0.0; n + m]; columns.len() + 1];
    for held_out in 0..FOLDS {
        let (test, train): (Vec<usize>, Vec<usize>) = (0..n + m).partition(|row| fold[*row] == held_out);
        let of_train: Vec<Vec<f64>> =
            columns.iter().map(|column| train.iter().map(|row| column[*row]).collect()).collect();
        let target: Vec<f64> = train.iter().map(|row| f64::from(u8::from(*row >= n))).collect();
        let fitted = Boosted::fit(&of_train, &target, Objective::Logistic)?;
        for row in &test {
            scores[0][*row] = fitted.predict(|feature| columns[feature][*row]);
        }
        for shuffled in 0..columns.len() {
            let mut donors = test.clone();
            random.shuffle(&mut donors);
            for (row, donor) in test.iter().zip(donors) {
                let from = |feature: usize| if feature == shuffled { donor } else { *row };
                scores[shuffled + 1][*row] = fitted.predict(|feature| columns[feature][from(feature)]);
            }
        }
    }
    let is_current: Vec<bool> = (0..n + m).map(|row| row >= n).collect();
    let mut areas = scores.iter().map(|scores| roc_auc(scores, &is_current).unwrap_or(0.5));
    let roc_auc = areas.next().unwrap_or(0.5);
    Ok(DomainClassifier { roc_auc, without_column: areas.collect() })
}
