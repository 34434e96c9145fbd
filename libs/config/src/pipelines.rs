use serde::{Deserialize, Serialize};

/// `[pipelines]`: the local runner.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pipelines {
    /// Runs at the same time; more wait.
    pub max_running: usize,
    /// The Python interpreter that steps get as `python`; empty: `.fishy/venv/bin/python` where it exists, else `python3`.
    pub python: String,
    /// Where steps keep their files; empty: a folder below `storage.data_dir`.
    pub work_dir: String,
    /// How often schedules are looked at.
    pub tick_ms: u64,
}

impl Default for Pipelines {
    fn default() -> Self {
        Self { max_running: 1, python: String::new(), work_dir: String::new(), tick_ms: 1_000 }
    }
}
