//! Authentication against a small identity provider and token stores, over real HTTP.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail by panicking")]

#[path = "it/authentication.rs"]
mod authentication;
#[path = "it/oidc.rs"]
mod oidc;
#[path = "it/provider.rs"]
mod provider;
