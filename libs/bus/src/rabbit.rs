mod consumer;
mod link;
mod publisher;
mod requests;
mod stream;

pub use publisher::{Outgoing, Publisher, Target};
pub(crate) use stream::RabbitStream;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use fishy_core::{Env, Error, Event, Result};
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};

use self::consumer::{Consumer, Place, Subscription, run_consumer};
use self::link::{Link, Message};
use self::requests::Server;
use crate::handling::Crew;
use crate::{BusOptions, Handler, RequestHandler, RequestQueues};

/// What the exchanges and queues are called.
#[derive(Clone)]
pub(crate) struct Names {
    prefix: String,
}

impl Names {
    fn name(&self, last: &str) -> Result<ShortString> {
        short(format!("{}.{last}", self.prefix))
    }

    pub fn events(&self) -> Result<ShortString> {
        self.name("events")
    }

    /// Both the exchange and the queue of what nobody could handle.
    pub fn dead(&self) -> Result<ShortString> {
        self.name("dead")
    }
}

/// AMQP's names and routing keys have at most 255 bytes.
pub(crate) fn short(name: impl Into<String>) -> Result<ShortString> {
    ShortString::try_new(name).map_err(|error| Error::invalid("a name for RabbitMQ is too long").with_source(error))
}

/// Refuses names of queues and exchanges that belong to the broker, or to our own services.
pub(crate) fn check_foreign(what: &str, name: &str, reserved: &str) -> Result<()> {
    if name.is_empty() || name.starts_with("amq.") || name.starts_with(reserved) {
        return Err(Error::invalid(format!(
            "{what} {name:?}: name one that is not empty and begins neither with amq. nor with {reserved}"
        )));
    }
    Ok(())
}

/// An argument table of fixed, short keys.
pub(crate) fn table(entries: impl IntoIterator<Item = (&'static str, AMQPValue)>) -> FieldTable {
    let mut table = FieldTable::default();
    for (key, value) in entries {
        table.insert(key.into(), value);
    }
    table
}

pub(crate) fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

pub(crate) fn lost(error: lapin::Error) -> Error {
    Error::unavailable("RabbitMQ cannot be reached, or refused an operation").with_source(error)
}

/// The bus over RabbitMQ.
pub(crate) struct Rabbit {
    link: Link,
    names: Names,
    crew: Crew,
    /// Consumers that have no place at the broker.
    detached: Arc<AtomicUsize>,
}

impl Rabbit {
    pub async fn connect(url: &str, options: BusOptions, env: &Env) -> Result<Arc<Self>> {
        let names = Names { prefix: options.prefix.clone() };
        let link = Link::start(url, Some(names.clone()), &options, env).await?;
        Ok(Arc::new(Self { link, names, crew: Crew::new(options), detached: Arc::new(AtomicUsize::new(0)) }))
    }

    pub async fn publish(&self, event: Event) -> Result<()> {
        let _admitted = self.crew.admit()?;
        let body = serde_json::to_vec(&event).map_err(|error| Error::internal("an event").with_source(error))?;
        let mut properties = BasicProperties::default()
            .with_content_type("application/cloudevents+json".into())
            .with_message_id(short(event.id)?);
        if let Some(traceparent) = &event.traceparent {
            properties = properties.with_headers(table([("traceparent", text(traceparent))]));
        }
        let message = Message {
            exchange: self.names.events()?,
            routing_key: short(event.kind.clone())?,
            body: &body,
            properties,
            is_mandatory: false,
        };
        self.link.publish(message).await
    }

    pub async fn subscribe(&self, queue: &str, patterns: Vec<String>, handler: Handler) -> Result<()> {
        self.names.name(queue)?;
        let subscription = Subscription { names: self.names.clone(), queue: queue.to_owned(), patterns, handler };
        self.start(subscription).await
    }

    pub async fn stream(&self, name: &str) -> Result<Arc<RabbitStream>> {
        let queue = self.names.name(&format!("stream.{name}"))?;
        RabbitStream::open(queue, self.link.clone(), self.crew.clone(), Arc::clone(&self.detached)).await
    }

    pub async fn serve(&self, queues: RequestQueues, handler: RequestHandler) -> Result<()> {
        let server = Server::new(&self.names, queues, handler, self.link.clone())?;
        for _ in 0..server.prefetch() {
            self.start(server.clone()).await?;
        }
        Ok(())
    }

    async fn start(&self, consumer: impl Consumer) -> Result<()> {
        start(&self.crew, &self.link, &self.detached, consumer).await
    }

    pub fn is_healthy(&self) -> bool {
        self.link.live().is_some() && self.detached.load(Ordering::SeqCst) == 0
    }

    pub async fn close(&self) {
        // Consumers first: they still acknowledge what is being handled.
        self.crew.close().await;
        self.link.close().await;
    }
}

/// Starts a consumer's task and waits for its first try to attach. A broker that is away is no error, a refusal is.
pub(crate) async fn start(
    crew: &Crew,
    link: &Link,
    detached: &Arc<AtomicUsize>,
    consumer: impl Consumer,
) -> Result<()> {
    if crew.stopping.is_cancelled() {
        return Err(Error::unavailable("the bus is closed"));
    }
    let (place, first) = Place::new(Arc::clone(detached));
    crew.tasks.spawn(run_consumer(consumer, link.clone(), crew.clone(), place));
    first.await.unwrap_or_else(|_| Err(Error::unavailable("the bus is closed")))
}
