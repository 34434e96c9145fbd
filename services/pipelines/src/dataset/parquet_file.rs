use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Float64Array, Int64Array, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use fishy_contracts::monitoring::LabelledRow;
use fishy_core::{Error, Result};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;

/// Columns that are no features.
pub const OWN_COLUMNS: [&str; 4] = ["id", "time_ms", "arrived_ms", "target"];

/// Rows as the bytes of a Parquet file; a missing value is null.
pub fn write(features: &[String], rows: &[LabelledRow]) -> Result<Vec<u8>> {
    let mut fields = vec![
        Field::new("id", DataType::Utf8, false),
        Field::new("time_ms", DataType::Int64, false),
        Field::new("arrived_ms", DataType::Int64, false),
    ];
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row.id))),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.time_ms))),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.arrived_ms))),
    ];
    for name in features {
        fields.push(Field::new(name, DataType::Float64, true));
        columns
            .push(Arc::new(rows.iter().map(|row| row.inputs.get(name).copied().flatten()).collect::<Float64Array>()));
    }
    fields.push(Field::new("target", DataType::Float64, false));
    columns.push(Arc::new(Float64Array::from_iter_values(rows.iter().map(|row| row.value))));
    let schema = Arc::new(Schema::new(fields));
    let batch = RecordBatch::try_new(schema.clone(), columns).map_err(|error| failed("made", error))?;
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, schema, Some(properties)).map_err(|e| failed("written", e))?;
    writer.write(&batch).map_err(|error| failed("written", error))?;
    writer.close().map_err(|error| failed("written", error))?;
    Ok(bytes)
}

/// Reads a file that [`write`] wrote.
pub fn read(path: &Path) -> Result<Vec<LabelledRow>> {
    let file = std::fs::File::open(path)
        .map_err(|error| Error::from(error).context(format_args!("cannot open {}", path.display())))?;
    let reader = ParquetRecordBatchReaderBuilder::try_new(file)
        .and_then(ParquetRecordBatchReaderBuilder::build)
        .map_err(|error| failed("read", error))?;
    let mut rows = Vec::new();
    for batch in reader {
        let batch = batch.map_err(|error| failed("read", error))?;
        let ids = column::<StringArray>(&batch, "id")?;
        let times = column::<Int64Array>(&batch, "time_ms")?;
        let arrivals = column::<Int64Array>(&batch, "arrived_ms")?;
        let targets = column::<Float64Array>(&batch, "target")?;
        let schema = batch.schema();
        let names = schema.fields().iter().map(|field| field.name()).filter(|n| !OWN_COLUMNS.contains(&n.as_str()));
        let features =
            names.map(|name| Ok((name, column::<Float64Array>(&batch, name)?))).collect::<Result<Vec<_>>>()?;
        for index in 0..batch.num_rows() {
            let value = |column: &Float64Array| column.is_valid(index).then(|| column.value(index));
            let inputs: BTreeMap<_, _> =
                features.iter().map(|(name, column)| ((*name).clone(), value(column))).collect();
            rows.push(LabelledRow {
                id: ids.value(index).to_owned(),
                time_ms: times.value(index),
                arrived_ms: arrivals.value(index),
                inputs,
                value: targets.value(index),
                prediction: None,
                version: None,
            });
        }
    }
    Ok(rows)
}

fn column<'a, T: Array + 'static>(batch: &'a RecordBatch, name: &str) -> Result<&'a T> {
    let column = batch.column_by_name(name).and_then(|column| column.as_any().downcast_ref::<T>());
    column.ok_or_else(|| Error::internal(format!("a dataset without the column {name:?}")))
}

fn failed(what: &str, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::internal(format!("a dataset could not be {what}")).with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_as_they_were_and_the_same_rows_are_the_same_bytes() {
        let row = |id: &str, time_ms, temp: Option<f64>| LabelledRow {
            id: id.to_owned(),
            time_ms,
            arrived_ms: time_ms + 1,
            inputs: BTreeMap::from([("temp".to_owned(), temp), ("sal".to_owned(), Some(31.5))]),
            value: 8.25,
            prediction: None,
            version: None,
        };
        let rows = vec![row("a", 1, Some(11.0)), row("b", 2, None)];
        let features = ["sal".to_owned(), "temp".to_owned()];
        let bytes = write(&features, &rows).unwrap();
        assert_eq!(bytes, write(&features, &rows).unwrap());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.parquet");
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(read(&path).unwrap(), rows);
        std::fs::write(&path, write(&features, &[]).unwrap()).unwrap();
        assert_eq!(read(&path).unwrap(), []);
    }
}
