//! The rules of the registry: no SQL, no HTTP, no clock.

pub mod artifact;
pub mod filter;
pub mod limits;
pub mod metric;
pub mod names;
pub mod order;
pub mod page;
pub mod records;
pub mod search;
pub mod stage;
pub mod webhook;
pub mod workspace;
