use crate::Secret;
use serde::{Deserialize, Serialize};

/// `[registry]`: the model registry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Registry {
    /// The largest artifact in bytes.
    pub max_artifact_bytes: u64,
    /// Hosts that webhooks may call although their addresses are private: names or addresses as they stand in the URL;
    /// `*` for all. Any host with public addresses may be called.
    pub webhook_private_hosts: Vec<String>,
    /// How long the receiver of a webhook may take to answer.
    pub webhook_timeout_ms: u64,
    /// What the secrets of webhooks are encrypted with: any 32 or more random characters, the same for all replicas.
    /// Empty: a key of its own, in a file below `storage.data_dir`.
    pub webhook_key: Secret,
    /// The folder of MLflow's own web UI (`mlflow/server/js/build` of an installed mlflow package), served below
    /// `/mlflow`; empty: none.
    pub mlflow_ui: String,
    /// Whether clients may read and write large files in the object store themselves, by addresses that are signed for
    /// them. Only S3 has such addresses; switch it off where clients cannot reach the store.
    pub direct_transfers: bool,
    /// Whether there are other workspaces than `default`: each has a database of its own, and is chosen by the header
    /// `X-MLFLOW-WORKSPACE`, or by the tenant of the caller.
    pub workspaces: bool,
    /// The most workspaces, `default` not counted.
    pub max_workspaces: u32,
    /// How many workspaces besides `default` are open at the same time: each takes up to four connections to its
    /// database, and some tasks. The one that was not used for longest is closed for another.
    pub open_workspaces: u32,
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            max_artifact_bytes: 5 * 1024 * 1024 * 1024,
            webhook_private_hosts: Vec::new(),
            webhook_timeout_ms: 10_000,
            webhook_key: Secret::default(),
            mlflow_ui: String::new(),
            direct_transfers: true,
            workspaces: false,
            max_workspaces: 100,
            open_workspaces: 16,
        }
    }
}
