//! Where prediction records go from the spool: onto the prediction stream, into hourly Parquet, and to sinks of CloudEvents.

mod parquet;
mod sink;
mod stream;

pub(crate) use parquet::ParquetExport;
pub(crate) use sink::SinkExport;
pub use stream::Publish;
pub(crate) use stream::StreamExport;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use fishy_core::Error;
use tokio_util::sync::CancellationToken;

/// What keeps an exporter from passing records on.
#[derive(Debug, Default)]
pub(crate) struct Health(Mutex<Option<String>>);

impl Health {
    pub(crate) fn problem(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes how an attempt ended; a change is logged once.
    fn set(&self, what: &str, error: Option<&Error>) {
        let text = error.map(|error| format!("{what}: {}", error.message()));
        let before = std::mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), text.clone());
        match (before.is_some(), error) {
            (false, Some(error)) => {
                tracing::warn!(error = error.chain(), "{what}: prediction records wait in the spool");
            }
            (true, None) => tracing::info!("{what}: prediction records flow again"),
            _ => {}
        }
    }
}

/// Waits; `false` when `stop` came first.
async fn pause(length: Duration, stop: &CancellationToken) -> bool {
    tokio::select! {
        () = stop.cancelled() => false,
        () = tokio::time::sleep(length) => true,
    }
}
