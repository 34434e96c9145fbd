use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type, UInt64Type};
use bytes::Bytes;
use fishy_core::{Error, Result};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::{Elements, Frame};

/// A Parquet file of a few bytes can hold millions of equal values: so many are read at most.
const MAX_VALUES: usize = 16 * 1024 * 1024;

impl Frame {
    /// A Parquet file: booleans, numbers, texts, and times as texts.
    pub(crate) fn from_parquet(body: Bytes) -> Result<Self> {
        let wrong = |error: &dyn std::fmt::Display| Error::invalid(format!("the Parquet body cannot be read: {error}"));
        let builder = ParquetRecordBatchReaderBuilder::try_new(body).map_err(|error| wrong(&error))?;
        let names: Vec<String> = builder.schema().fields().iter().map(|field| field.name().clone()).collect();
        let rows = usize::try_from(builder.metadata().file_metadata().num_rows()).unwrap_or(usize::MAX);
        if rows.saturating_mul(names.len()) > MAX_VALUES {
            return Err(Error::invalid(format!(
                "the Parquet body has {rows} rows of {} columns, and at most {MAX_VALUES} values are taken: send it in parts",
                names.len()
            )));
        }
        let mut columns: Vec<(String, Elements)> = names.into_iter().map(|name| (name, Elements::Empty)).collect();
        for batch in builder.build().map_err(|error| wrong(&error))? {
            let batch = batch.map_err(|error| wrong(&error))?;
            for ((name, elements), values) in columns.iter_mut().zip(batch.columns()) {
                push_all(elements, values).map_err(|problem| Error::invalid(format!("column {name:?}: {problem}")))?;
            }
        }
        Ok(Self { columns })
    }
}

fn push_all(elements: &mut Elements, values: &ArrayRef) -> Result<(), String> {
    let as_type = |kind: &DataType| cast(values, kind).map_err(|error| error.to_string());
    let kind = match values.data_type() {
        DataType::Dictionary(_, inner) => &**inner,
        other => other,
    };
    let pushed = if *kind == DataType::Boolean {
        let values = as_type(&DataType::Boolean)?;
        values.as_boolean().iter().try_for_each(|value| match value {
            Some(value) => elements.push_bool(value),
            None => elements.push_null(),
        })
    } else if kind.is_unsigned_integer() {
        let values = as_type(&DataType::UInt64)?;
        values.as_primitive::<UInt64Type>().iter().try_for_each(|value| match value {
            Some(value) => elements.push_unsigned(value),
            None => elements.push_null(),
        })
    } else if kind.is_signed_integer() {
        let values = as_type(&DataType::Int64)?;
        values.as_primitive::<Int64Type>().iter().try_for_each(|value| match value {
            Some(value) => elements.push_int(value),
            None => elements.push_null(),
        })
    } else if kind.is_floating() || matches!(kind, DataType::Decimal128(..) | DataType::Null) {
        let values = as_type(&DataType::Float64)?;
        values.as_primitive::<Float64Type>().iter().try_for_each(|value| match value {
            Some(value) => elements.push_float(value),
            None => elements.push_null(),
        })
    } else if matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) || kind.is_temporal() {
        let values = as_type(&DataType::Utf8)?;
        values.as_string::<i32>().iter().try_for_each(|value| match value {
            Some(value) => elements.push_text(value.to_owned()),
            None => elements.push_null(),
        })
    } else {
        return Err(format!("values of type {kind} are not taken: send numbers, texts or booleans"));
    };
    pushed.map_err(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{BooleanArray, Float32Array, Int32Array, ListArray, RecordBatch, StringArray, UInt64Array};
    use arrow::datatypes::Int32Type;
    use parquet::arrow::ArrowWriter;
    use std::sync::Arc;

    fn file(columns: Vec<(&str, ArrayRef)>) -> Bytes {
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.into_inner().unwrap().into()
    }

    #[test]
    fn columns_keep_their_kind() {
        let body = file(vec![
            ("t", Arc::new(Float32Array::from(vec![Some(1.5), None]))),
            ("n", Arc::new(Int32Array::from(vec![1, 2]))),
            ("u", Arc::new(UInt64Array::from(vec![u64::MAX, 2]))),
            ("b", Arc::new(BooleanArray::from(vec![true, false]))),
            ("s", Arc::new(StringArray::from(vec!["a", "b"]))),
        ]);
        let frame = Frame::from_parquet(body).unwrap();
        let Elements::Float(floats) = &frame.columns[0].1 else { panic!("{frame:?}") };
        assert!((floats[0] - 1.5).abs() < 1e-12 && floats[1].is_nan());
        assert_eq!(frame.columns[1], ("n".into(), Elements::Int(vec![1, 2])));
        assert_eq!(frame.columns[2].1, Elements::Unsigned(vec![u64::MAX, 2]));
        assert_eq!(frame.columns[3].1, Elements::Bool(vec![true, false]));
        assert_eq!(frame.columns[4].1, Elements::Text(vec!["a".into(), "b".into()]));
    }

    #[test]
    fn what_cannot_be_read_is_an_error_that_names_the_column() {
        assert!(Frame::from_parquet(Bytes::from_static(b"PAR1 not really PAR1")).is_err());
        let lists = ListArray::from_iter_primitive::<Int32Type, _, _>([Some([Some(1)])]);
        let error = Frame::from_parquet(file(vec![("pens", Arc::new(lists))])).unwrap_err();
        assert!(error.message().starts_with("column \"pens\": values of type List"), "{error}");
        let texts = StringArray::from(vec![Some("a"), None]);
        assert!(Frame::from_parquet(file(vec![("s", Arc::new(texts))])).unwrap_err().message().contains("null"));
    }
}
