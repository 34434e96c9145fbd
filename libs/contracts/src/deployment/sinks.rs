use serde::{Deserialize, Serialize};

/// How a sink of the prediction log stands, in the process that was asked. Counts are of its time since the start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SinkStatus {
    /// Its name in the configuration.
    pub name: String,
    /// `http` or `rabbitmq`.
    pub kind: String,
    /// The deployments whose predictions it gets; of all if empty.
    pub deployments: Vec<String>,
    /// The share of the requests that it gets.
    pub sample: f64,
    /// Events that it took.
    pub sent: u64,
    /// Events that were too large for it and left out.
    pub refused: u64,
    /// Records of any deployment that it has not passed yet: about.
    pub waiting_records: u64,
    /// The same in bytes on disk.
    pub waiting_bytes: u64,
    /// Records of any deployment that were dropped for want of room before it had passed them.
    pub dropped: u64,
    /// When it took events last (wall clock).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_sent_ms: Option<i64>,
    /// Why it takes none now, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}
