use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use fishy_core::{Error, Event, Result};
use futures::future::join_all;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::time::timeout;

use crate::handling::Crew;
use crate::{BusOptions, Handler, StreamHandler};

/// How long a batch waits for its consumers to handle it.
const BATCH_LIMIT: Duration = Duration::from_mins(1);
/// Batches of one stream on their way; further publishers wait.
const BATCHES: usize = 64;

/// The bus of one process.
pub(crate) struct InProcess {
    crew: Crew,
    subscriptions: Mutex<Vec<Subscription>>,
    streams: Mutex<HashMap<String, Arc<LocalStream>>>,
    turn: AtomicUsize,
}

#[derive(Clone)]
struct Subscription {
    queue: String,
    patterns: Vec<String>,
    handler: Handler,
}

fn closed() -> Error {
    Error::unavailable("the bus is closed")
}

impl InProcess {
    pub fn new(options: BusOptions) -> Self {
        Self {
            crew: Crew::new(options),
            subscriptions: Mutex::default(),
            streams: Mutex::default(),
            turn: AtomicUsize::new(0),
        }
    }

    pub async fn publish(&self, event: Event) -> Result<()> {
        if !self.is_open() {
            return Err(closed());
        }
        let queues = self.matching(&event);
        let handled = queues.iter().map(|chosen| self.crew.handle(&chosen.queue, &chosen.handler, &event));
        join_all(handled).await.into_iter().collect()
    }

    /// One subscription for each queue that wants the event; of those that share a queue, each in its turn.
    fn matching(&self, event: &Event) -> Vec<Subscription> {
        let subscriptions = self.subscriptions.lock().unwrap_or_else(PoisonError::into_inner);
        let mut queues: BTreeMap<&str, Vec<&Subscription>> = BTreeMap::new();
        for subscription in subscriptions.iter() {
            if subscription.patterns.iter().any(|pattern| event.matches(pattern)) {
                queues.entry(&subscription.queue).or_default().push(subscription);
            }
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        queues.into_values().map(|sharing| sharing[turn % sharing.len()].clone()).collect()
    }

    pub fn subscribe(&self, queue: &str, patterns: Vec<String>, handler: Handler) -> Result<()> {
        if !self.is_open() {
            return Err(closed());
        }
        let subscription = Subscription { queue: queue.to_owned(), patterns, handler };
        self.subscriptions.lock().unwrap_or_else(PoisonError::into_inner).push(subscription);
        Ok(())
    }

    pub fn stream(&self, name: &str) -> Arc<LocalStream> {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let stream =
            streams.entry(name.to_owned()).or_insert_with(|| Arc::new(LocalStream::new(name, self.crew.clone())));
        Arc::clone(stream)
    }

    pub fn is_open(&self) -> bool {
        !self.crew.stopping.is_cancelled()
    }

    pub async fn close(&self) {
        self.crew.close().await;
    }
}

/// A stream whose batches live as long as their publishers wait.
pub(crate) struct LocalStream {
    name: String,
    crew: Crew,
    places: Arc<Semaphore>,
    log: Mutex<Log>,
    consumers: watch::Sender<usize>,
}

#[derive(Default)]
struct Log {
    next_offset: u64,
    consumers: Vec<mpsc::UnboundedSender<Item>>,
}

/// A batch on its way to one consumer. The channels are unbounded, the places bound them.
struct Item {
    offset: u64,
    batch: Bytes,
    handled: oneshot::Sender<()>,
    _place: Arc<OwnedSemaphorePermit>,
}

impl LocalStream {
    fn new(name: &str, crew: Crew) -> Self {
        Self {
            name: name.to_owned(),
            crew,
            places: Arc::new(Semaphore::new(BATCHES)),
            log: Mutex::default(),
            consumers: watch::Sender::new(0),
        }
    }

    pub async fn publish(&self, batch: Bytes) -> Result<()> {
        if self.crew.stopping.is_cancelled() {
            return Err(closed());
        }
        let mut consumers = self.consumers.subscribe();
        timeout(self.crew.options.consumer_wait, consumers.wait_for(|count| *count > 0))
            .await
            .map_err(|_| Error::unavailable(format!("stream {:?} has no consumer", self.name)))?
            .map_err(|_| closed())?;
        let handled = timeout(BATCH_LIMIT, async {
            let place = Arc::clone(&self.places).acquire_owned().await.map_err(|_| closed())?;
            join_all(self.send(&batch, place)).await.into_iter().collect::<Result<(), _>>().map_err(|_| closed())
        });
        handled.await.map_err(|_| {
            Error::unavailable(format!("the consumers of stream {:?} did not handle a batch in time", self.name))
        })?
    }

    /// Under one lock, so that all consumers see the same order.
    fn send(&self, batch: &Bytes, place: OwnedSemaphorePermit) -> Vec<oneshot::Receiver<()>> {
        let place = Arc::new(place);
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let offset = log.next_offset;
        log.next_offset += 1;
        let mut answers = Vec::new();
        for consumer in &log.consumers {
            let (handled, answer) = oneshot::channel();
            // A consumer that has stopped drops its sender, which the answer shows.
            let _ = consumer.send(Item { offset, batch: batch.clone(), handled, _place: Arc::clone(&place) });
            answers.push(answer);
        }
        answers
    }

    pub fn consume(&self, consumer: &str, handler: StreamHandler) -> Result<()> {
        if self.crew.stopping.is_cancelled() {
            return Err(closed());
        }
        let (sender, mut items) = mpsc::unbounded_channel::<Item>();
        let (crew, label) = (self.crew.clone(), format!("{}.{consumer}", self.name));
        self.crew.tasks.spawn(async move {
            loop {
                let item = tokio::select! {
                    biased;
                    () = crew.stopping.cancelled() => break,
                    item = items.recv() => item,
                };
                let Some(item) = item else { break };
                // A publisher that gave up brings the batch again.
                if item.handled.is_closed() {
                    continue;
                }
                if crew.handle_batch(&label, &handler, item.offset, &item.batch).await.is_err() {
                    break;
                }
                let _ = item.handled.send(());
            }
        });
        self.log.lock().unwrap_or_else(PoisonError::into_inner).consumers.push(sender);
        self.consumers.send_modify(|count| *count += 1);
        Ok(())
    }
}
