mod writer;

pub(crate) use writer::{Session, Writer};

use std::path::Path;
use std::time::Duration;

use fishy_core::{Error, Result};
use sqlx::sqlite::{SqliteArguments, SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Arguments, AssertSqlSafe, ConnectOptions, Sqlite, SqliteConnection, SqlitePool};

use crate::db::DbOptions;
use crate::error::from_sqlx;
use crate::row::sqlite_rows;
use crate::statement::{Outcome, Statement};
use crate::value::Value;

/// Waiting for another process, such as a migration, that holds the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Many readers and the one writer of a database file.
pub(crate) struct SqliteEngine {
    readers: SqlitePool,
    pub writer: Writer,
    /// The folder of a throw-away database, removed with the last handle.
    _folder: Option<tempfile::TempDir>,
}

impl SqliteEngine {
    pub async fn connect(folder: &Path, schema: &str, options: &DbOptions) -> Result<Self> {
        std::fs::create_dir_all(folder).map_err(|error| Error::from(error).context(folder.display()))?;
        Self::open(&folder.join(format!("{schema}.db")), SqliteSynchronous::Full, options, None).await
    }

    /// A throw-away database. It is a file all the same, so that tests meet the same readers and locks as production.
    pub async fn connect_throw_away(schema: &str, options: &DbOptions) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("fishy-db-").tempdir()?;
        let file = folder.path().join(format!("{schema}.db"));
        Self::open(&file, SqliteSynchronous::Off, options, Some(folder)).await
    }

    async fn open(
        file: &Path,
        synchronous: SqliteSynchronous,
        options: &DbOptions,
        folder: Option<tempfile::TempDir>,
    ) -> Result<Self> {
        let base = SqliteConnectOptions::new()
            .filename(file)
            .busy_timeout(BUSY_TIMEOUT)
            .foreign_keys(true)
            .pragma("case_sensitive_like", "on")
            .disable_statement_logging();
        let writes = base
            .clone()
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(synchronous)
            // A burst makes the log grow; without a limit the file would stay at its largest.
            .pragma("journal_size_limit", "67108864")
            // KiB: the inner pages of the indexes of ten million rows, which would otherwise be read again and again.
            .pragma("cache_size", "-32768");
        let writer = Writer::open(writes, options.acquire_timeout).await?;
        let readers = SqlitePoolOptions::new()
            .max_connections(options.max_connections)
            .acquire_timeout(options.acquire_timeout)
            .test_before_acquire(false)
            .connect_lazy_with(base.pragma("query_only", "on"));
        Ok(Self { readers, writer, _folder: folder })
    }

    pub async fn read(&self, statement: Statement) -> Result<Outcome> {
        let mut connection = self.readers.acquire().await.map_err(from_sqlx)?;
        run(&mut connection, statement).await.map_err(from_sqlx)
    }

    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

/// Removes the files of a database that nobody has open.
pub(crate) async fn remove(folder: &Path, schema: &str) -> Result<()> {
    for suffix in ["", "-wal", "-shm"] {
        let file = folder.join(format!("{schema}.db{suffix}"));
        match tokio::fs::remove_file(&file).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::from(error).context(file.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

pub(crate) async fn run(
    connection: &mut SqliteConnection,
    statement: Statement,
) -> std::result::Result<Outcome, sqlx::Error> {
    let mut arguments = SqliteArguments::default();
    for value in statement.args {
        match value {
            Value::I64(value) => arguments.add(value),
            Value::F64(value) => arguments.add(value),
            Value::Text(value) => arguments.add(value),
            Value::Bytes(value) => arguments.add(value),
        }
        .map_err(sqlx::Error::Encode)?;
    }
    let query = sqlx::query_with::<Sqlite, _>(AssertSqlSafe(statement.sql), arguments).persistent(statement.is_cached);
    if statement.wants_rows {
        let rows = query.fetch_all(connection).await?;
        Ok(Outcome { changed: rows.len() as u64, rows: sqlite_rows(&rows)? })
    } else {
        Ok(Outcome { changed: query.execute(connection).await?.rows_affected(), rows: Vec::new() })
    }
}
