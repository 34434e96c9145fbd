//! Which version served.

use std::collections::BTreeMap;

use fishy_contracts::monitoring::ServedPrediction;
use fishy_core::Result;

use super::Monitoring;
use crate::store;

/// Predictions that are read at once.
const PAGE: usize = 1_000;

impl Monitoring {
    /// The last prediction of a deployment up to a time of events that carries these labels.
    pub async fn served(
        &self,
        deployment: &str,
        time_ms: i64,
        labels: &[(String, String)],
    ) -> Result<Option<ServedPrediction>> {
        // Behind every id of that time.
        let mut before = (time_ms.saturating_add(1), String::new());
        loop {
            let page = store::predictions::page_before(&self.db, deployment, &before, labels, PAGE).await?;
            let Some(last) = page.last() else { return Ok(None) };
            before = (last.time_ms, last.id.clone());
            let carries =
                |own: &BTreeMap<String, String>| labels.iter().all(|(key, value)| own.get(key) == Some(value));
            // What the database finds by its text may be another one in upper case.
            if let Some(found) = page.into_iter().find(|one| carries(&one.labels)) {
                return Ok(Some(found));
            }
        }
    }
}
