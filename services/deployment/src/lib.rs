#![doc = include_str!("../README.md")]

mod domain;
mod events;
mod export;
mod grpc;
mod http;
mod prediction_log;
mod queue;
mod service;
mod spool;
mod store;

pub use export::Publish;
pub use prediction_log::PredictionLog;
pub use store::MIGRATIONS;

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use fishy_blob::Blob;
use fishy_bus::Bus;
use fishy_config::Config;
use fishy_contracts::deployment::PREDICTION_STREAM;
use fishy_contracts::{GovernanceClient, MonitoringClient, RegistryClient};
use fishy_core::{Env, Result};
use fishy_db::Db;
use fishy_http::Guard;
use fishy_inference::Engine;
use futures::FutureExt;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use service::{Loader, Memory, ModelCache, Service};
use store::Store;

/// What the service needs.
pub struct Deps {
    /// Clock and ids.
    pub env: Env,
    /// Settings.
    pub config: Config,
    /// Its database, migrated.
    pub db: Db,
    /// Events and the prediction stream.
    pub bus: Bus,
    /// Who may ask.
    pub guard: Guard,
    /// Where models come from.
    pub registry: RegistryClient,
    /// Who lets them through.
    pub governance: GovernanceClient,
    /// Who has what was asked live, with the true values.
    pub monitoring: MonitoringClient,
    /// Where the Parquet files of predictions go.
    pub blob: Blob,
    /// What runs models.
    pub engine: Arc<dyn Engine>,
    /// Cancelled when the service should stop.
    pub stop: CancellationToken,
}

/// The running service.
pub struct Running {
    /// What it speaks.
    pub router: axum::Router,
    service: Arc<Service>,
    log: PredictionLog,
    tasks: Vec<JoinHandle<()>>,
}

/// Starts the service: serves what it served last, then begins to follow aliases. The database must be migrated.
pub async fn start(deps: Deps) -> Result<Running> {
    let Deps { env, config, db, bus, guard, registry, governance, monitoring, blob, engine, stop } = deps;
    describe_metrics();
    let home = Path::new(&config.storage.data_dir).join("deployment");
    let stream = bus.stream(PREDICTION_STREAM).await?;
    let publish: Publish = Arc::new(move |batch| {
        let stream = stream.clone();
        async move { stream.publish(batch).await }.boxed()
    });
    let mut log = PredictionLog::open(&home, &config, &env, blob, publish).await?;
    let mut settings = config.deployment;
    let queues = std::mem::take(&mut settings.queues);
    let background = TaskTracker::new();
    let loader = Loader::open(
        &home,
        engine,
        &config.inference,
        &settings,
        guard.authorizer.clone(),
        background.clone(),
        stop.clone(),
    )?;
    let service = Arc::new(Service {
        cache: ModelCache::open(home.join("models"), env.clone())?,
        store: Store::new(db),
        registry,
        governance,
        monitoring,
        loader: Arc::new(loader),
        spool: Arc::clone(&log.spool),
        sinks: Arc::clone(&log.sinks),
        slots: ArcSwap::default(),
        slots_change: Mutex::default(),
        graphs: ArcSwap::default(),
        graphs_change: tokio::sync::Mutex::default(),
        permits: Semaphore::new(settings.max_concurrent_predictions.min(Semaphore::MAX_PERMITS)),
        max_concurrent: settings.max_concurrent_predictions,
        memory: Memory::new(&settings),
        explaining: Semaphore::new(service::MAX_EXPLANATIONS),
        patience: guard.request_timeout,
        max_body_bytes: guard.max_body_bytes,
        background,
        only: settings.only.into_iter().collect(),
        is_settled: AtomicBool::new(false),
        env,
    });
    service.restore().await?;
    service.sync_graphs().await?;
    let moved = service::subscribe(&bus).await?;
    let router = http::router(Arc::clone(&service), &guard).merge(grpc::router(Arc::clone(&service), &guard)?);
    queue::serve(&bus, queues, &service.only, &router).await?;
    let poll = Duration::from_millis(settings.registry_poll_ms.max(50));
    log.run(&stop);
    let tasks = vec![tokio::spawn(service::follow(Arc::clone(&service), moved, poll, stop))];
    Ok(Running { router, service, log, tasks })
}

impl Running {
    /// Whether requests can be sent here, whatever else is wrong.
    pub fn can_serve(&self) -> bool {
        self.service.can_serve()
    }

    /// What keeps the service from being ready, in words.
    pub async fn problems(&self) -> Vec<String> {
        let mut problems = self.service.problems();
        problems.extend(self.log.problems());
        if let Err(error) = self.service.store.ping().await {
            problems.push(format!("database: {}", error.message()));
        }
        problems
    }

    /// Ends the tasks and brings the last records to the disk, into Parquet and to the sinks; called after `stop` was
    /// cancelled and the last request was answered.
    pub async fn shutdown(self) {
        for task in self.tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "a task of the deployment service failed");
            }
        }
        self.service.background.close();
        self.service.background.wait().await;
        self.log.shutdown().await;
    }
}

fn describe_metrics() {
    metrics::describe_histogram!("fishy_inference_request_duration_seconds", "Time to answer a prediction request");
    metrics::describe_histogram!(
        "fishy_inference_queue_duration_seconds",
        "Time that a prediction request waited before its model ran"
    );
    metrics::describe_counter!("fishy_inference_requests_total", "Prediction requests by deployment and status");
    metrics::describe_counter!("fishy_prediction_records_total", "Prediction records written, one a row");
    metrics::describe_counter!("fishy_prediction_records_dropped_total", "Prediction records lost to a full spool");
    metrics::describe_gauge!("fishy_prediction_spool_bytes", "Size of the prediction spool on disk");
    metrics::describe_counter!("fishy_prediction_spool_damaged_total", "Damaged parts of the spool that were skipped");
    metrics::describe_counter!("fishy_prediction_parquet_rows_total", "Prediction records written as Parquet");
    metrics::describe_counter!("fishy_prediction_sink_events_total", "Events that a sink of the prediction log took");
    metrics::describe_counter!("fishy_prediction_sink_refused_total", "Events that were too large for a sink");
    metrics::describe_counter!("fishy_prediction_sink_dropped_total", "Records dropped before a sink had passed them");
    metrics::describe_gauge!("fishy_prediction_sink_waiting_records", "Records that a sink has not passed yet");
    metrics::describe_gauge!("fishy_deployment_revision", "The revision a deployment serves; 0 when it was deleted");
    metrics::describe_gauge!("fishy_deployment_has_problem", "Whether a deployment does not serve what it should");
    metrics::describe_counter!("fishy_deployment_canary_failed_total", "Times a canary was taken back by its rule");
    metrics::describe_gauge!("fishy_deployment_is_loaded", "Whether the model of a deployment is in memory");
    metrics::describe_gauge!("fishy_deployment_memory_bytes", "What the models in memory are taken to cost");
    metrics::describe_gauge!("fishy_deployment_memory_budget_bytes", "What they may cost; 0 for no bound");
    metrics::describe_counter!("fishy_deployment_loads_total", "Loads of a model that requests waited for, by outcome");
    metrics::describe_counter!("fishy_deployment_unloads_total", "Times a model was unloaded to save memory");
    metrics::describe_gauge!(
        "fishy_deployment_processes_up",
        "Processes of a Python model or a program that can be asked"
    );
    metrics::describe_counter!(
        "fishy_deployment_process_restarts_total",
        "Processes of a Python model or a program that ended, hung or failed their checks, and were replaced"
    );
    metrics::describe_counter!("fishy_deployment_refused_total", "Times a version was found unfit to be served");
}
