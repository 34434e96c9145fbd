//! Running handlers: apart from each other, bounded in time, and again after a failure.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fishy_core::{Error, Event, Result, TraceContext};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::{BusOptions, Handler, StreamHandler};

/// A handler that takes longer is given up: it holds up all events behind it.
const HANDLER_LIMIT: Duration = Duration::from_mins(1);
/// How long closing waits for handlers.
const CLOSE_LIMIT: Duration = Duration::from_secs(30);

/// The tasks of a bus, and the sign for them to stop.
#[derive(Clone)]
pub(crate) struct Crew {
    pub stopping: CancellationToken,
    pub tasks: TaskTracker,
    pub options: BusOptions,
}

/// A growing pause.
pub(crate) struct Backoff {
    next: Duration,
    max: Duration,
}

impl Backoff {
    pub fn new(options: &BusOptions) -> Self {
        Self { next: options.min_backoff, max: options.max_backoff }
    }

    /// Waits; false when `stopping` came first.
    pub async fn pause(&mut self, stopping: &CancellationToken) -> bool {
        let pause = self.next;
        self.next = (pause * 2).min(self.max);
        tokio::select! {
            () = stopping.cancelled() => false,
            () = tokio::time::sleep(pause) => true,
        }
    }
}

impl Crew {
    pub fn new(options: BusOptions) -> Self {
        Self { stopping: CancellationToken::new(), tasks: TaskTracker::new(), options }
    }

    pub fn backoff(&self) -> Backoff {
        Backoff::new(&self.options)
    }

    /// Leave to publish, which closing waits for while it is held.
    pub fn admit(&self) -> Result<TaskTrackerToken> {
        let token = self.tasks.token();
        if self.stopping.is_cancelled() { Err(Error::unavailable("the bus is closed")) } else { Ok(token) }
    }

    pub async fn close(&self) {
        self.stopping.cancel();
        self.tasks.close();
        if timeout(CLOSE_LIMIT, self.tasks.wait()).await.is_err() {
            tracing::warn!(tasks = self.tasks.len(), "gave up waiting for handlers and publishers of the bus");
        }
    }

    /// Tries a handler until it answers Ok or an error that is not retryable, or as often as the options say.
    pub async fn handle(&self, queue: &str, handler: &Handler, event: &Event) -> Result<()> {
        let mut backoff = self.backoff();
        let mut attempt = 1;
        loop {
            let error = match self.run(called(handler, event), event.traceparent.as_deref()).await {
                Ok(()) => {
                    count(queue, "ok");
                    return Ok(());
                }
                Err(error) => error,
            };
            let is_last = attempt >= self.options.attempts || !error.is_retryable();
            count(queue, if is_last { "failed" } else { "retried" });
            if is_last || !backoff.pause(&self.stopping).await {
                tracing::warn!(queue, id = event.id, kind = event.kind, attempt, error = error.chain(), "not handled");
                return Err(error);
            }
            attempt += 1;
        }
    }

    /// Tries a stream's handler until it answers Ok; an error only when the bus closes meanwhile.
    pub async fn handle_batch(&self, stream: &str, handler: &StreamHandler, offset: u64, batch: &Bytes) -> Result<()> {
        let mut backoff = self.backoff();
        loop {
            let Err(error) = self.run(called_with_batch(handler, offset, batch), None).await else {
                count(stream, "ok");
                return Ok(());
            };
            count(stream, "retried");
            tracing::warn!(stream, offset, error = error.chain(), "a batch was not handled, trying again");
            if !backoff.pause(&self.stopping).await {
                return Err(Error::unavailable("the bus is closing"));
            }
        }
    }

    /// In a task of its own: a panic stays there, and closing can wait for it even when the publisher was dropped.
    pub async fn run<T: Send + 'static>(
        &self,
        handling: impl Future<Output = Result<T>> + Send + 'static,
        traceparent: Option<&str>,
    ) -> Result<T> {
        let trace = traceparent.and_then(TraceContext::parse).map(TraceContext::child);
        let mut task = self.tasks.spawn(async move {
            match trace {
                Some(trace) => trace.scope(handling).await,
                None => handling.await,
            }
        });
        match timeout(HANDLER_LIMIT, &mut task).await {
            Ok(Ok(result)) => result,
            Ok(Err(error)) => Err(Error::internal("a handler of the bus has panicked").with_source(error)),
            Err(_) => {
                task.abort();
                Err(Error::unavailable("a handler of the bus took too long"))
            }
        }
    }
}

/// The call itself is part of the future, so that a panic in it stays in the task as well.
fn called(handler: &Handler, event: &Event) -> impl Future<Output = Result<()>> + Send + use<> {
    let (handler, event) = (Arc::clone(handler), event.clone());
    async move { handler(event).await }
}

fn called_with_batch(
    handler: &StreamHandler,
    offset: u64,
    batch: &Bytes,
) -> impl Future<Output = Result<()>> + Send + use<> {
    let (handler, batch) = (Arc::clone(handler), batch.clone());
    async move { handler(offset, batch).await }
}

pub(crate) fn count(queue: &str, outcome: &'static str) {
    metrics::counter!("fishy_bus_handled_total", "queue" => queue.to_owned(), "outcome" => outcome).increment(1);
}
