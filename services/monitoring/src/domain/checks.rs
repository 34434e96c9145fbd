//! Checks: what they may ask for, and what comes of a window.

pub mod alarms;
pub mod figures;
pub mod limits;
pub mod readings;
pub mod reference;
pub mod slices;
pub mod spans;
pub mod statistics;

use std::collections::BTreeSet;

use fishy_contracts::monitoring::{CheckSpec, ReferenceSpec, Statistic, Threshold};
use fishy_core::{Error, Result, check_name};

use super::dataset::Faults;
use super::window::Row;

/// What was answered, as a feature of a check.
pub const OUTPUT: &str = "$output";
/// What was true, likewise.
pub const TRUTH: &str = "$truth";
/// The distance of the two, likewise.
pub const ERROR: &str = "$error";

/// Most checks of a monitor.
const MAX_CHECKS: usize = 50;
/// Longest window: a leap year.
const MAX_WINDOW_HOURS: u32 = 366 * 24;
/// How often a window may slide over the same row.
const MAX_OVERLAP: u32 = 168;
/// Most past windows a limit looks at.
pub const MAX_PAST: u32 = 366;

/// A row of a check, and the features of it that lie under a data fault: those are not looked at, so that a broken probe
/// is never taken for drift.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckRow {
    pub row: Row,
    pub faulty: Vec<String>,
}

impl CheckRow {
    /// Marks a row.
    pub fn new(row: Row, faults: &Faults) -> Self {
        let faulty = faults.features_of(row.time_ms, &row.inputs, &row.labels);
        Self { row, faulty }
    }

    /// A reading that can be trusted.
    pub fn reading(&self, feature: &str) -> Option<f64> {
        match feature {
            OUTPUT => self.row.output.filter(|_| self.faulty.is_empty()),
            TRUTH => self.row.value,
            ERROR => self.answered().map(|(output, value)| (output - value).abs()),
            _ if self.faulty.iter().any(|faulty| faulty == feature) => None,
            _ => self.row.inputs.get(feature).copied().flatten(),
        }
    }

    /// What was answered and what was true, unless the inputs were faulty.
    pub fn answered(&self) -> Option<(f64, f64)> {
        self.row.output.zip(self.row.value).filter(|_| self.faulty.is_empty())
    }
}

/// Checks the checks of a monitor as they were sent.
pub fn check(checks: &[CheckSpec]) -> Result<()> {
    if checks.len() > MAX_CHECKS {
        return Err(Error::invalid(format!("{} checks: a monitor has at most {MAX_CHECKS}", checks.len())));
    }
    let mut names = BTreeSet::new();
    for spec in checks {
        check_name("check", &spec.name)?;
        if !names.insert(&spec.name) {
            return Err(Error::invalid(format!("two checks are called {:?}", spec.name)));
        }
        check_one(spec).map_err(|error| {
            Error::invalid(format!("check {:?}: {}", spec.name, error.message())).with_source(error)
        })?;
    }
    Ok(())
}

fn check_one(spec: &CheckSpec) -> Result<()> {
    let (length, every) = (spec.window_hours, spec.every_hours.unwrap_or(spec.window_hours));
    if !(1..=MAX_WINDOW_HOURS).contains(&length) {
        return Err(Error::invalid(format!("window_hours is {length}: use 1 to {MAX_WINDOW_HOURS}")));
    }
    if every == 0 || every > length || length.div_ceil(every) > MAX_OVERLAP {
        return Err(Error::invalid(format!(
            "every_hours is {every}: use at most window_hours, {length}, and at least a {MAX_OVERLAP}th of it"
        )));
    }
    if spec.features.len() > 1_000 || spec.slices.len() > 8 {
        return Err(Error::invalid("at most 1000 features and 8 labels for slices"));
    }
    if !(1..=100).contains(&spec.max_slices) {
        return Err(Error::invalid(format!("max_slices is {}: use 1 to 100", spec.max_slices)));
    }
    if !(2..=1_000_000).contains(&spec.min_rows) {
        return Err(Error::invalid(format!("min_rows is {}: use 2 to 1000000", spec.min_rows)));
    }
    check_reference(&spec.reference)?;
    if spec.tests.is_empty() {
        return Err(Error::invalid("tests is empty: name at least one statistic"));
    }
    for (statistic, test) in &spec.tests {
        for threshold in test.warning.iter().chain(&test.alert) {
            check_threshold(*statistic, threshold)?;
        }
    }
    Ok(())
}

fn check_reference(reference: &ReferenceSpec) -> Result<()> {
    match reference {
        ReferenceSpec::Training => Ok(()),
        ReferenceSpec::Fixed { from, to } => spans::fixed(from, to).map(drop),
        ReferenceSpec::Rolling { days } if (1..=366).contains(days) => Ok(()),
        ReferenceSpec::Rolling { days } => Err(Error::invalid(format!("reference.days is {days}: use 1 to 366"))),
        ReferenceSpec::LastYear { days } if *days <= 90 => Ok(()),
        ReferenceSpec::LastYear { days } => Err(Error::invalid(format!("reference.days is {days}: use 0 to 90"))),
    }
}

fn check_threshold(statistic: Statistic, threshold: &Threshold) -> Result<()> {
    let name = statistic.as_str();
    let is_share = |share: f64| share > 0.0 && share < 1.0;
    let is_past = |windows: u32| (limits::LEAST_PAST as u32..=MAX_PAST).contains(&windows);
    let past = format!("use {} to {MAX_PAST}", limits::LEAST_PAST);
    match *threshold {
        Threshold::Constant { limit } if !limit.is_finite() => {
            Err(Error::invalid(format!("tests.{name}: the limit is no number")))
        }
        Threshold::PValue { .. } if !statistics::has_p_value(statistic) => Err(Error::invalid(format!(
            "tests.{name} gives no p-value: use kind constant, standard_deviation, quantile or resampled"
        ))),
        Threshold::PValue { below } if !is_share(below) => {
            Err(Error::invalid(format!("tests.{name}: below is {below}: use a probability between 0 and 1")))
        }
        Threshold::StandardDeviation { times, .. } if !(times.is_finite() && times > 0.0) => {
            Err(Error::invalid(format!("tests.{name}: times is {times}: use a number above 0")))
        }
        Threshold::StandardDeviation { windows, .. } | Threshold::Quantile { windows, .. } if !is_past(windows) => {
            Err(Error::invalid(format!("tests.{name}: windows is {windows}: {past}")))
        }
        Threshold::Quantile { quantile, .. } | Threshold::Resampled { quantile, .. } if !is_share(quantile) => {
            Err(Error::invalid(format!("tests.{name}: quantile is {quantile}: use a share between 0 and 1")))
        }
        Threshold::Resampled { resamples, .. } if !(20..=1_000).contains(&resamples) => {
            Err(Error::invalid(format!("tests.{name}: resamples is {resamples}: use 20 to 1000")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn refusal(change: &Value) -> Option<String> {
        let mut body = json!({"name": "drift", "tests": {"ks": {"alert": {"kind": "p_value", "below": 0.01}}}});
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let spec = serde_json::from_value(body).map_err(|error| error.to_string());
        spec.map_or_else(Some, |spec| check(&[spec]).err().map(|error| error.message().to_owned()))
    }

    #[test]
    fn nonsense_is_refused_with_its_field() {
        assert_eq!(refusal(&json!({})), None);
        for (bad, field) in [
            (json!({"window_hours": 0}), "window_hours"),
            (json!({"every_hours": 48}), "every_hours"),
            (json!({"window_hours": 720, "every_hours": 1}), "every_hours"),
            (json!({"max_slices": 0}), "max_slices"),
            (json!({"min_rows": 1}), "min_rows"),
            (json!({"tests": {}}), "tests"),
            (json!({"tests": {"kss": {}}}), "kss"),
            (json!({"reference": {"kind": "rolling", "days": 0}}), "reference.days"),
            (json!({"reference": {"kind": "last_year", "days": 200}}), "reference.days"),
            (json!({"reference": {"kind": "fixed", "from": "2012-05-01", "to": "May"}}), "May"),
            (json!({"reference": {"kind": "fixed", "from": "2012-05-01", "to": "2012-04-01"}}), "before"),
            (json!({"tests": {"mae": {"alert": {"kind": "p_value", "below": 0.01}}}}), "no p-value"),
            (json!({"tests": {"ks": {"alert": {"kind": "p_value", "below": 5.0}}}}), "below"),
            (json!({"tests": {"ks": {"alert": {"kind": "quantile", "quantile": 0.9, "windows": 1}}}}), "windows"),
            (json!({"tests": {"ks": {"alert": {"kind": "resampled", "quantile": 0.9, "resamples": 1}}}}), "resamples"),
            (json!({"tests": {"ks": {"alert": {"kind": "constant", "limit": 0.1, "above": 1}}}}), "above"),
        ] {
            let said = refusal(&bad).unwrap_or_default();
            assert!(said.contains(field), "{bad}: {said}");
        }
    }
}
