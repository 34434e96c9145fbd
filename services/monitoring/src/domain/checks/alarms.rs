//! Alarms: figures beyond their limits, from the window that shows them to the one that does not.

use fishy_contracts::monitoring::{Alarm, CheckSpec, CheckWindow, Figure, ReferenceSpec, Severity, Threshold};
use fishy_core::time::rfc3339;

/// What a window changes: alarms that begin, grow worse or end. A figure that a window does not have changes nothing.
pub fn changes(
    monitor: &str,
    spec: &CheckSpec,
    open: &[Alarm],
    window: &CheckWindow,
    mut new_id: impl FnMut() -> String,
) -> Vec<Alarm> {
    let mut changed = Vec::new();
    for figure in &window.figures {
        let known = open
            .iter()
            .find(|alarm| alarm.test == figure.test && alarm.feature == figure.feature && alarm.slice == figure.slice);
        match (known, figure.severity) {
            (None, Some(severity)) => changed.push(Alarm {
                id: new_id(),
                monitor: monitor.to_owned(),
                check: window.check.clone(),
                test: figure.test,
                feature: figure.feature.clone(),
                slice: figure.slice.clone(),
                severity,
                since_ms: window.end_ms,
                until_ms: None,
                value: figure.value,
                limit: limit(figure, severity),
                message: message(spec, window, figure, severity),
            }),
            (Some(alarm), Some(severity)) if severity > alarm.severity => changed.push(Alarm {
                severity,
                value: figure.value,
                limit: limit(figure, severity),
                message: message(spec, window, figure, severity),
                ..alarm.clone()
            }),
            (Some(alarm), None) => changed.push(Alarm { until_ms: Some(window.end_ms), ..alarm.clone() }),
            (Some(_), Some(_)) | (None, None) => {}
        }
    }
    // Of a test that is no longer asked for, nothing more will be heard.
    let is_gone = |alarm: &&Alarm| !spec.tests.contains_key(&alarm.test);
    changed.extend(open.iter().filter(is_gone).map(|alarm| Alarm { until_ms: Some(window.end_ms), ..alarm.clone() }));
    changed
}

fn limit(figure: &Figure, severity: Severity) -> f64 {
    let limit = match severity {
        Severity::Warning => figure.warning_limit,
        Severity::Alert => figure.alert_limit,
    };
    limit.unwrap_or(figure.value)
}

fn message(spec: &CheckSpec, window: &CheckWindow, figure: &Figure, severity: Severity) -> String {
    let test = spec.tests.get(&figure.test);
    let threshold = test.and_then(|test| match severity {
        Severity::Warning => test.warning.as_ref(),
        Severity::Alert => test.alert.as_ref(),
    });
    let what = if figure.feature.is_empty() { "the model" } else { &figure.feature };
    let place = if figure.slice.is_empty() { String::new() } else { format!(" ({})", figure.slice) };
    let name = figure.test.as_str();
    let beyond = if let Some(Threshold::PValue { below }) = threshold {
        let p_value = figure.p_corrected.or(figure.p_value).unwrap_or(f64::NAN);
        format!("{:.4} with p {p_value:.2e}, below {below}", figure.value)
    } else {
        let side = if super::statistics::is_score(figure.test) { "below" } else { "above" };
        format!("{:.4}, {side} {:.4}", figure.value, limit(figure, severity))
    };
    let against = match (&spec.reference, super::statistics::kind(figure.test)) {
        (_, super::statistics::Kind::Performance | super::statistics::Kind::Missing) => "",
        (ReferenceSpec::Training, _) => " against the training data",
        (ReferenceSpec::Fixed { .. }, _) => " against the fixed reference",
        (ReferenceSpec::Rolling { .. }, _) => " against the days before",
        (ReferenceSpec::LastYear { .. }, _) => " against the same season last year",
    };
    let (from, to) = (rfc3339(window.start_ms), rfc3339(window.end_ms));
    format!("{what}{place}: {name} is {beyond}{against}, {} readings from {from} to {to}", figure.rows)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn window(end_ms: i64, severity: Option<Severity>) -> CheckWindow {
        let mut window: CheckWindow = serde_json::from_value(json!({
            "check": "c", "start_ms": 0, "end_ms": end_ms, "rows": 24, "labels": 0, "reference": null,
            "figures": [{"test": "ks", "feature": "temp", "slice": "pen=7", "rows": 24, "value": 0.5,
                         "warning_limit": 0.2, "alert_limit": 0.4}]
        }))
        .unwrap();
        window.figures[0].severity = severity;
        window
    }

    #[test]
    fn an_alarm_begins_grows_worse_once_and_ends() {
        let spec: CheckSpec = serde_json::from_value(json!({"name": "c", "tests": {"ks": {}}})).unwrap();
        let mut open: Vec<Alarm> = Vec::new();
        let mut told = Vec::new();
        let (warning, alert) = (Some(Severity::Warning), Some(Severity::Alert));
        for (end_ms, severity) in
            [(1, None), (2, warning), (3, warning), (4, alert), (5, warning), (6, None), (7, None)]
        {
            for alarm in changes("m", &spec, &open, &window(end_ms, severity), || "id".to_owned()) {
                told.push((end_ms, alarm.severity, alarm.since_ms, alarm.until_ms));
                open.retain(|other| other.id != alarm.id);
                open.extend(Some(alarm).filter(|alarm| alarm.until_ms.is_none()));
            }
        }
        let alert = Severity::Alert;
        assert_eq!(told, [(2, Severity::Warning, 2, None), (4, alert, 2, None), (6, alert, 2, Some(6))]);
    }

    #[test]
    fn a_window_without_the_figure_says_nothing_of_it() {
        let spec: CheckSpec = serde_json::from_value(json!({"name": "c", "tests": {"ks": {}}})).unwrap();
        let open = changes("m", &spec, &[], &window(1, Some(Severity::Alert)), || "id".to_owned());
        assert_eq!(
            open[0].message,
            "temp (pen=7): ks is 0.5000, above 0.4000 against the training data, 24 readings from \
             1970-01-01T00:00:00.000Z to 1970-01-01T00:00:00.001Z"
        );
        let silent = CheckWindow { figures: Vec::new(), ..window(2, None) };
        assert!(changes("m", &spec, &open, &silent, || "id".to_owned()).is_empty());
    }
}
