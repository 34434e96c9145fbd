use serde::{Deserialize, Serialize};

/// How a deployment runs its models; takes effect by loading the model again beside the one that serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EngineSettings {
    /// Requests that run at the same time; none: `inference.sessions` of the configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sessions: Option<usize>,
    /// Threads that one request may use inside of the model; 1 is best for small models.
    pub intra_threads: usize,
    /// How much the engine rewrites the graph.
    pub optimization: GraphOptimization,
    /// So many rows of waiting requests are run at once at most; 1 turns batching off.
    pub max_batch_rows: usize,
    /// So many bytes of inputs wait at most; more is answered 429.
    pub max_queue_bytes: usize,
    /// Whether its models stay in memory, whatever `deployment.memory_budget_bytes` says.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub is_pinned: bool,
}

/// How much an engine rewrites a graph when it loads it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GraphOptimization {
    /// Not at all.
    Disabled,
    /// Constants folded, dead nodes dropped.
    Basic,
    /// Operators fused as well.
    Extended,
    /// Layouts of memory changed as well.
    #[default]
    All,
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self {
            sessions: None,
            intra_threads: 1,
            optimization: GraphOptimization::default(),
            max_batch_rows: 64,
            max_queue_bytes: 64 * 1024 * 1024,
            is_pinned: false,
        }
    }
}
