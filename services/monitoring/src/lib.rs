#![doc = include_str!("../README.md")]

mod domain;
mod events;
mod http;
mod service;
mod store;

pub use store::MIGRATIONS;

use std::sync::Arc;
use std::time::Duration;

use fishy_bus::Bus;
use fishy_config::Config;
use fishy_core::{Env, Result};
use fishy_db::Db;
use fishy_http::Guard;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use service::Monitoring;

/// After data came in, windows are closed at once; the next time not before this, so that many small batches are
/// looked at together.
const PAUSE: Duration = Duration::from_millis(200);
/// How often the alerts that wait for their receivers are looked at.
const TELL: Duration = Duration::from_secs(1);
/// How long to wait before what failed is tried again, and between two looks at what may be forgotten.
const RETRY: Duration = Duration::from_secs(2);

/// What the service needs.
pub struct Deps {
    /// Clock and ids.
    pub env: Env,
    /// Configuration.
    pub config: Config,
    /// Its own database, migrated.
    pub db: Db,
    /// Events, and the prediction stream.
    pub bus: Bus,
    /// Who may ask what.
    pub guard: Guard,
    /// Cancelled when the process stops.
    pub stop: CancellationToken,
}

/// The service at work.
pub struct Running {
    /// Its routes.
    pub router: axum::Router,
    monitoring: Arc<Monitoring>,
    closing: JoinHandle<()>,
    telling: JoinHandle<()>,
}

/// Starts the service: subscribes to events and to the prediction stream, and closes windows in the background.
pub async fn start(deps: Deps) -> Result<Running> {
    let (bus, guard, stop) = (deps.bus.clone(), deps.guard.clone(), deps.stop.clone());
    service::describe_metrics();
    let monitoring = Arc::new(Monitoring::new(deps)?);
    events::subscribe(&bus, &monitoring).await?;
    let closing = tokio::spawn(close_windows(monitoring.clone(), stop.clone()));
    let telling = tokio::spawn(tell_receivers(monitoring.clone(), stop));
    Ok(Running { router: http::router(monitoring.clone(), &guard), monitoring, closing, telling })
}

impl Running {
    /// What keeps the service from being ready, in words. Open data faults do not: they are in the status of their monitor.
    pub async fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if let Err(error) = self.monitoring.ping().await {
            problems.push(format!("database: {error}"));
        }
        problems.extend(self.monitoring.problems());
        problems
    }

    /// Ends: call it after `stop` is cancelled.
    pub async fn shutdown(self) {
        let _ = self.closing.await;
        let _ = self.telling.await;
    }
}

/// Tells receivers of alerts, when there are new ones and when it is time to try again. What is being sent is sent: at the
/// end of the process it is waited for, no longer than a receiver may take.
async fn tell_receivers(monitoring: Arc<Monitoring>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = timeout(TELL, monitoring.alert_woken()) => {}
        }
        monitoring.tell_receivers().await;
    }
}

/// Closes windows when data came in, and forgets what is too old.
async fn close_windows(monitoring: Arc<Monitoring>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = timeout(RETRY, monitoring.woken()) => {}
        }
        let round = async {
            monitoring.advance_all().await;
            monitoring.forget_old().await;
            tokio::time::sleep(PAUSE).await;
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = round => {}
        }
    }
}
