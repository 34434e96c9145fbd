//! One suite, run on SQLite and on PostgreSQL, and what only one of them can do.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

#[path = "it/fixture.rs"]
mod fixture;
#[path = "it/kill.rs"]
mod kill;
#[path = "it/killed_migration.rs"]
mod killed_migration;
#[path = "it/migrations.rs"]
mod migrations;
#[path = "it/postgres.rs"]
mod postgres;
#[path = "it/relay.rs"]
mod relay;
#[path = "it/sqlite.rs"]
mod sqlite;
#[path = "it/transactions.rs"]
mod transactions;
#[path = "it/values.rs"]
mod values;
