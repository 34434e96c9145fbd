use std::time::Duration;

use fishy_core::{Error, Result};
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgArguments, PgConnectOptions, PgPoolOptions};
use sqlx::{Arguments, AssertSqlSafe, ConnectOptions, PgConnection, PgPool, Postgres};
use tokio::time::timeout;

use crate::db::DbOptions;
use crate::error::{breaks_connection, from_sqlx};
use crate::row::postgres_rows;
use crate::statement::{Outcome, Statement};
use crate::value::Value;

/// The server gives up before we do, so that its answer is the usual case and ours the one for a dead network.
const SERVER_LIMIT: &str = "30s";
const CLIENT_LIMIT: Duration = Duration::from_secs(40);

pub(crate) async fn connect(url: &str, schema: &str, options: &DbOptions) -> Result<PgPool> {
    let connect: PgConnectOptions =
        url.parse().map_err(|error: sqlx::Error| Error::invalid("not a PostgreSQL URL").with_source(error))?;
    let connect = connect
        .application_name(&format!("fishy-{schema}"))
        .options([
            ("search_path", schema),
            ("statement_timeout", SERVER_LIMIT),
            ("lock_timeout", "10s"),
            ("idle_in_transaction_session_timeout", "60s"),
        ])
        .disable_statement_logging();
    let pool = PgPoolOptions::new()
        .max_connections(options.max_connections)
        .acquire_timeout(options.acquire_timeout)
        .connect_with(connect)
        .await
        .map_err(from_sqlx)?;
    create_schema(&pool, schema).await?;
    Ok(pool)
}

async fn create_schema(pool: &PgPool, schema: &str) -> Result<()> {
    let mut lease = Lease::take(pool).await?;
    // Looked for first: `create schema if not exists` asks for the right to create even when there is nothing to do.
    let find = || Statement::new("select 1 as n from pg_namespace where nspname = $1", crate::args![schema]);
    if !lease.run(find()?.with_rows()).await?.rows.is_empty() {
        return Ok(());
    }
    lease.run(Statement::new("begin", Vec::new())?).await?;
    // Replicas start together, and two `create schema if not exists` can collide.
    lease.run(Statement::new("select pg_advisory_xact_lock($1)", crate::args![lock_key("schema", schema)])?).await?;
    lease.run(Statement::new(format!("create schema if not exists \"{schema}\""), Vec::new())?).await?;
    lease.run(Statement::new("commit", Vec::new())?).await?;
    Ok(())
}

/// Removes a schema with all that is in it.
pub(crate) async fn drop_schema(pool: &PgPool, schema: &str) -> Result<()> {
    let mut lease = Lease::take(pool).await?;
    lease.run(Statement::new(format!("drop schema if exists \"{schema}\" cascade"), Vec::new())?).await?;
    Ok(())
}

/// A number for an advisory lock, which is shared by all schemas of one database.
pub(crate) fn lock_key(what: &str, schema: &str) -> i64 {
    use sha2::Digest;
    let digest = sha2::Sha256::digest(format!("fishy {what} {schema}"));
    let mut key = [0; 8];
    key.copy_from_slice(&digest[..8]);
    i64::from_be_bytes(key)
}

/// A connection that goes back to the pool only in a known state: one that was dropped in the middle of a statement,
/// timed out or broke is closed instead.
pub(crate) struct Lease {
    connection: PoolConnection<Postgres>,
    is_clean: bool,
}

impl Lease {
    pub async fn take(pool: &PgPool) -> Result<Self> {
        Ok(Self { connection: pool.acquire().await.map_err(from_sqlx)?, is_clean: true })
    }

    pub async fn run(&mut self, statement: Statement) -> Result<Outcome> {
        let was_clean = std::mem::replace(&mut self.is_clean, false);
        match timeout(CLIENT_LIMIT, run(&mut self.connection, statement)).await {
            Ok(Ok(outcome)) => {
                self.is_clean = was_clean;
                Ok(outcome)
            }
            Ok(Err(error)) => {
                self.is_clean = was_clean && !breaks_connection(&error);
                Err(from_sqlx(error))
            }
            Err(_) => Err(Error::unavailable("the database did not answer in time")),
        }
    }

    /// For a session with state that nobody else may inherit, such as an advisory lock.
    pub fn close_when_dropped(&mut self) {
        self.is_clean = false;
    }

    pub const fn is_clean(&self) -> bool {
        self.is_clean
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.is_clean {
            self.connection.close_on_drop();
        }
    }
}

async fn run(connection: &mut PgConnection, statement: Statement) -> std::result::Result<Outcome, sqlx::Error> {
    let mut arguments = PgArguments::default();
    for value in statement.args {
        match value {
            Value::I64(value) => arguments.add(value),
            Value::F64(value) => arguments.add(value),
            Value::Text(value) => arguments.add(value),
            Value::Bytes(value) => arguments.add(value),
        }
        .map_err(sqlx::Error::Encode)?;
    }
    let query =
        sqlx::query_with::<Postgres, _>(AssertSqlSafe(statement.sql), arguments).persistent(statement.is_cached);
    if statement.wants_rows {
        let rows = query.fetch_all(connection).await?;
        Ok(Outcome { changed: rows.len() as u64, rows: postgres_rows(&rows)? })
    } else {
        Ok(Outcome { changed: query.execute(connection).await?.rows_affected(), rows: Vec::new() })
    }
}
