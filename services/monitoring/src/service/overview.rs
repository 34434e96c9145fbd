//! What a span looks like, from its rows.

use std::sync::Arc;

use fishy_contracts::monitoring::{Overview, ReferenceUsed};
use fishy_core::time::DAY_MS;
use fishy_core::{Error, Result};

use super::checking::training_span;
use super::monitors::watched;
use super::{Monitoring, blocking};
use crate::domain::checks::CheckRow;
use crate::domain::checks::spans::Span;
use crate::domain::{is_time, overview};
use crate::store;

/// Longest span, in days.
const MAX_DAYS: i64 = 3_660;
/// Most predictions of a span: all of them are read, few are kept.
const MAX_PREDICTIONS: u64 = 5_000_000;

impl Monitoring {
    /// What the predictions of a span look like beside the training data of the champion.
    pub async fn overview(&self, name: &str, from_ms: i64, to_ms: i64) -> Result<Overview> {
        if !is_time(from_ms) || !is_time(to_ms) || from_ms >= to_ms {
            return Err(Error::invalid(format!("from_ms {from_ms} and to_ms {to_ms}: use a span of time")));
        }
        if to_ms - from_ms > MAX_DAYS * DAY_MS {
            return Err(Error::exhausted(format!("more than {MAX_DAYS} days: ask for a shorter span")));
        }
        let monitor = self.monitor(name).await?;
        let deployment = &monitor.spec.deployment;
        let predictions = store::predictions::count_predictions(&self.db, deployment, from_ms, to_ms).await?;
        if predictions > MAX_PREDICTIONS {
            return Err(Error::exhausted(format!(
                "{predictions} predictions: ask for a shorter span, of at most {MAX_PREDICTIONS}"
            )));
        }
        let champion = store::monitors::champion(&self.db, deployment).await?;
        let versions = store::predictions::versions(&self.db, deployment, from_ms, to_ms).await?;
        let delays = store::predictions::label_delays(&self.db, deployment, from_ms, to_ms).await?;
        let rows = self.check_rows(name, deployment, Span { from_ms, to_ms }).await?;
        let mut reference = None;
        if let Some((champion, span)) = champion.as_ref().and_then(|one| Some((one, training_span(one)?))) {
            let rows = self.reference_rows(name, deployment, span, true).await?;
            let version = Some(champion.version.clone());
            let used = ReferenceUsed { from_ms: span.from_ms, to_ms: span.to_ms, version, rows: rows.len() as u64 };
            reference = (!rows.is_empty()).then_some((used, rows));
        }
        let features: Vec<String> = watched(&monitor.spec, champion.as_ref()).into_iter().collect();
        let (used, compared): (_, Option<Arc<Vec<CheckRow>>>) = reference.unzip();
        blocking(move || {
            Ok(Overview {
                from_ms,
                to_ms,
                predictions,
                labels: delays.iter().map(|(_, labels)| labels).sum(),
                rows: rows.len() as u64,
                versions,
                reference: used,
                distributions: overview::distributions(&features, compared.as_ref().map(|rows| rows.as_slice()), &rows),
                slices: overview::slice_errors(&rows),
                label_delay: overview::label_delay(&delays),
            })
        })
        .await
    }
}
