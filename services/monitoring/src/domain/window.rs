//! The figures of an hour or a day, from its rows.

use std::collections::{BTreeMap, BTreeSet};

use fishy_drift::{BinCounts, Reference, RegressionError};

use super::hour_of;

/// Most values of a feature in one day that the Kolmogorov-Smirnov statistic is computed from. Beyond it every other
/// value is dropped, and again: the statistic of such a sample lies within about 0.01 of the exact one.
const KS_VALUES: usize = 50_000;

/// The reference of each feature.
pub type References = BTreeMap<String, Reference>;

/// Readings by feature, and by bin of its reference.
pub type DriftCounts = BTreeMap<String, BinCounts>;

/// One row of a window.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Row {
    /// Event time.
    pub time_ms: i64,
    /// The features.
    pub inputs: BTreeMap<String, Option<f64>>,
    /// What was answered.
    pub output: Option<f64>,
    /// The true value, once it is known.
    pub value: Option<f64>,
    /// Labels such as pen.
    pub labels: BTreeMap<String, String>,
}

/// What is counted in any window.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Counts {
    /// Predictions.
    pub predictions: u64,
    /// Of these, with a true value.
    pub labels: u64,
    /// Their errors.
    pub errors: RegressionError,
    /// Rows without a value, by feature.
    pub missing: BTreeMap<String, u64>,
}

/// The figures of one day and its hours, row by row.
#[derive(Debug, Default)]
pub struct Day {
    /// The day.
    pub whole: Counts,
    /// Its hours, by their beginning; only those with rows.
    pub hours: BTreeMap<i64, Counts>,
    counts: DriftCounts,
    samples: BTreeMap<String, Sample>,
}

/// At most [`KS_VALUES`] of the values that were pushed, evenly spread.
#[derive(Debug, Default)]
struct Sample {
    values: Vec<f64>,
    /// Every `2^halvings`-th value is kept.
    halvings: u32,
    pushed: u64,
}

impl Sample {
    fn push(&mut self, value: f64) {
        if self.pushed.is_multiple_of(1 << self.halvings) {
            if self.values.len() == KS_VALUES {
                let mut place = 0;
                self.values.retain(|_| {
                    place += 1;
                    place % 2 == 1
                });
                self.halvings += 1;
            }
            if self.pushed.is_multiple_of(1 << self.halvings) {
                self.values.push(value);
            }
        }
        self.pushed += 1;
    }
}

impl Day {
    /// Counts rows; `watched` are the features that are looked at, all those of a row if it is empty.
    pub fn push(&mut self, rows: &[Row], watched: &BTreeSet<String>, references: &References) {
        let features: BTreeSet<&String> = if watched.is_empty() {
            rows.iter().flat_map(|row| row.inputs.keys()).collect()
        } else {
            watched.iter().collect()
        };
        let features: Vec<(&String, bool)> =
            features.into_iter().map(|feature| (feature, references.contains_key(feature))).collect();
        let mut columns = vec![Vec::new(); features.len()];
        for rows in rows.chunk_by(|a, b| hour_of(a.time_ms) == hour_of(b.time_ms)) {
            let hour = self.hours.entry(hour_of(rows[0].time_ms)).or_default();
            // Of a feature that no row has, where none is watched, nothing is noted.
            let mut missing: Vec<Option<u64>> = vec![None; features.len()];
            for row in rows {
                for counts in [&mut self.whole, &mut *hour] {
                    counts.push(row);
                }
                // Both are in order.
                let mut inputs = row.inputs.iter().peekable();
                for (place, (feature, is_compared)) in features.iter().enumerate() {
                    while inputs.next_if(|(name, _)| name < feature).is_some() {}
                    let value = inputs.next_if(|(name, _)| name == feature).map(|(_, value)| *value);
                    match value {
                        Some(Some(value)) => {
                            missing[place].get_or_insert(0);
                            if *is_compared {
                                columns[place].push(value);
                            }
                        }
                        None if watched.is_empty() => {}
                        Some(None) | None => *missing[place].get_or_insert(0) += 1,
                    }
                }
            }
            for counts in [&mut self.whole, hour] {
                for ((feature, _), missing) in features.iter().zip(&missing) {
                    if let Some(missing) = missing {
                        *counts.missing.entry((*feature).clone()).or_default() += missing;
                    }
                }
            }
        }
        for ((feature, _), values) in features.into_iter().zip(columns).filter(|(_, values)| !values.is_empty()) {
            let Some(reference) = references.get(feature) else { continue };
            self.counts.entry(feature.to_owned()).or_default().merge(&reference.bin_counts(&values));
            let sample = self.samples.entry(feature.to_owned()).or_default();
            for value in values {
                sample.push(value);
            }
        }
    }

    /// PSI by feature.
    pub fn psi(&self, references: &References) -> BTreeMap<String, f64> {
        psi(&self.counts, references)
    }

    /// Kolmogorov-Smirnov statistic by feature.
    pub fn ks(&self, references: &References) -> BTreeMap<String, f64> {
        let one = |(feature, sample): (&String, &Sample)| {
            let test = references.get(feature)?.ks(&sample.values)?;
            Some((feature.clone(), test.statistic))
        };
        self.samples.iter().filter_map(one).collect()
    }

    /// The readings by bin, to add up over days.
    pub fn into_counts(self) -> DriftCounts {
        self.counts
    }
}

impl Counts {
    fn push(&mut self, row: &Row) {
        self.predictions += 1;
        if let Some(value) = row.value {
            self.labels += 1;
            if let Some(output) = row.output {
                self.errors.push(output, value);
            }
        }
    }

    /// Share of missing values by feature.
    pub fn missing_share(&self) -> BTreeMap<String, f64> {
        let rows = self.predictions.max(1) as f64;
        self.missing.iter().map(|(feature, missing)| (feature.clone(), *missing as f64 / rows)).collect()
    }
}

/// PSI by feature of counts that may span several days.
pub fn psi(counts: &DriftCounts, references: &References) -> BTreeMap<String, f64> {
    let one = |(feature, counts): (&String, &BinCounts)| {
        Some((feature.clone(), references.get(feature)?.psi_of_counts(counts)?))
    };
    counts.iter().filter_map(one).collect()
}

/// The references of a training sample; features without a single value have none.
pub fn references(columns: &BTreeMap<String, Vec<f64>>) -> References {
    let one = |(feature, values): (&String, &Vec<f64>)| Some((feature.clone(), Reference::from_sample(values).ok()?));
    columns.iter().filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use fishy_core::time::{HOUR_MS, MINUTE_MS};

    use super::*;

    fn row(time_ms: i64, temp: Option<f64>, output: f64, value: Option<f64>) -> Row {
        let inputs = BTreeMap::from([("temp".to_owned(), temp)]);
        Row { time_ms, inputs, output: Some(output), value, labels: BTreeMap::new() }
    }

    #[test]
    fn a_day_counts_its_rows_hours_errors_and_gaps() {
        let rows = [
            row(0, Some(10.0), 5.0, Some(6.0)),
            row(30 * MINUTE_MS, None, 5.0, Some(2.0)),
            row(HOUR_MS, Some(11.0), 5.0, None),
        ];
        let mut day = Day::default();
        let watched = BTreeSet::from(["temp".to_owned(), "ph".to_owned()]);
        day.push(&rows, &watched, &References::new());
        assert_eq!((day.whole.predictions, day.whole.labels, day.whole.errors.mae()), (3, 2, Some(2.0)));
        assert_eq!(day.whole.missing, BTreeMap::from([("ph".to_owned(), 3), ("temp".to_owned(), 1)]));
        let hours: Vec<_> = day.hours.iter().map(|(hour, counts)| (*hour, counts.predictions, counts.labels)).collect();
        assert_eq!(hours, [(0, 2, 2), (HOUR_MS, 1, 0)]);
        assert_eq!(day.hours[&0].missing_share()["temp"].to_bits(), 0.5_f64.to_bits());
    }

    #[test]
    fn where_no_feature_is_watched_those_of_each_row_count() {
        let mut rows = [row(0, Some(10.0), 5.0, None), row(1, Some(11.0), 5.0, None), row(HOUR_MS, None, 5.0, None)];
        rows[1].inputs.insert("ph".to_owned(), None);
        rows[2].inputs.insert("salinity".to_owned(), Some(30.0));
        let mut day = Day::default();
        day.push(&rows, &BTreeSet::new(), &References::new());
        let counts = |pairs: &[(&str, u64)]| pairs.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect();
        let (first, second): (BTreeMap<_, _>, BTreeMap<_, _>) =
            (counts(&[("ph", 1), ("temp", 0)]), counts(&[("salinity", 0), ("temp", 1)]));
        assert_eq!((&day.hours[&0].missing, &day.hours[&HOUR_MS].missing), (&first, &second));
        assert_eq!(day.whole.missing, counts(&[("ph", 1), ("salinity", 0), ("temp", 1)]));
    }

    #[test]
    fn days_add_up_to_the_psi_of_their_rows_together() {
        let sample: Vec<f64> = (0..500).map(|i| f64::from(i) * 0.1).collect();
        let references = references(&BTreeMap::from([("temp".to_owned(), sample)]));
        let rows: Vec<Row> = (0..300_u32).map(|i| row(0, Some(f64::from(i) * 0.13), 0.0, None)).collect();
        let mut together = Day::default();
        together.push(&rows, &BTreeSet::new(), &references);
        let mut sum = DriftCounts::new();
        for part in rows.chunks(70) {
            let mut day = Day::default();
            day.push(part, &BTreeSet::new(), &references);
            for (feature, counts) in day.into_counts() {
                sum.entry(feature).or_default().merge(&counts);
            }
        }
        assert_eq!(psi(&sum, &references), together.psi(&references));
        assert!(together.ks(&references)["temp"] > 0.1);
    }

    #[test]
    fn a_large_sample_is_thinned_evenly() {
        let mut sample = Sample::default();
        (0..200_000).for_each(|i| sample.push(f64::from(i)));
        assert!(sample.values.len() <= KS_VALUES && sample.values.len() >= KS_VALUES / 2);
        let step = sample.values[1] - sample.values[0];
        assert!(sample.values.windows(2).all(|pair| (pair[1] - pair[0] - step).abs() < f64::EPSILON));
    }
}
