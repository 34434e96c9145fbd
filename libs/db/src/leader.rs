use fishy_core::Result;

use crate::args;
use crate::db::Db;
use crate::postgres::{Lease, lock_key};
use crate::statement::Statement;

/// Which of several replicas over one schema does a work that only one may do. Another takes over when it is gone.
///
/// On SQLite there is one process, which leads. The work must still stand being done twice: a replica that is cut off
/// from the database notices it later than the database does.
pub struct Leader {
    db: Db,
    what: String,
    /// PostgreSQL: the connection whose advisory lock makes this replica the one that leads.
    lease: Option<Lease>,
}

impl Leader {
    /// A candidate for the work `what`; it leads nothing before [`leads`](Self::leads) says so.
    pub fn new(db: &Db, what: &str) -> Self {
        Self { db: db.clone(), what: what.to_owned(), lease: None }
    }

    /// Whether this replica leads now; it becomes the leader when there is none. Ask before each piece of work.
    pub async fn leads(&mut self) -> Result<bool> {
        let Some(pool) = self.db.pool() else { return Ok(true) };
        if let Some(lease) = &mut self.lease {
            // On the connection that holds the lock: when it is lost, so is the lock, and this fails.
            let alive = lease.run(Statement::new("select 1 as n", args![])?.with_rows()).await;
            if alive.is_ok() {
                return Ok(true);
            }
            self.lease = None;
        }
        let mut lease = Lease::take(pool).await?;
        let ask = "select pg_try_advisory_lock($1) as is_leader";
        let ask = Statement::new(ask, args![lock_key(&self.what, self.db.schema())])?.with_rows();
        if !lease.run(ask).await?.rows.first().is_some_and(|row| row.get("is_leader").unwrap_or(false)) {
            return Ok(false);
        }
        // The lock lives and dies with the session, which therefore must not go back to the pool.
        lease.close_when_dropped();
        self.lease = Some(lease);
        Ok(true)
    }

    /// Lets another replica lead.
    pub fn step_down(&mut self) {
        self.lease = None;
    }
}
