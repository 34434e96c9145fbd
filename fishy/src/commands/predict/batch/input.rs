use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use arrow::array::RecordBatch;
use arrow::csv::ReaderBuilder;
use arrow::csv::reader::Format as CsvFormat;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::Format;

/// The types of a CSV file's columns are found out in so many rows.
const LOOK_AT_ROWS: usize = 1000;

/// A file of rows, in batches of a fixed number of rows (the last may have fewer), always the same for the same file.
pub struct Rows {
    batches: Box<dyn Iterator<Item = Result<RecordBatch, ArrowError>>>,
    schema: SchemaRef,
    total: Option<u64>,
    per_batch: usize,
    /// What was read beyond the last batch.
    rest: Vec<RecordBatch>,
}

impl Rows {
    /// Opens a file.
    pub fn open(path: &Path, format: Format, rows: usize) -> Result<Self> {
        let open = || File::open(path).with_context(|| format!("opening {}", path.display()));
        let unreadable = || format!("reading {}", path.display());
        match format {
            Format::Parquet => {
                let builder = ParquetRecordBatchReaderBuilder::try_new(open()?).with_context(unreadable)?;
                let total = u64::try_from(builder.metadata().file_metadata().num_rows()).ok();
                let reader = builder.with_batch_size(rows).build().with_context(unreadable)?;
                let schema = arrow::array::RecordBatchReader::schema(&reader);
                Ok(Self { batches: Box::new(reader), schema, total, per_batch: rows, rest: Vec::new() })
            }
            Format::Csv => {
                let looked = CsvFormat::default().with_header(true).infer_schema(open()?, Some(LOOK_AT_ROWS));
                let schema = Arc::new(looked.with_context(unreadable)?.0);
                let reader = ReaderBuilder::new(Arc::clone(&schema)).with_header(true).with_batch_size(rows);
                let reader = reader.build(open()?).with_context(unreadable)?;
                Ok(Self { batches: Box::new(reader), schema, total: None, per_batch: rows, rest: Vec::new() })
            }
            Format::Jsonl => bail!("{}: the input is a .parquet or .csv file", path.display()),
        }
    }

    /// Its columns.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// How many rows there are, where the file says it.
    pub const fn total(&self) -> Option<u64> {
        self.total
    }

    fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        // A reader may give fewer rows than it was asked for where a row group ends: the parts must not depend on that.
        let mut have: usize = self.rest.iter().map(RecordBatch::num_rows).sum();
        while have < self.per_batch {
            let Some(batch) = self.batches.next() else { break };
            let batch = batch.context("reading rows")?;
            have += batch.num_rows();
            self.rest.push(batch);
        }
        if have == 0 {
            return Ok(None);
        }
        let all = arrow::compute::concat_batches(&self.schema, &self.rest)?;
        let count = self.per_batch.min(have);
        self.rest = if have > count { vec![all.slice(count, have - count)] } else { Vec::new() };
        Ok(Some(all.slice(0, count)))
    }
}

impl Iterator for Rows {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_batch().transpose()
    }
}
