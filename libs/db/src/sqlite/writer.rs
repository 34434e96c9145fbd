//! The one connection that writes, owned by one task.
//!
//! Callers never touch the connection: they send statements, so a caller whose future is dropped in the middle of one
//! leaves nothing half done. The task finishes the statement, finds the session's channel closed, and rolls back.
//!
//! A commit costs a flush to disk, so transactions that queue behind each other share one: the first is the outer
//! transaction itself, each further one is a savepoint in it, and nobody is told "committed" before the outer COMMIT.

use std::time::{Duration, Instant};

use fishy_core::{Error, Result};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, SqliteConnection};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::error::{breaks_connection, from_sqlx};
use crate::statement::{Outcome, Statement};

/// How many transactions may wait for the connection before callers wait for a place in the queue.
const QUEUE: usize = 1024;
/// A shared commit is due after this many members, or when the first has waited this long.
const MAX_MEMBERS: usize = 64;
const MAX_WAIT: Duration = Duration::from_millis(2);
/// A transaction that sends nothing for this long is rolled back: it keeps everybody else from writing.
const MAX_IDLE: Duration = Duration::from_secs(30);

pub(crate) struct Writer {
    requests: mpsc::Sender<Request>,
    acquire_timeout: Duration,
}

/// Asks for a session: a transaction's turn on the connection.
enum Request {
    Begin(oneshot::Sender<Result<Session>>),
    Close(oneshot::Sender<()>),
}

/// A transaction's turn; dropping it rolls back.
pub(crate) struct Session {
    steps: mpsc::Sender<Step>,
}

enum Step {
    Run(Statement, oneshot::Sender<Result<Outcome>>),
    Commit(oneshot::Sender<Result<()>>),
    Rollback(oneshot::Sender<()>),
}

fn gone<E>(_: E) -> Error {
    Error::unavailable("the database's writer has stopped, or gave up a transaction that was idle for too long")
}

impl Writer {
    pub async fn open(options: SqliteConnectOptions, acquire_timeout: Duration) -> Result<Self> {
        let connection = options.connect().await.map_err(from_sqlx)?;
        let (requests, queue) = mpsc::channel(QUEUE);
        let task = WriterTask { options, connection: Some(connection), group: Vec::new(), since: Instant::now() };
        tokio::spawn(task.run(queue));
        Ok(Self { requests, acquire_timeout })
    }

    pub async fn begin(&self) -> Result<Session> {
        let turn = async {
            let (granted, grant) = oneshot::channel();
            self.requests.send(Request::Begin(granted)).await.map_err(gone)?;
            grant.await.map_err(gone)?
        };
        timeout(self.acquire_timeout, turn)
            .await
            .map_err(|_| Error::unavailable("the database is busy: too long a wait to write"))?
    }

    pub async fn close(&self) {
        let (closed, wait) = oneshot::channel();
        if self.requests.send(Request::Close(closed)).await.is_ok() {
            let _ = wait.await;
        }
    }
}

impl Session {
    pub async fn run(&self, statement: Statement) -> Result<Outcome> {
        let (reply, answer) = oneshot::channel();
        self.steps.send(Step::Run(statement, reply)).await.map_err(gone)?;
        answer.await.map_err(gone)?
    }

    pub async fn commit(self) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        self.steps.send(Step::Commit(reply)).await.map_err(gone)?;
        answer.await.map_err(gone)?
    }

    pub async fn rollback(self) {
        let (reply, done) = oneshot::channel();
        if self.steps.send(Step::Rollback(reply)).await.is_ok() {
            let _ = done.await;
        }
    }
}

/// How a session ended.
enum End {
    Commit(oneshot::Sender<Result<()>>),
    Rollback(Option<oneshot::Sender<()>>),
}

struct WriterTask {
    options: SqliteConnectOptions,
    /// None after a failure that leaves the connection in an unknown state; opened again when it is needed.
    connection: Option<SqliteConnection>,
    /// The members of the open outer transaction that wait for its COMMIT; none means that it is not open.
    group: Vec<oneshot::Sender<Result<()>>>,
    since: Instant,
}

impl WriterTask {
    async fn run(mut self, mut queue: mpsc::Receiver<Request>) {
        let mut closing = None;
        loop {
            let next = if self.group.is_empty() {
                queue.recv().await
            } else if self.is_due() {
                self.commit().await;
                continue;
            } else if let Ok(request) = queue.try_recv() {
                Some(request)
            } else {
                self.commit().await;
                continue;
            };
            match next {
                Some(Request::Begin(granted)) => self.member(granted).await,
                Some(Request::Close(closed)) => {
                    closing = Some(closed);
                    break;
                }
                None => break,
            }
        }
        if !self.group.is_empty() {
            self.commit().await;
        }
        if let Some(connection) = self.connection.take()
            && let Err(error) = connection.close().await
        {
            tracing::warn!(error = %error, "closing the database failed");
        }
        if let Some(closed) = closing {
            let _ = closed.send(());
        }
    }

    fn is_due(&self) -> bool {
        self.group.len() >= MAX_MEMBERS || self.since.elapsed() >= MAX_WAIT
    }

    /// Gives one transaction its turn.
    async fn member(&mut self, granted: oneshot::Sender<Result<Session>>) {
        if granted.is_closed() {
            return;
        }
        let is_first = self.group.is_empty();
        if let Err(error) = self.control(if is_first { "begin immediate" } else { "savepoint member" }).await {
            if !is_first {
                self.abandon(&error);
            }
            let _ = granted.send(Err(error));
            return;
        }
        let (steps, inbox) = mpsc::channel(1);
        // When nobody takes the session any more, its sender is dropped here and the steps end at once.
        let _ = granted.send(Ok(Session { steps }));
        let (end, failure) = self.steps(inbox).await;
        match end {
            End::Commit(reply) => self.commit_member(is_first, failure, reply).await,
            End::Rollback(reply) => {
                self.rollback_member(is_first, failure.as_ref()).await;
                if let Some(reply) = reply {
                    let _ = reply.send(());
                }
            }
        }
    }

    /// Runs the statements of a session until it ends; gives the error of the one that failed, if any.
    async fn steps(&mut self, mut inbox: mpsc::Receiver<Step>) -> (End, Option<Error>) {
        let mut failure = None;
        loop {
            match timeout(MAX_IDLE, inbox.recv()).await {
                Ok(Some(Step::Run(statement, reply))) => {
                    // After a failure SQLite may have rolled back everything on its own account; a further statement
                    // would then run outside any transaction.
                    let result = if failure.is_some() {
                        Err(Error::precondition("a statement of this transaction has failed before"))
                    } else {
                        self.statement(statement).await
                    };
                    if let Err(error) = &result
                        && failure.is_none()
                    {
                        failure = Some(copy(error));
                    }
                    let _ = reply.send(result);
                }
                Ok(Some(Step::Commit(reply))) => return (End::Commit(reply), failure),
                Ok(Some(Step::Rollback(reply))) => return (End::Rollback(Some(reply)), failure),
                Ok(None) => return (End::Rollback(None), failure),
                Err(_) => {
                    tracing::warn!(idle_ms = MAX_IDLE.as_millis() as u64, "rolled back a transaction that was idle");
                    return (End::Rollback(None), failure);
                }
            }
        }
    }

    async fn commit_member(&mut self, is_first: bool, failure: Option<Error>, reply: oneshot::Sender<Result<()>>) {
        if let Some(error) = failure {
            self.rollback_member(is_first, Some(&error)).await;
            let _ = reply.send(Err(error.context("nothing was committed")));
            return;
        }
        if is_first {
            self.since = Instant::now();
        } else if let Err(error) = self.control("release member").await {
            self.abandon(&error);
            let _ = reply.send(Err(error));
            return;
        }
        self.group.push(reply);
    }

    async fn rollback_member(&mut self, is_first: bool, failure: Option<&Error>) {
        let undone = if is_first {
            self.control("rollback").await
        } else {
            match self.control("rollback to member").await {
                Ok(()) => self.control("release member").await,
                Err(error) => Err(error),
            }
        };
        // The outer transaction is gone, for example because the disk is full.
        if let Err(error) = undone {
            self.abandon(failure.unwrap_or(&error));
        }
    }

    async fn commit(&mut self) {
        let started = Instant::now();
        let committed = self.control("commit").await;
        metrics::histogram!("fishy_db_commit_duration_seconds").record(started.elapsed().as_secs_f64());
        metrics::histogram!("fishy_db_commit_members").record(self.group.len() as f64);
        match committed {
            Ok(()) => {
                for member in self.group.drain(..) {
                    let _ = member.send(Ok(()));
                }
            }
            Err(error) => self.abandon(&error),
        }
    }

    /// Gives up the outer transaction: all its members fail, and the connection with it, whose state is unknown.
    fn abandon(&mut self, error: &Error) {
        tracing::error!(error = error.chain(), members = self.group.len(), "a shared commit failed");
        for member in self.group.drain(..) {
            let _ = member.send(Err(copy(error).context("nothing was committed")));
        }
        self.connection = None;
    }

    async fn control(&mut self, sql: &str) -> Result<()> {
        self.statement(Statement::new(sql, Vec::new())?).await.map(drop)
    }

    async fn statement(&mut self, statement: Statement) -> Result<Outcome> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            None => self.connection.insert(self.options.connect().await.map_err(from_sqlx)?),
        };
        match super::run(connection, statement).await {
            Ok(outcome) => Ok(outcome),
            Err(error) => {
                if breaks_connection(&error) {
                    self.connection = None;
                }
                Err(from_sqlx(error))
            }
        }
    }
}

/// The same code and message for another who waits; the cause stays with the first.
fn copy(error: &Error) -> Error {
    Error::new(error.code(), error.message())
}
