//! What makes an answer worth a look: uncertainty, disagreement, drift. Each is a number from 0 to 1.

use std::collections::BTreeMap;

use fishy_contracts::monitoring::QueueReason;
use fishy_drift::Reference;

use crate::domain::window::{References, Row};

/// Labelled answers nearest by that an error is estimated from.
const NEAREST: usize = 10;
/// What is weaker is no reason.
const LEAST: f64 = 0.1;

/// An answer that might be shown.
#[derive(Debug, Clone)]
pub struct Candidate {
    pub id: String,
    /// Of one series come alike answers.
    pub series: String,
    pub row: Row,
    /// What other models answered to the same.
    pub others: Vec<f64>,
}

/// What candidates are judged by.
#[derive(Debug, Default)]
pub struct Evidence {
    pub is_probability: bool,
    /// Answers with true values.
    pub labelled: Vec<Row>,
    /// The training data of the champion, by feature.
    pub references: std::sync::Arc<References>,
}

/// Reasons of each candidate, in the order given, the strongest first.
pub fn score(candidates: &[Candidate], evidence: &Evidence) -> Vec<Vec<QueueReason>> {
    let uncertainty = if evidence.is_probability {
        candidates.iter().map(probability_uncertainty).collect()
    } else {
        expected_errors(candidates, &evidence.labelled)
    };
    let apart = disagreements(candidates, evidence.is_probability);
    let drift = candidates.iter().map(|candidate| drift(candidate, &evidence.references));
    let reasons = uncertainty.into_iter().zip(apart).zip(drift).map(|((uncertainty, apart), drift)| {
        let mut reasons: Vec<QueueReason> =
            [uncertainty, apart, drift].into_iter().flatten().filter(|reason| reason.score >= LEAST).collect();
        reasons.sort_by(|a, b| b.score.total_cmp(&a.score));
        if reasons.is_empty() {
            reasons.push(reason("sample", 0.0, "an ordinary answer, to know how good those are".to_owned()));
        }
        reasons
    });
    reasons.collect()
}

fn reason(kind: &str, score: f64, message: String) -> QueueReason {
    QueueReason { kind: kind.to_owned(), score: score.clamp(0.0, 1.0), message }
}

/// 1 at one half, 0 at either end (Lewis and Gale 1994, for two classes).
fn probability_uncertainty(candidate: &Candidate) -> Option<QueueReason> {
    let probability = candidate.row.output.filter(|output| (0.0..=1.0).contains(output))?;
    let score = 1.0 - (2.0 * probability - 1.0).abs();
    Some(reason("uncertainty", score, format!("the probability is {probability:.2}: the model hardly knows")))
}

/// Where a model gives no probability: the mean absolute error of the [`NEAREST`] labelled answers whose inputs are nearest,
/// over the largest of all candidates.
fn expected_errors(candidates: &[Candidate], labelled: &[Row]) -> Vec<Option<QueueReason>> {
    let known: Vec<(&Row, f64)> =
        labelled.iter().filter_map(|row| Some((row, (row.output? - row.value?).abs()))).collect();
    if known.len() < NEAREST {
        return vec![None; candidates.len()];
    }
    let scales = scales(known.iter().map(|(row, _)| *row));
    let errors: Vec<f64> = candidates
        .iter()
        .map(|candidate| {
            let mut nearest: Vec<(f64, f64)> =
                known.iter().map(|(row, error)| (distance(&candidate.row, row, &scales), *error)).collect();
            nearest.select_nth_unstable_by(NEAREST - 1, |a, b| a.0.total_cmp(&b.0));
            nearest[..NEAREST].iter().map(|(_, error)| error).sum::<f64>() / NEAREST as f64
        })
        .collect();
    let largest = errors.iter().copied().fold(0.0, f64::max);
    let of = |error: &f64| {
        (largest > 0.0).then(|| {
            let message = format!("answers to similar inputs were off by {error:.3} on average");
            reason("uncertainty", error / largest, message)
        })
    };
    errors.iter().map(of).collect()
}

/// Standard deviation of each feature.
fn scales<'a>(rows: impl Iterator<Item = &'a Row>) -> BTreeMap<String, f64> {
    let mut sums: BTreeMap<String, (f64, f64, f64)> = BTreeMap::new();
    for (feature, value) in rows.flat_map(|row| &row.inputs).filter_map(|(feature, value)| Some((feature, (*value)?))) {
        let (count, mean, squares) = sums.entry(feature.clone()).or_default();
        *count += 1.0;
        let delta = value - *mean;
        *mean += delta / *count;
        *squares += delta * (value - *mean);
    }
    let deviation = |(count, _, squares): (f64, f64, f64)| (squares / count).sqrt();
    sums.into_iter().map(|(feature, sums)| (feature, deviation(sums))).filter(|(_, scale)| *scale > 0.0).collect()
}

/// Root of the mean squared difference in standard deviations; a value that is missing on either side counts as two.
fn distance(first: &Row, second: &Row, scales: &BTreeMap<String, f64>) -> f64 {
    let value = |row: &Row, feature: &String| row.inputs.get(feature).copied().flatten();
    let squares: f64 = scales
        .iter()
        .map(|(feature, scale)| match (value(first, feature), value(second, feature)) {
            (Some(first), Some(second)) => ((first - second) / scale).powi(2),
            _ => 4.0,
        })
        .sum();
    (squares / scales.len().max(1) as f64).sqrt()
}

/// Largest distance between an answer and what another model answered to the same: of probabilities as it is, of numbers
/// over the largest of all candidates.
fn disagreements(candidates: &[Candidate], is_probability: bool) -> Vec<Option<QueueReason>> {
    let apart: Vec<Option<(f64, f64)>> = candidates
        .iter()
        .map(|candidate| {
            let own = candidate.row.output?;
            let furthest =
                candidate.others.iter().copied().max_by(|a, b| (a - own).abs().total_cmp(&(b - own).abs()))?;
            Some(((furthest - own).abs(), furthest))
        })
        .collect();
    let largest = apart.iter().flatten().map(|(apart, _)| *apart).fold(0.0, f64::max);
    let whole = if is_probability { 1.0 } else { largest };
    let of = |(candidate, apart): (&Candidate, Option<(f64, f64)>)| {
        let (distance, other) = apart.filter(|_| whole > 0.0)?;
        let own = candidate.row.output?;
        let message = format!("one model answers {own:.3}, another {other:.3}");
        Some(reason("disagreement", distance / whole, message))
    };
    candidates.iter().zip(apart).map(of).collect()
}

/// How far the furthest input lies outside the middle 80 % of the training data, in widths of these; 1 at one width.
fn drift(candidate: &Candidate, references: &References) -> Option<QueueReason> {
    let outside = |value: f64, reference: &Reference| {
        let (low, high) = (*reference.edges().first()?, *reference.edges().last()?);
        let width = if high > low { high - low } else { high.abs().max(1.0) };
        Some(((low - value).max(value - high).max(0.0) / width, low, high))
    };
    let furthest = candidate
        .row
        .inputs
        .iter()
        .filter_map(|(feature, value)| {
            let (beyond, low, high) = outside((*value)?, references.get(feature)?)?;
            Some((beyond, feature, (*value)?, low, high))
        })
        .max_by(|a, b| a.0.total_cmp(&b.0))?;
    let (beyond, feature, value, low, high) = furthest;
    let message = format!("{feature} is {value:.3}: 80 % of the training data lie between {low:.3} and {high:.3}");
    Some(reason("drift", beyond, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(temp: f64, output: f64, value: Option<f64>) -> Row {
        Row {
            time_ms: 0,
            inputs: BTreeMap::from([("temp".to_owned(), Some(temp))]),
            output: Some(output),
            value,
            labels: BTreeMap::new(),
        }
    }

    fn candidate(temp: f64, output: f64, others: &[f64]) -> Candidate {
        Candidate { id: String::new(), series: String::new(), row: row(temp, output, None), others: others.to_vec() }
    }

    fn kinds(reasons: &[QueueReason]) -> Vec<(&str, f64)> {
        reasons.iter().map(|reason| (reason.kind.as_str(), (reason.score * 100.0).round() / 100.0)).collect()
    }

    #[test]
    fn a_probability_is_uncertain_near_one_half() {
        let evidence = Evidence { is_probability: true, ..Evidence::default() };
        let scored =
            score(&[candidate(0.0, 0.5, &[]), candidate(0.0, 0.9, &[0.2]), candidate(0.0, 1.0, &[])], &evidence);
        assert_eq!(kinds(&scored[0]), [("uncertainty", 1.0)]);
        assert_eq!(kinds(&scored[1]), [("disagreement", 0.7), ("uncertainty", 0.2)]);
        assert_eq!(kinds(&scored[2]), [("sample", 0.0)]);
    }

    #[test]
    fn a_number_is_uncertain_where_similar_answers_were_wrong() {
        // Right where it is cold, off by one where it is warm.
        let labelled = (0..40).map(|n| row(f64::from(n), 5.0, Some(if n < 20 { 5.0 } else { 6.0 }))).collect();
        let evidence = Evidence { labelled, ..Evidence::default() };
        let scored =
            score(&[candidate(35.0, 5.0, &[]), candidate(2.0, 5.0, &[]), candidate(2.0, 5.0, &[5.4, 4.0])], &evidence);
        assert_eq!(kinds(&scored[0]), [("uncertainty", 1.0)]);
        assert_eq!(kinds(&scored[1]), [("sample", 0.0)]);
        assert_eq!(kinds(&scored[2]), [("disagreement", 1.0)]);
        assert!(scored[2][0].message.contains("5.000, another 4.000"), "{}", scored[2][0].message);
        assert_eq!(kinds(&score(&[candidate(35.0, 5.0, &[])], &Evidence::default())[0]), [("sample", 0.0)]);
    }

    #[test]
    fn drift_names_the_input_that_is_furthest_out() {
        let values: Vec<f64> = (0..=100).map(f64::from).collect();
        let reference = Reference::from_sample(&values).unwrap();
        let references = BTreeMap::from([("temp".to_owned(), reference)]);
        let evidence = Evidence { references: references.into(), ..Evidence::default() };
        let scored =
            score(&[candidate(50.0, 0.0, &[]), candidate(130.0, 0.0, &[]), candidate(900.0, 0.0, &[])], &evidence);
        assert_eq!(kinds(&scored[0]), [("sample", 0.0)]);
        assert_eq!(kinds(&scored[1]), [("drift", 0.5)]);
        assert_eq!(kinds(&scored[2]), [("drift", 1.0)]);
        assert!(scored[1][0].message.starts_with("temp is 130.000"), "{}", scored[1][0].message);
    }
}
