//! True values and labelled history.

use std::collections::{BTreeMap, BTreeSet};

use fishy_contracts::monitoring::{GroundTruth, GroundTruthReceipt, Observations};
use fishy_core::Result;
use serde_json::json;

use super::Monitoring;
use crate::domain::{hour_of, truth};
use crate::store;

impl Monitoring {
    /// Takes true values; they are kept safely when this answers.
    pub async fn ground_truth(&self, truth: &GroundTruth, actor: &str) -> Result<GroundTruthReceipt> {
        truth::check(&truth.items, self.config.max_ground_truth_items)?;
        let now_ms = self.env.now_ms();
        let mut tx = self.db.begin().await?;
        let turn = store::take_turn(&mut tx).await?;
        let known = store::feedback::known(&mut tx, truth.items.iter().map(|item| item.prediction_id.as_str())).await?;
        let changes = truth::changes(&truth.items, &known, now_ms);
        let found = store::predictions::find(&mut tx, changes.writes.keys().map(String::as_str)).await?;
        store::feedback::write(&mut tx, &changes, &found, actor, now_ms).await?;

        let watching = store::monitors::watching(&mut tx).await?;
        let mut labels: BTreeMap<&str, u64> = BTreeMap::new();
        let mut touched = BTreeSet::new();
        for (id, row) in &found {
            *labels.entry(&row.deployment).or_default() += u64::from(!known.contains_key(id));
            let monitors = watching.get(&row.deployment).map_or(&[][..], Vec::as_slice);
            touched.extend(monitors.iter().map(|monitor| (monitor.name.as_str(), hour_of(row.time_ms))));
        }
        for (deployment, labels) in labels {
            store::monitors::count(&mut tx, deployment, -1, 0, labels).await?;
        }
        store::predictions::touch(&mut tx, turn, touched).await?;
        let corrected: BTreeSet<&str> = changes.replaced.iter().map(|(id, _)| id.as_str()).collect();
        if !corrected.is_empty() {
            // Values that are replaced are a change of the record; the first ten ids say where to look.
            let ids: Vec<&&str> = corrected.iter().take(10).collect();
            let details = json!({"corrected": corrected.len(), "prediction_ids": ids});
            self.audit(&mut tx, actor, "feedback:ground_truth", "feedback/ground-truth", details).await?;
        }
        tx.commit().await?;

        for (id, row) in found.iter().filter(|(id, _)| !known.contains_key(*id)) {
            if let Some(truth) = changes.writes.get(id) {
                super::gauges::label_delay(truth.arrived_ms - row.time_ms);
            }
        }
        metrics::counter!("fishy_monitoring_ground_truth_total", "outcome" => "accepted").increment(changes.accepted);
        metrics::counter!("fishy_monitoring_ground_truth_total", "outcome" => "duplicate")
            .increment(changes.duplicates);
        self.wake.notify_one();
        Ok(GroundTruthReceipt { accepted: changes.accepted, duplicates: changes.duplicates })
    }

    /// Takes labelled history of a monitor; it is kept safely when this answers.
    pub async fn observations(&self, name: &str, observations: &Observations) -> Result<GroundTruthReceipt> {
        truth::check_observations(&observations.items, self.config.max_ground_truth_items)?;
        self.monitor(name).await?;
        let mut tx = self.db.begin().await?;
        let accepted = store::feedback::insert_observations(&mut tx, name, &observations.items).await?;
        if accepted > 0 {
            store::monitors::add_observations(&mut tx, name, accepted).await?;
        }
        tx.commit().await?;
        Ok(GroundTruthReceipt { accepted, duplicates: observations.items.len() as u64 - accepted })
    }
}
