//! The one connection that writes, owned by one thread.
//!
//! Callers never touch the connection: they send statements, so a caller whose future is dropped in the middle of one
//! leaves nothing half done. The thread finishes the statement, finds the session's channel closed, and rolls back.
//! A batch is a transaction that is sent as a whole, which spares its statements the way there and back.
//!
//! A commit costs a flush to disk, so transactions that queue behind each other share one: the first is the outer
//! transaction itself, each further one is a savepoint in it, and nobody is told "committed" before the outer COMMIT.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc as steps;
use std::time::{Duration, Instant};

use fishy_core::{Error, Result};
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::connection::{open_writer, run};
use crate::error::from_rusqlite;
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

enum Request {
    /// Asks for a session: a transaction's turn on the connection.
    Begin(oneshot::Sender<Result<Session>>),
    Batch(Batch),
    Close(oneshot::Sender<()>),
}

/// A whole transaction.
struct Batch {
    statements: Vec<Statement>,
    /// Set by the first of two: the writer when it begins with it, the caller when it has waited for too long.
    is_taken: Arc<AtomicBool>,
    reply: oneshot::Sender<Result<Vec<u64>>>,
}

/// Tells a member of the outer transaction what became of it.
type Told = Box<dyn FnOnce(Result<()>) + Send>;

/// A transaction's turn; dropping it rolls back.
pub(crate) struct Session {
    /// Holds one step at most: each is sent after the answer to the one before.
    steps: steps::Sender<Step>,
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
    pub async fn open(file: &Path, is_synchronous: bool, acquire_timeout: Duration) -> Result<Self> {
        let file = file.to_owned();
        let (requests, queue) = mpsc::channel(QUEUE);
        let (opened, open) = oneshot::channel();
        let work = move || match open_writer(&file, is_synchronous) {
            Ok(connection) => {
                let connection = Some(connection);
                let thread =
                    WriterThread { file, is_synchronous, connection, group: Vec::new(), since: Instant::now() };
                let _ = opened.send(Ok(()));
                thread.run(queue);
            }
            Err(error) => {
                let _ = opened.send(Err(from_rusqlite(error)));
            }
        };
        std::thread::Builder::new().name("sqlite-writer".into()).spawn(work)?;
        open.await.map_err(gone)??;
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

    /// Runs statements as one transaction; gives how many rows each has changed.
    pub async fn batch(&self, statements: Vec<Statement>) -> Result<Vec<u64>> {
        let (reply, mut answer) = oneshot::channel();
        let is_taken = Arc::new(AtomicBool::new(false));
        let batch = Batch { statements, is_taken: Arc::clone(&is_taken), reply };
        let turn = async {
            self.requests.send(Request::Batch(batch)).await.map_err(gone)?;
            (&mut answer).await.map_err(gone)?
        };
        match timeout(self.acquire_timeout, turn).await {
            Ok(result) => result,
            // It may have begun, and then there is an answer.
            Err(_) if is_taken.swap(true, Ordering::AcqRel) => answer.await.map_err(gone)?,
            Err(_) => Err(Error::unavailable("the database is busy: too long a wait to write")),
        }
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
        self.steps.send(Step::Run(statement, reply)).map_err(gone)?;
        answer.await.map_err(gone)?
    }

    pub async fn commit(self) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        self.steps.send(Step::Commit(reply)).map_err(gone)?;
        answer.await.map_err(gone)?
    }

    pub async fn rollback(self) {
        let (reply, done) = oneshot::channel();
        if self.steps.send(Step::Rollback(reply)).is_ok() {
            let _ = done.await;
        }
    }
}

/// How a session ended.
enum End {
    Commit(oneshot::Sender<Result<()>>),
    Rollback(Option<oneshot::Sender<()>>),
}

struct WriterThread {
    file: PathBuf,
    is_synchronous: bool,
    /// None after a failure that leaves the connection in an unknown state; opened again when it is needed.
    connection: Option<Connection>,
    /// The members of the open outer transaction that wait for its COMMIT; none means that it is not open.
    group: Vec<Told>,
    since: Instant,
}

impl WriterThread {
    fn run(mut self, mut queue: mpsc::Receiver<Request>) {
        let mut closing = None;
        loop {
            let next = if self.group.is_empty() {
                queue.blocking_recv()
            } else if self.is_due() {
                self.commit();
                continue;
            } else if let Ok(request) = queue.try_recv() {
                Some(request)
            } else {
                self.commit();
                continue;
            };
            match next {
                Some(Request::Begin(granted)) => self.member(granted),
                Some(Request::Batch(batch)) => self.batch(batch),
                Some(Request::Close(closed)) => {
                    closing = Some(closed);
                    break;
                }
                None => break,
            }
        }
        if !self.group.is_empty() {
            self.commit();
        }
        if let Some(connection) = self.connection.take()
            && let Err((_, error)) = connection.close()
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

    /// Begins a member of the outer transaction; tells whether it is the first.
    fn begin(&mut self) -> Result<bool> {
        let is_first = self.group.is_empty();
        let begun = self.control(if is_first { "begin immediate" } else { "savepoint member" });
        if let Err(error) = &begun
            && !is_first
        {
            self.abandon(error);
        }
        begun.map(|()| is_first)
    }

    /// Gives one transaction its turn.
    fn member(&mut self, granted: oneshot::Sender<Result<Session>>) {
        if granted.is_closed() {
            return;
        }
        let is_first = match self.begin() {
            Ok(is_first) => is_first,
            Err(error) => {
                let _ = granted.send(Err(error));
                return;
            }
        };
        let (steps, inbox) = steps::channel();
        // When nobody takes the session any more, its sender is dropped here and the steps end at once.
        let _ = granted.send(Ok(Session { steps }));
        let (end, failure) = self.steps(&inbox);
        match end {
            End::Commit(reply) => {
                let told = Box::new(|result| {
                    let _ = reply.send(result);
                });
                self.commit_member(is_first, failure, told);
            }
            End::Rollback(reply) => {
                self.rollback_member(is_first, failure.as_ref());
                if let Some(reply) = reply {
                    let _ = reply.send(());
                }
            }
        }
    }

    /// Runs a whole transaction.
    fn batch(&mut self, batch: Batch) {
        let Batch { statements, is_taken, reply } = batch;
        if reply.is_closed() || is_taken.swap(true, Ordering::AcqRel) {
            return;
        }
        let is_first = match self.begin() {
            Ok(is_first) => is_first,
            Err(error) => {
                let _ = reply.send(Err(error));
                return;
            }
        };
        let ran = statements.iter().map(|statement| Ok(self.statement(statement)?.changed)).collect::<Result<Vec<_>>>();
        match ran {
            Ok(changed) => {
                let told = Box::new(|result: Result<()>| {
                    let _ = reply.send(result.map(|()| changed));
                });
                self.commit_member(is_first, None, told);
            }
            Err(error) => {
                self.rollback_member(is_first, Some(&error));
                let _ = reply.send(Err(error));
            }
        }
    }

    /// Runs the statements of a session until it ends; gives the error of the one that failed, if any.
    fn steps(&mut self, inbox: &steps::Receiver<Step>) -> (End, Option<Error>) {
        let mut failure = None;
        loop {
            match inbox.recv_timeout(MAX_IDLE) {
                Ok(Step::Run(statement, reply)) => {
                    // After a failure SQLite may have rolled back everything on its own account; a further statement
                    // would then run outside any transaction.
                    let result = if failure.is_some() {
                        Err(Error::precondition("a statement of this transaction has failed before"))
                    } else {
                        self.statement(&statement)
                    };
                    if let Err(error) = &result
                        && failure.is_none()
                    {
                        failure = Some(copy(error));
                    }
                    let _ = reply.send(result);
                }
                Ok(Step::Commit(reply)) => return (End::Commit(reply), failure),
                Ok(Step::Rollback(reply)) => return (End::Rollback(Some(reply)), failure),
                Err(steps::RecvTimeoutError::Disconnected) => return (End::Rollback(None), failure),
                Err(steps::RecvTimeoutError::Timeout) => {
                    tracing::warn!(idle_ms = MAX_IDLE.as_millis() as u64, "rolled back a transaction that was idle");
                    return (End::Rollback(None), failure);
                }
            }
        }
    }

    fn commit_member(&mut self, is_first: bool, failure: Option<Error>, told: Told) {
        if let Some(error) = failure {
            self.rollback_member(is_first, Some(&error));
            return told(Err(error.context("nothing was committed")));
        }
        if is_first {
            self.since = Instant::now();
        } else if let Err(error) = self.control("release member") {
            self.abandon(&error);
            return told(Err(error));
        }
        self.group.push(told);
    }

    fn rollback_member(&mut self, is_first: bool, failure: Option<&Error>) {
        let undone = if is_first {
            self.control("rollback")
        } else {
            match self.control("rollback to member") {
                Ok(()) => self.control("release member"),
                Err(error) => Err(error),
            }
        };
        // The outer transaction is gone, for example because the disk is full.
        if let Err(error) = undone {
            self.abandon(failure.unwrap_or(&error));
        }
    }

    fn commit(&mut self) {
        let started = Instant::now();
        let committed = self.control("commit");
        metrics::histogram!("fishy_db_commit_duration_seconds").record(started.elapsed().as_secs_f64());
        metrics::histogram!("fishy_db_commit_members").record(self.group.len() as f64);
        match committed {
            Ok(()) => {
                for member in self.group.drain(..) {
                    member(Ok(()));
                }
            }
            Err(error) => self.abandon(&error),
        }
    }

    /// Gives up the outer transaction: all its members fail, and the connection with it, whose state is unknown.
    fn abandon(&mut self, error: &Error) {
        tracing::error!(error = error.chain(), members = self.group.len(), "a shared commit failed");
        for member in self.group.drain(..) {
            member(Err(copy(error).context("nothing was committed")));
        }
        self.connection = None;
    }

    fn control(&mut self, sql: &str) -> Result<()> {
        self.statement(&Statement::new(sql, Vec::new())?).map(drop)
    }

    fn statement(&mut self, statement: &Statement) -> Result<Outcome> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            None => self.connection.insert(open_writer(&self.file, self.is_synchronous).map_err(from_rusqlite)?),
        };
        run(connection, statement).map_err(from_rusqlite)
    }
}

/// The same code and message for another who waits; the cause stays with the first.
fn copy(error: &Error) -> Error {
    Error::new(error.code(), error.message())
}
