//! A reference in the forms that the statistics of a window need, each made once.

use std::collections::BTreeMap;

use fishy_contracts::monitoring::Statistic;
use fishy_core::{Error, Result};
use fishy_drift::{Cbpe, CbpeMetric, ClassColumn, Dle, DleMetric, Estimate, Sample};

use super::readings::Readings;
use super::statistics::{self, Outcome, classes, says_yes, thinned};
use super::{CheckRow, slices};

/// Rows that limits are learnt from by resampling.
const RESAMPLED_ROWS: usize = 2_000;
const SEED: u64 = 7;

/// A reference.
pub struct Reference<'a> {
    rows: &'a [CheckRow],
    features: &'a [String],
    least: usize,
    readings: Readings<'a>,
    places: BTreeMap<String, Vec<usize>>,
    samples: BTreeMap<(String, String), Option<Sample>>,
    dle: Option<Result<Dle, String>>,
    cbpe: Option<Result<Cbpe, String>>,
    limits: BTreeMap<(Statistic, String, String, usize), Vec<f64>>,
}

impl<'a> Reference<'a> {
    /// Rows in event-time order; slices with fewer than `least` readings are compared with all rows.
    pub fn new(rows: &'a [CheckRow], features: &'a [String], least: usize) -> Self {
        Self {
            rows,
            features,
            least,
            readings: Readings::new(rows),
            places: BTreeMap::new(),
            samples: BTreeMap::new(),
            dle: None,
            cbpe: None,
            limits: BTreeMap::new(),
        }
    }

    fn readings(&mut self, slice: &str, feature: &str) -> Vec<f64> {
        let readings = self.readings_of(slice, feature);
        if readings.len() >= self.least || slice.is_empty() { readings } else { self.readings_of("", feature) }
    }

    fn readings_of(&mut self, slice: &str, feature: &str) -> Vec<f64> {
        if !self.places.contains_key(slice) {
            self.places.insert(slice.to_owned(), slices::of(self.rows, slice));
        }
        self.readings.of(feature, self.places.get(slice).map_or(&[], Vec::as_slice))
    }

    /// The readings of a feature in a slice, or in all where the slice has too few; `None` without any.
    pub fn sample(&mut self, slice: &str, feature: &str) -> Option<&Sample> {
        let key = (slice.to_owned(), feature.to_owned());
        if !self.samples.contains_key(&key) {
            let sample = Sample::from_vec(self.readings(slice, feature)).ok();
            self.samples.insert(key.clone(), sample);
        }
        self.samples.get(&key)?.as_ref()
    }

    /// The rows that have all features, column by column.
    pub fn columns(&self) -> Vec<Vec<f64>> {
        columns(&self.rows.iter().collect::<Vec<_>>(), self.features)
    }

    /// A figure of performance of a window as it is expected from how the model erred in the reference.
    pub fn estimate(&mut self, statistic: Statistic, rows: &[&CheckRow]) -> Result<Outcome> {
        let answered: Vec<&CheckRow> =
            rows.iter().copied().filter(|row| row.faulty.is_empty() && row.row.output.is_some()).collect();
        let outputs: Vec<f64> = answered.iter().filter_map(|row| row.row.output).collect();
        let dle_metric = match statistic {
            Statistic::EstimatedMae => Some(DleMetric::Mae),
            Statistic::EstimatedRmse => Some(DleMetric::Rmse),
            _ => None,
        };
        if let Some(wanted) = dle_metric {
            if self.dle.is_none() {
                self.dle = Some(self.fit_dle(outputs.len()).map_err(|error| error.message().to_owned()));
            }
            let dle = fitted(self.dle.as_ref())?;
            let estimates = dle.estimate(&with_gaps(&answered, self.features), &outputs)?;
            return outcome_of(estimates.iter().find(|found| found.metric == wanted));
        }
        let wanted = match statistic {
            Statistic::EstimatedAccuracy => CbpeMetric::Accuracy,
            Statistic::EstimatedF1 => CbpeMetric::F1,
            _ => CbpeMetric::RocAuc,
        };
        if self.cbpe.is_none() {
            self.cbpe = Some(self.fit_cbpe(outputs.len()).map_err(|error| error.message().to_owned()));
        }
        let cbpe = fitted(self.cbpe.as_ref())?;
        let predicted: Vec<bool> = outputs.iter().map(|probability| says_yes(*probability)).collect();
        let estimates = cbpe.estimate(&[ClassColumn { scores: &outputs, predicted: &predicted }])?;
        outcome_of(estimates.iter().find(|found| found.metric == wanted))
    }

    fn fit_dle(&self, chunk: usize) -> Result<Dle> {
        let rows: Vec<&CheckRow> = self.rows.iter().filter(|row| row.answered().is_some()).collect();
        let (predicted, truth): (Vec<f64>, Vec<f64>) = rows.iter().filter_map(|row| row.answered()).unzip();
        Dle::fit(&with_gaps(&rows, self.features), &predicted, &truth, chunk.max(1))
    }

    fn fit_cbpe(&self, chunk: usize) -> Result<Cbpe> {
        let (scores, truth): (Vec<f64>, Vec<f64>) = self.rows.iter().filter_map(CheckRow::answered).unzip();
        let predicted: Vec<bool> = scores.iter().map(|probability| says_yes(*probability)).collect();
        let truth = classes(&truth)?;
        Cbpe::fit(&[ClassColumn { scores: &scores, predicted: &predicted }], &[&truth], chunk.max(1), SEED)
    }

    /// The figure of so many stretches of the reference, each as long as the window, against the rest of it, ascending by
    /// badness. Neighbours stay neighbours in them: tides and days make a window differ more than drawn readings would.
    pub fn resampled(
        &mut self,
        statistic: Statistic,
        slice: &str,
        feature: &str,
        window: usize,
        count: usize,
    ) -> &[f64] {
        let window = rounded(window);
        let key = (statistic, slice.to_owned(), feature.to_owned(), window);
        if !self.limits.contains_key(&key) {
            let values = self.stretches(statistic, slice, feature, window, count);
            self.limits.insert(key.clone(), values);
        }
        self.limits.get(&key).map_or(&[], Vec::as_slice)
    }

    fn stretches(&mut self, statistic: Statistic, slice: &str, feature: &str, window: usize, count: usize) -> Vec<f64> {
        let mut values = match statistics::kind(statistic) {
            statistics::Kind::Performance => {
                let of_slice = slices::of(self.rows, slice);
                let mut answered: Vec<(f64, f64)> =
                    of_slice.iter().filter_map(|place| self.rows[*place].answered()).collect();
                if answered.len() < self.least {
                    answered = self.rows.iter().filter_map(CheckRow::answered).collect();
                }
                each_stretch(&answered, window, count, |stretch, _| statistics::of_performance(statistic, stretch))
            }
            statistics::Kind::Numeric | statistics::Kind::Categorical => {
                let readings = self.readings(slice, feature);
                let every = readings.len().div_ceil(RESAMPLED_ROWS).max(1);
                // Of a long reference every n-th reading, of both the stretch and the rest.
                let (readings, window) = (thinned(&readings, RESAMPLED_ROWS), window.div_ceil(every));
                each_stretch(&readings, window, count, |stretch, rest| {
                    statistics::of_feature(statistic, &Sample::new(rest)?, &Sample::new(stretch)?)
                })
            }
            statistics::Kind::Missing | statistics::Kind::Together | statistics::Kind::Estimated => Vec::new(),
        };
        for value in &mut values {
            *value = statistics::badness(statistic, *value);
        }
        values.sort_unstable_by(f64::total_cmp);
        values
    }
}

fn fitted<T>(model: Option<&Result<T, String>>) -> Result<&T> {
    match model {
        Some(Ok(model)) => Ok(model),
        Some(Err(problem)) => Err(Error::precondition(problem.clone())),
        None => Err(Error::internal("an estimator that was never fitted")),
    }
}

fn outcome_of<M>(estimate: Option<&Estimate<M>>) -> Result<Outcome> {
    estimate.map(Outcome::from).ok_or_else(|| Error::precondition("there is no estimate for these answers"))
}

/// To three binary digits: windows of nearly the same length share their stretches.
const fn rounded(count: usize) -> usize {
    let bits = usize::BITS - count.leading_zeros();
    if bits <= 3 { count } else { (count >> (bits - 3)) << (bits - 3) }
}

fn each_stretch<T: Clone>(
    items: &[T],
    window: usize,
    count: usize,
    figure: impl Fn(&[T], &[T]) -> Result<Outcome>,
) -> Vec<f64> {
    // A stretch of more than half of the reference would be compared with less than itself.
    let window = window.min(items.len() / 2);
    if window < 2 {
        return Vec::new();
    }
    let places = items.len() - window;
    let one = |at: usize| {
        let from = if count < 2 { 0 } else { at * places / (count - 1) };
        let rest = [&items[..from], &items[from + window..]].concat();
        figure(&items[from..from + window], &rest).ok().map(|outcome| outcome.value)
    };
    (0..count).filter_map(one).filter(|value| value.is_finite()).collect()
}

/// The rows that have all features, column by column.
pub fn columns(rows: &[&CheckRow], features: &[String]) -> Vec<Vec<f64>> {
    let mut columns = vec![Vec::new(); features.len()];
    for row in rows {
        let readings: Option<Vec<f64>> = features.iter().map(|feature| row.reading(feature)).collect();
        for (column, reading) in columns.iter_mut().zip(readings.unwrap_or_default()) {
            column.push(reading);
        }
    }
    columns
}

/// All rows, what is missing as NaN.
fn with_gaps(rows: &[&CheckRow], features: &[String]) -> Vec<Vec<f64>> {
    let column =
        |feature: &String| rows.iter().map(|row| row.reading(feature).unwrap_or(f64::NAN)).collect::<Vec<f64>>();
    features.iter().filter(|feature| !feature.starts_with('$')).map(column).collect()
}
