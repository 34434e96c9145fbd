//! The sentences of alerts.

use fishy_contracts::monitoring::{Alarm, DataFault, MonitorSpec};
use fishy_core::time::{DAY_MS, HOUR_MS, MINUTE_MS};
use fishy_drift::Quantity;

use crate::domain::checks::statistics::{self, Kind};

/// What is wrong with a probe, and what to do with it.
pub fn of_fault(spec: &MonitorSpec, fault: &DataFault, now_ms: i64) -> String {
    let probe = match place(&spec.series_label, &fault.series) {
        Some(place) => format!("Probe of {place}"),
        None => "Probe".to_owned(),
    };
    let what = reading(&fault.feature);
    let lasts = duration(fault.until_ms.unwrap_or(now_ms) - fault.since_ms);
    let value = value_of(&fault.message).map(|value| with_unit(value, &fault.feature));
    match (fault.kind.as_str(), value) {
        ("stuck", Some(value)) => {
            format!("{probe}: {what} has been stuck at {value} for {lasts}: clean or replace it.")
        }
        ("range", Some(value)) => {
            let [low, high] = spec.ranges.get(&fault.feature).copied().unwrap_or([f64::NEG_INFINITY, f64::INFINITY]);
            let high = with_unit(&high.to_string(), &fault.feature);
            format!("{probe}: {what} reads {value}, and only {low} to {high} is possible: check or replace it.")
        }
        ("missing", _) => format!("{probe}: no {what} has come for {lasts}: check its power, cable and connection."),
        ("quiet", Some(value)) => {
            format!(
                "{probe}: {what} only jitters around {value} for {lasts} and does not follow the water: clean or replace it."
            )
        }
        ("apart", Some(value)) => {
            let side = if fault.message.contains(" less than ") { "less" } else { "more" };
            format!("{probe}: {what} reads {value} {side} than its neighbours let expect: clean and calibrate it.")
        }
        (kind, _) => format!("{probe}: {what} cannot be trusted ({kind}) since {lasts}: look at it."),
    }
}

/// The name of an alert of an alarm.
pub const fn name_of_alarm(alarm: &Alarm) -> &'static str {
    match statistics::kind(alarm.test) {
        Kind::Numeric | Kind::Categorical | Kind::Together => "Drift",
        Kind::Missing => "MissingReadings",
        Kind::Performance => "ModelError",
        Kind::Estimated => "ExpectedModelError",
    }
}

/// What an alarm means, and what to do.
pub fn of_alarm(spec: &MonitorSpec, alarm: &Alarm) -> String {
    let slice = alarm.slice.split_once('=').and_then(|(label, value)| place(label, value));
    let at = slice.map_or_else(String::new, |place| format!(" at {place}"));
    let what = reading(&alarm.feature);
    let (value, limit) = (figure(alarm.value), figure(alarm.limit));
    match statistics::kind(alarm.test) {
        Kind::Numeric | Kind::Categorical => format!(
            "{}{at} is unlike what the model {} has learnt: look whether the water has changed or the probe is off.",
            capital(&what),
            spec.deployment
        ),
        Kind::Together => format!(
            "The readings together{at} are unlike what the model {} has learnt: trust its warnings less.",
            spec.deployment
        ),
        Kind::Missing => format!(
            "{:.0} % of the readings of {what}{at} are missing: check the probes and their connection.",
            alarm.value * 100.0
        ),
        Kind::Performance => {
            let name = alarm.test.as_str();
            format!(
                "The model {}{at} is wrong more than it should be ({name} {value}, limit {limit}): trust its warnings \
                     less until it is trained again.",
                spec.deployment
            )
        }
        Kind::Estimated => {
            let name = alarm.test.as_str();
            format!(
                "The model {}{at} is expected to be wrong more than it should be ({name} {value}, limit {limit}): \
                     measure by hand and send the true values.",
                spec.deployment
            )
        }
    }
}

/// A feature in words.
fn reading(feature: &str) -> String {
    match Quantity::from_name(feature) {
        Some(Quantity::Temperature) => "temperature".to_owned(),
        Some(Quantity::Salinity) => "salinity".to_owned(),
        Some(Quantity::DissolvedOxygen) => "dissolved oxygen".to_owned(),
        Some(Quantity::Ph) => "pH".to_owned(),
        Some(Quantity::Turbidity) => "turbidity".to_owned(),
        Some(Quantity::Depth) => "depth".to_owned(),
        None if feature.is_empty() => "reading".to_owned(),
        None => feature.replace('_', " "),
    }
}

fn with_unit(value: &str, feature: &str) -> String {
    let unit = match Quantity::from_name(feature) {
        Some(Quantity::Temperature) => " °C",
        Some(Quantity::DissolvedOxygen) => " mg/L",
        Some(Quantity::Turbidity) => " NTU",
        Some(Quantity::Depth) => " m",
        Some(Quantity::Salinity | Quantity::Ph) | None => "",
    };
    format!("{value}{unit}")
}

/// `pen 7` of the label `pen` and the series `7` or `pen-7`.
fn place(label: &str, series: &str) -> Option<String> {
    if series.is_empty() {
        return None;
    }
    if series.chars().next().is_some_and(|first| first.is_ascii_digit()) && !label.is_empty() {
        Some(format!("{label} {series}"))
    } else {
        Some(series.to_owned())
    }
}

/// The reading that a message of a data fault tells.
fn value_of(message: &str) -> Option<&str> {
    let (_, said) = message.split_once(": ")?;
    said.split(' ').map(|word| word.trim_end_matches(',')).find(|word| word.parse::<f64>().is_ok())
}

fn duration(span_ms: i64) -> String {
    match span_ms.max(0) {
        ms if ms >= 2 * DAY_MS => format!("{} days", ms / DAY_MS),
        ms if ms >= HOUR_MS => format!("{} h", ms / HOUR_MS),
        ms => format!("{} min", (ms / MINUTE_MS).max(1)),
    }
}

/// Three figures, as people read them.
fn figure(value: f64) -> String {
    let digits = if value.abs() >= 100.0 {
        0
    } else if value.abs() >= 10.0 {
        1
    } else {
        2
    };
    format!("{value:.digits$}")
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    // pH stays as it is.
    match letters.next() {
        Some(first) if text != "pH" => first.to_uppercase().chain(letters).collect(),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_farmer_reads_what_to_do() {
        let spec: MonitorSpec = serde_json::from_value(json!({
            "name": "oxygen", "deployment": "oxygen", "series_label": "pen", "ranges": {"temp": [-2.0, 40.0]}
        }))
        .unwrap();
        let fault = |feature: &str, series: &str, kind: &str, said: &str| DataFault {
            id: "f".into(),
            monitor: "oxygen".into(),
            feature: feature.into(),
            series: series.into(),
            kind: kind.into(),
            since_ms: 0,
            until_ms: None,
            message: format!("{feature} of {series}: {said}, from 1970-01-01T00:00:00.000Z"),
        };
        let words = |fault: &DataFault| of_fault(&spec, fault, 6 * HOUR_MS);
        assert_eq!(
            words(&fault("do_mgl", "7", "stuck", "stuck at 8.1 for 24 readings")),
            "Probe of pen 7: dissolved oxygen has been stuck at 8.1 mg/L for 6 h: clean or replace it."
        );
        assert_eq!(
            words(&fault("temp", "pen-3", "range", "99 is outside -2 to 40, 4 readings")),
            "Probe of pen-3: temperature reads 99 °C, and only -2 to 40 °C is possible: check or replace it."
        );
        assert_eq!(
            words(&fault("pH", "", "missing", "no value for 4 readings")),
            "Probe: no pH has come for 6 h: check its power, cable and connection."
        );
        assert_eq!(
            words(&fault("temp", "pen-3", "apart", "reads 0.800 less than its neighbours let expect, 1 days")),
            "Probe of pen-3: temperature reads 0.800 °C less than its neighbours let expect: clean and calibrate it."
        );
        let alarm: Alarm = serde_json::from_value(json!({
            "id": "a", "monitor": "oxygen", "check": "errors", "test": "mae", "feature": "", "slice": "pen=7",
            "severity": "alert", "since_ms": 0, "until_ms": null, "value": 0.834, "limit": 0.6, "message": ""
        }))
        .unwrap();
        assert_eq!(
            of_alarm(&spec, &alarm),
            "The model oxygen at pen 7 is wrong more than it should be (mae 0.83, limit 0.60): trust its warnings less \
             until it is trained again."
        );
    }
}
