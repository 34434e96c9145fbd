#![doc = include_str!("../README.md")]

mod handling;
mod in_process;
mod rabbit;
mod requests;

pub use rabbit::{Outgoing, Publisher, Target};
pub use requests::{Answer, QueuedRequest, RequestHandler, RequestQueues};

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fishy_core::{Env, Error, Event, Result, check_name};
use futures::future::BoxFuture;

use crate::in_process::{InProcess, LocalStream};
use crate::rabbit::{Rabbit, RabbitStream};

/// What a subscriber does with an event. An event is done when this answers Ok; a retryable error brings it again.
pub type Handler = Arc<dyn Fn(Event) -> BoxFuture<'static, Result<()>> + Send + Sync>;

/// What a consumer does with a batch of a stream, and its offset. It gets the same batch again until it answers Ok.
pub type StreamHandler = Arc<dyn Fn(u64, Bytes) -> BoxFuture<'static, Result<()>> + Send + Sync>;

/// How long and how often things are tried.
#[derive(Debug, Clone)]
pub struct BusOptions {
    /// First part of the names of all exchanges and queues.
    pub prefix: String,
    /// How often a handler is tried in place before the event goes back: to the queue, which brings it again ten times,
    /// or in process to the publisher.
    pub attempts: u32,
    /// The pause after a handler's first failure; it doubles with each further one. Also between reconnects.
    pub min_backoff: Duration,
    /// The longest pause.
    pub max_backoff: Duration,
    /// In process: how long a batch waits for a consumer of its stream.
    pub consumer_wait: Duration,
}

impl Default for BusOptions {
    fn default() -> Self {
        Self {
            prefix: "fishy".to_owned(),
            // About half a minute, and ten times that with the queue's: as long as a database may be away.
            attempts: 12,
            min_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(5),
            consumer_wait: Duration::from_secs(5),
        }
    }
}

/// Carries events between services. Clones are the same bus.
#[derive(Clone)]
pub struct Bus {
    backend: Backend,
}

#[derive(Clone)]
enum Backend {
    InProcess(Arc<InProcess>),
    Rabbit(Arc<Rabbit>),
}

impl Bus {
    /// A bus for the services of this process. Subscribe before anything is published.
    pub fn in_process() -> Self {
        // The outbox, which repeats, is waiting for the answer.
        Self::in_process_with(BusOptions { attempts: 5, ..BusOptions::default() })
    }

    /// The same with other times and counts; the prefix has no meaning here.
    pub fn in_process_with(options: BusOptions) -> Self {
        Self { backend: Backend::InProcess(Arc::new(InProcess::new(options))) }
    }

    /// A bus over the RabbitMQ broker at an `amqp://` or `amqps://` URL. Answers after the first try to connect, also
    /// when that failed: it is repeated in the background.
    pub async fn connect(url: &str, env: Env) -> Result<Self> {
        Self::connect_with(url, BusOptions::default(), env).await
    }

    /// The same with another first part of all names than `fishy`, to share a broker.
    pub async fn connect_with_prefix(url: &str, prefix: &str, env: Env) -> Result<Self> {
        Self::connect_with(url, BusOptions { prefix: prefix.to_owned(), ..BusOptions::default() }, env).await
    }

    /// The same with all options.
    pub async fn connect_with(url: &str, options: BusOptions, env: Env) -> Result<Self> {
        check_name("bus prefix", &options.prefix)?;
        Ok(Self { backend: Backend::Rabbit(Rabbit::connect(url, options, &env).await?) })
    }

    /// Publishes an event; answers when it is safe. `Unavailable` means that it may or may not have been published:
    /// publish it again.
    pub async fn publish(&self, event: Event) -> Result<()> {
        let result = match &self.backend {
            Backend::InProcess(bus) => bus.publish(event).await,
            Backend::Rabbit(bus) => bus.publish(event).await,
        };
        let outcome = if result.is_ok() { "ok" } else { "error" };
        metrics::counter!("fishy_bus_published_total", "outcome" => outcome).increment(1);
        result
    }

    /// Gives every event whose type matches one of the patterns (a type, or a prefix and `*`) to the handler.
    /// Subscribers with the same queue name share its events. With RabbitMQ, answers when the queue is there, or when
    /// there is no broker: then it follows.
    pub async fn subscribe(&self, queue: &str, patterns: &[&str], handler: Handler) -> Result<()> {
        check_name("queue", queue)?;
        if queue == "dead" {
            return Err(Error::invalid(
                "queue \"dead\" is the one of events that nobody could handle: use another name",
            ));
        }
        let patterns = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
        match &self.backend {
            Backend::InProcess(bus) => bus.subscribe(queue, patterns, handler),
            Backend::Rabbit(bus) => bus.subscribe(queue, patterns, handler).await,
        }
    }

    /// The stream of this name, which keeps batches in order for consumers that remember where they are.
    pub async fn stream(&self, name: &str) -> Result<Stream> {
        check_name("stream", name)?;
        let backend = match &self.backend {
            Backend::InProcess(bus) => StreamBackend::InProcess(bus.stream(name)),
            Backend::Rabbit(bus) => StreamBackend::Rabbit(bus.stream(name).await?),
        };
        Ok(Stream { backend })
    }

    /// Answers the requests of a queue, each at least once: a request leaves its queue when the broker has confirmed the
    /// answer, or the dead letter. Needs RabbitMQ. Answers when all is attached, or when there is no broker: then it follows.
    pub async fn serve(&self, queues: RequestQueues, handler: RequestHandler) -> Result<()> {
        match &self.backend {
            Backend::InProcess(_) => Err(Error::invalid(format!(
                "requests come from the queue {:?} of a RabbitMQ broker: set bus.url (amqp://…)",
                queues.requests
            ))),
            Backend::Rabbit(bus) => bus.serve(queues, handler).await,
        }
    }

    /// Whether the broker is there and all subscriptions are attached to it.
    pub fn is_healthy(&self) -> bool {
        match &self.backend {
            Backend::InProcess(bus) => bus.is_open(),
            Backend::Rabbit(bus) => bus.is_healthy(),
        }
    }

    /// Stops consuming, and waits for the handlers and publishers in flight. What comes later is `Unavailable`.
    pub async fn close(&self) {
        match &self.backend {
            Backend::InProcess(bus) => bus.close().await,
            Backend::Rabbit(bus) => bus.close().await,
        }
    }
}

/// An ordered log of batches. Clones are the same stream.
#[derive(Clone)]
pub struct Stream {
    backend: StreamBackend,
}

#[derive(Clone)]
enum StreamBackend {
    InProcess(Arc<LocalStream>),
    Rabbit(Arc<RabbitStream>),
}

impl Stream {
    /// Appends a batch; answers when it is safe. In process that is when all consumers have handled it; without a
    /// consumer, it waits for one, and is `Unavailable` after a while.
    pub async fn publish(&self, batch: Bytes) -> Result<()> {
        match &self.backend {
            StreamBackend::InProcess(stream) => stream.publish(batch).await,
            StreamBackend::Rabbit(stream) => stream.publish(&batch).await,
        }
    }

    /// Gives the batches after `after_offset` to the handler, or all that are kept, one after the other. The consumer
    /// stores the offset together with what it made of the batch. In process `after_offset` has no meaning, and
    /// offsets begin at 0 with each start: there, only the ids of records tell what was seen.
    pub async fn consume(&self, consumer: &str, after_offset: Option<u64>, handler: StreamHandler) -> Result<()> {
        check_name("consumer", consumer)?;
        match &self.backend {
            StreamBackend::InProcess(stream) => stream.consume(consumer, handler),
            StreamBackend::Rabbit(stream) => stream.consume(consumer, after_offset, handler).await,
        }
    }
}
