//! The two tables that are compared: 20 columns of numbers and 5 of texts, of which about ten have moved.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;

pub const NUMBERS: usize = 20;
pub const TEXTS: usize = 5;
const SPECIES: [&str; 5] = ["cod", "halibut", "salmon", "trout", "wrasse"];
/// Rows that are drawn and written at once.
const PART: usize = 131_072;

/// Writes a table; `has_moved` shifts every other column.
pub fn write(path: &Path, rows: usize, seed: u64, has_moved: bool) -> Result<()> {
    let numbers = (0..NUMBERS).map(|place| Field::new(format!("number_{place:02}"), DataType::Float64, true));
    let texts = (0..TEXTS).map(|place| Field::new(format!("text_{place}"), DataType::Utf8, true));
    let schema = Arc::new(Schema::new(numbers.chain(texts).collect::<Vec<_>>()));
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    let mut writer = ArrowWriter::try_new(File::create(path)?, schema.clone(), Some(properties))?;
    let mut drawn = ChaCha8Rng::seed_from_u64(seed);
    let mut left = rows;
    while left > 0 {
        let rows = left.min(PART);
        left -= rows;
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(NUMBERS + TEXTS);
        for place in 0..NUMBERS {
            let shift = if has_moved && place % 2 == 1 { 0.1 } else { 0.0 };
            columns.push(Arc::new(Float64Array::from_iter_values((0..rows).map(|_| {
                let normal: f64 = drawn.sample::<f64, _>(StandardNormal) + shift;
                match place % 3 {
                    0 => normal,
                    1 => normal.exp(),
                    _ => (normal * 100.0).round() / 100.0,
                }
            }))));
        }
        for place in 0..TEXTS {
            let most = if has_moved && place % 2 == 1 { 0.3 } else { 0.4 };
            columns.push(Arc::new(StringArray::from_iter_values((0..rows).map(|_| {
                let share: f64 = drawn.random();
                SPECIES[if share < most { 0 } else { 1 + ((share - most) / (1.0 - most) * 4.0) as usize % 4 }]
            }))));
        }
        writer.write(&RecordBatch::try_new(schema.clone(), columns)?)?;
    }
    writer.close()?;
    Ok(())
}

/// What it takes to read a table alone, as `fishy drift` reads it: one column after the other, on so many threads.
pub fn read(paths: &[&Path], threads: usize) -> Result<f64> {
    use parquet::arrow::ProjectionMask;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    use std::sync::atomic::{AtomicUsize, Ordering};

    let started = std::time::Instant::now();
    let next = AtomicUsize::new(0);
    let work = || -> Result<usize> {
        let mut rows = 0;
        loop {
            let place = next.fetch_add(1, Ordering::Relaxed);
            let (column, path) = (place / paths.len(), paths[place % paths.len()]);
            if column >= NUMBERS + TEXTS {
                return Ok(rows);
            }
            let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(path)?)?;
            let mask = ProjectionMask::roots(builder.parquet_schema(), [column]);
            for batch in builder.with_projection(mask).with_batch_size(8_192).build()? {
                rows += std::hint::black_box(batch?).num_rows();
            }
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for thread in threads {
            thread.join().map_err(|_| anyhow::anyhow!("a reader ended unexpectedly"))??;
        }
        anyhow::Ok(())
    })?;
    Ok(started.elapsed().as_secs_f64())
}
