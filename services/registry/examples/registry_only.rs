//! The registry alone: `registry_only 127.0.0.1:5000 DIR`. Everybody is the local administrator, and no promotion was
//! ever approved.

use std::sync::Arc;
use std::time::Duration;

use axum::routing::get;
use axum::{Json, Router};
use fishy_authz::{Authenticator, Authorizer};
use fishy_blob::{Blob, BlobOptions};
use fishy_bus::Bus;
use fishy_config::Overrides;
use fishy_contracts::GovernanceClient;
use fishy_core::{Env, Error, Result};
use fishy_db::{Db, DbOptions, OUTBOX};
use fishy_http::{Guard, ServiceClient, ServiceSlot, health_routes, serve};
use fishy_registry::{Deps, MIGRATIONS, start};
use serde_json::json;
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(listen), Some(folder)) = (arguments.next(), arguments.next()) else {
        return Err(Error::invalid("usage: registry_only ADDRESS DIR"));
    };
    let env = Env::system();
    let url = std::path::absolute(&folder)?.display().to_string();
    let db = Db::connect(&format!("sqlite://{url}"), "registry", DbOptions::default()).await?;
    let migrations: Vec<_> = std::iter::once(OUTBOX).chain(MIGRATIONS.iter().copied()).collect();
    db.migrate(&migrations).await?;
    let slot = ServiceSlot::default();
    let check = || async {
        Json(json!({"is_allowed": false, "promotion_id": null, "reason": "no approved promotion stands behind it"}))
    };
    slot.fill(Router::new().route("/api/v1/promotions/check", get(check)));
    let stop = CancellationToken::new();
    let guard = Guard {
        authenticator: Authenticator::local(),
        authorizer: Authorizer::embedded(env.now_ms())?,
        max_body_bytes: 16 * 1024 * 1024,
        request_timeout: Duration::from_mins(1),
    };
    let config = fishy_config::load(None, &Overrides { data_dir: Some(url.clone()), ..Overrides::default() })?;
    let running = start(Deps {
        env,
        config,
        db,
        bus: Bus::in_process(),
        guard,
        governance: GovernanceClient(ServiceClient::local("governance", &slot, "registry")),
        blob: Blob::open(&format!("file://{url}/artifacts"), &BlobOptions::default())?,
        stop: stop.clone(),
    })
    .await?;
    let router = running
        .router
        .clone()
        .merge(health_routes(Arc::new(|| Box::pin(async { Vec::new() })), Arc::new(|| Box::pin(async { true }))));
    let listener = tokio::net::TcpListener::bind(&listen).await?;
    let stopper = stop.clone();
    tokio::spawn(async move {
        let _ = tokio::signal::ctrl_c().await;
        stopper.cancel();
    });
    let served = serve(listener, router, stop, Duration::from_secs(5)).await;
    running.shutdown().await;
    served
}
