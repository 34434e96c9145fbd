use std::time::{Duration, Instant};

use fishy_core::{Env, Error, Event, Result};
use futures::future::BoxFuture;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::args;
use crate::db::Db;
use crate::postgres::{Lease, lock_key};
use crate::row::Row;
use crate::statement::Statement;
use crate::value::Value;

/// Carries events from the outbox to the bus, in order, at least once.
pub struct Relay {
    db: Db,
    publish: Box<dyn Fn(Event) -> BoxFuture<'static, Result<()>> + Send + Sync>,
    env: Env,
    shutdown: CancellationToken,
    options: RelayOptions,
    /// PostgreSQL: the connection whose advisory lock makes this replica the one that relays.
    leadership: Option<Lease>,
}

/// The relay's times and counts.
#[derive(Debug, Clone)]
pub struct RelayOptions {
    /// How many events are read at once.
    pub batch: usize,
    /// How often to look without being woken: for events of another replica, or of a process that was killed.
    pub poll: Duration,
    /// The first pause after a failure; it doubles with each further one.
    pub min_backoff: Duration,
    /// The longest pause.
    pub max_backoff: Duration,
    /// How many refusals that are not retryable make an event dead.
    pub max_attempts: i64,
}

impl Default for RelayOptions {
    fn default() -> Self {
        Self {
            batch: 64,
            poll: Duration::from_secs(1),
            min_backoff: Duration::from_millis(50),
            max_backoff: Duration::from_secs(5),
            max_attempts: 20,
        }
    }
}

/// How long published events may stay in the outbox: after a crash, they are published again.
const MAX_UNDELETED: Duration = Duration::from_millis(250);
/// How long a publish in flight may still take after shutdown was asked for.
const GRACE: Duration = Duration::from_secs(5);
/// Pending events are counted up to here: counting must not become work of its own.
const MAX_COUNTED: i64 = 10_000;

enum Round {
    /// There may be more.
    Busy,
    /// Nothing to do until woken.
    Idle,
    /// An event could not be published, and nothing may overtake it.
    Blocked,
}

impl Relay {
    /// Relays until `shutdown`. `publish` answers when the event is safe; an event is deleted only after that.
    ///
    /// A failing event holds up those behind it, so that order is kept; after [`RelayOptions::max_attempts`] refusals
    /// that are not retryable it moves to the table `outbox_dead`. Of several replicas over one PostgreSQL schema, one
    /// relays, and another takes over when it is gone.
    pub fn spawn(
        db: Db,
        publish: impl Fn(Event) -> BoxFuture<'static, Result<()>> + Send + Sync + 'static,
        env: Env,
        shutdown: CancellationToken,
    ) -> JoinHandle<()> {
        Self::spawn_with(db, publish, env, shutdown, RelayOptions::default())
    }

    /// The same with other times and counts.
    pub fn spawn_with(
        db: Db,
        publish: impl Fn(Event) -> BoxFuture<'static, Result<()>> + Send + Sync + 'static,
        env: Env,
        shutdown: CancellationToken,
        options: RelayOptions,
    ) -> JoinHandle<()> {
        let relay = Self { db, publish: Box::new(publish), env, shutdown, options, leadership: None };
        tokio::spawn(relay.run())
    }

    async fn run(mut self) {
        let mut pause = self.options.min_backoff;
        let mut counted: Option<Instant> = None;
        let db = self.db.clone();
        while !self.shutdown.is_cancelled() {
            if counted.is_none_or(|at| at.elapsed() >= self.options.poll) {
                counted = Some(Instant::now());
                self.count_pending().await;
            }
            let round = self.round().await.unwrap_or_else(|error| {
                tracing::warn!(schema = self.db.schema(), error = error.chain(), "reading the outbox failed");
                self.leadership = None;
                Round::Blocked
            });
            match round {
                Round::Busy => pause = self.options.min_backoff,
                Round::Idle => {
                    pause = self.options.min_backoff;
                    tokio::select! {
                        () = db.outbox_bell().notified() => {}
                        () = tokio::time::sleep(self.options.poll) => {}
                        () = self.shutdown.cancelled() => {}
                    }
                }
                Round::Blocked => {
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        () = self.shutdown.cancelled() => {}
                    }
                    pause = (pause * 2).min(self.options.max_backoff);
                }
            }
        }
    }

    async fn round(&mut self) -> Result<Round> {
        let Some(rows) = self.take().await? else { return Ok(Round::Idle) };
        if rows.is_empty() {
            return Ok(Round::Idle);
        }
        let mut published = Vec::new();
        let mut since = Instant::now();
        for row in &rows {
            if self.shutdown.is_cancelled() {
                break;
            }
            let seq: i64 = row.get("seq")?;
            let result = match serde_json::from_str::<Event>(&row.get::<String>("event")?) {
                Ok(event) => self.publish(event).await,
                Err(error) => Err(Error::internal("not an event").with_source(error)),
            };
            match result {
                Ok(()) => published.push(seq),
                Err(error) => {
                    self.delete(&mut published).await?;
                    return self.refused(row, &error).await;
                }
            }
            if since.elapsed() >= MAX_UNDELETED {
                self.delete(&mut published).await?;
                since = Instant::now();
            }
        }
        self.delete(&mut published).await?;
        Ok(Round::Busy)
    }

    /// The oldest events; none when another replica relays.
    async fn take(&mut self) -> Result<Option<Vec<Row>>> {
        const SQL: &str = "select seq, id, kind, event, attempts from outbox order by seq limit $1";
        let args = args![self.options.batch];
        let Some(pool) = self.db.pool() else { return self.db.query(SQL, args).await.map(Some) };
        if self.leadership.is_none() {
            let mut lease = Lease::take(pool).await?;
            let key = lock_key("outbox", self.db.schema());
            let ask = Statement::new("select pg_try_advisory_lock($1) as is_leader", args![key])?.with_rows();
            if !lease.run(ask).await?.rows.first().is_some_and(|row| row.get("is_leader").unwrap_or(false)) {
                return Ok(None);
            }
            // The lock lives and dies with the session, which therefore must not go back to the pool.
            lease.close_when_dropped();
            self.leadership = Some(lease);
        }
        match &mut self.leadership {
            // On the connection that holds the lock: when it is lost, so is the lock, and this fails.
            Some(lease) => Ok(Some(lease.run(Statement::new(SQL, args)?.with_rows()).await?.rows)),
            None => Ok(None),
        }
    }

    async fn publish(&self, event: Event) -> Result<()> {
        let grace = async {
            self.shutdown.cancelled().await;
            tokio::time::sleep(GRACE).await;
        };
        tokio::select! {
            result = (self.publish)(event) => result,
            () = grace => Err(Error::unavailable("shutting down")),
        }
    }

    /// By number, not by range: on PostgreSQL a smaller number may become visible later than a larger one.
    async fn delete(&self, published: &mut Vec<i64>) -> Result<()> {
        if published.is_empty() {
            return Ok(());
        }
        let places: Vec<String> = (1..=published.len()).map(|place| format!("${place}")).collect();
        let sql = format!("delete from outbox where seq in ({})", places.join(", "));
        let mut tx = self.db.begin().await?;
        tx.execute(&sql, published.iter().map(|seq| Value::from(*seq)).collect()).await?;
        tx.commit().await?;
        metrics::counter!("fishy_outbox_published_total", "service" => self.db.schema().to_owned())
            .increment(published.len() as u64);
        published.clear();
        Ok(())
    }

    async fn refused(&self, row: &Row, error: &Error) -> Result<Round> {
        let (seq, kind) = (row.get::<i64>("seq")?, row.get::<String>("kind")?);
        let id: String = row.get("id")?;
        let attempts = row.get::<i64>("attempts")? + 1;
        tracing::warn!(schema = self.db.schema(), id, kind, attempts, error = error.chain(), "publishing failed");
        if error.is_retryable() {
            return Ok(Round::Blocked);
        }
        let mut tx = self.db.begin().await?;
        if attempts < self.options.max_attempts {
            tx.execute("update outbox set attempts = $2 where seq = $1", args![seq, attempts]).await?;
            tx.commit().await?;
            return Ok(Round::Blocked);
        }
        tx.execute(
            "insert into outbox_dead(seq, id, kind, event, attempts, error, dead_ms) values ($1, $2, $3, $4, $5, $6, $7)",
            args![
                seq,
                &id,
                &kind,
                row.get::<String>("event")?,
                attempts,
                error.chain().replace('\0', " "),
                self.env.now_ms()
            ],
        )
        .await?;
        tx.execute("delete from outbox where seq = $1", args![seq]).await?;
        tx.commit().await?;
        metrics::counter!("fishy_outbox_dead_total", "service" => self.db.schema().to_owned()).increment(1);
        tracing::error!(schema = self.db.schema(), id, kind, attempts, "an event is dead: nobody will receive it");
        Ok(Round::Busy)
    }

    async fn count_pending(&self) {
        let sql = "select count(*) as n from (select 1 as one from outbox limit $1) pending";
        if let Ok(Some(row)) = self.db.query_opt(sql, args![MAX_COUNTED]).await
            && let Ok(pending) = row.get::<i64>("n")
        {
            metrics::gauge!("fishy_outbox_pending", "service" => self.db.schema().to_owned()).set(pending as f64);
        }
    }
}
