//! Sensor checks of each feature and series, and the data faults they give.

use std::collections::{BTreeMap, BTreeSet};

use fishy_contracts::monitoring::{DataFault, MonitorSpec};
use fishy_core::time::rfc3339;
use fishy_drift::{
    CheckSettings, ClockSettings, Finding, FindingKind, NeighbourChecks, NeighbourSettings, QuietSettings, SensorChecks,
};

use super::window::Row;

/// The checks of one series, by feature.
pub type SeriesChecks = BTreeMap<String, SensorChecks>;

/// The checks of all sensors of a monitor.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sensors {
    /// Each sensor by itself, by series.
    pub series: BTreeMap<String, SeriesChecks>,
    /// The sensors of a feature among each other.
    pub neighbours: BTreeMap<String, NeighbourChecks>,
}

/// What was seen in one series of one feature.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// The feature.
    pub feature: String,
    /// The series; empty where there is one.
    pub series: String,
    /// What was seen.
    pub finding: Finding,
}

/// The series that a row belongs to.
pub fn series_of<'a>(spec: &MonitorSpec, labels: &'a BTreeMap<String, String>) -> &'a str {
    labels.get(&spec.series_label).map_or("", String::as_str)
}

/// Takes rows in event-time order; gives what they made certain.
///
/// The state follows the data: a setting that changes with the monitor holds for series that begin after it.
pub fn push(spec: &MonitorSpec, watched: &BTreeSet<String>, sensors: &mut Sensors, rows: &[Row]) -> Vec<Seen> {
    let mut seen = Vec::new();
    let named: BTreeSet<&String> = spec.sensors.iter().collect();
    let is_sensor = |feature: &String| match (named.is_empty(), watched.is_empty()) {
        (false, _) => named.contains(feature),
        (true, false) => watched.contains(feature),
        (true, true) => true,
    };
    for row in rows {
        let series = series_of(spec, &row.labels);
        let checks = match sensors.series.get_mut(series) {
            Some(checks) => checks,
            None => sensors.series.entry(series.to_owned()).or_default(),
        };
        // A feature that a row does not have is no sensor of its series.
        for (feature, value) in row.inputs.iter().filter(|(feature, _)| is_sensor(feature)) {
            let sensor = match checks.get_mut(feature) {
                Some(sensor) => sensor,
                None => checks.entry(feature.clone()).or_insert_with(|| SensorChecks::new(settings(spec, feature))),
            };
            for finding in sensor.push(row.time_ms, *value) {
                seen.push(Seen { feature: feature.clone(), series: series.to_owned(), finding });
            }
            // A broken probe is no neighbour to compare with.
            let is_neighbour = spec.probes.neighbours && !series.is_empty() && sensor.open().is_empty();
            if let Some(value) = value.filter(|_| is_neighbour) {
                let new = || NeighbourChecks::new(NeighbourSettings::default());
                let neighbours = match sensors.neighbours.get_mut(feature) {
                    Some(neighbours) => neighbours,
                    None => sensors.neighbours.entry(feature.clone()).or_insert_with(new),
                };
                let found = neighbours.push(row.time_ms, series, value);
                seen.extend(found.into_iter().map(|(series, finding)| Seen {
                    feature: feature.clone(),
                    series,
                    finding,
                }));
            }
        }
    }
    seen
}

fn settings(spec: &MonitorSpec, feature: &str) -> CheckSettings {
    let (min, max) = spec.ranges.get(feature).map_or((None, None), |[min, max]| (Some(*min), Some(*max)));
    CheckSettings {
        min,
        max,
        quiet: QuietSettings { enabled: spec.probes.quiet, ..QuietSettings::default() },
        clock: ClockSettings { enabled: spec.probes.clock, ..ClockSettings::default() },
        ..CheckSettings::default()
    }
}

/// A finding as a data fault.
pub fn fault(id: String, monitor: &str, seen: &Seen, spec: &MonitorSpec) -> DataFault {
    DataFault {
        id,
        monitor: monitor.to_owned(),
        feature: seen.feature.clone(),
        series: seen.series.clone(),
        kind: seen.finding.kind.as_str().to_owned(),
        since_ms: seen.finding.since_ms,
        until_ms: seen.finding.until_ms,
        message: message(seen, spec),
    }
}

fn message(seen: &Seen, spec: &MonitorSpec) -> String {
    let Finding { kind, since_ms, until_ms, value, readings } = seen.finding;
    let place = if seen.series.is_empty() { String::new() } else { format!(" of {}", seen.series) };
    let value = value.map_or_else(|| "no value".to_owned(), |value| value.to_string());
    let what = match kind {
        FindingKind::Missing => format!("no value for {readings} readings"),
        FindingKind::Range => {
            let [low, high] = spec.ranges.get(&seen.feature).copied().unwrap_or([f64::NEG_INFINITY, f64::INFINITY]);
            format!("{value} is outside {low} to {high}, {readings} readings")
        }
        FindingKind::Stuck => format!("stuck at {value} for {readings} readings"),
        FindingKind::Spike => format!("a spike to {value}, {readings} readings"),
        FindingKind::Quiet => format!("jitters around {value} and does not follow the water, {readings} readings"),
        FindingKind::Clock => format!("the clock jumped, {readings} readings"),
        FindingKind::Apart => {
            let beyond = seen.finding.value.unwrap_or_default();
            let side = if beyond < 0.0 { "less" } else { "more" };
            format!("reads {:.3} {side} than its neighbours let expect, {readings} days", beyond.abs())
        }
    };
    let until = until_ms.map_or_else(String::new, |until_ms| format!(" to {}", rfc3339(until_ms)));
    format!("{}{place}: {what}, from {}{until}", seen.feature, rfc3339(since_ms))
}

/// An open fault in few words, for a decision.
pub fn in_words(fault: &DataFault) -> String {
    let place = if fault.series.is_empty() { String::new() } else { format!(" of {}", fault.series) };
    format!("{}{place} ({} since {})", fault.feature, fault.kind, rfc3339(fault.since_ms))
}

#[cfg(test)]
mod tests {
    use fishy_core::time::HOUR_MS;

    use super::*;

    fn spec() -> MonitorSpec {
        serde_json::from_value(serde_json::json!({
            "name": "m", "deployment": "d", "series_label": "pen", "ranges": {"temp": [-2.0, 40.0]}
        }))
        .unwrap()
    }

    fn row(hour: i64, pen: &str, temp: f64) -> Row {
        Row {
            time_ms: hour * HOUR_MS,
            inputs: BTreeMap::from([("temp".to_owned(), Some(temp))]),
            output: None,
            value: None,
            labels: BTreeMap::from([("pen".to_owned(), pen.to_owned())]),
        }
    }

    #[test]
    fn each_pen_has_its_own_sensor() {
        let mut states = Sensors::default();
        let rows: Vec<Row> = (0..60)
            .flat_map(|hour| {
                let tide = 15.0 + (hour as f64 * 0.7).sin();
                [row(hour, "pen-1", tide), row(hour, "pen-2", if hour < 30 { tide } else { 17.0 })]
            })
            .collect();
        let (first, second) = rows.split_at(50);
        let mut seen = push(&spec(), &BTreeSet::new(), &mut states, first);
        let stored = serde_json::to_string(&states.series).unwrap();
        let mut states = Sensors { series: serde_json::from_str(&stored).unwrap(), ..Sensors::default() };
        seen.extend(push(&spec(), &BTreeSet::new(), &mut states, second));
        assert_eq!(seen.len(), 1, "{seen:?}");
        let fault = fault("f".into(), "m", &seen[0], &spec());
        assert_eq!((&*fault.series, &*fault.kind, fault.since_ms), ("pen-2", "stuck", 30 * HOUR_MS));
        assert_eq!(fault.message, "temp of pen-2: stuck at 17 for 24 readings, from 1970-01-02T06:00:00.000Z");
        assert_eq!(in_words(&fault), "temp of pen-2 (stuck since 1970-01-02T06:00:00.000Z)");
    }

    #[test]
    fn what_is_out_of_range_is_said_with_its_range() {
        let seen = push(&spec(), &BTreeSet::new(), &mut Sensors::default(), &[row(0, "p", 99.0)]);
        let fault = fault("f".into(), "m", &seen[0], &spec());
        assert_eq!(fault.message, "temp of p: 99 is outside -2 to 40, 1 readings, from 1970-01-01T00:00:00.000Z");
    }
}
