use serde::{Deserialize, Serialize};

/// `[governance]`: policies, approvals, audit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Governance {
    /// A signed checkpoint at least every so many audit entries.
    pub checkpoint_every_entries: u64,
    /// A signed checkpoint at least so often, when entries came in.
    pub checkpoint_every_ms: u64,
    /// A file with Cedar policies that replace the built-in ones.
    pub policies: String,
    /// A file with Cedar policies of the promotion gate that replace the built-in ones.
    pub gate_policies: String,
    /// The name of the audit log in its checkpoints.
    pub origin: String,
}

impl Default for Governance {
    fn default() -> Self {
        Self {
            checkpoint_every_entries: 100,
            checkpoint_every_ms: 10_000,
            policies: String::new(),
            gate_policies: String::new(),
            origin: "fishy-watch/audit".to_owned(),
        }
    }
}
