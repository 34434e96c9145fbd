use std::sync::Arc;

use fishy_core::{Error, Result};
use sqlx::postgres::PgRow;
use sqlx::{Column, Row as _, TypeInfo};

use crate::value::{FromValue, Value};

/// One row of an answer, the same for both engines.
#[derive(Debug, Clone)]
pub struct Row {
    names: Arc<[String]>,
    values: Vec<Value>,
}

impl Row {
    pub(crate) fn new(names: Arc<[String]>, values: Vec<Value>) -> Self {
        Self { names, values }
    }

    /// The value of a column by its name; an error when there is no such column, or it has another type.
    pub fn get<T: FromValue>(&self, column: &str) -> Result<T> {
        let at = self.names.iter().position(|name| name == column).ok_or_else(|| {
            Error::internal(format!("no column {column:?} in the answer, which has {}", self.names.join(", ")))
        })?;
        T::from_value(&self.values[at]).map_err(|error| error.context(format_args!("column {column:?}")))
    }
}

type Decoded<T> = std::result::Result<T, sqlx::Error>;

pub(crate) fn postgres_rows(rows: &[PgRow]) -> Decoded<Vec<Row>> {
    let Some(first) = rows.first() else { return Ok(Vec::new()) };
    let names: Arc<[String]> = first.columns().iter().map(|column| column.name().to_owned()).collect();
    rows.iter()
        .map(|row| {
            let values = (0..names.len()).map(|at| decoded(row, at)).collect::<Decoded<Vec<_>>>()?;
            Ok(Row { names: Arc::clone(&names), values })
        })
        .collect()
}

fn decoded(row: &PgRow, at: usize) -> Decoded<Value> {
    let column = row.column(at);
    Ok(match column.type_info().name() {
        "INT8" => Value::I64(row.try_get(at)?),
        "INT4" => Value::I64(row.try_get::<Option<i32>, _>(at)?.map(i64::from)),
        "INT2" => Value::I64(row.try_get::<Option<i16>, _>(at)?.map(i64::from)),
        "BOOL" => Value::I64(row.try_get::<Option<bool>, _>(at)?.map(i64::from)),
        "FLOAT8" => Value::F64(row.try_get(at)?),
        "FLOAT4" => Value::F64(row.try_get::<Option<f32>, _>(at)?.map(f64::from)),
        "TEXT" | "VARCHAR" | "NAME" | "CHAR" => Value::Text(row.try_get(at)?),
        "BYTEA" => Value::Bytes(row.try_get(at)?),
        "VOID" => Value::Text(None),
        other => return Err(undecodable(column.name(), other)),
    })
}

fn undecodable(column: &str, kind: &str) -> sqlx::Error {
    let advice = format!("{kind} is not one of our types: cast it, for example cast(sum(n) as bigint)");
    sqlx::Error::ColumnDecode { index: column.to_owned(), source: advice.into() }
}
