//! Governance through its real router, with the bus and the outbox relay of one process, on SQLite and on PostgreSQL.
#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

#[path = "it/audit.rs"]
mod audit;
#[path = "it/bodies.rs"]
mod bodies;
#[path = "it/damage.rs"]
mod damage;
#[path = "it/policies.rs"]
mod policies;
#[path = "it/promotions.rs"]
mod promotions;
#[path = "it/rig.rs"]
mod rig;
#[path = "it/tokens.rs"]
mod tokens;
