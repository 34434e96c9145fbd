//! Messages to an exchange or a queue of somebody else's.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use fishy_core::{Env, Error, Result};
use lapin::options::{BasicPublishOptions, ExchangeDeclareOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{BasicProperties, Confirmation, Connection, ExchangeKind};

use super::link::{Link, Live, PERSISTENT};
use super::requests::declare;
use super::{check_foreign, lost, short, table, text};
use crate::BusOptions;

/// So many messages are under way before their confirms are waited for.
const UNDER_WAY: usize = 100;

/// Where messages go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A queue; a durable quorum queue is declared where there is none of that name.
    Queue(String),
    /// An exchange; a durable topic exchange is declared where there is none of that name.
    Exchange(String),
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// What the exchange routes by; without meaning for a queue.
    pub routing_key: String,
    /// Its id.
    pub message_id: String,
    /// The property `type`.
    pub kind: String,
    /// The property `content_type`.
    pub content_type: String,
    /// Headers.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
}

/// Publishes to a RabbitMQ broker over a connection of its own, apart from the bus.
pub struct Publisher {
    link: Link,
    target: Target,
    exchange: ShortString,
    /// The name of the queue.
    queue: Option<ShortString>,
    /// The connection on which the target was declared.
    declared: Mutex<Weak<Live>>,
}

impl Publisher {
    /// Answers after the first try to connect, also when that failed: it is repeated in the background. `prefix` is that of
    /// the bus, whose queues and exchanges are no targets.
    pub async fn connect(url: &str, target: Target, prefix: &str, env: &Env) -> Result<Self> {
        let (what, name) = match &target {
            Target::Queue(name) => ("queue", name),
            Target::Exchange(name) => ("exchange", name),
        };
        check_foreign(what, name, &format!("{prefix}."))?;
        let name = short(name.as_str())?;
        let (exchange, queue) = match &target {
            Target::Queue(_) => (ShortString::default(), Some(name)),
            Target::Exchange(_) => (name, None),
        };
        let options = BusOptions { prefix: format!("{prefix}-publisher"), ..BusOptions::default() };
        let link = Link::start(url, None, &options, env).await?;
        Ok(Self { link, target, exchange, queue, declared: Mutex::default() })
    }

    /// Publishes messages in their order; answers when the broker has confirmed all of them. After an error some may have
    /// been published: publish all of them again.
    pub async fn publish_all(&self, messages: &[Outgoing]) -> Result<()> {
        let live = self.link.live().ok_or_else(|| Error::unavailable("RabbitMQ is not connected"))?;
        self.ensure(&live).await?;
        for part in messages.chunks(UNDER_WAY) {
            let published = live.answer(self.publish(&live, part)).await;
            if let Err(error) = published.and_then(|published| published) {
                // The target may have been deleted: it is declared again before the next batch.
                *self.declared.lock().unwrap_or_else(PoisonError::into_inner) = Weak::new();
                return Err(error);
            }
        }
        Ok(())
    }

    /// Nobody else publishes on this channel, so a message that comes back is one of these.
    async fn publish(&self, live: &Live, messages: &[Outgoing]) -> Result<()> {
        let mut confirms = Vec::with_capacity(messages.len());
        for message in messages {
            let mut headers = FieldTable::default();
            for (name, value) in &message.headers {
                headers.insert(short(name.as_str())?, text(value));
            }
            let properties = BasicProperties::default()
                .with_delivery_mode(PERSISTENT)
                .with_content_type(short(message.content_type.as_str())?)
                .with_message_id(short(message.message_id.as_str())?)
                .with_type(short(message.kind.as_str())?)
                .with_headers(headers);
            let routing_key = match &self.queue {
                Some(queue) => queue.clone(),
                None => short(message.routing_key.as_str())?,
            };
            let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
            let publishing =
                live.publisher.basic_publish(self.exchange.clone(), routing_key, options, &message.body, properties);
            confirms.push(publishing.await.map_err(lost)?);
        }
        let mut is_taken = true;
        for confirm in confirms {
            match confirm.await.map_err(lost)? {
                Confirmation::Ack(returned) => is_taken &= returned.is_none(),
                Confirmation::Nack(_) | Confirmation::NotRequested => {
                    return Err(Error::unavailable("RabbitMQ did not confirm a message"));
                }
            }
        }
        if is_taken { Ok(()) } else { Err(Error::unavailable("no queue of RabbitMQ takes the message")) }
    }

    async fn ensure(&self, live: &Arc<Live>) -> Result<()> {
        let declared = self.declared.lock().unwrap_or_else(PoisonError::into_inner).as_ptr();
        if declared == Arc::as_ptr(live) {
            return Ok(());
        }
        let declaring = async {
            match (&self.target, &self.queue) {
                (Target::Queue(_), Some(queue)) => {
                    declare(&live.connection, queue, table([("x-queue-type", text("quorum"))])).await
                }
                _ => declare_exchange(&live.connection, &self.exchange).await,
            }
        };
        live.answer(declaring).await??;
        *self.declared.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(live);
        Ok(())
    }

    /// Ends the connection.
    pub async fn close(&self) {
        self.link.close().await;
    }
}

/// Declares an exchange unless there is one of that name, of whatever kind.
async fn declare_exchange(connection: &Connection, exchange: &ShortString) -> Result<()> {
    // On channels of their own: a refusal closes them.
    let look = connection.create_channel().await.map_err(lost)?;
    let passive = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
    if look.exchange_declare(exchange.clone(), ExchangeKind::Topic, passive, FieldTable::default()).await.is_ok() {
        return look.close(200, "bye".into()).await.map_err(lost);
    }
    let channel = connection.create_channel().await.map_err(lost)?;
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    channel
        .exchange_declare(exchange.clone(), ExchangeKind::Topic, durable, FieldTable::default())
        .await
        .map_err(lost)?;
    channel.close(200, "bye".into()).await.map_err(lost)
}
