#![doc = include_str!("../README.md")]

mod domain;
mod events;
mod http;
mod seal;
mod service;
mod store;

use std::sync::Arc;

use axum::Router;
use fishy_blob::Blob;
use fishy_bus::Bus;
use fishy_config::Config;
use fishy_contracts::GovernanceClient;
use fishy_core::{Env, Result};
use fishy_db::Db;
use fishy_http::{Guard, Listed};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use crate::store::schema::MIGRATIONS;

/// The name of this service in routes, events and audit entries.
const SERVICE: &str = "registry";

/// What the registry needs of the process it runs in.
pub struct Deps {
    /// Clock and ids.
    pub env: Env,
    /// The configuration.
    pub config: Config,
    /// Its database, migrated by [`MIGRATIONS`].
    pub db: Db,
    /// Events; the process relays the outbox of `db` to it, and the registry those of its other workspaces. It listens to
    /// none.
    pub bus: Bus,
    /// What stands before every route.
    pub guard: Guard,
    /// Asked before a protected alias moves.
    pub governance: GovernanceClient,
    /// The content of artifacts.
    pub blob: Blob,
    /// Cancelled when the process stops.
    pub stop: CancellationToken,
}

/// A registry that runs.
pub struct Running {
    /// Its routes.
    pub router: Router,
    /// The list of its routes.
    pub table: Vec<Listed>,
    db: Db,
    tasks: Vec<(&'static str, JoinHandle<()>)>,
}

/// Starts the registry.
pub async fn start(deps: Deps) -> Result<Running> {
    let Deps { env, config, db, bus, guard, governance, blob, stop } = deps;
    let ui = http::ui::folder(&config.registry.mlflow_ui)?;
    let are_workspaces_on = config.registry.workspaces;
    let mut tx = db.begin().await?;
    store::experiments::ensure_default(&mut tx, env.now_ms()).await?;
    if are_workspaces_on {
        store::workspaces::ensure_default(&mut tx, env.now_ms()).await?;
    }
    tx.commit().await?;
    let registry = Arc::new(service::Registry {
        calls: service::Calls::new(&config, &db)?,
        env,
        config,
        db: db.clone(),
        blob,
        folder: "artifacts".to_owned(),
        governance,
        workspace: domain::workspace::DEFAULT.to_owned(),
    });
    let workspaces =
        Arc::new(service::Workspaces::new(Arc::clone(&registry), bus, guard.authorizer.clone(), stop.clone()));
    let (router, table) = http::router(Arc::clone(&workspaces), &guard, ui.as_deref());
    let mut tasks = Vec::new();
    if are_workspaces_on {
        tasks.push(("tour of the workspaces", tokio::spawn(async move { workspaces.tour().await })));
    }
    let (caller, stopped) = (Arc::clone(&registry), stop.clone());
    tasks.push(("caller of webhooks", tokio::spawn(async move { caller.call_webhooks(&stopped).await })));
    let (settler, stopped) = (Arc::clone(&registry), stop.clone());
    tasks.push(("settler of metrics", tokio::spawn(async move { settler.settle_until(&stopped).await })));
    tasks.push(("sweeper", tokio::spawn(async move { registry.sweep_until(&stop).await })));
    Ok(Running { router, table, db, tasks })
}

impl Running {
    /// What keeps the registry from being ready, in words; empty when nothing does.
    pub async fn problems(&self) -> Vec<String> {
        match self.db.ping().await {
            Ok(()) => Vec::new(),
            Err(error) => vec![format!("the database does not answer: {error}")],
        }
    }

    /// Waits for the tasks to end; call it after `stop` is cancelled.
    pub async fn shutdown(self) {
        for (name, task) in self.tasks {
            if let Err(error) = task.await {
                tracing::warn!(%error, "the {name} ended badly");
            }
        }
    }
}
