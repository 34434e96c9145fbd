use serde::{Deserialize, Serialize};

/// `[telemetry]`: logs and metrics.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Telemetry {
    /// `text` for a person, `json` for a machine.
    pub log_format: LogFormat,
    /// A `tracing` filter, for example `info,fishy_pipelines=debug`.
    pub log_filter: String,
    /// Whether metrics are recorded; without, `/metrics` is empty.
    pub metrics: bool,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self { log_format: LogFormat::Text, log_filter: "info,ort=warn".to_owned(), metrics: true }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines for a person.
    Text,
    /// One JSON object a line.
    Json,
}
