//! The service with real child processes, a real database and bus, and fakes of the services around it.

#![allow(
    clippy::unwrap_used,
    clippy::float_cmp,
    reason = "a test that cannot go on fails, and figures are chosen to be exact"
)]

#[path = "it/api.rs"]
mod api;
#[path = "it/commands.rs"]
mod commands;
#[path = "it/crash.rs"]
mod crash;
#[path = "it/fakes.rs"]
mod fakes;
#[path = "it/gate.rs"]
mod gate;
#[path = "it/model.rs"]
mod model;
#[path = "it/start.rs"]
mod start;
#[path = "it/whole.rs"]
mod whole;
#[path = "it/world.rs"]
mod world;
