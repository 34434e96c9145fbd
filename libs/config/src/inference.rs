use serde::{Deserialize, Serialize};

/// `[inference]`: the engine that runs models.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Inference {
    /// Path of `libonnxruntime.so`; empty: `.fishy/onnxruntime/libonnxruntime.so` beside the working folder, as the set-up puts it.
    pub onnxruntime_library: String,
    /// Sessions of each model: how many requests it answers at the same time.
    pub sessions: usize,
}

impl Default for Inference {
    fn default() -> Self {
        Self { onnxruntime_library: String::new(), sessions: 2 }
    }
}
