use std::borrow::Cow;

use fishy_core::{Error, ErrorCode};

/// Translates an error of PostgreSQL's driver. The message is for people outside; the driver's own text is the source.
pub(crate) fn from_sqlx(error: sqlx::Error) -> Error {
    let (code, message) = match &error {
        sqlx::Error::Database(database) => postgres(&database.code().unwrap_or(Cow::Borrowed(""))),
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => GONE,
        _ => OTHER,
    };
    Error::new(code, message).with_source(error)
}

/// The same for SQLite.
pub(crate) fn from_rusqlite(error: rusqlite::Error) -> Error {
    let (code, message) = error.sqlite_error().map_or(OTHER, |error| sqlite(error.extended_code));
    Error::new(code, message).with_source(error)
}

const EXISTS: (ErrorCode, &str) = (ErrorCode::AlreadyExists, "something with the same key exists already");
const BUSY: (ErrorCode, &str) = (ErrorCode::Unavailable, "the database is busy");
const GONE: (ErrorCode, &str) = (ErrorCode::Unavailable, "the database cannot be reached");
const FULL: (ErrorCode, &str) = (ErrorCode::ResourceExhausted, "the database has no space left");
const RACE: (ErrorCode, &str) = (ErrorCode::Conflict, "somebody else changed the same rows at the same time");
const OTHER: (ErrorCode, &str) = (ErrorCode::Internal, "the database refused a statement");

fn sqlite(extended: i32) -> (ErrorCode, &'static str) {
    match (extended, extended & 0xff) {
        // UNIQUE, PRIMARYKEY and ROWID of SQLITE_CONSTRAINT.
        (2067 | 1555 | 2579, _) => EXISTS,
        // BUSY_SNAPSHOT: a read transaction that became a write one too late.
        (517, _) => RACE,
        (_, 5 | 6) => BUSY,
        (_, 13) => FULL,
        // CANTOPEN: the folder may come back, as a mounted volume does.
        (_, 14) => GONE,
        _ => OTHER,
    }
}

fn postgres(state: &str) -> (ErrorCode, &'static str) {
    match state {
        "23505" => EXISTS,
        "40001" | "40P01" => RACE,
        "53100" => FULL,
        // Lock or statement timeout, too many connections.
        "55P03" | "57014" | "53000" | "53200" | "53300" => BUSY,
        // Shutdown, crash, starting up, idle for too long in a transaction, read-only after a failover.
        "57P01" | "57P02" | "57P03" | "25P03" | "25006" => GONE,
        _ if state.starts_with("08") => GONE,
        _ => OTHER,
    }
}

/// Whether the connection may be in an unknown state after this error.
pub(crate) const fn breaks_connection(error: &sqlx::Error) -> bool {
    !matches!(
        error,
        sqlx::Error::Database(_) | sqlx::Error::ColumnDecode { .. } | sqlx::Error::RowNotFound | sqlx::Error::Encode(_)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_work_later_is_retryable_and_nothing_else() {
        for (extended, code) in [
            (2067, ErrorCode::AlreadyExists),
            (1555, ErrorCode::AlreadyExists),
            (5, ErrorCode::Unavailable),
            (261, ErrorCode::Unavailable),
            (6, ErrorCode::Unavailable),
            (517, ErrorCode::Conflict),
            (13, ErrorCode::ResourceExhausted),
            (1, ErrorCode::Internal),
            (787, ErrorCode::Internal),
        ] {
            assert_eq!(sqlite(extended).0, code, "{extended}");
        }
        for (state, code) in [
            ("23505", ErrorCode::AlreadyExists),
            ("40001", ErrorCode::Conflict),
            ("40P01", ErrorCode::Conflict),
            ("53100", ErrorCode::ResourceExhausted),
            ("57014", ErrorCode::Unavailable),
            ("57P01", ErrorCode::Unavailable),
            ("08006", ErrorCode::Unavailable),
            ("23503", ErrorCode::Internal),
            ("42P01", ErrorCode::Internal),
        ] {
            assert_eq!(postgres(state).0, code, "{state}");
        }
    }
}
