use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use bytes::Bytes;
use fishy_blob::Blob;
use fishy_contracts::deployment::PredictionRecord;
use fishy_core::time::HOUR_MS;
use fishy_core::{Env, Error, Result};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Health, pause};
use crate::service::blocking;
use crate::spool::{Cursor, Reader, Spool};

const MAX_ROWS: usize = 50_000;
/// So much is not left waiting for the next flush: about 50,000 records of a few features.
const MANY_BYTES: u64 = 20 * 1024 * 1024;
const MAX_READ_BYTES: usize = 4 * 1024 * 1024;
/// Rows that are held as records at a time: as columns they are far smaller.
const CHUNK_ROWS: usize = 1_000;
const LOOK: Duration = Duration::from_secs(1);

/// Writes records as `predictions/<deployment>/date=YYYY-MM-DD/hour=HH/<uuid>.parquet`, by the time they came in.
pub(crate) struct ParquetExport {
    pub(crate) spool: Arc<Spool>,
    pub(crate) blob: Blob,
    pub(crate) env: Env,
    pub(crate) flush: Duration,
    pub(crate) health: Arc<Health>,
}

/// One file: its path and its content.
type NamedFile = (String, Bytes);

impl ParquetExport {
    /// Runs until `stop`; the last records are written by [`flush`](Self::flush) once no request is open any more.
    pub(crate) async fn run(&self, stop: CancellationToken) {
        let mut flushed = Instant::now();
        loop {
            if !pause(LOOK.min(self.flush), &stop).await {
                return;
            }
            let waiting = self.spool.end() - self.spool.cursor(Reader::Parquet).position.min(self.spool.end());
            if waiting >= MANY_BYTES || flushed.elapsed() >= self.flush {
                self.flush().await;
                flushed = Instant::now();
            }
        }
    }

    /// Writes everything that is there.
    pub(crate) async fn flush(&self) {
        loop {
            match self.export().await {
                Ok(0) => break self.health.set("prediction log (Parquet)", None),
                Ok(rows) => metrics::counter!("fishy_prediction_parquet_rows_total").increment(rows as u64),
                Err(error) => break self.health.set("prediction log (Parquet)", Some(&error)),
            }
        }
    }

    /// One batch. Its end and its name are on disk before its files are: after a crash the same files are written again,
    /// and no row is there twice.
    async fn export(&self) -> Result<usize> {
        let cursor = self.spool.cursor(Reader::Parquet);
        let (spool, until) = (Arc::clone(&self.spool), cursor.begun.map_or(u64::MAX, |(end, _)| end));
        let (lines, records, next) = blocking(move || read_rows(&spool, cursor.position, until)).await?;
        let (end, name) = match cursor.begun {
            Some(begun) => begun,
            None if next == cursor.position => return Ok(0),
            None => {
                let name = Uuid::parse_str(&self.env.new_id()).unwrap_or_else(|_| Uuid::now_v7()).as_u128();
                self.spool.set_cursor(Reader::Parquet, Cursor { begun: Some((next, name)), ..cursor })?;
                (next, name)
            }
        };
        let files = blocking(move || files_of(&lines, Uuid::from_u128(name))).await?;
        for (path, content) in files {
            self.blob.put(&path, content).await?;
        }
        self.spool.set_cursor(Reader::Parquet, Cursor::at(end))?;
        // A batch whose records were dropped meanwhile is done as well.
        Ok(records.max(1))
    }
}

fn read_rows(spool: &Spool, from: u64, until: u64) -> Result<(Vec<u8>, usize, u64)> {
    let (mut lines, mut records, mut next) = (Vec::new(), 0, from);
    while records < MAX_ROWS || until < u64::MAX {
        let batch = spool.read(next, until, MAX_ROWS, MAX_READ_BYTES)?;
        if batch.records == 0 {
            next = if until < u64::MAX { until } else { batch.next.max(next) };
            break;
        }
        lines.extend_from_slice(&batch.lines);
        records += batch.records;
        next = batch.next;
    }
    Ok((lines, records, next))
}

fn files_of(lines: &[u8], name: Uuid) -> Result<Vec<NamedFile>> {
    let mut writers: BTreeMap<(String, i64), ArrowWriter<Vec<u8>>> = BTreeMap::new();
    let mut lines = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).peekable();
    while lines.peek().is_some() {
        let mut groups: BTreeMap<(String, i64), Vec<PredictionRecord>> = BTreeMap::new();
        for line in lines.by_ref().take(CHUNK_ROWS) {
            match serde_json::from_slice::<PredictionRecord>(line) {
                Ok(record) => {
                    let hour = record.received_ms.div_euclid(HOUR_MS);
                    groups.entry((record.deployment.clone(), hour)).or_default().push(record);
                }
                Err(error) => {
                    tracing::error!(%error, "a prediction record cannot be read and is left out of the Parquet log");
                }
            }
        }
        for (group, records) in groups {
            let batch = batch_of(&records)?;
            let writer = match writers.entry(group) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => entry.insert(writer_of(&batch)?),
            };
            writer.write(&batch).map_err(|error| failed(&error))?;
        }
    }
    writers
        .into_iter()
        .map(|((deployment, hour), writer)| {
            // "2012-01-31T05:00:00.000Z"
            let time = fishy_core::time::rfc3339(hour * HOUR_MS);
            let (date, hour) = (time.get(..10).unwrap_or_default(), time.get(11..13).unwrap_or_default());
            let content = writer.into_inner().map_err(|error| failed(&error))?;
            Ok((format!("predictions/{deployment}/date={date}/hour={hour}/{name}.parquet"), content.into()))
        })
        .collect()
}

fn failed(error: &dyn std::error::Error) -> Error {
    Error::internal(format!("cannot write Parquet: {error}"))
}

fn writer_of(batch: &RecordBatch) -> Result<ArrowWriter<Vec<u8>>> {
    let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build();
    ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).map_err(|error| failed(&error))
}

fn batch_of(records: &[PredictionRecord]) -> Result<RecordBatch> {
    let text = |value: fn(&PredictionRecord) -> &str| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(records.iter().map(value)))
    };
    let number = |value: fn(&PredictionRecord) -> i64| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(records.iter().map(value)))
    };
    let json = |value: &dyn Fn(&PredictionRecord) -> serde_json::Result<String>| -> Result<ArrayRef> {
        let texts = records.iter().map(value).collect::<serde_json::Result<Vec<String>>>();
        Ok(Arc::new(StringArray::from_iter_values(texts.map_err(|error| failed(&error))?)))
    };
    let shadows: ArrayRef = Arc::new(records.iter().map(|record| Some(record.is_shadow)).collect::<BooleanArray>());
    let columns = [
        ("id", text(|record| &record.id)),
        ("deployment", text(|record| &record.deployment)),
        ("revision", number(|record| record.revision)),
        ("version", text(|record| &record.version)),
        ("time_ms", number(|record| record.time_ms)),
        ("received_ms", number(|record| record.received_ms)),
        ("latency_us", number(|record| record.latency_us as i64)),
        ("inputs", json(&|record| serde_json::to_string(&record.inputs))?),
        ("outputs", json(&|record| serde_json::to_string(&record.outputs))?),
        ("labels", json(&|record| serde_json::to_string(&record.labels))?),
        ("is_shadow", shadows),
    ];
    let fields: Vec<Field> =
        columns.iter().map(|(name, column)| Field::new(*name, DataType::clone(column.data_type()), false)).collect();
    let schema = Arc::new(Schema::new(fields));
    let columns = columns.into_iter().map(|(_, column)| column).collect();
    RecordBatch::try_new(schema, columns).map_err(|error| failed(&error))
}
