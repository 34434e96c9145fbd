//! Reads a CSV or Parquet file into columns.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, TimeUnit, TimestampMillisecondType};
use fishy_core::time::parse_ms;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

/// The rows of a file, in the order of the file.
pub struct Table {
    /// Event time of each row.
    pub time_ms: Vec<i64>,
    /// Numbers by column name; `None` where missing.
    pub columns: BTreeMap<String, Vec<Option<f64>>>,
}

/// Reads some columns of a file; only rows whose `filter` column has the value, where one is given.
pub fn read(path: &Path, time: &str, columns: &[String], filter: Option<(&str, &str)>) -> Result<Table> {
    let batches = if path.extension().is_some_and(|extension| extension == "parquet") {
        let open = File::open(path).with_context(|| format!("reading {}", path.display()))?;
        ParquetRecordBatchReaderBuilder::try_new(open)?.build()?.collect::<Result<Vec<_>, _>>()?
    } else {
        read_csv(path)?
    };
    let mut table =
        Table { time_ms: Vec::new(), columns: columns.iter().map(|column| (column.clone(), Vec::new())).collect() };
    for batch in &batches {
        let keep = keep(batch, filter)?;
        let times = times(column(batch, time, path)?)?;
        let picked = |place: &usize| keep[*place] && times[*place].is_some();
        let places: Vec<usize> = (0..batch.num_rows()).filter(picked).collect();
        table.time_ms.extend(places.iter().filter_map(|place| times[*place]));
        for (name, values) in &mut table.columns {
            let array = cast(column(batch, name, path)?, &DataType::Float64)
                .with_context(|| format!("column {name} is not numeric"))?;
            let array = array.as_primitive::<Float64Type>();
            values.extend(places.iter().map(|place| array.is_valid(*place).then(|| array.value(*place))));
        }
    }
    if table.time_ms.is_empty() {
        bail!("{} has no rows that can be used", path.display());
    }
    Ok(table)
}

fn read_csv(path: &Path) -> Result<Vec<RecordBatch>> {
    let mut open = File::open(path).with_context(|| format!("reading {}", path.display()))?;
    let format = arrow::csv::reader::Format::default().with_header(true);
    let (schema, _) = format.infer_schema(&mut open, None).with_context(|| format!("in {}", path.display()))?;
    open.seek(SeekFrom::Start(0))?;
    let reader = arrow::csv::ReaderBuilder::new(Arc::new(schema)).with_header(true).build(open)?;
    Ok(reader.collect::<Result<Vec<_>, _>>()?)
}

fn column<'a>(batch: &'a RecordBatch, name: &str, path: &Path) -> Result<&'a Arc<dyn Array>> {
    batch.column_by_name(name).with_context(|| {
        let names: Vec<_> = batch.schema().fields().iter().map(|field| field.name().clone()).collect();
        format!("{} has no column {name:?}; it has {}", path.display(), names.join(", "))
    })
}

fn keep(batch: &RecordBatch, filter: Option<(&str, &str)>) -> Result<Vec<bool>> {
    let Some((name, wanted)) = filter else { return Ok(vec![true; batch.num_rows()]) };
    let array = batch.column_by_name(name).with_context(|| format!("--where: no column {name:?}"))?;
    let array = cast(array, &DataType::Utf8)?;
    let array = array.as_string::<i32>();
    Ok((0..array.len()).map(|place| array.is_valid(place) && array.value(place) == wanted).collect())
}

fn times(array: &Arc<dyn Array>) -> Result<Vec<Option<i64>>> {
    if let DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View = array.data_type() {
        let array = cast(array, &DataType::Utf8)?;
        let array = array.as_string::<i32>();
        return Ok((0..array.len())
            .map(|place| array.is_valid(place).then(|| parse_ms(array.value(place))).flatten())
            .collect());
    }
    if array.data_type().is_integer() {
        let array = cast(array, &DataType::Int64)?;
        let array = array.as_primitive::<arrow::datatypes::Int64Type>();
        return Ok((0..array.len()).map(|place| array.is_valid(place).then(|| array.value(place))).collect());
    }
    let array = cast(array, &DataType::Timestamp(TimeUnit::Millisecond, None)).context("the time column is no time")?;
    let array = array.as_primitive::<TimestampMillisecondType>();
    Ok((0..array.len()).map(|place| array.is_valid(place).then(|| array.value(place))).collect())
}
