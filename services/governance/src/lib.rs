#![doc = include_str!("../README.md")]

mod domain;
mod events;
mod http;
mod service;
mod store;

pub use store::MIGRATIONS;

use std::sync::Arc;
use std::time::Duration;

use fishy_authz::Bundle;
use fishy_blob::Blob;
use fishy_bus::Bus;
use fishy_config::Config;
use fishy_contracts::governance::{NewToken, TokenRequest};
use fishy_core::{Env, Result};
use fishy_db::Db;
use fishy_http::Guard;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use service::Governance;

/// What the service needs.
pub struct Deps {
    /// Clock and ids.
    pub env: Env,
    /// Configuration.
    pub config: Config,
    /// Its own database, migrated.
    pub db: Db,
    /// Events.
    pub bus: Bus,
    /// Who may ask what.
    pub guard: Guard,
    /// Where the heads of the audit log are kept outside the database.
    pub blob: Blob,
    /// Cancelled when the process stops.
    pub stop: CancellationToken,
}

/// The service at work.
pub struct Running {
    /// Its routes.
    pub router: axum::Router,
    governance: Arc<Governance>,
    checkpoints: JoinHandle<()>,
}

/// Starts the service.
pub async fn start(deps: Deps) -> Result<Running> {
    let every = Duration::from_millis(deps.config.governance.checkpoint_every_ms.max(100));
    let every_entries = deps.config.governance.checkpoint_every_entries.max(1);
    let (bus, guard, stop) = (deps.bus.clone(), deps.guard.clone(), deps.stop.clone());
    metrics::describe_counter!("fishy_audit_entries_total", "Entries taken into the audit log, by service");
    let governance = Arc::new(Governance::open(deps).await?);
    events::subscribe(&bus, &governance).await?;
    let checkpoints = tokio::spawn(checkpoint_task(governance.clone(), every, every_entries, stop));
    Ok(Running { router: http::router(governance.clone(), &guard), governance, checkpoints })
}

impl Running {
    /// What keeps the service from being ready, in words.
    pub async fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if let Err(error) = self.governance.ping().await {
            problems.push(format!("database: {error}"));
        }
        problems.extend(self.governance.checkpoint_problem());
        problems
    }

    /// The access policies that were published last, for the authorizer of this process.
    pub async fn bundle(&self) -> Result<Option<Bundle>> {
        self.governance.newest_bundle().await
    }

    /// Ends: signs a last checkpoint over what came in.
    pub async fn shutdown(self) {
        let _ = self.checkpoints.await;
    }
}

/// Signs a checkpoint when entries came in: at once after `every_entries`, else every `every`.
async fn checkpoint_task(governance: Arc<Governance>, every: Duration, every_entries: u64, stop: CancellationToken) {
    loop {
        let is_stopping = tokio::select! {
            () = stop.cancelled() => true,
            () = tokio::time::sleep(every) => false,
            () = governance.entries_waiting(every_entries) => false,
        };
        if let Err(error) = governance.sign_checkpoint().await {
            tracing::error!(error = error.chain(), "cannot sign a checkpoint of the audit log");
        }
        if is_stopping {
            return;
        }
    }
}

/// Makes a service token without a running service: the first one of an installation, which nobody could ask for.
pub async fn create_token_offline(db: &Db, env: &Env, request: &TokenRequest) -> Result<NewToken> {
    service::create_token(db, env, request, &fishy_authz::Identity::user("operator-offline", ["admin"])).await
}
