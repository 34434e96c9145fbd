use serde::{Deserialize, Serialize};

use crate::Secret;

/// How an event travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SinkMode {
    /// Many events as one JSON array (`application/cloudevents-batch+json`); HTTP only.
    Batched,
    /// One event as one JSON object (`application/cloudevents+json`).
    Structured,
    /// One event: its attributes as headers, its data as the body.
    Binary,
}

/// What an event holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SinkFormat {
    /// The prediction record.
    #[default]
    Record,
    /// A request and an answer of the Open Inference Protocol, in two events, as the logger of KServe sends them.
    Kserve,
    /// Of these the requests alone.
    KserveRequest,
    /// Of these the answers alone.
    KserveResponse,
}

/// `[deployment.sinks.NAME]`: where prediction records go as CloudEvents, beside Parquet and the prediction stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PredictionSink {
    /// `http://…` or `https://…`, where events are posted; `amqp://…` or `amqps://…`, a RabbitMQ broker. Empty: the broker at `bus.url`.
    #[serde(default)]
    pub url: Secret,
    /// RabbitMQ: the queue for events; declared where it is not there.
    #[serde(default)]
    pub queue: String,
    /// RabbitMQ, instead of `queue`: the topic exchange for events, with the deployment's name as routing key; declared where it is not there. Events that no queue takes wait.
    #[serde(default)]
    pub exchange: String,
    /// `batched` (the default over HTTP), `binary` (the default over RabbitMQ) or `structured`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<SinkMode>,
    /// `record`: a prediction record an event; `kserve`, `kserve_request`, `kserve_response`: the payloads that KServe's logger sends.
    #[serde(default)]
    pub format: SinkFormat,
    /// Only predictions of these deployments; of all if empty.
    #[serde(default)]
    pub deployments: Vec<String>,
    /// The share of the requests that is sent, above 0 and at most 1. Which ones is decided by the prediction id alone.
    #[serde(default = "everything")]
    pub sample: f64,
    /// HTTP: bearer token.
    #[serde(default)]
    pub token: Secret,
    /// HTTP: key of the signature of each body (HMAC-SHA-256).
    #[serde(default)]
    pub secret: Secret,
    /// Records that are passed on at once, at most; 1 to 10,000.
    #[serde(default = "batch_records")]
    pub batch_records: usize,
    /// HTTP: how long a request may take, from 100 to 300,000.
    #[serde(default = "timeout")]
    pub timeout_ms: u64,
}

const fn everything() -> f64 {
    1.0
}

const fn batch_records() -> usize {
    500
}

const fn timeout() -> u64 {
    10_000
}
