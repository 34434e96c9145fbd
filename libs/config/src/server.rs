use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// `[server]`: where this process listens, and the bounds of every request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// Address and port. Any address but loopback needs an identity (`[auth]`).
    pub listen: String,
    /// The largest request body in bytes, artifacts aside.
    pub max_body_bytes: usize,
    /// The longest time for one request, artifacts aside.
    pub request_timeout_ms: u64,
    /// How long open requests may go on after a signal to stop.
    pub shutdown_grace_ms: u64,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:5000".to_owned(),
            max_body_bytes: 16 * 1024 * 1024,
            request_timeout_ms: 60_000,
            shutdown_grace_ms: 10_000,
        }
    }
}

/// `[services]`: the URL of each service that does not run in this process.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Services {
    /// `registry = "http://registry:5000"` and so on. These are services of ours, and are shown the secret they share;
    /// somebody else's MLflow server goes into `[foreign_registry]`.
    pub urls: BTreeMap<String, String>,
}
