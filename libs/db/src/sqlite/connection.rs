//! A connection to a database file, and how a statement runs on it.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::types::{ToSqlOutput, Type, ValueRef};
use rusqlite::{Connection, ErrorCode, OpenFlags, ToSql};

use crate::row::Row;
use crate::statement::{Outcome, Statement};
use crate::value::Value;

/// Waiting for another process, such as a migration, that holds the file.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Prepared statements that a connection keeps.
const STATEMENTS: usize = 100;
/// After so many steps of SQLite's machine a statement asks whether it may go on.
const STEPS: i32 = 500;
/// How often a quick read may ask: about 2,000 steps, which are some 50 µs.
const QUICK_ASKS: u32 = 4;

type Ran<T> = std::result::Result<T, rusqlite::Error>;

/// Opens the connection that writes; the file is made when it is missing.
pub(super) fn open_writer(file: &Path, is_synchronous: bool) -> Ran<Connection> {
    let connection = open(file, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    let synchronous = if is_synchronous { "FULL" } else { "OFF" };
    connection.execute_batch(&format!(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = {synchronous};
         -- A burst makes the log grow; without a limit the file would stay at its largest.
         PRAGMA journal_size_limit = 67108864;
         -- Pages: one that changes again and again is copied into the file once for all of them.
         PRAGMA wal_autocheckpoint = 4000;
         -- What a savepoint would restore does not go through a file.
         PRAGMA temp_store = MEMORY;
         -- KiB: the inner pages of the indexes of ten million rows, which would otherwise be read again and again.
         PRAGMA cache_size = -32768;"
    ))?;
    Ok(connection)
}

fn open(file: &Path, flags: OpenFlags) -> Ran<Connection> {
    let connection = Connection::open_with_flags(file, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.execute_batch("PRAGMA foreign_keys = ON; PRAGMA case_sensitive_like = ON;")?;
    Ok(connection)
}

/// A connection that reads.
pub(super) struct Reader {
    connection: Connection,
    asks_left: Arc<AtomicU32>,
    /// Whether anybody still waits for the long read that runs, or ran last.
    is_given_up: Arc<Mutex<Arc<AtomicBool>>>,
}

impl Reader {
    pub fn open(file: &Path) -> Ran<Self> {
        let connection = open(file, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        connection.execute_batch("PRAGMA query_only = ON;")?;
        let (asks_left, is_given_up) = (Arc::new(AtomicU32::new(0)), Arc::<Mutex<Arc<AtomicBool>>>::default());
        let (asks, given_up) = (Arc::clone(&asks_left), Arc::clone(&is_given_up));
        // Tells whether to stop.
        let asked = move || {
            let left = asks.load(Ordering::Relaxed);
            if left == u32::MAX {
                return given_up.lock().unwrap_or_else(PoisonError::into_inner).load(Ordering::Relaxed);
            }
            asks.store(left.saturating_sub(1), Ordering::Relaxed);
            left == 0
        };
        connection.progress_handler(STEPS, Some(asked))?;
        Ok(Self { connection, asks_left, is_given_up })
    }

    /// Runs a read that is stopped when it turns out not to be quick, or would have to wait; `None` in that case.
    pub fn run_quick(&self, statement: &Statement) -> Option<Ran<Outcome>> {
        self.asks_left.store(QUICK_ASKS, Ordering::Relaxed);
        let ran = self.connection.busy_timeout(Duration::ZERO).and_then(|()| run(&self.connection, statement));
        let is_stopped = ran.as_ref().is_err_and(|error| {
            let code = error.sqlite_error_code();
            matches!(code, Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::OperationInterrupted))
        });
        (!is_stopped).then_some(ran)
    }

    /// Runs a read to its end, however long it takes, unless it is given up.
    pub fn run(&self, statement: &Statement, is_given_up: Arc<AtomicBool>) -> Ran<Outcome> {
        *self.is_given_up.lock().unwrap_or_else(PoisonError::into_inner) = is_given_up;
        self.asks_left.store(u32::MAX, Ordering::Relaxed);
        self.connection.busy_timeout(BUSY_TIMEOUT)?;
        run(&self.connection, statement)
    }
}

/// Runs a statement to its end.
pub(super) fn run(connection: &Connection, statement: &Statement) -> Ran<Outcome> {
    let sql = numbered(&statement.sql);
    if statement.is_cached {
        run_prepared(connection, &mut *connection.prepare_cached(&sql)?, statement)
    } else {
        run_prepared(connection, &mut connection.prepare(&sql)?, statement)
    }
}

/// To SQLite `$1` is a name, which must be looked for among all the others; `?1` is the first place itself.
fn numbered(sql: &str) -> String {
    let mut text = String::with_capacity(sql.len());
    let (mut is_quoted, mut from) = (false, 0);
    let bytes = sql.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'\'' => is_quoted = !is_quoted,
            b'$' if !is_quoted && bytes.get(at + 1).is_some_and(u8::is_ascii_digit) => {
                text.push_str(&sql[from..at]);
                text.push('?');
                from = at + 1;
            }
            _ => {}
        }
    }
    text.push_str(&sql[from..]);
    text
}

fn run_prepared(
    connection: &Connection,
    prepared: &mut rusqlite::Statement<'_>,
    statement: &Statement,
) -> Ran<Outcome> {
    let Some(args_each) = statement.args_each else {
        return run_once(connection, prepared, &statement.args, statement.wants_rows);
    };
    let mut changed = 0;
    for args in statement.args.chunks(args_each.max(1)) {
        changed += run_once(connection, prepared, args, false)?.changed;
    }
    Ok(Outcome { changed, rows: Vec::new() })
}

fn run_once(
    connection: &Connection,
    prepared: &mut rusqlite::Statement<'_>,
    args: &[Value],
    wants_rows: bool,
) -> Ran<Outcome> {
    let places = prepared.parameter_count();
    if places > args.len() {
        return Err(rusqlite::Error::InvalidParameterCount(args.len(), places));
    }
    for (at, value) in args.iter().take(places).enumerate() {
        prepared.raw_bind_parameter(at + 1, Argument(value))?;
    }
    let is_read = prepared.readonly();
    let mut found = Vec::new();
    let mut names: Option<Arc<[String]>> = None;
    let mut rows = prepared.raw_query();
    while let Some(row) = rows.next()? {
        if !wants_rows {
            continue;
        }
        let of_row = || row.as_ref().column_names().into_iter().map(str::to_owned).collect();
        let names = Arc::clone(names.get_or_insert_with(of_row));
        let values = (0..names.len()).map(|at| value(row, at)).collect::<Ran<Vec<_>>>()?;
        found.push(Row::new(names, values));
    }
    let changed = match (wants_rows, is_read) {
        (true, _) => found.len() as u64,
        (false, true) => 0,
        (false, false) => connection.changes(),
    };
    Ok(Outcome { changed, rows: found })
}

struct Argument<'a>(&'a Value);

impl ToSql for Argument<'_> {
    fn to_sql(&self) -> Ran<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self.0 {
            Value::I64(Some(number)) => ValueRef::Integer(*number),
            Value::F64(Some(number)) => ValueRef::Real(*number),
            Value::Text(Some(text)) => ValueRef::Text(text.as_bytes()),
            Value::Bytes(Some(bytes)) => ValueRef::Blob(bytes),
            Value::I64(None) | Value::F64(None) | Value::Text(None) | Value::Bytes(None) => ValueRef::Null,
        }))
    }
}

/// A value of a row. Its type is its own: in SQLite that of the column is only a wish.
fn value(row: &rusqlite::Row<'_>, at: usize) -> Ran<Value> {
    Ok(match row.get_ref(at)? {
        ValueRef::Null => Value::Text(None),
        ValueRef::Integer(number) => Value::I64(Some(number)),
        ValueRef::Real(number) => Value::F64(Some(number)),
        ValueRef::Text(bytes) => {
            let text = std::str::from_utf8(bytes)
                .map_err(|error| rusqlite::Error::FromSqlConversionFailure(at, Type::Text, error.into()))?;
            Value::Text(Some(text.to_owned()))
        }
        ValueRef::Blob(bytes) => Value::Bytes(Some(bytes.to_vec())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_become_numbers_outside_of_texts() {
        assert_eq!(numbered("select $2, '$1', ?, $10"), "select ?2, '$1', ?, ?10");
        assert_eq!(numbered("select 'it''s $1' where a -> '$.b' = $1"), "select 'it''s $1' where a -> '$.b' = ?1");
    }
}
