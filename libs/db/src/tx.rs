use std::fmt::Write as _;
use std::time::Duration;

use fishy_core::{Error, Event, Result};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::time::timeout;

use crate::batch::{self, Batch, Part};
use crate::db::Db;
use crate::outbox;
use crate::postgres::Lease;
use crate::row::Row;
use crate::sqlite::Session;
use crate::statement::{Outcome, Statement};
use crate::value::Value;

/// Rows in one statement of [`Tx::bulk`] on PostgreSQL: more gain nothing, and the text must fit its parameter limit.
const BULK_ROWS: usize = 100;
const BULK_PARAMETERS: usize = 30_000;
/// How long a dropped transaction's ROLLBACK may take before its connection is closed instead.
const ROLLBACK_LIMIT: Duration = Duration::from_secs(5);

/// A transaction. Dropped without [`commit`](Self::commit), it is rolled back, wherever the drop happens. When one of
/// its statements fails, the whole transaction has failed: it can only be rolled back.
pub struct Tx {
    db: Db,
    side: Side,
    has_failed: bool,
    has_emitted: bool,
}

enum Side {
    Sqlite(Session),
    Postgres(Lease),
    /// Committed, or rolled back.
    Ended,
}

impl Tx {
    pub(crate) fn sqlite(db: Db, session: Session) -> Self {
        Self { db, side: Side::Sqlite(session), has_failed: false, has_emitted: false }
    }

    pub(crate) async fn postgres(db: Db, lease: Lease) -> Result<Self> {
        // The transaction exists before its BEGIN is sent, so that a drop in between cleans up as any other does.
        let mut tx = Self { db, side: Side::Postgres(lease), has_failed: false, has_emitted: false };
        tx.run(Statement::new("begin", Vec::new())?).await?;
        Ok(tx)
    }

    /// Runs a statement; gives how many rows it changed.
    pub async fn execute(&mut self, sql: &str, args: Vec<Value>) -> Result<u64> {
        Ok(self.run(Statement::new(sql, args)?).await?.changed)
    }

    /// All rows of a statement, which may be an `insert … returning`; sees this transaction's own changes.
    pub async fn query(&mut self, sql: &str, args: Vec<Value>) -> Result<Vec<Row>> {
        Ok(self.run(Statement::new(sql, args)?.with_rows()).await?.rows)
    }

    /// The first row of a statement, if there is one.
    pub async fn query_opt(&mut self, sql: &str, args: Vec<Value>) -> Result<Option<Row>> {
        Ok(self.query(sql, args).await?.into_iter().next())
    }

    /// Inserts many rows: `bulk("insert into t(a, b)", "on conflict do nothing", rows)`; gives how many it changed.
    ///
    /// With `on conflict … do update`, PostgreSQL refuses rows of one call that have the same key.
    pub fn bulk<'a>(
        &'a mut self,
        table_and_columns: &'a str,
        suffix: &'a str,
        rows: impl IntoIterator<Item = Vec<Value>>,
    ) -> BoxFuture<'a, Result<u64>> {
        // Collected here and boxed, so that the future does not depend on the iterator's type and lifetime.
        let rows: Vec<Vec<Value>> = rows.into_iter().collect();
        async move {
            let Some(columns) = rows.first().map(Vec::len) else { return Ok(0) };
            if columns == 0 || rows.iter().any(|row| row.len() != columns) {
                return Err(Error::internal("the rows of a bulk statement differ in length, or are empty"));
            }
            if matches!(self.side, Side::Sqlite(_)) {
                let statement = batch::row_by_row(table_and_columns, suffix, rows)?;
                return match statement {
                    Some(statement) => Ok(self.run(statement).await?.changed),
                    None => Ok(0),
                };
            }
            let chunk_rows = BULK_ROWS.min(BULK_PARAMETERS / columns).max(1);
            let mut changed = 0;
            let mut rows = rows.into_iter().peekable();
            while rows.peek().is_some() {
                let chunk: Vec<Vec<Value>> = rows.by_ref().take(chunk_rows).collect();
                let is_full = chunk.len() == chunk_rows;
                let sql = insert_sql(table_and_columns, suffix, (chunk.len(), columns), true);
                let statement = Statement::new(sql, chunk.into_iter().flatten().collect())?;
                // The last, shorter text is of a length that hardly comes twice, unless it is of one row.
                let statement =
                    if is_full || columns == statement.args.len() { statement } else { statement.uncached() };
                changed += self.run(statement).await?.changed;
            }
            Ok(changed)
        }
        .boxed()
    }

    /// Runs a batch in this transaction; gives how many rows each part has changed.
    pub async fn apply(&mut self, batch: Batch) -> Result<Vec<u64>> {
        let mut changed = Vec::with_capacity(batch.parts.len());
        for part in batch.parts {
            changed.push(match part {
                Part::One { sql, args } => self.run(Statement::new(sql, args)?).await?.changed,
                Part::Rows { table_and_columns, suffix, rows } => self.bulk(&table_and_columns, &suffix, rows).await?,
            });
        }
        self.has_emitted |= batch.has_emitted;
        Ok(changed)
    }

    /// Writes an event into the outbox: it is published if, and only if, this transaction commits.
    pub async fn emit(&mut self, event: &Event) -> Result<()> {
        let (sql, args) = outbox::statement(event)?;
        self.execute(sql, args).await?;
        self.has_emitted = true;
        Ok(())
    }

    /// Notes that `consumer` has received an event; false when it had before, and nothing should be done again.
    pub async fn receive(&mut self, consumer: &str, event_id: &str) -> Result<bool> {
        let now_ms = self.db.env().now_ms();
        let sql = "insert into inbox(consumer, event_id, received_ms) values ($1, $2, $3) on conflict do nothing";
        Ok(self.execute(sql, crate::args![consumer, event_id, now_ms]).await? == 1)
    }

    /// Makes the changes permanent: when this answers, they are on disk.
    pub async fn commit(mut self) -> Result<()> {
        // PostgreSQL would answer COMMIT of a failed transaction with a silent ROLLBACK.
        if self.has_failed {
            return Err(Error::precondition("nothing was committed: a statement of the transaction has failed"));
        }
        match std::mem::replace(&mut self.side, Side::Ended) {
            Side::Sqlite(session) => session.commit().await?,
            Side::Postgres(mut lease) => {
                // Dropped before the answer is there, the lease closes its connection.
                let committed = lease.run(Statement::new("commit", Vec::new())?).await;
                if committed.is_err() {
                    lease.close_when_dropped();
                }
                committed?;
            }
            Side::Ended => {}
        }
        if self.has_emitted {
            self.db.outbox_bell().notify_one();
        }
        Ok(())
    }

    /// Undoes the changes and waits until that is done; dropping the transaction does the same without waiting.
    pub async fn rollback(mut self) {
        match std::mem::replace(&mut self.side, Side::Ended) {
            Side::Sqlite(session) => session.rollback().await,
            Side::Postgres(lease) => roll_back(lease).await,
            Side::Ended => {}
        }
    }

    pub(crate) async fn run(&mut self, statement: Statement) -> Result<Outcome> {
        if self.has_failed {
            return Err(Error::precondition("a statement of this transaction has failed before"));
        }
        // Set until the answer is there: nobody knows what a statement that was dropped half-way has done.
        self.has_failed = true;
        let result = match &mut self.side {
            Side::Sqlite(session) => session.run(statement).await,
            Side::Postgres(lease) => lease.run(statement).await,
            Side::Ended => Err(Error::internal("the transaction has ended")),
        };
        self.has_failed = result.is_err();
        result
    }
}

pub(crate) fn insert_sql(
    table_and_columns: &str,
    suffix: &str,
    (rows, columns): (usize, usize),
    are_numbered: bool,
) -> String {
    let mut sql = format!("{table_and_columns} values ");
    for place in 0..rows * columns {
        let separator = match (place, place % columns) {
            (0, _) => "(",
            (_, 0) => "), (",
            _ => ", ",
        };
        // Writing into a String does not fail.
        let _ = if are_numbered { write!(sql, "{separator}${}", place + 1) } else { write!(sql, "{separator}?") };
    }
    sql.push_str(") ");
    sql.push_str(suffix);
    sql
}

impl Drop for Tx {
    fn drop(&mut self) {
        // A session of SQLite's writer rolls back when it is dropped. A lease in the middle of a statement closes its
        // connection when it is dropped. One that is clean can be used again, after a ROLLBACK.
        if let Side::Postgres(mut lease) = std::mem::replace(&mut self.side, Side::Ended)
            && lease.is_clean()
        {
            match tokio::runtime::Handle::try_current() {
                Ok(runtime) => drop(runtime.spawn(roll_back(lease))),
                Err(_) => lease.close_when_dropped(),
            }
        }
    }
}

async fn roll_back(mut lease: Lease) {
    let Ok(statement) = Statement::new("rollback", Vec::new()) else { return };
    if !matches!(timeout(ROLLBACK_LIMIT, lease.run(statement)).await, Ok(Ok(_))) {
        lease.close_when_dropped();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_numbered_across_rows() {
        assert_eq!(
            insert_sql("insert into t(a, b)", "on conflict do nothing", (2, 2), true),
            "insert into t(a, b) values ($1, $2), ($3, $4) on conflict do nothing"
        );
        assert_eq!(insert_sql("insert into t(a)", "", (2, 1), false), "insert into t(a) values (?), (?) ");
    }
}
