//! Alerts: what is told of a finding, in words that somebody at a pen can act on.

pub mod silences;
pub mod words;

use std::collections::BTreeMap;

use fishy_contracts::events::TriggerFired;
use fishy_contracts::monitoring::{Alarm, Alert, DataFault, MonitorSpec, Severity};
use fishy_drift::FindingKind;
use sha2::{Digest, Sha256};

/// An alert of a finding, before it has an id.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// The finding: of a second alert of the same source with other labels, the first has ended.
    pub source: String,
    pub labels: BTreeMap<String, String>,
    pub summary: String,
    pub description: String,
    pub starts_ms: i64,
}

impl Finding {
    /// As an alert.
    pub fn into_alert(self, id: String) -> Alert {
        let Self { labels, summary, description, starts_ms, .. } = self;
        Alert { id, fingerprint: fingerprint(&labels), labels, summary, description, starts_ms, ends_ms: None }
    }
}

fn labels(spec: &MonitorSpec, name: &str, severity: Severity, more: &[(&str, &str)]) -> BTreeMap<String, String> {
    let always = [
        ("alertname", name),
        ("severity", severity.as_str()),
        ("monitor", spec.name.as_str()),
        ("deployment", spec.deployment.as_str()),
    ];
    let all = always.iter().chain(more).filter(|(_, value)| !value.is_empty());
    all.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// Of a data fault; none of a spike, which is over when it is seen.
pub fn of_fault(spec: &MonitorSpec, fault: &DataFault, now_ms: i64) -> Option<Finding> {
    if fault.kind == FindingKind::Spike.as_str() {
        return None;
    }
    let more = [("feature", fault.feature.as_str()), ("series", &fault.series), ("kind", &fault.kind)];
    Some(Finding {
        source: fault.id.clone(),
        labels: labels(spec, "SensorFault", Severity::Alert, &more),
        summary: words::of_fault(spec, fault, now_ms),
        description: fault.message.clone(),
        starts_ms: fault.since_ms,
    })
}

/// Of an alarm of a check.
pub fn of_alarm(spec: &MonitorSpec, alarm: &Alarm) -> Finding {
    let more = [
        ("feature", alarm.feature.as_str()),
        ("check", &alarm.check),
        ("test", alarm.test.as_str()),
        ("slice", &alarm.slice),
    ];
    Finding {
        source: alarm.id.clone(),
        labels: labels(spec, words::name_of_alarm(alarm), alarm.severity, &more),
        summary: words::of_alarm(spec, alarm),
        description: alarm.message.clone(),
        starts_ms: alarm.since_ms,
    }
}

/// Of a trigger that starts a pipeline.
pub fn of_trigger(spec: &MonitorSpec, trigger: &TriggerFired) -> Finding {
    let more = [("pipeline", trigger.pipeline.as_str())];
    Finding {
        source: trigger.id.clone(),
        labels: labels(spec, "Retraining", Severity::Warning, &more),
        summary: format!(
            "The model {} does not fit the water of these days any more: a challenger is being trained. Nothing needs to \
             be done; read its warnings with care until then.",
            spec.deployment
        ),
        description: trigger.reason.clone(),
        starts_ms: trigger.as_of_ms,
    }
}

/// Digest of the labels.
pub fn fingerprint(labels: &BTreeMap<String, String>) -> String {
    let mut digest = Sha256::new();
    for (name, value) in labels {
        for text in [name, value] {
            digest.update((text.len() as u64).to_be_bytes());
            digest.update(text.as_bytes());
        }
    }
    hex::encode(&digest.finalize()[..8])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_labels_have_another_fingerprint() {
        let labels = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let one = fingerprint(&labels(&[("a", "bc"), ("d", "e")]));
        assert_eq!(one.len(), 16);
        assert_eq!(one, fingerprint(&labels(&[("d", "e"), ("a", "bc")])));
        for other in [labels(&[("ab", "c"), ("d", "e")]), labels(&[("a", "bc")]), labels(&[("a", "bcd"), ("", "e")])] {
            assert_ne!(one, fingerprint(&other));
        }
    }
}
