use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fishy_core::Result;
use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::{Health, pause};
use crate::domain::without_shadows;
use crate::service::blocking;
use crate::spool::{Batch, Cursor, Reader, Spool};

const MAX_RECORDS: usize = 1_000;
const MAX_BYTES: usize = 1024 * 1024;
/// Between two batches, so that records which come close after each other go as one: who takes them in pays for each batch.
/// The first record after a quiet time goes at once.
const REST: Duration = Duration::from_millis(20);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Publishes one batch; answers when it is safe on the other side.
pub type Publish = Arc<dyn Fn(Bytes) -> BoxFuture<'static, Result<()>> + Send + Sync>;

/// Passes records on to the prediction stream, in order, at least once; but not those of shadows.
pub(crate) struct StreamExport {
    pub(crate) spool: Arc<Spool>,
    pub(crate) publish: Publish,
    pub(crate) health: Arc<Health>,
}

impl StreamExport {
    /// Runs until `stop`; what is not passed on then is after the next start.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut wait = FIRST_PAUSE;
        loop {
            let passed = tokio::select! {
                () = stop.cancelled() => return,
                passed = self.pass_on() => passed,
            };
            match passed {
                Ok(0) => {
                    self.health.set("prediction stream", None);
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = self.spool.appended.notified() => {}
                    }
                }
                Ok(records) => {
                    self.health.set("prediction stream", None);
                    wait = FIRST_PAUSE;
                    if records < MAX_RECORDS && !pause(REST, &stop).await {
                        return;
                    }
                }
                Err(error) => {
                    self.health.set("prediction stream", Some(&error));
                    if !pause(wait, &stop).await {
                        return;
                    }
                    wait = (wait * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// One batch: what is there, without waiting for more. Answers how many records that were.
    async fn pass_on(&self) -> Result<usize> {
        let from = self.spool.cursor(Reader::Stream).position;
        if from >= self.spool.end() {
            return Ok(0);
        }
        let spool = Arc::clone(&self.spool);
        let Batch { lines, records, next } = blocking(move || {
            let batch = spool.read(from, u64::MAX, MAX_RECORDS, MAX_BYTES)?;
            Ok(Batch { lines: without_shadows(batch.lines), ..batch })
        })
        .await?;
        if !lines.is_empty() {
            (self.publish)(lines.into()).await?;
        }
        if next > from {
            self.spool.set_cursor(Reader::Stream, Cursor::at(next))?;
        }
        Ok(records)
    }
}
