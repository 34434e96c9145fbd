use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float64Type, Int32Type, Schema};
use fishy_drift::CategoryCounts;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};

/// Rows that are read at once.
const BATCH: usize = 8_192;

/// How a column is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Number,
    Category,
}

/// A Parquet file whose columns are read one at a time. Its footer is read once.
pub struct Source {
    path: PathBuf,
    metadata: ArrowReaderMetadata,
}

impl Source {
    /// Opens a file.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
        let unreadable = || format!("{} is no Parquet file that can be read", path.display());
        let plain = ArrowReaderMetadata::load(&file, ArrowReaderOptions::new().with_skip_arrow_metadata(true));
        let plain = plain.with_context(unreadable)?;
        // Texts stay dictionaries where they are: then a category is looked at once, not once a row.
        let fields = plain.schema().fields().iter().map(|field| match field.data_type() {
            DataType::Utf8 => Arc::new(Field::clone(field).with_data_type(dictionary())),
            _ => field.clone(),
        });
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true).with_schema(schema);
        let metadata = ArrowReaderMetadata::try_new(plain.metadata().clone(), options).with_context(unreadable)?;
        Ok(Self { path: path.to_owned(), metadata })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many rows it has.
    pub fn rows(&self) -> u64 {
        u64::try_from(self.metadata.metadata().file_metadata().num_rows()).unwrap_or_default()
    }

    /// Its columns in order, each with how it is compared, or why it is not.
    pub fn columns(&self) -> Vec<(String, Result<Kind, String>)> {
        let kind = |data_type: &DataType| match data_type {
            DataType::Dictionary(..) | DataType::Boolean => Ok(Kind::Category),
            DataType::Decimal128(..) | DataType::Decimal256(..) => Ok(Kind::Number),
            number if number.is_numeric() => Ok(Kind::Number),
            other => Err(format!("columns of type {other} are not compared")),
        };
        let fields = self.metadata.schema().fields().iter();
        fields.map(|field| (field.name().clone(), kind(field.data_type()))).collect()
    }

    /// Hands on the numbers of a column, piece by piece; missing ones are NaN.
    pub fn numbers(&self, column: &str, mut take: impl FnMut(&[f64])) -> Result<()> {
        let mut gaps = Vec::new();
        self.each(column, |array| {
            let array = if *array.data_type() == DataType::Float64 { array } else { cast(&array, &DataType::Float64)? };
            let array = array.as_primitive::<Float64Type>();
            if array.null_count() == 0 {
                take(array.values());
            } else {
                gaps.clear();
                gaps.extend(array.iter().map(|value| value.unwrap_or(f64::NAN)));
                take(&gaps);
            }
            Ok(())
        })
    }

    /// How often each category of a column comes.
    pub fn categories(&self, column: &str) -> Result<CategoryCounts> {
        let mut counts = CategoryCounts::default();
        let mut of_keys: Vec<u64> = Vec::new();
        self.each(column, |array| {
            let is_dictionary = matches!(array.data_type(), DataType::Dictionary(..));
            let array = if is_dictionary { array } else { cast(&cast(&array, &DataType::Utf8)?, &dictionary())? };
            let array = array.as_dictionary::<Int32Type>();
            let names = array.values().as_string::<i32>();
            of_keys.clear();
            of_keys.resize(names.len(), 0);
            for key in array.keys().iter().flatten() {
                of_keys[key as usize] += 1;
            }
            counts.add(None, array.keys().null_count() as u64)?;
            for (name, times) in names.iter().zip(&of_keys).filter(|(_, times)| **times > 0) {
                counts.add(name, *times)?;
            }
            Ok(())
        })?;
        Ok(counts)
    }

    fn each(&self, column: &str, mut take: impl FnMut(ArrayRef) -> Result<()>) -> Result<()> {
        let context = || format!("reading column {column:?} of {}", self.path.display());
        // Of its own: a handle that is shared has one position, and columns are read side by side.
        let file = File::open(&self.path).with_context(context)?;
        let place = self.metadata.schema().index_of(column).with_context(context)?;
        let mask = ProjectionMask::roots(self.metadata.parquet_schema(), [place]);
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.metadata.clone());
        let batches = builder.with_projection(mask).with_batch_size(BATCH).build().with_context(context)?;
        for batch in batches {
            take(batch.with_context(context)?.column(0).clone()).with_context(context)?;
        }
        Ok(())
    }
}

fn dictionary() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}
