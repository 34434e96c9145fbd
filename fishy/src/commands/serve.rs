use anyhow::{Context, Result};
use fishy_config::Config;
use tokio::signal::unix::{SignalKind, signal};

use crate::compose;
use crate::services::Service;

/// Runs services until a signal.
pub async fn run(config: &Config, services: &[Service]) -> Result<()> {
    let mut services = services.to_vec();
    services.sort();
    services.dedup();
    let process = Box::pin(compose::start(config, &services)).await?;
    let url = compose::local_url(process.address);
    let names: Vec<_> = services.iter().map(|service| service.name()).collect();
    tracing::info!(%url, services = names.join(","), data_dir = config.storage.data_dir, "fishy is up");
    if services == compose::everything(config) {
        eprintln!("fishy is up at {url}");
        if config.foreign_registry.is_set() {
            eprintln!("  registry     {}", config.foreign_registry.url);
        } else {
            eprintln!("  MLflow       export MLFLOW_TRACKING_URI={url}");
        }
        if !config.registry.mlflow_ui.is_empty() {
            eprintln!("  MLflow's UI  {url}/mlflow");
        }
        eprintln!("  inference    {url}/v2");
        eprintln!("  health       {url}/ready   metrics {url}/metrics");
    }
    interrupted().await?;
    tracing::info!("stopping: open requests end, then the services");
    process.shutdown().await?;
    tracing::info!("stopped");
    Ok(())
}

/// Waits for SIGTERM or SIGINT.
pub async fn interrupted() -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for signals")?;
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        result = tokio::signal::ctrl_c() => result.context("cannot listen for signals"),
    }
}
