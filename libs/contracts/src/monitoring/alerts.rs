//! Alerts: what people are told, and what keeps them from being told.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Something that a person should know of, while it lasts. Of two findings with the same labels there is one alert.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// Unique.
    pub id: String,
    /// Digest of its labels.
    pub fingerprint: String,
    /// What it is about: `alertname`, `severity`, `monitor`, `deployment`, and where they apply `feature`, `series`, `kind`,
    /// `check`, `test`, `slice`.
    pub labels: BTreeMap<String, String>,
    /// What to do, in one sentence.
    pub summary: String,
    /// The figures behind it.
    pub description: String,
    /// Event time it began.
    pub starts_ms: i64,
    /// Event time it ended; absent while it lasts.
    pub ends_ms: Option<i64>,
}

/// Keeps alerts from being sent for a while; they are there all the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SilenceRequest {
    /// All of these must hold for an alert.
    pub matchers: Vec<Matcher>,
    /// From then on, milliseconds since the epoch; at once if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starts_ms: Option<i64>,
    /// Until then.
    pub ends_ms: i64,
    /// Why.
    #[serde(default)]
    pub comment: String,
}

/// A condition on a label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Matcher {
    /// The label.
    pub name: String,
    /// Its value; a label that an alert does not have is empty.
    pub value: String,
    /// False: any other value.
    #[serde(default = "yes")]
    pub is_equal: bool,
}

const fn yes() -> bool {
    true
}

/// A silence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Silence {
    /// Unique.
    pub id: String,
    /// All of these must hold for an alert.
    pub matchers: Vec<Matcher>,
    /// From then on.
    pub starts_ms: i64,
    /// Until then.
    pub ends_ms: i64,
    /// Who made it.
    pub created_by: String,
    /// Why.
    pub comment: String,
}
