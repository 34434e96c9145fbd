//! The monitoring service in this process, as the program runs it: its database in a file, the bus in memory.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use axum::extract::Request;
use axum::middleware::map_request;
use fishy_authz::{Authenticator, Authorizer, Identity};
use fishy_bus::Bus;
use fishy_config::Config;
use fishy_contracts::MonitoringClient;
use fishy_core::Env;
use fishy_db::{Db, DbOptions};
use fishy_http::{Guard, ServiceClient, ServiceSlot};
use fishy_monitoring::{Deps, MIGRATIONS, Running};
use tokio_util::sync::CancellationToken;

/// The name of its database.
pub const SCHEMA: &str = "monitoring";

pub struct Service {
    pub db: Db,
    pub bus: Bus,
    pub client: MonitoringClient,
    stop: CancellationToken,
    running: Running,
}

impl Service {
    /// Starts it over a folder.
    pub async fn start(folder: &Path) -> Result<Self> {
        let url = format!("sqlite://{}", folder.display());
        let db = Db::connect(&url, SCHEMA, DbOptions::default()).await?;
        let migrations: Vec<_> = [fishy_db::OUTBOX].iter().chain(MIGRATIONS).copied().collect();
        db.migrate(&migrations).await?;
        let (bus, config) = (Bus::in_process(), Config::default());
        let guard = Guard {
            authenticator: Authenticator::local(),
            authorizer: Authorizer::embedded(0)?,
            max_body_bytes: config.server.max_body_bytes,
            request_timeout: Duration::from_mins(30),
        };
        let stop = CancellationToken::new();
        let deps = Deps { env: Env::system(), config, db: db.clone(), bus: bus.clone(), guard, stop: stop.clone() };
        let running = fishy_monitoring::start(deps).await?;
        let as_admin = map_request(|mut request: Request| async move {
            request.extensions_mut().insert(Identity::local_admin());
            request
        });
        let slot = ServiceSlot::default();
        slot.fill(running.router.clone().layer(as_admin));
        let client = ServiceClient::local("monitoring", &slot, "bench").with_timeout(Duration::from_mins(30));
        let client = MonitoringClient(client);
        Ok(Self { db, bus, client, stop, running })
    }

    /// Ends it.
    pub async fn end(self) {
        self.stop.cancel();
        self.running.shutdown().await;
        self.bus.close().await;
        self.db.close().await;
    }
}
