//! The service through its router, its streams and its events, on SQLite and PostgreSQL.

#![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

#[path = "it/receivers.rs"]
mod receivers;
#[path = "it/rig.rs"]
mod rig;

#[path = "it/alerts.rs"]
mod alerts;
#[path = "it/checks.rs"]
mod checks;
#[path = "it/dataset.rs"]
mod dataset;
#[path = "it/doors.rs"]
mod doors;
#[path = "it/experts.rs"]
mod experts;
#[path = "it/faults.rs"]
mod faults;
#[path = "it/feedback.rs"]
mod feedback;
#[path = "it/logged.rs"]
mod logged;
#[path = "it/opinions.rs"]
mod opinions;
#[path = "it/overview.rs"]
mod overview;
#[path = "it/restart.rs"]
mod restart;
#[path = "it/served.rs"]
mod served;
#[path = "it/triggers.rs"]
mod triggers;
#[path = "it/upgrade.rs"]
mod upgrade;
#[path = "it/windows.rs"]
mod windows;
