#![doc = include_str!("../README.md")]

mod auth;
mod bus;
mod deployment;
mod foreign_registry;
mod governance;
mod inference;
mod load;
mod monitoring;
mod pipelines;
mod prediction_sinks;
mod python;
mod registry;
mod secret;
mod server;
mod storage;
mod telemetry;

pub use auth::{Auth, Oidc};
pub use bus::Bus;
pub use deployment::{Deployment, RequestQueue, SpoolFull};
pub use foreign_registry::{ForeignKind, ForeignRegistry};
pub use governance::Governance;
pub use inference::Inference;
pub use load::{Overrides, load};
pub use monitoring::{Monitoring, Receiver, ReceiverKind};
pub use pipelines::Pipelines;
pub use prediction_sinks::{PredictionSink, SinkFormat, SinkMode};
pub use python::{Programs, Python};
pub use registry::Registry;
pub use secret::Secret;
pub use server::{Server, Services};
pub use storage::Storage;
pub use telemetry::{LogFormat, Telemetry};

use serde::{Deserialize, Serialize};

/// Everything that can be configured.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where this process listens.
    pub server: Server,
    /// Where the services are that do not run in this process.
    pub services: Services,
    /// Databases and objects.
    pub storage: Storage,
    /// Events and streams.
    pub bus: Bus,
    /// Who may ask.
    pub auth: Auth,
    /// Model registry.
    pub registry: Registry,
    /// Somebody else's model registry, in the place of ours.
    pub foreign_registry: ForeignRegistry,
    /// Model deployment.
    pub deployment: Deployment,
    /// The engine that runs models.
    pub inference: Inference,
    /// Monitoring and feedback.
    pub monitoring: Monitoring,
    /// Pipelines.
    pub pipelines: Pipelines,
    /// Governance.
    pub governance: Governance,
    /// Logs and metrics.
    pub telemetry: Telemetry,
}
