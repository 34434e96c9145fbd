//! The prediction stream.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::PoisonError;

use bytes::Bytes;
use fishy_core::Result;
use fishy_core::time::DAY_MS;

use super::{Monitoring, blocking};
use crate::domain::hour_of;
use crate::domain::record::{Batch, read_batch};
use crate::store;
use crate::store::predictions::NewPrediction;

impl Monitoring {
    /// Where the stream goes on.
    pub async fn stream_offset(&self) -> Result<Option<u64>> {
        store::predictions::offset(&self.db, self.consumer).await
    }

    /// Takes one batch of the stream, in one transaction with its offset.
    pub async fn ingest(&self, offset: u64, batch: Bytes) -> Result<()> {
        let result = self.try_ingest(offset, batch).await;
        let problem = result.as_ref().err().map(ToString::to_string);
        *self.stream_problem.lock().unwrap_or_else(PoisonError::into_inner) = problem;
        if result.is_ok() {
            self.wake.notify_one();
        }
        result
    }

    async fn try_ingest(&self, offset: u64, batch: Bytes) -> Result<()> {
        let Batch { mut predictions, malformed } = blocking(move || Ok(read_batch(&batch))).await?;
        let received = predictions.len() as u64;
        let mut in_batch = HashSet::new();
        predictions.retain(|prediction| in_batch.insert(prediction.id.clone()));

        let mut tx = self.db.begin().await?;
        let turn = store::take_turn(&mut tx).await?;
        let known = store::predictions::known(&mut tx, predictions.iter().map(|p| p.id.as_str())).await?;
        predictions.retain(|prediction| !known.contains(&prediction.id));
        let truths = store::feedback::known(&mut tx, predictions.iter().map(|p| p.id.as_str())).await?;
        let corrected = store::feedback::corrected(&mut tx, truths.keys().map(String::as_str)).await?;
        let watching = store::monitors::watching(&mut tx).await?;

        // A time in the future does not move the watermark: one wrong clock would close the windows of everybody else.
        let latest_ms = self.env.now_ms() + DAY_MS;
        let mut counts: BTreeMap<String, (i64, u64, u64)> = BTreeMap::new();
        let mut touched = BTreeSet::new();
        let mut rows = Vec::with_capacity(predictions.len());
        for prediction in predictions {
            let monitors = watching.get(&prediction.deployment).map_or(&[][..], Vec::as_slice);
            let truth = truths.get(&prediction.id).copied();
            let count = counts.entry(prediction.deployment.clone()).or_insert((-1, 0, 0));
            if prediction.time_ms <= latest_ms {
                count.0 = count.0.max(prediction.time_ms);
            }
            count.1 += 1;
            count.2 += u64::from(truth.is_some());
            touched.extend(monitors.iter().map(|monitor| (monitor.name.clone(), hour_of(prediction.time_ms))));
            let output = prediction.output(monitors.first().map(|monitor| monitor.output.as_str()));
            let is_corrected = corrected.contains(&prediction.id);
            rows.push(NewPrediction { prediction, output, truth, is_corrected });
        }
        store::predictions::insert(&mut tx, &rows).await?;
        store::feedback::set_joined(&mut tx, truths.keys().map(String::as_str)).await?;
        for (deployment, (newest_ms, predictions, labels)) in &counts {
            store::monitors::count(&mut tx, deployment, *newest_ms, *predictions, *labels).await?;
        }
        store::predictions::touch(&mut tx, turn, &touched).await?;
        store::predictions::set_offset(&mut tx, self.consumer, offset).await?;
        tx.commit().await?;

        let stored = rows.len() as u64;
        for (outcome, count) in [("stored", stored), ("duplicate", received - stored), ("malformed", malformed)] {
            metrics::counter!("fishy_monitoring_records_total", "outcome" => outcome).increment(count);
        }
        for row in &rows {
            if let Some(truth) = row.truth {
                super::gauges::label_delay(truth.arrived_ms - row.prediction.time_ms);
            }
        }
        Ok(())
    }
}
