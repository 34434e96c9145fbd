use fishy_core::ErrorCode;
use fishy_inference::{Engine, ModelOptions, OnnxOnDemand, OnnxRuntime};
use std::path::Path;

#[test]
fn a_missing_library_is_an_error_that_says_what_to_do() {
    let error = OnnxRuntime::load_library(Path::new("/nowhere/libonnxruntime.so")).unwrap_err();
    assert_eq!(error.code(), ErrorCode::FailedPrecondition);
    assert!(error.message().contains("/nowhere/libonnxruntime.so"), "{error}");
    assert!(error.message().contains("inference.onnxruntime_library"), "{error}");
}

#[test]
fn a_broken_library_is_an_error_and_the_next_one_still_loads() {
    let dir = tempfile::tempdir().unwrap();
    let broken = dir.path().join("libonnxruntime.so");
    std::fs::write(&broken, "this is not a library").unwrap();
    let error = OnnxRuntime::load_library(&broken).unwrap_err();
    assert_eq!(error.code(), ErrorCode::FailedPrecondition);
    assert!(error.message().contains("inference.onnxruntime_library"), "{error}");
    crate::engine();
}

#[test]
fn the_library_is_loaded_once() {
    let first = crate::engine();
    assert_eq!(crate::engine().library(), first.library());
    let dir = tempfile::tempdir().unwrap();
    let other = dir.path().join("other.so");
    std::fs::write(&other, "").unwrap();
    let error = OnnxRuntime::load_library(&other).unwrap_err();
    assert!(error.message().contains("already runs"), "{error}");
}

#[test]
fn on_demand_it_is_looked_for_at_once_and_loaded_with_the_first_model() {
    let error = OnnxOnDemand::new(Path::new("/nowhere/libonnxruntime.so")).unwrap_err();
    assert_eq!(error.code(), ErrorCode::FailedPrecondition);
    let engine = OnnxOnDemand::new(&crate::engine().library()).unwrap();
    let error = engine.load(Path::new("/nowhere/model.onnx"), &ModelOptions::default()).err().unwrap();
    assert_eq!(error.code(), ErrorCode::NotFound, "{error}");
}
