//! `/api/v1/audit`

use std::collections::VecDeque;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use fishy_audit::{ExportWriter, Hash, MerkleLog};
use fishy_contracts::List;
use fishy_contracts::governance::SequencedEntry;
use fishy_core::{Error, ErrorCode, Result};
use fishy_http::{Failure, Json, Query};
use serde::Deserialize;
use serde_json::{Value, json};

use super::State;
use crate::service::Governance;
use crate::store::{CheckpointRow, EntryRow};

/// Entries that one page or one read of the export holds at most.
const PAGE: i64 = 1000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Span {
    #[serde(default)]
    from: u64,
    #[serde(default = "page")]
    limit: i64,
}

fn page() -> i64 {
    100
}

pub async fn entries(
    axum::extract::State(governance): State,
    Query(span): Query<Span>,
) -> Result<Json<List<SequencedEntry>>, Failure> {
    if !(1..=PAGE).contains(&span.limit) {
        return Err(Error::invalid(format!("limit is {}: use 1 to {PAGE}", span.limit)).into());
    }
    let items = governance.entries(span.from, span.limit).await?;
    let is_full = items.len() as i64 == span.limit;
    let next_page_token = items.last().filter(|_| is_full).map(|last| (last.index + 1).to_string());
    Ok(Json(List { items, next_page_token }))
}

pub async fn checkpoint(axum::extract::State(governance): State) -> Result<Response, Failure> {
    governance.sign_checkpoint().await?;
    let newest = governance.newest_checkpoint().await?;
    let head = newest.ok_or_else(|| Error::not_found("the audit log is empty"))?;
    Ok(([(CONTENT_TYPE, "text/plain; charset=utf-8")], head.note).into_response())
}

pub async fn summary(axum::extract::State(governance): State) -> Result<Json<Value>, Failure> {
    Ok(Json(governance.summary().await?))
}

/// The whole log as JSON lines, with the signed heads between the entries (the format of `fishy_audit`). What was damaged
/// in the database goes out as it is, for the verifier to show.
pub async fn export(axum::extract::State(governance): State) -> Result<Response, Failure> {
    let is_sound = match governance.sign_checkpoint().await {
        Ok(_) => true,
        Err(error) if error.code() == ErrorCode::FailedPrecondition => {
            tracing::error!(error = error.chain(), "exporting an audit log that does not fit its signed heads");
            false
        }
        Err(error) => return Err(error.into()),
    };
    let heads: VecDeque<_> = governance.checkpoints().await?.into();
    // Entries that come in from now on have no head yet: they are of the next export.
    let end = if is_sound { heads.back().map_or(0, |head| head.size) } else { u64::MAX };
    let buffer = Buffer::default();
    let writer = ExportWriter::new(buffer.clone(), governance.origin(), &governance.verifier(), MerkleLog::new())?;
    let start = Export { governance, writer, buffer, heads, next: Some(0), end };
    let stream = futures::stream::try_unfold(start, |mut export| async move {
        export.refill().await?;
        let text = export.buffer.take();
        Ok::<_, Error>((!text.is_empty()).then_some((Bytes::from(text), export)))
    });
    Ok(([(CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(stream)).into_response())
}

struct Export {
    governance: Arc<Governance>,
    writer: ExportWriter<Buffer>,
    buffer: Buffer,
    heads: VecDeque<CheckpointRow>,
    /// The next entry; `None` at the end.
    next: Option<u64>,
    /// One past the last entry.
    end: u64,
}

impl Export {
    /// Writes the next page into the buffer; nothing at the end.
    async fn refill(&mut self) -> Result<()> {
        let Some(from) = self.next else { return Ok(()) };
        let mut rows = self.governance.stored_entries(from, PAGE).await?;
        rows.retain(|row| row.index < self.end);
        self.next = rows.last().map(|last| last.index + 1);
        for row in &rows {
            self.entry(row)?;
        }
        if self.next.is_none()
            && let Some(head) = self.heads.pop_back()
        {
            // A head of more entries than there are: without it, a log that was cut off would look whole.
            writeln!(self.buffer, "{}", json!({"checkpoint": head.note}))?;
        }
        Ok(())
    }

    fn entry(&mut self, row: &EntryRow) -> Result<()> {
        // What is no hash is not the hash of the entry either, and a line must stay one line.
        let hash = row.leaf.parse().unwrap_or(Hash([0; 32]));
        let text = if row.canonical.is_empty() { "null" } else { &row.canonical };
        self.writer.entry(&text.replace(['\n', '\r'], " "), hash)?;
        while let Some(head) = self.heads.pop_front_if(|head| head.size <= self.writer.size()) {
            if head.size == self.writer.size() {
                self.writer.checkpoint(&head.note)?;
            }
        }
        Ok(())
    }
}

/// Where the export is written to between two reads of the body.
#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Buffer {
    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
