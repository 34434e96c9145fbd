//! Labelled rows, as they were known at a time.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use fishy_contracts::monitoring::{DatasetRequest, LabelledRow};
use fishy_core::{Error, Result};
use futures::stream::{self, BoxStream, StreamExt};

use super::{Monitoring, PAGE, blocking};
use crate::domain::dataset::{self, Faults};
use crate::store;
use crate::store::predictions::{LabelledPage, RawRow};

/// A walk through the labelled rows of a span, page by page.
struct Walk {
    monitoring: Arc<Monitoring>,
    monitor: String,
    deployment: String,
    request: DatasetRequest,
    faults: Option<Arc<Faults>>,
    is_backwards: bool,
    after: (i64, String),
    is_over: bool,
}

impl Monitoring {
    /// JSON lines in event-time order, a page at a time.
    pub async fn dataset(
        self: Arc<Self>,
        name: &str,
        request: DatasetRequest,
    ) -> Result<BoxStream<'static, Result<Bytes>>> {
        dataset::check(&request)?;
        let spec = self.monitor(name).await?.spec;
        let faults = if request.without_faults {
            let faults = store::faults::between(&self.db, name, request.from_ms, request.to_ms).await?;
            Some(Arc::new(Faults::new(&spec.series_label, faults)))
        } else {
            None
        };
        let newest = request.newest;
        let is_backwards = newest.is_some();
        let after = if is_backwards { (request.to_ms, String::new()) } else { (request.from_ms, String::new()) };
        let mut walk = Walk {
            monitoring: self,
            monitor: name.to_owned(),
            deployment: spec.deployment,
            request,
            faults,
            is_backwards,
            after,
            is_over: false,
        };
        if let Some(newest) = newest {
            let newest = usize::try_from(newest).unwrap_or(usize::MAX);
            let mut rows = Vec::new();
            while rows.len() < newest && !walk.is_over {
                rows.extend(walk.next().await?);
            }
            rows.truncate(newest);
            let lines = blocking(move || {
                rows.reverse();
                json_lines(&rows)
            })
            .await?;
            return Ok(stream::once(async move { Ok(lines) }).boxed());
        }
        let pages = stream::try_unfold(walk, |mut walk| async move {
            if walk.is_over {
                return Ok(None);
            }
            let rows = walk.next().await?;
            let lines = blocking(move || json_lines(&rows)).await?;
            Ok(Some((lines, walk)))
        });
        Ok(pages.boxed())
    }
}

impl Walk {
    /// The next rows, in the direction of the walk.
    async fn next(&mut self) -> Result<Vec<LabelledRow>> {
        let db = &self.monitoring.db;
        let asked = LabelledPage {
            deployment: &self.deployment,
            monitor: &self.monitor,
            from_ms: self.request.from_ms,
            to_ms: self.request.to_ms,
            as_of_ms: self.request.as_of_ms,
            after: &self.after,
            is_backwards: self.is_backwards,
            limit: PAGE,
        };
        let (predictions, observations) = store::predictions::labelled_page(db, &asked).await?;
        let (rows, next) = merge(predictions, observations, self.is_backwards, PAGE);
        match next {
            Some(next) => self.after = next,
            None => self.is_over = true,
        }
        let corrected: Vec<&str> = rows.iter().filter(|row| row.is_corrected).map(|row| row.id.as_str()).collect();
        let mut histories =
            if corrected.is_empty() { HashMap::new() } else { store::predictions::histories(db, &corrected).await? };
        let (request, faults) = (self.request.clone(), self.faults.clone());
        blocking(move || {
            let mut taken = Vec::with_capacity(rows.len());
            for row in rows {
                let history = if row.is_corrected { histories.remove(&row.id).unwrap_or_default() } else { Vec::new() };
                taken.extend(dataset::take(row.kept_row(history)?, &request, faults.as_deref()));
            }
            Ok(taken)
        })
        .await
    }
}

/// Two pages as one, in order, and where the next one begins: not beyond what both pages reach.
fn merge(
    predictions: Vec<RawRow>,
    observations: Vec<RawRow>,
    is_backwards: bool,
    limit: usize,
) -> (Vec<RawRow>, Option<(i64, String)>) {
    let order = |a: (i64, &str), b: (i64, &str)| if is_backwards { b.cmp(&a) } else { a.cmp(&b) };
    let end_of =
        |page: &[RawRow]| page.last().filter(|_| page.len() >= limit).map(|last| (last.time_ms, last.id.clone()));
    let ends = end_of(&predictions).into_iter().chain(end_of(&observations));
    let end = ends.min_by(|a, b| order((a.0, &a.1), (b.0, &b.1)));
    let mut rows = predictions;
    rows.extend(observations);
    rows.sort_by(|a, b| order((a.time_ms, &a.id), (b.time_ms, &b.id)));
    if let Some((time_ms, id)) = &end {
        rows.retain(|row| order((row.time_ms, &row.id), (*time_ms, id)).is_le());
    }
    (rows, end)
}

fn json_lines(rows: &[LabelledRow]) -> Result<Bytes> {
    let mut lines = Vec::new();
    for row in rows {
        serde_json::to_writer(&mut lines, row)
            .map_err(|error| Error::internal("cannot write a row").with_source(error))?;
        lines.push(b'\n');
    }
    Ok(lines.into())
}
