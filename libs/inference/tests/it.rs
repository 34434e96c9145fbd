//! Runs the fixture models through a real ONNX Runtime.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "it/batching.rs"]
mod batching;
#[path = "it/library.rs"]
mod library;
#[path = "it/models.rs"]
mod models;

use fishy_inference::{Engine, Model, ModelOptions, OnnxRuntime};
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[expect(clippy::disallowed_methods, reason = "tests find their services by environment")]
fn library_path() -> PathBuf {
    std::env::var_os("FISHY_ONNXRUNTIME").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.fishy/onnxruntime/libonnxruntime.so"),
        PathBuf::from,
    )
}

fn engine() -> OnnxRuntime {
    OnnxRuntime::load_library(&library_path()).unwrap_or_else(|error| panic!("these tests need it: {}", error.chain()))
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn load(name: &str, options: &ModelOptions) -> Arc<dyn Model> {
    engine().load(&fixture(name), options).unwrap_or_else(|error| panic!("{}", error.chain()))
}
