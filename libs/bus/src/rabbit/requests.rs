//! Requests from a queue, answered through the broker.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use fishy_core::{Error, Result};
use lapin::message::Delivery;
use lapin::options::{BasicConsumeOptions, BasicQosOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Connection};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::consumer::{Consumer, Verdict};
use super::link::{Link, Message};
use super::{Names, check_foreign, lost, short, table, text};
use crate::handling::{Crew, count};
use crate::{Answer, QueuedRequest, RequestHandler, RequestQueues};

/// Consumers of one queue at most; each has a channel of its own.
const MAX_PREFETCH: u16 = 64;
/// How often a request may be with a process that dies, before the broker moves it to the dead ones by itself.
const DELIVERY_LIMIT: i64 = 20;
/// What a reason has in bytes at most: a header must fit into a frame.
const MAX_REASON_BYTES: usize = 4096;
/// Names of this kind are no queues, but ways back to a client that waits: the broker never calls them routed.
const DIRECT_REPLY: &str = "amq.rabbitmq.reply-to";
/// Headers that we and the broker set.
const STATUS: &str = "fishy-status";
const REASON: &str = "fishy-error";

/// Takes one request at a time; as many of them run as requests may be under way.
#[derive(Clone)]
pub(crate) struct Server {
    queues: Arc<RequestQueues>,
    requests: ShortString,
    results: Option<ShortString>,
    dead: ShortString,
    /// No client may have us write to the queues of our own services.
    reserved: String,
    handler: RequestHandler,
    link: Link,
    /// The consumer's own channel, which answers as well.
    channel: Option<Channel>,
}

impl Server {
    pub fn new(names: &Names, queues: RequestQueues, handler: RequestHandler, link: Link) -> Result<Self> {
        let RequestQueues { requests, results, dead, prefetch, .. } = &queues;
        if !(1..=MAX_PREFETCH).contains(prefetch) {
            return Err(Error::invalid(format!("a prefetch of {prefetch}: it is from 1 to {MAX_PREFETCH}")));
        }
        let reserved = names.name("")?.as_str().to_owned();
        let all = [Some(requests), results.as_ref(), Some(dead)];
        let mut seen = Vec::new();
        for name in all.into_iter().flatten() {
            check_foreign("queue", name, &reserved)?;
            if seen.contains(&name) {
                return Err(Error::invalid(format!("queue {name:?} is named twice: requests would go in a circle")));
            }
            seen.push(name);
        }
        Ok(Self {
            requests: short(requests.as_str())?,
            results: results.as_deref().map(short).transpose()?,
            dead: short(dead.as_str())?,
            reserved,
            queues: Arc::new(queues),
            handler,
            link,
            channel: None,
        })
    }

    pub fn prefetch(&self) -> u16 {
        self.queues.prefetch
    }

    /// Where the answer goes; an error tells what is wrong with the request.
    fn way_back(&self, delivery: &Delivery) -> Result<ShortString> {
        let named = delivery.properties.reply_to().as_ref().filter(|name| !name.as_str().is_empty());
        let Some(named) = named else {
            return self.results.clone().ok_or_else(|| {
                Error::invalid("the request has no reply_to, and no queue is configured for results: set one of them")
            });
        };
        let is_ours = named.as_str().starts_with(&self.reserved) || *named == self.requests || *named == self.dead;
        if is_ours {
            return Err(Error::invalid(format!(
                "reply_to {:?} is a queue of the server: name your own",
                named.as_str()
            )));
        }
        Ok(named.clone())
    }

    /// Asks the handler until the answer is one, or patience ends. An error only when the bus closes meanwhile.
    async fn ask(&self, request: &QueuedRequest, crew: &Crew) -> Result<Answer> {
        let started = Instant::now();
        let mut backoff = crew.backoff();
        loop {
            let (handler, asked) = (Arc::clone(&self.handler), request.clone());
            let traceparent = request.headers.get("traceparent").map(String::as_str);
            let answer = match crew.run(async move { handler(asked).await }, traceparent).await {
                Ok(answer) => answer,
                Err(error) => {
                    tracing::error!(queue = self.queues.requests, error = error.chain(), "a queued request failed");
                    let status = error.code().http_status();
                    refusal(status, "an internal error occurred; the server's log has its text")
                }
            };
            if !answer.is_retryable() || started.elapsed() >= self.queues.patience {
                return Ok(answer);
            }
            count(&self.queues.requests, "retried");
            if !backoff.pause(&crew.stopping).await {
                return Err(Error::unavailable("the bus is closing"));
            }
        }
    }

    /// Answers whether a queue took it.
    async fn send(&self, delivery: &Delivery, to: &ShortString, answer: &Answer) -> Result<bool> {
        let asked = &delivery.properties;
        let mut headers = headers_of(delivery);
        headers.insert(STATUS.into(), AMQPValue::LongInt(i32::from(answer.status)));
        let mut properties =
            BasicProperties::default().with_content_type(short(answer.content_type.as_str())?).with_headers(headers);
        if let Some(correlation) = asked.correlation_id() {
            properties = properties.with_correlation_id(correlation.clone());
        }
        let is_mandatory = !to.as_str().starts_with(DIRECT_REPLY);
        let (exchange, routing_key) = (ShortString::default(), to.clone());
        self.publish(Message { exchange, routing_key, body: &answer.body, properties, is_mandatory }).await
    }

    /// Moves the request, as it came, to the dead ones.
    async fn bury(&self, delivery: &Delivery, reason: &[u8]) -> Result<()> {
        count(&self.queues.requests, "dead");
        let reason = String::from_utf8_lossy(&reason[..reason.len().min(MAX_REASON_BYTES)]).into_owned();
        tracing::warn!(queue = self.queues.requests, reason, "a queued request was moved to the dead ones");
        let mut headers = headers_of(delivery);
        headers.insert(REASON.into(), text(&reason));
        // An expiry would let it vanish, and a foreign user id is refused by the broker.
        let mut properties = BasicProperties::default().with_headers(headers);
        let kept = &delivery.properties;
        macro_rules! keep {
            ($($get:ident => $with:ident),*) => {
                $(if let Some(value) = kept.$get() { properties = properties.$with(value.clone()); })*
            };
        }
        keep!(content_type => with_content_type, content_encoding => with_content_encoding,
              correlation_id => with_correlation_id, reply_to => with_reply_to, message_id => with_message_id,
              kind => with_type, app_id => with_app_id);
        if let Some(timestamp) = kept.timestamp() {
            properties = properties.with_timestamp(*timestamp);
        }
        let (exchange, routing_key) = (ShortString::default(), self.dead.clone());
        let message = Message { exchange, routing_key, body: &delivery.data, properties, is_mandatory: true };
        if self.publish(message).await? {
            return Ok(());
        }
        Err(Error::unavailable("the queue of dead requests is not there any more"))
    }

    async fn publish(&self, message: Message<'_>) -> Result<bool> {
        let away = || Error::unavailable("RabbitMQ is not connected");
        let (live, channel) = (self.link.live().ok_or_else(away)?, self.channel.as_ref().ok_or_else(away)?);
        live.publish(channel, message).await
    }
}

impl Consumer for Server {
    fn label(&self) -> String {
        self.queues.requests.clone()
    }

    async fn attach(&mut self, connection: &Connection, channel: &Channel) -> Result<lapin::Consumer> {
        let quorum = || ("x-queue-type", text("quorum"));
        declare(connection, &self.dead, table([quorum()])).await?;
        if let Some(results) = &self.results {
            declare(connection, results, table([quorum()])).await?;
        }
        let arguments = table([
            quorum(),
            ("x-delivery-limit", AMQPValue::LongLongInt(DELIVERY_LIMIT)),
            ("x-dead-letter-exchange", text("")),
            ("x-dead-letter-routing-key", text(self.dead.as_str())),
            ("x-dead-letter-strategy", text("at-least-once")),
            ("x-overflow", text("reject-publish")),
        ]);
        declare(connection, &self.requests, arguments).await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await.map_err(lost)?;
        self.channel = Some(channel.clone());
        channel.basic_qos(1, BasicQosOptions::default()).await.map_err(lost)?;
        channel
            .basic_consume(self.requests.clone(), "".into(), BasicConsumeOptions::default(), FieldTable::default())
            .await
            .map_err(lost)
    }

    async fn take(&mut self, delivery: &Delivery, crew: &Crew) -> Result<Verdict> {
        let way_back = match self.way_back(delivery) {
            Ok(way_back) => way_back,
            Err(error) => {
                self.bury(delivery, &refusal(400, error.message()).body).await?;
                return Ok(Verdict::Done);
            }
        };
        let answer = self.ask(&request_of(&self.requests, delivery), crew).await?;
        let is_result = answer.status < 400;
        if !is_result {
            self.bury(delivery, &answer.body).await?;
        }
        if self.send(delivery, &way_back, &answer).await? {
            count(&self.queues.requests, if is_result { "ok" } else { "failed" });
        } else if Some(&way_back) == self.results.as_ref() {
            // Somebody has deleted it: attaching again declares it.
            return Err(Error::unavailable("the queue for results is not there any more"));
        } else if is_result {
            let told =
                format!("nothing takes the answer: there is no queue {:?}, which reply_to names", way_back.as_str());
            self.bury(delivery, &refusal(404, &told).body).await?;
        }
        Ok(Verdict::Done)
    }
}

/// The headers that the request came with, but for those that would have the broker send copies elsewhere, with our rights.
fn headers_of(delivery: &Delivery) -> FieldTable {
    let mut headers = FieldTable::default();
    for (name, value) in delivery.properties.headers().iter().flat_map(FieldTable::inner) {
        if !matches!(name.as_str(), "CC" | "BCC") {
            headers.insert(name.clone(), value.clone());
        }
    }
    headers
}

fn refusal(status: u16, message: &str) -> Answer {
    let body = serde_json::json!({ "error": message }).to_string();
    Answer { status, content_type: "application/json".to_owned(), body: Bytes::from(body) }
}

/// Declares a queue unless there is one of that name, of whatever kind.
pub(super) async fn declare(connection: &Connection, queue: &ShortString, arguments: FieldTable) -> Result<()> {
    // On channels of their own: a refusal closes them.
    let look = connection.create_channel().await.map_err(lost)?;
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    if look.queue_declare(queue.clone(), passive, FieldTable::default()).await.is_ok() {
        return look.close(200, "bye".into()).await.map_err(lost);
    }
    let channel = connection.create_channel().await.map_err(lost)?;
    channel.queue_declare(queue.clone(), QueueDeclareOptions::durable(), arguments).await.map_err(lost)?;
    channel.close(200, "bye".into()).await.map_err(lost)
}

fn request_of(queue: &ShortString, delivery: &Delivery) -> QueuedRequest {
    let properties = &delivery.properties;
    let owned = |value: &Option<ShortString>| value.as_ref().map(|value| value.as_str().to_owned());
    let mut headers = BTreeMap::new();
    for (name, value) in properties.headers().iter().flat_map(FieldTable::inner) {
        let value = match value {
            AMQPValue::LongString(value) => String::from_utf8_lossy(value.as_bytes()).into_owned(),
            AMQPValue::ShortString(value) => value.as_str().to_owned(),
            _ => continue,
        };
        headers.insert(name.as_str().to_owned(), value);
    }
    QueuedRequest {
        message_id: owned(properties.message_id()).filter(|id| !id.is_empty()),
        fingerprint: fingerprint(queue, delivery),
        content_type: owned(properties.content_type()),
        content_encoding: owned(properties.content_encoding()),
        headers,
        body: Bytes::copy_from_slice(&delivery.data),
    }
}

/// Of what a delivery has in common with all others of its message: no header, since the broker adds some.
fn fingerprint(queue: &ShortString, delivery: &Delivery) -> String {
    let properties = &delivery.properties;
    let mut hash = Sha256::new();
    for part in [
        Some(queue),
        properties.message_id().as_ref(),
        properties.correlation_id().as_ref(),
        properties.reply_to().as_ref(),
    ] {
        let part = part.map_or("", ShortString::as_str);
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    hash.update(properties.timestamp().unwrap_or_default().to_le_bytes());
    hash.update(&delivery.data);
    hex::encode(&hash.finalize()[..16])
}
