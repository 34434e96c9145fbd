//! Files of true values.

use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema, TimeUnit, TimestampMillisecondType};
use fishy_contracts::monitoring::GroundTruthItem;
use fishy_core::time::parse_ms;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

type Items = Box<dyn Iterator<Item = Result<GroundTruthItem>>>;

/// The true values of a file, row by row, however many there are.
pub fn open(path: &Path) -> Result<Items> {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    if path.as_os_str() == "-" {
        return Ok(lines(BufReader::new(std::io::stdin())));
    }
    let open = File::open(path).with_context(|| format!("reading {}", path.display()))?;
    match extension {
        "csv" => csv(open).with_context(|| format!("in {}", path.display())),
        "parquet" => {
            let reader = ParquetRecordBatchReaderBuilder::try_new(open)
                .with_context(|| format!("in {}", path.display()))?
                .build()?;
            Ok(batches(reader))
        }
        _ => Ok(lines(BufReader::new(open))),
    }
}

fn lines(reader: impl BufRead + 'static) -> Items {
    let item = |(place, line): (usize, std::io::Result<String>)| match line {
        Ok(line) if line.trim().is_empty() => None,
        Ok(line) => Some(serde_json::from_str(&line).with_context(|| format!("line {}", place + 1))),
        Err(error) => Some(Err(error.into())),
    };
    Box::new(reader.lines().enumerate().filter_map(item))
}

fn csv(mut open: File) -> Result<Items> {
    let format = arrow::csv::reader::Format::default().with_header(true);
    // The header alone: an id that looks like a number stays as it is written.
    let (header, _) = format.infer_schema(&mut open, Some(0))?;
    open.seek(SeekFrom::Start(0))?;
    let text = |field: &Arc<Field>| Field::new(field.name(), DataType::Utf8, true);
    let schema = Schema::new(header.fields().iter().map(text).collect::<Vec<_>>());
    Ok(batches(arrow::csv::ReaderBuilder::new(Arc::new(schema)).with_header(true).build(open)?))
}

fn batches<E>(reader: impl Iterator<Item = Result<RecordBatch, E>> + 'static) -> Items
where
    E: std::error::Error + Send + Sync + 'static,
{
    let mut row = 0;
    Box::new(reader.flat_map(move |batch| {
        let first = row;
        let read = batch.map_err(anyhow::Error::from).and_then(|batch| {
            row += batch.num_rows();
            items(&batch, first)
        });
        match read {
            Ok(items) => items,
            Err(error) => vec![Err(error)],
        }
    }))
}

fn items(batch: &RecordBatch, first: usize) -> Result<Vec<Result<GroundTruthItem>>> {
    let column = |name: &str| {
        batch.column_by_name(name).with_context(|| {
            let schema = batch.schema();
            let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
            format!("there is no column {name:?}; there are {}", names.join(", "))
        })
    };
    let ids = cast(column("prediction_id")?, &DataType::Utf8)?;
    let ids = ids.as_string::<i32>();
    let values = cast(column("value")?, &DataType::Float64).context("column value is not numeric")?;
    let values = values.as_primitive::<Float64Type>();
    let times = match batch.column_by_name("time_ms").or_else(|| batch.column_by_name("time")) {
        Some(array) => times(array)?,
        None => (0..batch.num_rows()).map(|_| Ok(None)).collect(),
    };
    let one = |(place, time): (usize, Result<Option<i64>, String>)| {
        let line = first + place + 1;
        let time_ms = time.map_err(|text| anyhow::anyhow!("row {line}: {text:?} is no time"))?;
        if ids.is_null(place) || values.is_null(place) {
            anyhow::bail!("row {line} has no prediction_id or no numeric value");
        }
        Ok(GroundTruthItem { prediction_id: ids.value(place).to_owned(), value: values.value(place), time_ms })
    };
    Ok(times.into_iter().enumerate().map(one).collect())
}

/// Times in milliseconds; the text that is none as an error.
fn times(array: &Arc<dyn Array>) -> Result<Vec<Result<Option<i64>, String>>> {
    let places = 0..array.len();
    if let DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View = array.data_type() {
        let array = cast(array, &DataType::Utf8)?;
        let array = array.as_string::<i32>();
        let one = |place: usize| match array.is_valid(place).then(|| array.value(place)).filter(|text| !text.is_empty())
        {
            Some(text) => parse_ms(text).map(Some).ok_or_else(|| text.to_owned()),
            None => Ok(None),
        };
        return Ok(places.map(one).collect());
    }
    if array.data_type().is_integer() {
        let array = cast(array, &DataType::Int64)?;
        let array = array.as_primitive::<Int64Type>();
        return Ok(places.map(|place| Ok(array.is_valid(place).then(|| array.value(place)))).collect());
    }
    let array = cast(array, &DataType::Timestamp(TimeUnit::Millisecond, None)).context("the time column is no time")?;
    let array = array.as_primitive::<TimestampMillisecondType>();
    Ok(places.map(|place| Ok(array.is_valid(place).then(|| array.value(place)))).collect())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use arrow::array::{Float64Array, Int64Array, StringArray};
    use parquet::arrow::ArrowWriter;

    use super::*;

    fn read(name: &str, write: impl FnOnce(File)) -> Result<Vec<GroundTruthItem>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        write(File::create(&path).unwrap());
        open(&path)?.collect()
    }

    fn item(id: &str, value: f64, time_ms: Option<i64>) -> GroundTruthItem {
        GroundTruthItem { prediction_id: id.into(), value, time_ms }
    }

    #[test]
    fn csv_parquet_and_json_lines_mean_the_same() {
        let expected = vec![item("007", 6.5, Some(1_335_830_400_000)), item("p,2", 7.0, None)];
        let csv = "value,prediction_id,time,note\n6.5,007,2012-05-01,x\n7,\"p,2\",,\n";
        assert_eq!(read("t.csv", |mut file| file.write_all(csv.as_bytes()).unwrap()).unwrap(), expected);
        let lines = "{\"prediction_id\":\"007\",\"value\":6.5,\"time_ms\":1335830400000}\n\n{\"prediction_id\":\"p,2\",\"value\":7}\n";
        assert_eq!(read("t.jsonl", |mut file| file.write_all(lines.as_bytes()).unwrap()).unwrap(), expected);
        let parquet = |file: File| {
            let columns: Vec<(&str, Arc<dyn Array>)> = vec![
                ("prediction_id", Arc::new(StringArray::from(vec!["007", "p,2"]))),
                ("value", Arc::new(Float64Array::from(vec![6.5, 7.0]))),
                ("time_ms", Arc::new(Int64Array::from(vec![Some(1_335_830_400_000), None]))),
            ];
            let batch = RecordBatch::try_from_iter(columns).unwrap();
            let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
            writer.write(&batch).unwrap();
            writer.close().unwrap();
        };
        assert_eq!(read("t.parquet", parquet).unwrap(), expected);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_row() {
        let refused = |text: &str| {
            let text = text.to_owned();
            format!("{:#}", read("t.csv", |mut file| file.write_all(text.as_bytes()).unwrap()).unwrap_err())
        };
        assert!(refused("id,value\na,1\n").contains("no column \"prediction_id\"; there are id, value"));
        assert!(refused("prediction_id,value\na,1\nb,high\n").contains("row 2"));
        assert!(refused("prediction_id,value,time\na,1,noon\n").contains("row 1: \"noon\" is no time"));
    }
}
