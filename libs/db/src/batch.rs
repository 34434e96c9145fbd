use fishy_core::{Error, Event, Result};

use crate::outbox;
use crate::statement::Statement;
use crate::tx::insert_sql;
use crate::value::Value;

/// Statements that need nothing of each other's answers. [`Db::write`](crate::Db::write) makes them one transaction, and
/// [`Tx::apply`](crate::Tx::apply) a part of one. On SQLite they go to the writer together, which is several times cheaper
/// than one by one.
#[derive(Debug, Default)]
pub struct Batch {
    pub(crate) parts: Vec<Part>,
    pub(crate) has_emitted: bool,
}

#[derive(Debug)]
pub(crate) enum Part {
    One { sql: String, args: Vec<Value> },
    Rows { table_and_columns: String, suffix: String, rows: Vec<Vec<Value>> },
}

impl Batch {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a statement.
    pub fn execute(&mut self, sql: impl Into<String>, args: Vec<Value>) {
        self.parts.push(Part::One { sql: sql.into(), args });
    }

    /// Adds rows as [`Tx::bulk`](crate::Tx::bulk) inserts them; no rows are a part that changes nothing.
    pub fn bulk(&mut self, table_and_columns: &str, suffix: &str, rows: impl IntoIterator<Item = Vec<Value>>) {
        let rows = rows.into_iter().collect();
        self.parts.push(Part::Rows { table_and_columns: table_and_columns.into(), suffix: suffix.into(), rows });
    }

    /// Adds an event, which is published if, and only if, the transaction commits.
    pub fn emit(&mut self, event: &Event) -> Result<()> {
        let (sql, args) = outbox::statement(event)?;
        self.execute(sql, args);
        self.has_emitted = true;
        Ok(())
    }
}

/// For SQLite: one short text, executed for each row. `None` without rows.
pub(crate) fn row_by_row(table_and_columns: &str, suffix: &str, rows: Vec<Vec<Value>>) -> Result<Option<Statement>> {
    let Some(columns) = rows.first().map(Vec::len) else { return Ok(None) };
    if columns == 0 || rows.iter().any(|row| row.len() != columns) {
        return Err(Error::internal("the rows of a bulk statement differ in length, or are empty"));
    }
    let sql = insert_sql(table_and_columns, suffix, (1, columns), false);
    Statement::new(sql, rows.into_iter().flatten().collect()).map(|statement| Some(statement.for_each(columns)))
}
