//! The registry through its real router, on SQLite and on PostgreSQL.
#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

#[path = "it/aliases.rs"]
mod aliases;
#[path = "it/deletion.rs"]
mod deletion;
#[path = "it/imports.rs"]
mod imports;
#[path = "it/large_reads.rs"]
mod large_reads;
#[path = "it/migrations.rs"]
mod migrations;
#[path = "it/plans.rs"]
mod plans;
#[path = "it/protocol.rs"]
mod protocol;
#[path = "it/server.rs"]
mod server;
#[path = "it/tracking.rs"]
mod tracking;
#[path = "it/ui.rs"]
mod ui;
#[path = "it/webhooks.rs"]
mod webhooks;
#[path = "it/workspace_routes.rs"]
mod workspace_routes;
#[path = "it/workspaces.rs"]
mod workspaces;
