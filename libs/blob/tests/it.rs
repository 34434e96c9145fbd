//! One suite for every backend, and what is special about some of them.
#![expect(clippy::unwrap_used, reason = "what fails in a test fails the test, also in the functions they share")]

#[path = "it/conformance.rs"]
mod conformance;
#[path = "it/file.rs"]
mod file;
#[path = "it/gcs.rs"]
mod gcs;
#[path = "it/s3.rs"]
mod s3;
#[path = "it/script.rs"]
mod script;
