//! The rows that checks look at.

use std::sync::{Arc, PoisonError};

use fishy_core::Result;

use super::{Monitoring, PAGE, blocking};
use crate::domain::checks::CheckRow;
use crate::domain::checks::spans::Span;
use crate::domain::dataset::Faults;
use crate::domain::window::Row;
use crate::store;
use crate::store::predictions::RawRow;

/// Rows of a window that are looked at; of more, every second, third … is taken.
const WINDOW_ROWS: u64 = 50_000;
/// The same for a reference.
const REFERENCE_ROWS: u64 = 5_000;
/// References kept in memory.
const MAX_CACHED: usize = 8;

impl Monitoring {
    /// The predictions of a span, in event-time order.
    pub(super) async fn check_rows(&self, monitor: &str, deployment: &str, span: Span) -> Result<Vec<CheckRow>> {
        let count = store::predictions::count_predictions(&self.db, deployment, span.from_ms, span.to_ms).await?;
        self.marked(monitor, span, self.predicted(deployment, span, count.div_ceil(WINDOW_ROWS)).await?).await
    }

    /// The same, unless there are more than would be looked at of one window.
    pub(super) async fn check_rows_within(
        &self,
        monitor: &str,
        deployment: &str,
        span: Span,
    ) -> Result<Option<Vec<CheckRow>>> {
        let count = store::predictions::count_predictions(&self.db, deployment, span.from_ms, span.to_ms).await?;
        if count > WINDOW_ROWS {
            return Ok(None);
        }
        self.marked(monitor, span, self.predicted(deployment, span, 1).await?).await.map(Some)
    }

    /// The rows of a reference: predictions and labelled history. One that is kept is as it was when it was first used.
    pub(super) async fn reference_rows(
        &self,
        monitor: &str,
        deployment: &str,
        span: Span,
        is_kept: bool,
    ) -> Result<Arc<Vec<CheckRow>>> {
        if !is_kept {
            let rows = self.collect(monitor, deployment, span, false).await?;
            return self.marked(monitor, span, rows).await.map(Arc::new);
        }
        let key = (monitor.to_owned(), span);
        let known = self.check_references.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        let rows = match known {
            Some(known) => known,
            None => match store::checks::reference(&self.db, monitor, span).await? {
                Some(sample) => Arc::new(blocking(move || store::checks::read_reference(&sample)).await?),
                None => Arc::new(self.collect(monitor, deployment, span, true).await?),
            },
        };
        if !rows.is_empty() {
            let mut cache = self.check_references.lock().unwrap_or_else(PoisonError::into_inner);
            if cache.len() >= MAX_CACHED && !cache.contains_key(&key) {
                cache.clear();
            }
            cache.insert(key, rows.clone());
        }
        // The faults of its time may have been found since.
        self.marked(monitor, span, rows.to_vec()).await.map(Arc::new)
    }

    async fn collect(&self, monitor: &str, deployment: &str, span: Span, is_kept: bool) -> Result<Vec<Row>> {
        let count = store::predictions::count_between(&self.db, deployment, monitor, span.from_ms, span.to_ms).await?;
        let every = count.div_ceil(REFERENCE_ROWS);
        let mut rows = self.predicted(deployment, span, every).await?;
        rows.extend(self.observed(monitor, span, every).await?);
        rows.sort_by_key(|row| row.time_ms);
        if is_kept && !rows.is_empty() {
            let (sample, kept) = blocking(move || Ok((store::to_json(&rows)?, rows))).await?;
            let mut tx = self.db.begin().await?;
            store::checks::put_reference(&mut tx, monitor, span, &sample).await?;
            tx.commit().await?;
            rows = kept;
        }
        Ok(rows)
    }

    async fn predicted(&self, deployment: &str, span: Span, every: u64) -> Result<Vec<Row>> {
        if every > 1 {
            let rows = store::predictions::every_nth(&self.db, deployment, span.from_ms, span.to_ms, every).await?;
            return read(rows, 1, &mut 0).await;
        }
        let (mut rows, mut seen) = (Vec::new(), 0);
        let mut after = (span.from_ms, String::new());
        loop {
            let page = store::predictions::page(&self.db, deployment, &after, span.to_ms, PAGE).await?;
            let Some(last) = page.last() else { return Ok(rows) };
            after = (last.time_ms, last.id.clone());
            rows.extend(read(page, every, &mut seen).await?);
        }
    }

    async fn observed(&self, monitor: &str, span: Span, every: u64) -> Result<Vec<Row>> {
        let (mut rows, mut seen) = (Vec::new(), 0);
        let mut after = (span.from_ms, String::new());
        loop {
            let page = store::predictions::observed_page(&self.db, monitor, &after, span.to_ms, PAGE).await?;
            let Some(last) = page.last() else { return Ok(rows) };
            after = (last.time_ms, last.id.clone());
            rows.extend(read(page, every, &mut seen).await?);
        }
    }

    async fn marked(&self, monitor: &str, span: Span, rows: Vec<Row>) -> Result<Vec<CheckRow>> {
        let faults = store::faults::between(&self.db, monitor, span.from_ms, span.to_ms).await?;
        let label = self.monitor(monitor).await?.spec.series_label;
        blocking(move || {
            let faults = Faults::new(&label, faults);
            Ok(rows.into_iter().map(|row| CheckRow::new(row, &faults)).collect())
        })
        .await
    }
}

async fn read(page: Vec<RawRow>, every: u64, seen: &mut u64) -> Result<Vec<Row>> {
    let first = *seen;
    *seen += page.len() as u64;
    let every = every.max(1);
    blocking(move || {
        let places = page.iter().zip(first..).filter(|(_, place)| place.is_multiple_of(every));
        places.map(|(row, _)| row.window_row()).collect()
    })
    .await
}
