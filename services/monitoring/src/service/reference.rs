//! The reference of a champion: our own rows of the span it was trained on.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use fishy_core::Result;

use super::computing::Task;
use super::{Monitoring, PAGE, blocking};
use crate::domain::is_time;
use crate::domain::window::{References, references};
use crate::store;
use crate::store::monitors::Champion;
use crate::store::predictions::RawRow;

/// Rows that a reference is made from at most; of more, every second, third … is taken.
const MAX_ROWS: u64 = 200_000;
/// References kept in memory.
const MAX_CACHED: usize = 32;

impl Monitoring {
    /// The reference of a version. That of the champion is built when it is not there; without a training window in
    /// the version's tags, or without rows in it, there is none.
    pub(super) async fn reference(&self, task: &Task, version: Option<&str>) -> Result<Arc<References>> {
        let Some(version) = version else { return Ok(Arc::default()) };
        let key = (task.spec.name.clone(), version.to_owned());
        if let Some(known) = self.references.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(known.clone());
        }
        let stored = store::windows::reference(&self.db, &key.0, version).await?;
        let found = match (stored, &task.champion) {
            (Some(stored), _) => stored,
            (None, Some(champion)) if champion.version == version => match self.build(task, champion).await? {
                Some(built) => built,
                None => return Ok(Arc::default()),
            },
            (None, _) => return Ok(Arc::default()),
        };
        let found = Arc::new(found);
        let mut cache = self.references.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.len() >= MAX_CACHED {
            cache.clear();
        }
        cache.insert(key, found.clone());
        Ok(found)
    }

    async fn build(&self, task: &Task, champion: &Champion) -> Result<Option<References>> {
        let bound = |tag: &str| champion.number::<i64>(tag).filter(|time_ms| is_time(*time_ms));
        let (Some(from_ms), Some(to_ms)) = (bound("fishy.training.from_ms"), bound("fishy.training.to_ms")) else {
            return Ok(None);
        };
        let (deployment, monitor) = (&task.spec.deployment, &task.spec.name);
        let rows = store::predictions::count_between(&self.db, deployment, monitor, from_ms, to_ms).await?;
        if rows == 0 {
            return Ok(None);
        }
        let mut sample = Sample { every: rows.div_ceil(MAX_ROWS), seen: 0, columns: BTreeMap::new() };
        let mut after = (from_ms, String::new());
        loop {
            let page = store::predictions::page(&self.db, deployment, &after, to_ms, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = (last.time_ms, last.id.clone());
            sample = blocking(move || sample.push(&page)).await?;
        }
        after = (from_ms, String::new());
        loop {
            let page = store::predictions::observed_page(&self.db, monitor, &after, to_ms, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = (last.time_ms, last.id.clone());
            sample = blocking(move || sample.push(&page)).await?;
        }
        let built = blocking(move || Ok(references(&sample.columns))).await?;
        let mut tx = self.db.begin().await?;
        store::windows::put_reference(&mut tx, monitor, &champion.version, &built, rows).await?;
        tx.commit().await?;
        tracing::info!(monitor, version = champion.version, rows, features = built.len(), "built a drift reference");
        Ok(Some(built))
    }
}

/// Columns of every n-th row.
struct Sample {
    every: u64,
    seen: u64,
    columns: BTreeMap<String, Vec<f64>>,
}

impl Sample {
    fn push(mut self, page: &[RawRow]) -> Result<Self> {
        for row in page {
            if self.seen.is_multiple_of(self.every) {
                for (feature, value) in row.window_row()?.inputs {
                    self.columns.entry(feature).or_default().push(value.unwrap_or(f64::NAN));
                }
            }
            self.seen += 1;
        }
        Ok(self)
    }
}
