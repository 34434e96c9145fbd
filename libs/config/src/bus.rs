use crate::Secret;
use serde::{Deserialize, Serialize};

/// `[bus]`: events and streams.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Bus {
    /// `amqp://user:password@host:port/vhost`; empty: in this process.
    pub url: Secret,
    /// The first part of the names of exchanges, queues and streams.
    pub prefix: String,
}

impl Default for Bus {
    fn default() -> Self {
        Self { url: Secret::default(), prefix: "fishy".to_owned() }
    }
}
