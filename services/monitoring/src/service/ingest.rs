//! The prediction stream.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::PoisonError;

use bytes::Bytes;
use fishy_core::time::DAY_MS;
use fishy_core::{Error, Result};

use super::{Monitoring, blocking};
use crate::domain::hour_of;
use crate::domain::record::{Prediction, read_batch};
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
        let mut batch = blocking(move || Ok(read_batch(&batch))).await?;
        let received = batch.predictions.len() as u64;
        let distinct: HashSet<&str> = batch.predictions.iter().map(|prediction| prediction.id.as_str()).collect();
        if distinct.len() < batch.predictions.len() {
            let mut in_batch = HashSet::new();
            batch.predictions.retain(|prediction| in_batch.insert(prediction.id.clone()));
        }
        // Hardly ever does a batch come twice: looked for is what is known only when there turns out to be something.
        let stored = if let Some(stored) = self.store(offset, &batch.predictions, HashSet::new()).await? {
            stored
        } else {
            let known = store::predictions::known(&self.db, batch.predictions.iter().map(|p| p.id.as_str())).await?;
            let stored = self.store(offset, &batch.predictions, known).await?;
            stored.ok_or_else(|| Error::unavailable("predictions were stored by two at the same time"))?
        };
        let outcomes = [("stored", stored), ("duplicate", received - stored), ("malformed", batch.malformed)];
        for (outcome, count) in outcomes {
            metrics::counter!("fishy_monitoring_records_total", "outcome" => outcome).increment(count);
        }
        Ok(())
    }

    /// Stores predictions that are not known, in one transaction with the offset; gives how many. Nothing is stored, and
    /// nothing given, when some are known that were not named.
    async fn store(&self, offset: u64, batch: &[Prediction], known: HashSet<String>) -> Result<Option<u64>> {
        let mut tx = self.db.begin().await?;
        let turn = store::take_turn(&mut tx).await?;
        let is_new = |prediction: &&Prediction| known.is_empty() || !known.contains(&prediction.id);
        let ids = || batch.iter().filter(is_new).map(|prediction| prediction.id.as_str());
        let truths = if store::feedback::is_any_waiting(&mut tx).await? {
            store::feedback::known(&mut tx, ids()).await?
        } else {
            HashMap::new()
        };
        let watching = store::monitors::watching(&mut tx).await?;

        // A time in the future does not move the watermark: one wrong clock would close the windows of everybody else.
        let latest_ms = self.env.now_ms() + DAY_MS;
        let mut counts: BTreeMap<&str, (i64, u64, u64)> = BTreeMap::new();
        let mut touched = BTreeSet::new();
        let mut delays_ms = Vec::new();
        let mut rows = Vec::with_capacity(batch.len());
        for prediction in batch.iter().filter(is_new) {
            let monitors = watching.get(&prediction.deployment).map_or(&[][..], Vec::as_slice);
            let truth = truths.get(&prediction.id);
            let count = counts.entry(&prediction.deployment).or_insert((-1, 0, 0));
            if prediction.time_ms <= latest_ms {
                count.0 = count.0.max(prediction.time_ms);
            }
            count.1 += 1;
            count.2 += u64::from(truth.is_some());
            let hour_ms = hour_of(prediction.time_ms);
            touched.extend(monitors.iter().map(|monitor| (monitor.name.as_str(), hour_ms)));
            delays_ms.extend(truth.map(|truth| truth.arrived_ms - prediction.time_ms));
            let output = prediction.output(monitors.first().map(|monitor| monitor.output.as_str()));
            rows.push(NewPrediction { prediction, output });
        }
        if store::predictions::insert(&mut tx, &rows).await? < rows.len() as u64 {
            tx.rollback().await;
            return Ok(None);
        }
        store::feedback::set_joined(&mut tx, truths.keys().map(String::as_str)).await?;
        for (deployment, (newest_ms, predictions, labels)) in &counts {
            store::monitors::count(&mut tx, deployment, *newest_ms, *predictions, *labels).await?;
        }
        store::predictions::touch(&mut tx, turn, touched).await?;
        store::predictions::set_offset(&mut tx, self.consumer, offset).await?;
        tx.commit().await?;
        delays_ms.into_iter().for_each(super::gauges::label_delay);
        Ok(Some(rows.len() as u64))
    }
}
