use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fishy_core::{Env, Error, Result};
use sqlx::PgPool;
use tokio::sync::Notify;

use crate::batch::{Batch, Part, row_by_row};
use crate::migrate::{self, Migration};
use crate::postgres::{self, Lease};
use crate::row::Row;
use crate::sqlite::{self, SqliteEngine};
use crate::statement::{Outcome, Statement};
use crate::tx::Tx;
use crate::value::Value;

/// Which database is behind a [`Db`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// One file for each service.
    Sqlite,
    /// One schema for each service.
    Postgres,
}

/// How to connect.
#[derive(Clone)]
pub struct DbOptions {
    /// Most connections of the pool (of readers, for SQLite).
    pub max_connections: u32,
    /// How long to wait for a connection, or for the turn to write, before the answer is `Unavailable`.
    pub acquire_timeout: Duration,
    /// Tells when migrations and events came in.
    pub env: Env,
}

impl Default for DbOptions {
    fn default() -> Self {
        Self { max_connections: 10, acquire_timeout: Duration::from_secs(10), env: Env::system() }
    }
}

/// The database of one service. Clones share the connections.
#[derive(Clone)]
pub struct Db {
    inner: Arc<Inner>,
}

struct Inner {
    backend: Backend,
    /// May hold a password: it is shown to nobody.
    url: String,
    schema: String,
    acquire_timeout: Duration,
    env: Env,
    outbox: Notify,
}

enum Backend {
    Sqlite(SqliteEngine),
    Postgres(PgPool),
}

impl Db {
    /// Connects to the database `url` and the service's own part of it, which is created when missing: `schema` is the
    /// name of the file in the folder of `sqlite:///folder`, or the schema in `postgres://…`. `sqlite::memory:` is a
    /// throw-away database for tests, gone with the last handle.
    pub async fn connect(url: &str, schema: &str, options: DbOptions) -> Result<Self> {
        let is_plain = |name: &str| {
            name.starts_with(|c: char| c.is_ascii_lowercase())
                && name.len() <= 63
                && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        };
        if !is_plain(schema) {
            return Err(Error::invalid(format!("{schema:?} is not a schema name: use lower case, digits and '_'")));
        }
        let backend = if url == "sqlite::memory:" {
            Backend::Sqlite(SqliteEngine::connect_throw_away(schema, &options).await?)
        } else if let Some(folder) = url.strip_prefix("sqlite://") {
            Backend::Sqlite(SqliteEngine::connect(Path::new(folder), schema, &options).await?)
        } else if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            Backend::Postgres(postgres::connect(url, schema, &options).await?)
        } else {
            // The URL may hold a password: it is not repeated.
            return Err(Error::invalid("a database URL begins with sqlite:// or postgres://"));
        };
        let inner = Inner {
            backend,
            url: url.to_owned(),
            schema: schema.to_owned(),
            acquire_timeout: options.acquire_timeout,
            env: options.env,
            outbox: Notify::new(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    fn name_beside(&self, suffix: &str) -> String {
        format!("{}_{suffix}", self.inner.schema)
    }

    /// Connects to another part of the same database, which is created when missing: its name is that of this one, `_`
    /// and `suffix`. Beside a throw-away database it is a new throw-away one each time.
    pub async fn connect_beside(&self, suffix: &str, max_connections: u32) -> Result<Self> {
        let inner = &self.inner;
        let options = DbOptions { max_connections, acquire_timeout: inner.acquire_timeout, env: inner.env.clone() };
        Self::connect(&inner.url, &self.name_beside(suffix), options).await
    }

    /// Removes what [`connect_beside`](Self::connect_beside) made, with all that is in it; fine when it is gone. Nothing
    /// may be connected to it any more.
    pub async fn drop_beside(&self, suffix: &str) -> Result<()> {
        let name = self.name_beside(suffix);
        match &self.inner.backend {
            Backend::Sqlite(_) => match self.inner.url.strip_prefix("sqlite://") {
                Some(folder) => sqlite::remove(Path::new(folder), &name).await,
                None => Ok(()),
            },
            Backend::Postgres(pool) => postgres::drop_schema(pool, &name).await,
        }
    }

    /// Which database this is.
    pub fn engine(&self) -> Engine {
        match self.inner.backend {
            Backend::Sqlite(_) => Engine::Sqlite,
            Backend::Postgres(_) => Engine::Postgres,
        }
    }

    /// All rows of a read, on a connection of its own: it sees what was committed before it began.
    pub async fn query(&self, sql: &str, args: Vec<Value>) -> Result<Vec<Row>> {
        Ok(self.read(Statement::new(sql, args)?.with_rows()).await?.rows)
    }

    /// The first row of a read, if there is one.
    pub async fn query_opt(&self, sql: &str, args: Vec<Value>) -> Result<Option<Row>> {
        Ok(self.query(sql, args).await?.into_iter().next())
    }

    /// Begins a transaction that can write. On SQLite, others that write wait for its end: do nothing slow inside.
    pub async fn begin(&self) -> Result<Tx> {
        match &self.inner.backend {
            Backend::Sqlite(sqlite) => Ok(Tx::sqlite(self.clone(), sqlite.writer.begin().await?)),
            Backend::Postgres(pool) => Tx::postgres(self.clone(), Lease::take(pool).await?).await,
        }
    }

    /// Runs a batch as one transaction; gives how many rows each part has changed. When this answers, they are on disk.
    pub async fn write(&self, batch: Batch) -> Result<Vec<u64>> {
        let Backend::Sqlite(sqlite) = &self.inner.backend else {
            let mut tx = self.begin().await?;
            let changed = tx.apply(batch).await?;
            tx.commit().await?;
            return Ok(changed);
        };
        let mut statements = Vec::with_capacity(batch.parts.len());
        let mut is_run = Vec::with_capacity(batch.parts.len());
        for part in batch.parts {
            let statement = match part {
                Part::One { sql, args } => Some(Statement::new(sql, args)?),
                Part::Rows { table_and_columns, suffix, rows } => row_by_row(&table_and_columns, &suffix, rows)?,
            };
            is_run.push(statement.is_some());
            statements.extend(statement);
        }
        let mut changed = sqlite.writer.batch(statements).await?.into_iter();
        if batch.has_emitted {
            self.outbox_bell().notify_one();
        }
        Ok(is_run.into_iter().map(|is_run| if is_run { changed.next().unwrap_or(0) } else { 0 }).collect())
    }

    /// Applies the migrations that are not applied yet, in the order of their versions, each in one transaction; gives
    /// the versions applied now. Refuses when one that is applied has changed since. Replicas may call it together.
    pub async fn migrate(&self, migrations: &[Migration]) -> Result<Vec<i64>> {
        migrate::apply(self, migrations).await
    }

    /// The versions that [`migrate`](Self::migrate) would apply, with the same checks.
    pub async fn pending(&self, migrations: &[Migration]) -> Result<Vec<i64>> {
        migrate::pending(self, migrations).await
    }

    /// Forgets the events received before `before_ms`; gives how many. One that comes again after that is taken as new.
    pub async fn purge_inbox(&self, before_ms: i64) -> Result<u64> {
        let mut tx = self.begin().await?;
        let purged = tx.execute("delete from inbox where received_ms < $1", crate::args![before_ms]).await?;
        tx.commit().await?;
        Ok(purged)
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<()> {
        self.query("select 1 as n", Vec::new()).await.map(drop)
    }

    /// Ends all connections: transactions that are waiting for their commit still get it, later calls fail.
    pub async fn close(&self) {
        match &self.inner.backend {
            Backend::Sqlite(sqlite) => sqlite.close().await,
            Backend::Postgres(pool) => pool.close().await,
        }
    }

    async fn read(&self, statement: Statement) -> Result<Outcome> {
        match &self.inner.backend {
            Backend::Sqlite(sqlite) => sqlite.read(statement).await,
            Backend::Postgres(pool) => Lease::take(pool).await?.run(statement).await,
        }
    }

    pub(crate) fn env(&self) -> &Env {
        &self.inner.env
    }

    pub(crate) fn schema(&self) -> &str {
        &self.inner.schema
    }

    /// Rung by each commit that emitted.
    pub(crate) fn outbox_bell(&self) -> &Notify {
        &self.inner.outbox
    }

    pub(crate) fn pool(&self) -> Option<&PgPool> {
        match &self.inner.backend {
            Backend::Sqlite(_) => None,
            Backend::Postgres(pool) => Some(pool),
        }
    }
}
