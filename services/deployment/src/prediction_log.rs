//! The prediction log: the spool that records are written to, and everybody who reads it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fishy_blob::Blob;
use fishy_config::Config;
use fishy_contracts::deployment::{PredictionRecord, SinkStatus};
use fishy_core::{Env, Result};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::export::{Health, ParquetExport, Publish, SinkExport, StreamExport};
use crate::service::blocking;
use crate::spool::{Appended, Spool, SpoolOptions, key_of, push_frame};

/// The prediction log of one process. The deployment service has one; benchmarks have one without the service.
pub struct PredictionLog {
    pub(crate) spool: Arc<Spool>,
    pub(crate) sinks: Arc<[SinkExport]>,
    parquet: Arc<ParquetExport>,
    publish: Publish,
    healths: [Arc<Health>; 2],
    tasks: Vec<JoinHandle<()>>,
}

impl PredictionLog {
    /// Opens the log of `[deployment]` in a folder. What is in it is read from [`run`](Self::run) on.
    pub async fn open(folder: &Path, config: &Config, env: &Env, blob: Blob, publish: Publish) -> Result<Self> {
        let settings = &config.deployment;
        let options = SpoolOptions { max_bytes: settings.spool_max_bytes, when_full: settings.spool_when_full };
        let (dir, names) = (folder.join("spool"), settings.sinks.keys().cloned().collect::<Vec<_>>());
        let spool = blocking(move || {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            Spool::open(&dir, options, &names)
        });
        let spool = Arc::new(spool.await?);
        let mut sinks = Vec::new();
        for (place, (name, sink)) in settings.sinks.iter().enumerate() {
            let (spool, env) = (Arc::clone(&spool), env.clone());
            sinks.push(SinkExport::new((name.as_str(), place), sink.clone(), config, spool, env).await?);
        }
        let healths = [Arc::<Health>::default(), Arc::default()];
        let parquet = Arc::new(ParquetExport {
            spool: Arc::clone(&spool),
            blob,
            env: env.clone(),
            flush: Duration::from_millis(settings.parquet_flush_ms.max(100)),
            health: Arc::clone(&healths[1]),
        });
        Ok(Self { spool, sinks: sinks.into(), parquet, publish, healths, tasks: Vec::new() })
    }

    /// Begins to pass records on, until `stop`.
    pub fn run(&mut self, stop: &CancellationToken) {
        let (spool, publish, health) =
            (Arc::clone(&self.spool), Arc::clone(&self.publish), Arc::clone(&self.healths[0]));
        let stream = StreamExport { spool, publish, health };
        self.tasks.push(tokio::spawn(stream.run(stop.clone())));
        let (parquet, parquet_stop) = (Arc::clone(&self.parquet), stop.clone());
        self.tasks.push(tokio::spawn(async move { parquet.run(parquet_stop).await }));
        for place in 0..self.sinks.len() {
            let (sinks, sink_stop) = (Arc::clone(&self.sinks), stop.clone());
            self.tasks.push(tokio::spawn(async move { sinks[place].run(sink_stop).await }));
        }
        self.tasks.push(tokio::spawn(sync_each_second(Arc::clone(&self.spool), stop.clone())));
    }

    /// Records the rows of one request with one write, as an answered request is; `false` when they were dropped.
    pub fn record(&self, rows: &[PredictionRecord]) -> Result<bool> {
        let Some(first) = rows.first() else { return Ok(true) };
        let mut frames = Vec::with_capacity(512 * rows.len());
        for row in rows {
            push_frame(&mut frames, row)?;
        }
        let key = key_of(&first.deployment, &first.id);
        Ok(self.spool.append(Some(key), &frames, rows.len() as u64)? != Appended::Dropped)
    }

    /// What is wrong, in words.
    pub fn problems(&self) -> Vec<String> {
        let exports = self.healths.iter().filter_map(|health| health.problem());
        let sinks = self.sinks.iter().filter_map(SinkExport::problem);
        self.spool.problem().into_iter().chain(exports).chain(sinks).collect()
    }

    /// How the sinks stand.
    pub fn sinks(&self) -> Vec<SinkStatus> {
        self.sinks.iter().map(SinkExport::status).collect()
    }

    /// Ends the tasks and brings the last records into Parquet, to the sinks that take them, and to the disk; called after
    /// `stop` was cancelled and the last request was answered.
    pub async fn shutdown(self) {
        for task in self.tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "a task of the prediction log failed");
            }
        }
        let sinks = futures::future::join_all(self.sinks.iter().map(SinkExport::finish));
        tokio::join!(self.parquet.flush(), sinks);
        sync(&self.spool).await;
    }
}

async fn sync_each_second(spool: Arc<Spool>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(Duration::from_secs(1)) => sync(&spool).await,
        }
    }
}

async fn sync(spool: &Arc<Spool>) {
    let spool = Arc::clone(spool);
    if let Err(error) = blocking(move || Ok(spool.sync()?)).await {
        tracing::warn!(error = error.chain(), "the prediction spool cannot be synced to disk");
    }
}
