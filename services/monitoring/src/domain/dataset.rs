//! Which labelled rows a dataset holds: only what had arrived by then, and nothing from a broken sensor.

use std::collections::BTreeMap;

use fishy_contracts::monitoring::{DataFault, DatasetRequest, LabelledRow};
use fishy_core::{Error, Result};
use fishy_drift::FindingKind;

use super::is_time;
use super::truth::Truth;

/// A row as it is kept, with everything that is known of it now.
#[derive(Debug, Clone, PartialEq)]
pub struct KeptRow {
    /// Prediction or observation id.
    pub id: String,
    /// Event time.
    pub time_ms: i64,
    /// The features.
    pub inputs: BTreeMap<String, Option<f64>>,
    /// Labels such as pen.
    pub labels: BTreeMap<String, String>,
    /// What was answered.
    pub prediction: Option<f64>,
    /// The version that answered.
    pub version: Option<String>,
    /// The true value as it is known now.
    pub truth: Option<Truth>,
    /// What it replaced, oldest first.
    pub history: Vec<Truth>,
}

/// Lasting data faults by feature.
pub struct Faults {
    by_feature: BTreeMap<String, Vec<DataFault>>,
    series_label: String,
}

impl Faults {
    /// The faults of a monitor.
    pub fn new(series_label: &str, faults: Vec<DataFault>) -> Self {
        let mut by_feature: BTreeMap<String, Vec<DataFault>> = BTreeMap::new();
        // A spike is one or two readings, and a storm looks like one: it is reported, and learned from.
        let lasting = faults.into_iter().filter(|fault| fault.kind != FindingKind::Spike.as_str());
        for fault in lasting {
            by_feature.entry(fault.feature.clone()).or_default().push(fault);
        }
        Self { by_feature, series_label: series_label.to_owned() }
    }

    /// Whether a row lies within a fault of one of its features.
    pub fn cover(&self, row: &KeptRow) -> bool {
        self.faulty(row.time_ms, &row.inputs, &row.labels).next().is_some()
    }

    /// The features of a row that lie within a fault.
    pub fn features_of(
        &self,
        time_ms: i64,
        inputs: &BTreeMap<String, Option<f64>>,
        labels: &BTreeMap<String, String>,
    ) -> Vec<String> {
        self.faulty(time_ms, inputs, labels).cloned().collect()
    }

    fn faulty<'a>(
        &'a self,
        time_ms: i64,
        inputs: &'a BTreeMap<String, Option<f64>>,
        labels: &'a BTreeMap<String, String>,
    ) -> impl Iterator<Item = &'a String> {
        let series = labels.get(&self.series_label).map_or("", String::as_str);
        let covers = move |fault: &DataFault| {
            (fault.series.is_empty() || fault.series == series)
                && fault.since_ms <= time_ms
                && fault.until_ms.is_none_or(|until_ms| time_ms <= until_ms)
        };
        let in_row = self.by_feature.iter().filter(|(feature, _)| inputs.contains_key(*feature));
        in_row.filter(move |(_, faults)| faults.iter().any(covers)).map(|(feature, _)| feature)
    }
}

/// The true value as it was known at a time.
pub fn truth_as_of(row: &KeptRow, as_of_ms: i64) -> Option<Truth> {
    row.history.iter().chain(&row.truth).rfind(|truth| truth.arrived_ms <= as_of_ms).copied()
}

/// The row of a dataset, if it belongs there.
pub fn take(row: KeptRow, request: &DatasetRequest, faults: Option<&Faults>) -> Option<LabelledRow> {
    if !(request.from_ms..request.to_ms).contains(&row.time_ms) || faults.is_some_and(|faults| faults.cover(&row)) {
        return None;
    }
    let truth = truth_as_of(&row, request.as_of_ms)?;
    Some(LabelledRow {
        id: row.id,
        time_ms: row.time_ms,
        arrived_ms: truth.arrived_ms,
        inputs: row.inputs,
        value: truth.value,
        prediction: row.prediction,
        version: row.version,
    })
}

/// Checks a request.
pub fn check(request: &DatasetRequest) -> Result<()> {
    if request.from_ms > request.to_ms || !is_time(request.as_of_ms) {
        return Err(Error::invalid(format!(
            "a dataset from {} to {} as of {}: use milliseconds since the epoch, from before to",
            request.from_ms, request.to_ms, request.as_of_ms
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn row(time_ms: i64, truths: &[(f64, i64)]) -> KeptRow {
        let mut truths: Vec<Truth> =
            truths.iter().map(|(value, at)| Truth { value: *value, arrived_ms: *at }).collect();
        truths.sort_by_key(|truth| truth.arrived_ms);
        let truth = truths.pop();
        KeptRow {
            id: format!("p-{time_ms}"),
            time_ms,
            inputs: BTreeMap::from([("temp".to_owned(), Some(1.0))]),
            labels: BTreeMap::from([("pen".to_owned(), "pen-3".to_owned())]),
            prediction: Some(5.0),
            version: Some("1".to_owned()),
            truth,
            history: truths,
        }
    }

    fn request(from_ms: i64, to_ms: i64, as_of_ms: i64) -> DatasetRequest {
        DatasetRequest { as_of_ms, from_ms, to_ms, without_faults: false, newest: None }
    }

    fn fault(feature: &str, series: &str, since_ms: i64, until_ms: Option<i64>) -> DataFault {
        DataFault {
            id: String::new(),
            monitor: "m".into(),
            feature: feature.into(),
            series: series.into(),
            kind: "stuck".into(),
            since_ms,
            until_ms,
            message: String::new(),
        }
    }

    #[test]
    fn a_correction_is_not_known_before_it_arrives() {
        let corrected = row(0, &[(6.0, 100), (7.0, 200)]);
        let value = |as_of_ms| take(corrected.clone(), &request(0, 10, as_of_ms), None).map(|row| row.value);
        assert_eq!((value(99), value(100), value(199), value(200)), (None, Some(6.0), Some(6.0), Some(7.0)));
    }

    #[test]
    fn rows_within_a_fault_of_their_series_are_left_out() {
        let kept = |fault: DataFault, time_ms| !Faults::new("pen", vec![fault]).cover(&row(time_ms, &[(1.0, 0)]));
        assert!(!kept(fault("temp", "pen-3", 10, Some(20)), 10));
        assert!(!kept(fault("temp", "pen-3", 10, Some(20)), 20));
        assert!(kept(fault("temp", "pen-3", 10, Some(20)), 21));
        assert!(kept(fault("temp", "pen-3", 10, Some(20)), 9));
        assert!(!kept(fault("temp", "pen-3", 10, None), i64::MAX));
        assert!(kept(fault("temp", "pen-4", 10, None), 15), "another pen");
        assert!(!kept(fault("temp", "", 10, None), 15));
        assert!(kept(fault("ph", "pen-3", 10, None), 15), "another feature");
        let spike = DataFault { kind: "spike".into(), ..fault("temp", "pen-3", 10, Some(20)) };
        assert!(kept(spike, 15), "a spike is only reported");
    }

    proptest! {
        #[test]
        fn nothing_that_arrived_later_is_ever_in_a_dataset(
            time_ms in 0_i64..1_000,
            truths in prop::collection::vec((-5.0..5.0_f64, 0_i64..2_000), 0..5),
            from_ms in 0_i64..1_000,
            length in 0_i64..1_000,
            as_of_ms in 0_i64..2_000,
        ) {
            let request = request(from_ms, from_ms + length, as_of_ms);
            let newest_known = truths.iter().filter(|(_, at)| *at <= as_of_ms).map(|(_, at)| *at).max();
            match take(row(time_ms, &truths), &request, None) {
                Some(taken) => {
                    prop_assert!(taken.arrived_ms <= as_of_ms);
                    prop_assert_eq!(Some(taken.arrived_ms), newest_known);
                    prop_assert!(truths.contains(&(taken.value, taken.arrived_ms)));
                    prop_assert!((from_ms..from_ms + length).contains(&taken.time_ms));
                }
                None => prop_assert!(newest_known.is_none() || !(from_ms..from_ms + length).contains(&time_ms)),
            }
        }
    }
}
