#![doc = include_str!("../README.md")]

mod client;
mod extract;
mod failure;
pub mod grpc;
mod routes;
mod serve;

pub use client::{Call, Reply, ServiceClient, ServiceSlot};
pub use extract::{Caller, Json, Query};
pub use failure::{ErrorForm, Failure};
pub use routes::{Guard, Listed, Routes, Tenant, TenantOf};
pub use serve::{Accepting, Readiness, health_routes, serve};
