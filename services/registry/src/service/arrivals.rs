//! Histories of metrics are written down later than the metrics arrive, on SQLite; nobody sees that.

use std::time::Duration;

use fishy_core::{Error, Result};
use fishy_db::Engine;
use tokio_util::sync::CancellationToken;

use super::Registry;
use crate::store::arrivals as store;

/// How often what arrived is moved. Longer pauses make it cheaper, and reading a history just after logging slower.
const PAUSE: Duration = Duration::from_secs(1);

impl Registry {
    /// Whether batches are written down as they arrive, and moved into the histories later.
    pub(super) fn has_arrivals(&self) -> bool {
        self.db.engine() == Engine::Sqlite
    }

    /// Moves what has arrived for some runs into their histories: before these are read.
    pub(super) async fn settle(&self, run_ids: &[String]) -> Result<()> {
        if self.has_arrivals() {
            for run_id in run_ids {
                store::settle(&self.db, run_id).await?;
            }
        }
        Ok(())
    }

    /// Moves what arrives into the histories, until `stop`. What is left then is moved after the next start.
    pub async fn settle_until(&self, stop: &CancellationToken) {
        while self.has_arrivals() && !stop.is_cancelled() {
            let settled = async {
                for run_id in store::runs(&self.db).await? {
                    if stop.is_cancelled() {
                        break;
                    }
                    store::settle(&self.db, &run_id).await?;
                }
                Ok::<_, Error>(())
            };
            if let Err(error) = settled.await {
                tracing::warn!(error = error.chain(), "metrics that arrived cannot be moved into their histories now");
            }
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = stop.cancelled() => {}
            }
        }
    }
}
