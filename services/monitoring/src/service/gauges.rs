//! Metrics.

use std::collections::BTreeMap;

use fishy_contracts::monitoring::{Alarm, CheckSpec, CheckWindow, DataFault, Severity};

use super::computing::Computed;
use crate::domain::trigger::Decision;
use crate::store::monitors::DeploymentRow;

/// What the metrics tell.
pub fn describe() {
    metrics::describe_counter!("fishy_monitoring_records_total", "Prediction records of the stream, by outcome");
    metrics::describe_counter!("fishy_monitoring_ground_truth_total", "True values that were sent, by outcome");
    metrics::describe_histogram!(
        "fishy_monitoring_label_delay_seconds",
        "Event time from a prediction to its true value"
    );
    metrics::describe_gauge!(
        "fishy_monitoring_watermark_seconds",
        "Event time up to which windows are closed, Unix time"
    );
    metrics::describe_counter!("fishy_monitoring_triggers_total", "Triggers that fired");
    metrics::describe_gauge!("fishy_monitoring_label_coverage_ratio", "Share of predictions whose true value is known");
    metrics::describe_gauge!("fishy_monitoring_open_data_faults", "Data faults that are open");
    metrics::describe_gauge!("fishy_monitoring_psi", "Population stability index of a feature on the newest day");
    metrics::describe_gauge!("fishy_monitoring_ks", "Kolmogorov-Smirnov distance of a feature on the newest day");
    metrics::describe_gauge!("fishy_monitoring_mae", "Mean absolute error on the newest day with true values");
    metrics::describe_gauge!("fishy_monitoring_rmse", "Root mean square error on the newest day with true values");
    metrics::describe_gauge!("fishy_monitoring_rolling_error", "Realised error that the trigger looks at");
    metrics::describe_gauge!("fishy_monitoring_baseline_error", "Realised error that the trigger compares with");
    metrics::describe_counter!("fishy_monitoring_opinions_total", "Opinions of users and experts of answers");
    metrics::describe_counter!(
        "fishy_monitoring_queue_items_total",
        "Items of the expert queue that were given out, answered, corrected, skipped or returned"
    );
    metrics::describe_gauge!("fishy_monitoring_open_alerts", "Alerts that last");
    metrics::describe_gauge!("fishy_monitoring_alerts_waiting", "Alerts that a receiver has still to be told");
    metrics::describe_counter!("fishy_monitoring_notifications_total", "Messages to receivers, by outcome");
    metrics::describe_gauge!("fishy_monitoring_open_alarms", "Alarms of a check that last, by severity");
    metrics::describe_gauge!("fishy_monitoring_check_value", "Statistic of the newest window of a check, all slices");
    metrics::describe_gauge!(
        "fishy_monitoring_other_slice_ratio",
        "Share of the newest window's rows whose slice is not looked at alone, by label"
    );
    metrics::describe_counter!("fishy_monitoring_check_windows_total", "Windows of checks that were computed");
}

/// How long a true value took, in event time.
pub fn label_delay(delay_ms: i64) {
    metrics::histogram!("fishy_monitoring_label_delay_seconds").record(delay_ms.max(0) as f64 / 1000.0);
}

/// Where the watermark stands.
pub fn watermark(monitor: &str, watermark_ms: i64) {
    metrics::gauge!("fishy_monitoring_watermark_seconds", "monitor" => monitor.to_owned())
        .set(watermark_ms as f64 / 1000.0);
}

/// A trigger fired.
pub fn trigger(monitor: &str) {
    metrics::counter!("fishy_monitoring_triggers_total", "monitor" => monitor.to_owned()).increment(1);
}

/// Share of predictions whose true value is known.
pub fn coverage(monitor: &str, deployment: &DeploymentRow) {
    if deployment.predictions > 0 {
        metrics::gauge!("fishy_monitoring_label_coverage_ratio", "monitor" => monitor.to_owned())
            .set(deployment.labels as f64 / deployment.predictions as f64);
    }
}

/// The figures of the newest day.
pub fn day(monitor: &str, computed: &Computed, decision: Option<&Decision>, open_faults: &[DataFault]) {
    let newest = computed.windows.iter().filter(|row| row.window.length == "day").max_by_key(|row| row.window.start_ms);
    if let Some(row) = newest {
        by_feature("fishy_monitoring_psi", monitor, &row.window.psi);
        by_feature("fishy_monitoring_ks", monitor, &row.window.ks);
    }
    // Of the newest day that has labels: they come later than the predictions.
    let labelled = computed
        .windows
        .iter()
        .filter(|row| row.window.length == "day" && row.window.mae.is_some())
        .max_by_key(|row| row.window.start_ms);
    if let Some(row) = labelled {
        one("fishy_monitoring_mae", monitor, row.window.mae);
        one("fishy_monitoring_rmse", monitor, row.window.rmse);
    }
    if let Some(decision) = decision {
        one("fishy_monitoring_rolling_error", monitor, decision.figures.rolling_error);
        one("fishy_monitoring_baseline_error", monitor, decision.figures.baseline_error);
    }
    metrics::gauge!("fishy_monitoring_open_data_faults", "monitor" => monitor.to_owned()).set(open_faults.len() as f64);
}

/// The newest figures of a check, whole windows only: slices would be too many series.
pub fn check(monitor: &str, spec: &CheckSpec, newest: Option<&CheckWindow>, open: &[Alarm]) {
    let labels = |more: &[(&'static str, String)]| {
        let mut labels =
            vec![metrics::Label::new("monitor", monitor.to_owned()), metrics::Label::new("check", spec.name.clone())];
        labels.extend(more.iter().map(|(name, value)| metrics::Label::new(*name, value.clone())));
        labels
    };
    for severity in [Severity::Warning, Severity::Alert] {
        let count = open.iter().filter(|alarm| alarm.severity == severity).count();
        let labels = labels(&[("severity", severity.as_str().to_owned())]);
        metrics::gauge!("fishy_monitoring_open_alarms", labels).set(count as f64);
    }
    let Some(newest) = newest else { return };
    for figure in newest.figures.iter().filter(|figure| figure.slice.is_empty()) {
        let labels = labels(&[("test", figure.test.as_str().to_owned()), ("feature", figure.feature.clone())]);
        metrics::gauge!("fishy_monitoring_check_value", labels).set(figure.value);
    }
    for (label, share) in &newest.other_share {
        let labels = labels(&[("label", label.clone())]);
        metrics::gauge!("fishy_monitoring_other_slice_ratio", labels).set(*share);
    }
}

/// Windows of checks that were computed.
pub fn check_windows(monitor: &str, count: usize, is_again: bool) {
    let occasion = if is_again { "changed" } else { "new" };
    metrics::counter!("fishy_monitoring_check_windows_total", "monitor" => monitor.to_owned(), "occasion" => occasion)
        .increment(count as u64);
}

/// What became of items of the expert queue.
pub fn queue_items(monitor: &str, state: &'static str, count: u64) {
    metrics::counter!("fishy_monitoring_queue_items_total", "monitor" => monitor.to_owned(), "state" => state)
        .increment(count);
}

/// Alerts that last.
pub fn open_alerts(count: u64) {
    metrics::gauge!("fishy_monitoring_open_alerts").set(count as f64);
}

/// What a receiver has still to be told.
pub fn waiting_alerts(receiver: &str, count: usize) {
    metrics::gauge!("fishy_monitoring_alerts_waiting", "receiver" => receiver.to_owned()).set(count as f64);
}

/// A receiver was told of alerts, or did not take them.
pub fn notification(receiver: &str, is_taken: bool) {
    let outcome = if is_taken { "taken" } else { "failed" };
    metrics::counter!("fishy_monitoring_notifications_total", "receiver" => receiver.to_owned(), "outcome" => outcome)
        .increment(1);
}

fn one(name: &'static str, monitor: &str, value: Option<f64>) {
    if let Some(value) = value {
        metrics::gauge!(name, "monitor" => monitor.to_owned()).set(value);
    }
}

fn by_feature(name: &'static str, monitor: &str, values: &BTreeMap<String, f64>) {
    for (feature, value) in values {
        metrics::gauge!(name, "monitor" => monitor.to_owned(), "feature" => feature.clone()).set(*value);
    }
}
