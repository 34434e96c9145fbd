//! Consumers: attached to the broker whenever it is there.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use fishy_core::{Error, Event, Result};
use futures::StreamExt;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::link::{Link, Live};
use super::{Names, lost, short, table, text};
use crate::Handler;
use crate::handling::Crew;

/// Messages sent ahead by the broker.
const PREFETCH: u16 = 32;
/// How often a message comes again before it is dead.
const DELIVERY_LIMIT: i64 = 10;

/// One queue's consumer, as [`run_consumer`] runs it.
pub(crate) trait Consumer: Send + Sync + 'static {
    fn label(&self) -> String;

    /// Declares what is needed and begins to consume.
    fn attach(
        &mut self,
        connection: &Connection,
        channel: &Channel,
    ) -> impl Future<Output = Result<lapin::Consumer>> + Send;

    /// Handles one message, and says what becomes of it. An error means that the channel is of no use any more.
    fn take(&mut self, delivery: &Delivery, crew: &Crew) -> impl Future<Output = Result<Verdict>> + Send;
}

/// What the broker is told about a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Done,
    /// Once more, as long as the delivery limit allows.
    Again,
    Dead,
}

/// Counts a consumer as detached while it is, and tells how the first try went.
pub(crate) struct Place {
    detached: Arc<AtomicUsize>,
    is_attached: bool,
    first: Option<oneshot::Sender<Result<()>>>,
}

impl Place {
    pub fn new(detached: Arc<AtomicUsize>) -> (Self, oneshot::Receiver<Result<()>>) {
        let (first, answer) = oneshot::channel();
        detached.fetch_add(1, Ordering::SeqCst);
        (Self { detached, is_attached: false, first: Some(first) }, answer)
    }

    fn set(&mut self, is_attached: bool) {
        match (self.is_attached, is_attached) {
            (false, true) => drop(self.detached.fetch_sub(1, Ordering::SeqCst)),
            (true, false) => drop(self.detached.fetch_add(1, Ordering::SeqCst)),
            _ => {}
        }
        self.is_attached = is_attached;
    }

    fn tell(&mut self, result: Result<()>) {
        if let Some(first) = self.first.take() {
            let _ = first.send(result);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.set(true);
    }
}

pub(crate) async fn run_consumer(mut consumer: impl Consumer, link: Link, crew: Crew, mut place: Place) {
    let label = consumer.label();
    let mut backoff = crew.backoff();
    if link.live().is_none() {
        place.tell(Ok(()));
    }
    while let Some(live) = link.wait(&crew.stopping).await {
        let attaching = live.answer(async {
            let channel = live.connection.create_channel().await.map_err(lost)?;
            let deliveries = consumer.attach(&live.connection, &channel).await?;
            Ok::<_, Error>((channel, deliveries))
        });
        match attaching.await.and_then(|attached| attached) {
            Ok((channel, deliveries)) => {
                place.set(true);
                place.tell(Ok(()));
                backoff = crew.backoff();
                if let Err(error) = consume(&mut consumer, deliveries, &live, &crew).await {
                    tracing::warn!(queue = label, error = error.chain(), "a consumer lost its place at the broker");
                }
                place.set(crew.stopping.is_cancelled());
                // What was sent ahead goes back to the queue. There is nothing to do when the connection is lost.
                let _ = timeout(Duration::from_secs(2), channel.close(200, "bye".into())).await;
            }
            Err(error) => {
                tracing::warn!(queue = label, error = error.chain(), "a consumer cannot attach to the broker");
                // A refusal at the very start is a mistake in the configuration, to be seen by who starts it.
                if place.first.is_some() && live.connection.status().connected() {
                    place.set(true);
                    place.tell(Err(error));
                    return;
                }
                place.tell(Ok(()));
            }
        }
        if !backoff.pause(&crew.stopping).await {
            return;
        }
    }
}

/// Answers Ok when the bus closes.
async fn consume(
    consumer: &mut impl Consumer,
    mut deliveries: lapin::Consumer,
    live: &Live,
    crew: &Crew,
) -> Result<()> {
    loop {
        let next = tokio::select! {
            biased;
            () = crew.stopping.cancelled() => return Ok(()),
            () = live.broken.cancelled() => return Err(Error::unavailable("the connection to RabbitMQ was lost")),
            next = deliveries.next() => next,
        };
        match next {
            // Not ended by a lost connection: a handler that has begun is finished, and not run twice at a time.
            Some(Ok(delivery)) => {
                let verdict = consumer.take(&delivery, crew).await?;
                live.answer(settle(&delivery, verdict)).await??;
            }
            Some(Err(error)) => return Err(lost(error)),
            None => return Err(Error::unavailable("the broker cancelled a consumer")),
        }
    }
}

pub(crate) async fn settle(delivery: &Delivery, verdict: Verdict) -> Result<()> {
    let nack = |requeue| delivery.acker.nack(BasicNackOptions { requeue, multiple: false });
    let settled = match verdict {
        Verdict::Done => delivery.acker.ack(BasicAckOptions::default()).await,
        Verdict::Again => nack(true).await,
        Verdict::Dead => nack(false).await,
    };
    match settled {
        Ok(true) => Ok(()),
        Ok(false) => Err(Error::unavailable("the channel was closed before a message was acknowledged")),
        Err(error) => Err(lost(error)),
    }
}

/// A subscriber's queue.
pub(crate) struct Subscription {
    pub names: Names,
    pub queue: String,
    pub patterns: Vec<String>,
    pub handler: Handler,
}

impl Consumer for Subscription {
    fn label(&self) -> String {
        self.queue.clone()
    }

    async fn attach(&mut self, _: &Connection, channel: &Channel) -> Result<lapin::Consumer> {
        let queue = self.names.name(&self.queue)?;
        channel.basic_qos(PREFETCH, BasicQosOptions::default()).await.map_err(lost)?;
        let arguments = table([
            ("x-queue-type", text("quorum")),
            ("x-delivery-limit", AMQPValue::LongLongInt(DELIVERY_LIMIT)),
            ("x-dead-letter-exchange", text(self.names.dead()?.as_str())),
            // Without these two, a message can get lost on its way to the dead ones.
            ("x-dead-letter-strategy", text("at-least-once")),
            ("x-overflow", text("reject-publish")),
        ]);
        channel.queue_declare(queue.clone(), QueueDeclareOptions::durable(), arguments).await.map_err(lost)?;
        for pattern in &self.patterns {
            let (events, key) = (self.names.events()?, short(binding_key(pattern))?);
            channel
                .queue_bind(queue.clone(), events, key, QueueBindOptions::default(), FieldTable::default())
                .await
                .map_err(lost)?;
        }
        channel
            .basic_consume(queue, "".into(), BasicConsumeOptions::default(), FieldTable::default())
            .await
            .map_err(lost)
    }

    async fn take(&mut self, delivery: &Delivery, crew: &Crew) -> Result<Verdict> {
        let event: Event = match serde_json::from_slice(&delivery.data) {
            Ok(event) => event,
            Err(error) => {
                tracing::error!(queue = self.queue, error = %error, "not an event: moved to the dead ones");
                return Ok(Verdict::Dead);
            }
        };
        // A topic's words are coarser than our patterns, and bindings of an older release may still be there.
        if !self.patterns.iter().any(|pattern| event.matches(pattern)) {
            return Ok(Verdict::Done);
        }
        Ok(match crew.handle(&self.queue, &self.handler, &event).await {
            Ok(()) => Verdict::Done,
            Err(error) if error.is_retryable() => Verdict::Again,
            Err(_) => Verdict::Dead,
        })
    }
}

/// The nearest topic pattern: whole words up to the `*`, then anything.
fn binding_key(pattern: &str) -> String {
    match pattern.strip_suffix('*') {
        None => pattern.to_owned(),
        Some(prefix) => match prefix.rsplit_once('.') {
            Some((words, _)) => format!("{words}.#"),
            None => "#".to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binding_lets_through_at_least_what_the_pattern_does() {
        assert_eq!(binding_key("fishy.registry.alias.moved.v1"), "fishy.registry.alias.moved.v1");
        assert_eq!(binding_key("fishy.registry.*"), "fishy.registry.#");
        assert_eq!(binding_key("fishy.registry.al*"), "fishy.registry.#");
        assert_eq!(binding_key("fish*"), "#");
        assert_eq!(binding_key("*"), "#");
    }
}
