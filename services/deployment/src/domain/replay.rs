//! The figures of a replay: how a candidate answers what was asked live.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use fishy_contracts::deployment::{
    AnswerKind, Differences, Flips, ReplayFigures, ReplayRequest, ReplaySlice, RowLatency, TruthErrors,
};
use fishy_core::{Error, Result};
use fishy_inference::{Datatype, Tensor, TensorData, TensorSpec};

/// So many predictions are replayed at most.
const MAX_ROWS: u64 = 1_000_000;
const MAX_THRESHOLDS: usize = 20;
/// So many values of a label are told apart.
const MAX_SLICES: usize = 200;

/// Refuses what makes no sense.
pub(crate) fn check(request: &ReplayRequest) -> Result<()> {
    let ReplayRequest { from_ms, to_ms, thresholds, tolerance, max_rows, .. } = request;
    if from_ms >= to_ms {
        return Err(Error::invalid(format!("the span is empty: from_ms {from_ms} must be before to_ms {to_ms}")));
    }
    if !(tolerance.is_finite() && *tolerance >= 0.0) {
        return Err(Error::invalid(format!("tolerance is {tolerance}: use 0 or more")));
    }
    if thresholds.len() > MAX_THRESHOLDS || thresholds.iter().any(|threshold| !threshold.is_finite()) {
        return Err(Error::invalid(format!("thresholds must be numbers, and at most {MAX_THRESHOLDS}")));
    }
    if !(1..=MAX_ROWS).contains(max_rows) {
        return Err(Error::invalid(format!("max_rows is {max_rows}: use 1 to {MAX_ROWS}")));
    }
    Ok(())
}

/// The place of the output that is compared: the one that is named, else the first one by name that is a number a row, as
/// monitoring keeps it.
pub(crate) fn compared_output(outputs: &[TensorSpec], wanted: &str) -> Result<usize> {
    let is_number = |spec: &TensorSpec| !matches!(spec.datatype, Datatype::Bool | Datatype::Bytes);
    let is_scalar = |spec: &TensorSpec| spec.shape.iter().skip(1).all(|size| matches!(size, 1 | -1));
    let mut fitting = outputs.iter().enumerate().filter(|(_, spec)| is_number(spec) && is_scalar(spec));
    let found = if wanted.is_empty() {
        fitting.min_by(|(_, a), (_, b)| a.name.cmp(&b.name))
    } else {
        fitting.find(|(_, spec)| spec.name == wanted)
    };
    found.map(|(place, _)| place).ok_or_else(|| {
        let what = if wanted.is_empty() { "no output".to_owned() } else { format!("no output {wanted:?}") };
        Error::precondition(format!(
            "the model gives {what} of one number a row, and only such answers can be compared"
        ))
    })
}

/// What the answers of an output are.
pub(crate) const fn kind_of(spec: &TensorSpec) -> AnswerKind {
    match spec.datatype {
        Datatype::Fp16 | Datatype::Bf16 | Datatype::Fp32 | Datatype::Fp64 => AnswerKind::Quantity,
        _ => AnswerKind::Class,
    }
}

/// The answers of one output, row by row; a row without a finite number has none.
pub(crate) fn answers(output: Option<&Tensor>, rows: usize) -> Result<Vec<Option<f64>>> {
    let numbers = output.and_then(|output| as_recorded(&output.data)).filter(|numbers| numbers.len() == rows);
    let numbers =
        numbers.ok_or_else(|| Error::precondition("the candidate's answer has not one number for each row"))?;
    Ok(numbers.into_iter().map(|number| Some(number).filter(|number| number.is_finite())).collect())
}

/// Numbers as they read back from a record: a record has the shortest decimal form of a float, not the float itself.
fn as_recorded(data: &TensorData) -> Option<Vec<f64>> {
    let read_back = |value: f32| value.to_string().parse().unwrap_or(f64::NAN);
    Some(match data {
        TensorData::Fp32(values) => values.iter().map(|value| read_back(*value)).collect(),
        TensorData::Fp16(values) => values.iter().map(|value| read_back(f32::from(*value))).collect(),
        TensorData::Bf16(values) => values.iter().map(|value| read_back(f32::from(*value))).collect(),
        other => return other.to_f64(),
    })
}

/// One prediction that was asked again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Replayed {
    pub(crate) recorded: Option<f64>,
    pub(crate) candidate: Option<f64>,
    pub(crate) truth: Option<f64>,
}

/// How answers are compared.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    pub(crate) kind: AnswerKind,
    pub(crate) tolerance: f64,
    pub(crate) thresholds: Vec<f64>,
}

/// What is counted of some predictions.
#[derive(Debug, Default)]
struct Tally {
    rows: u64,
    compared: u64,
    failed: u64,
    changed: u64,
    differences: Vec<f64>,
    /// To below and to above, by threshold.
    flips: Vec<[u64; 2]>,
    recorded: Sums,
    candidate: Sums,
}

/// Sums of answer minus true value.
#[derive(Debug, Default)]
struct Sums {
    labels: u64,
    signed: f64,
    size: f64,
    square: f64,
    wrong: u64,
}

impl Sums {
    fn add(&mut self, answer: f64, truth: f64) {
        let error = answer - truth;
        self.labels += 1;
        self.signed += error;
        self.size += error.abs();
        self.square += error * error;
        self.wrong += u64::from(error != 0.0);
    }

    fn errors(&self, kind: AnswerKind) -> TruthErrors {
        let count = self.labels as f64;
        let mean = |sum: f64| (kind == AnswerKind::Quantity && self.labels > 0).then(|| sum / count);
        TruthErrors {
            labels: self.labels,
            mae: mean(self.size),
            rmse: mean(self.square).map(f64::sqrt),
            bias: mean(self.signed),
            wrong: (kind == AnswerKind::Class).then_some(self.wrong),
        }
    }
}

impl Tally {
    fn add(&mut self, rules: &Rules, row: Replayed) {
        self.rows += 1;
        let Some(candidate) = row.candidate else {
            self.failed += 1;
            return;
        };
        let Some(recorded) = row.recorded else { return };
        self.compared += 1;
        let difference = candidate - recorded;
        let allowed = match rules.kind {
            AnswerKind::Quantity => rules.tolerance * recorded.abs().max(1.0),
            AnswerKind::Class => 0.0,
        };
        self.changed += u64::from(difference.abs() > allowed);
        if rules.kind == AnswerKind::Quantity {
            self.differences.push(difference);
        }
        self.flips.resize(rules.thresholds.len(), [0; 2]);
        for (flips, threshold) in self.flips.iter_mut().zip(&rules.thresholds) {
            match (recorded < *threshold, candidate < *threshold) {
                (false, true) => flips[0] += 1,
                (true, false) => flips[1] += 1,
                _ => {}
            }
        }
        if let Some(truth) = row.truth {
            self.recorded.add(recorded, truth);
            self.candidate.add(candidate, truth);
        }
    }

    fn figures(mut self, rules: &Rules) -> ReplayFigures {
        self.flips.resize(rules.thresholds.len(), [0; 2]);
        let flips = self.flips.iter().zip(&rules.thresholds);
        ReplayFigures {
            rows: self.rows,
            compared: self.compared,
            failed: self.failed,
            changed: self.changed,
            flips: flips
                .map(|([to_below, to_above], threshold)| Flips {
                    threshold: *threshold,
                    to_below: *to_below,
                    to_above: *to_above,
                })
                .collect(),
            recorded: self.recorded.errors(rules.kind),
            candidate: self.candidate.errors(rules.kind),
            difference: differences(self.differences),
        }
    }
}

fn differences(mut differences: Vec<f64>) -> Option<Differences> {
    if differences.is_empty() {
        return None;
    }
    differences.sort_unstable_by(f64::total_cmp);
    let count = differences.len() as f64;
    Some(Differences {
        mean: differences.iter().sum::<f64>() / count,
        mean_abs: differences.iter().map(|difference| difference.abs()).sum::<f64>() / count,
        max_abs: differences.iter().fold(0.0, |largest: f64, difference| largest.max(difference.abs())),
        p05: quantile(&differences, 0.05),
        p50: quantile(&differences, 0.5),
        p95: quantile(&differences, 0.95),
    })
}

/// Between the two nearest values, linearly (type 7 of Hyndman and Fan 1996); of at least one.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = (sorted.len() - 1) as f64 * share;
    let below = place.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (sorted[above] - sorted[below]) * place.fract()
}

/// Quantiles of times in microseconds; none of none.
pub(crate) fn latency(mut times_us: Vec<f64>) -> Option<RowLatency> {
    if times_us.is_empty() {
        return None;
    }
    times_us.sort_unstable_by(f64::total_cmp);
    let rows = times_us.len() as u64;
    Some(RowLatency { rows, p50_us: quantile(&times_us, 0.5), p99_us: quantile(&times_us, 0.99) })
}

/// All predictions, and those of each value of a label.
#[derive(Debug)]
pub(crate) struct Tallies {
    rules: Rules,
    by: String,
    overall: Tally,
    slices: BTreeMap<Option<String>, Tally>,
    unsliced: u64,
}

impl Tallies {
    /// `by` is the label; empty for none.
    pub(crate) fn new(rules: Rules, by: &str) -> Self {
        Self { rules, by: by.to_owned(), overall: Tally::default(), slices: BTreeMap::new(), unsliced: 0 }
    }

    pub(crate) const fn rows(&self) -> u64 {
        self.overall.rows
    }

    pub(crate) fn add(&mut self, labels: &BTreeMap<String, String>, row: Replayed) {
        self.overall.add(&self.rules, row);
        if self.by.is_empty() {
            return;
        }
        let value = labels.get(&self.by);
        if let Some(tally) = self.slices.get_mut(&value.cloned()) {
            tally.add(&self.rules, row);
        } else if self.slices.len() < MAX_SLICES {
            self.slices.entry(value.cloned()).or_default().add(&self.rules, row);
        } else {
            self.unsliced += 1;
        }
    }

    /// All together; by value, the worst first; and how many have no slice.
    pub(crate) fn figures(self) -> (ReplayFigures, Vec<ReplaySlice>, u64) {
        let rules = &self.rules;
        let slices = self.slices.into_iter().map(|(value, tally)| ReplaySlice { value, figures: tally.figures(rules) });
        let mut slices: Vec<ReplaySlice> = slices.collect();
        slices.sort_by(|a, b| worse(&a.figures, &b.figures));
        (self.overall.figures(rules), slices, self.unsliced)
    }
}

/// The worse one first: by how much the error grew, where true values are known; then by changed answers.
fn worse(a: &ReplayFigures, b: &ReplayFigures) -> Ordering {
    let key = |figures: &ReplayFigures| {
        let share = figures.changed as f64 / figures.compared.max(1) as f64;
        (growth(figures).unwrap_or(f64::NEG_INFINITY), share)
    };
    let (a, b) = (key(a), key(b));
    b.0.total_cmp(&a.0).then(b.1.total_cmp(&a.1))
}

fn growth(figures: &ReplayFigures) -> Option<f64> {
    let error = |errors: &TruthErrors| {
        let wrong = errors.wrong.filter(|_| errors.labels > 0).map(|wrong| wrong as f64 / errors.labels as f64);
        errors.mae.or(wrong)
    };
    Some(error(&figures.candidate)? - error(&figures.recorded)?)
}

#[cfg(test)]
mod tests;
