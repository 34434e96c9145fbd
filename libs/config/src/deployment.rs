use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{PredictionSink, Programs, Python};

/// `[deployment]`: serving, and the log of predictions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Deployment {
    /// The bound of the prediction spool on disk, in bytes, for each deployment service.
    pub spool_max_bytes: u64,
    /// What happens when the spool is full.
    pub spool_when_full: SpoolFull,
    /// How long records wait at most before they are written as Parquet.
    pub parquet_flush_ms: u64,
    /// How often an alias is looked up when no event tells that it moved (a foreign registry sends none).
    pub registry_poll_ms: u64,
    /// Requests in flight at most; more are answered 429.
    pub max_concurrent_predictions: usize,
    /// The deployments that this process serves; empty: all of them.
    pub only: Vec<String>,
    /// What loaded models may cost in memory, in estimated bytes; above it the least recently used idle ones are unloaded, and loaded again by the next request. 0: no bound.
    pub memory_budget_bytes: u64,
    /// Whether models are loaded when the process starts, while the budget has room; else by their first request. Pinned ones always are.
    pub load_at_start: bool,
    /// How long a load that requests wait for may take.
    pub load_timeout_ms: u64,
    /// Deployments that also take requests from a queue of RabbitMQ, by name.
    pub queues: BTreeMap<String, RequestQueue>,
    /// Models without an ONNX form, in worker processes.
    pub python: Box<Python>,
    /// Custom predictors: WSGI applications, and programs that speak HTTP.
    pub programs: Box<Programs>,
    /// Where prediction records go as CloudEvents, by name.
    pub sinks: BTreeMap<String, PredictionSink>,
}

impl Default for Deployment {
    fn default() -> Self {
        Self {
            spool_max_bytes: 256 * 1024 * 1024,
            spool_when_full: SpoolFull::DropOldest,
            parquet_flush_ms: 60_000,
            registry_poll_ms: 5_000,
            max_concurrent_predictions: 256,
            only: Vec::new(),
            memory_budget_bytes: 0,
            load_at_start: true,
            load_timeout_ms: 30_000,
            queues: BTreeMap::new(),
            python: Box::default(),
            programs: Box::default(),
            sinks: BTreeMap::new(),
        }
    }
}

/// What happens to predictions when the spool is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SpoolFull {
    /// The oldest records are dropped, and counted.
    DropOldest,
    /// Requests are refused until there is room.
    Refuse,
}

/// `[deployment.queues.NAME]`: requests to the deployment NAME from a queue of the broker at `bus.url`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestQueue {
    /// The queue that requests come from; declared where it is not there.
    pub requests: String,
    /// The queue for answers to requests without `reply_to`; declared where it is not there. Empty: they need `reply_to`.
    #[serde(default)]
    pub results: String,
    /// The queue for requests that cannot be answered; empty: that of the requests with `.dead` behind it.
    #[serde(default)]
    pub dead: String,
    /// Who asks, in the eyes of the policies; a user of this name.
    #[serde(default = "queue_principal")]
    pub principal: String,
    /// The roles of `principal`, for example `sensor`. Without one, the policies that come with the program permit nothing.
    #[serde(default)]
    pub roles: Vec<String>,
    /// Requests taken from the queue and not yet answered, at most, by each process; 1 to 64.
    #[serde(default = "queue_prefetch")]
    pub prefetch: u16,
    /// How long a request is tried again while the deployment is overloaded or not ready; then it is dead.
    #[serde(default = "queue_patience")]
    pub patience_ms: u64,
}

fn queue_principal() -> String {
    "queue".to_owned()
}

const fn queue_prefetch() -> u16 {
    8
}

const fn queue_patience() -> u64 {
    600_000
}
