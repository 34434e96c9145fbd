//! Held to the reference library, and to what Shapley values must be.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, reason = "tests")]

#[path = "it/golden.rs"]
mod golden;
#[path = "it/laws.rs"]
mod laws;
