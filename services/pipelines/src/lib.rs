#![doc = include_str!("../README.md")]

mod dataset;
mod domain;
mod events;
mod executor;
mod http;
mod runner;
mod scheduler;
mod service;
mod steps;
mod store;

use std::collections::BTreeMap;
use std::sync::Arc;

use fishy_authz::RunTokens;
use fishy_config::Secret;
use fishy_contracts::{DeploymentClient, GovernanceClient, MonitoringClient, RegistryClient};
use fishy_core::Result;
use fishy_inference::Engine;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

pub use dataset::{Manifest, Part};
pub use domain::definition::Definition;
pub use domain::figures::Figures;
pub use steps::{Compared, Evaluation};
pub use store::MIGRATIONS;

/// What the service needs.
pub struct Deps {
    /// Clock and ids.
    pub env: fishy_core::Env,
    /// The configuration.
    pub config: fishy_config::Config,
    /// The database, migrated.
    pub db: fishy_db::Db,
    /// Where triggers come from.
    pub bus: fishy_bus::Bus,
    /// Stands before the routes.
    pub guard: fishy_http::Guard,
    /// The registry.
    pub registry: RegistryClient,
    /// Monitoring: labelled data, data faults.
    pub monitoring: MonitoringClient,
    /// Deployment: whether a promoted version serves.
    pub deployment: DeploymentClient,
    /// Governance: the promotion gate.
    pub governance: GovernanceClient,
    /// Runs challenger and champion over the held-out rows.
    pub engine: Arc<dyn Engine>,
    /// The registry as commands reach it: `MLFLOW_TRACKING_URI`.
    pub tracking_uri: String,
    /// Makes what commands show our registry: `MLFLOW_TRACKING_TOKEN`; `None` where nobody has to say who they are, and
    /// where the registry is somebody else's, who must not see it.
    pub run_tokens: Option<RunTokens>,
    /// What commands find in their environment besides: how they reach a foreign registry.
    pub step_environment: BTreeMap<String, Secret>,
    /// Cancelled when the process shall end.
    pub stop: CancellationToken,
}

/// The running service.
pub struct Running {
    /// Its routes.
    pub router: axum::Router,
    service: Arc<service::Service>,
    // Dropped without `shutdown`, the service stops at once and leaves its children behind, as a killed process does.
    scheduler: AbortOnDropHandle<()>,
}

/// Starts the service on a migrated database: subscribes to triggers, and goes on with the runs that had not ended.
pub async fn start(deps: Deps) -> Result<Running> {
    let guard = deps.guard.clone();
    let bus = deps.bus.clone();
    metrics::describe_counter!("fishy_pipeline_runs_total", "Runs that ended, by pipeline and status");
    metrics::describe_histogram!("fishy_pipeline_step_duration_seconds", "Time of one try of a pipeline step");
    let service = service::Service::new(deps).await?;
    let router = http::router(&service, &guard);
    events::subscribe(&bus, &service).await?;
    let scheduler: JoinHandle<()> = tokio::spawn(scheduler::work(service.clone()));
    Ok(Running { router, service, scheduler: AbortOnDropHandle::new(scheduler) })
}

impl Running {
    /// What keeps the service from being ready, in words: failed last runs, steps that wait for something that is away.
    pub async fn problems(&self) -> Vec<String> {
        match self.service.store.problems().await {
            Ok(problems) => problems,
            Err(error) => vec![format!("the pipelines' database: {error}")],
        }
    }

    /// Waits until all work has stopped, once `stop` is cancelled. Runs go on at the next start.
    pub async fn shutdown(self) {
        if let Err(error) = self.scheduler.await {
            tracing::error!(%error, "the scheduler of pipelines did not end well");
        }
    }
}
