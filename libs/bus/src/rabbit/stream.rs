use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use fishy_core::{Error, Result};
use futures::StreamExt;
use lapin::message::Delivery;
use lapin::options::{BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, ShortString};
use lapin::{BasicProperties, Channel, Connection};
use tokio::time::timeout;

use super::consumer::{Consumer, Verdict, settle};
use super::link::{Link, Live, Message};
use super::{lost, start, table, text};
use crate::StreamHandler;
use crate::handling::Crew;

/// The oldest batches go when a stream is larger.
const MAX_BYTES: i64 = 1 << 30;
/// Space is freed in pieces of this size.
const SEGMENT_BYTES: i64 = 100_000_000;
/// Batches sent ahead by the broker.
const PREFETCH: u16 = 16;
/// How long the broker may take to show a stream's last batches.
const LOOK: Duration = Duration::from_secs(3);

/// A queue of type stream.
pub(crate) struct RabbitStream {
    queue: ShortString,
    link: Link,
    crew: Crew,
    detached: Arc<AtomicUsize>,
    /// The connection on which the queue was declared.
    declared: Mutex<Weak<Live>>,
}

async fn declare(channel: &Channel, queue: &ShortString) -> Result<()> {
    let arguments = table([
        ("x-queue-type", text("stream")),
        ("x-max-length-bytes", AMQPValue::LongLongInt(MAX_BYTES)),
        ("x-stream-max-segment-size-bytes", AMQPValue::LongLongInt(SEGMENT_BYTES)),
    ]);
    channel.queue_declare(queue.clone(), QueueDeclareOptions::durable(), arguments).await.map(drop).map_err(lost)
}

impl RabbitStream {
    /// Declares the queue when the broker is there; otherwise that follows with the first publish or consumer.
    pub async fn open(queue: ShortString, link: Link, crew: Crew, detached: Arc<AtomicUsize>) -> Result<Arc<Self>> {
        let stream = Self { queue, link, crew, detached, declared: Mutex::new(Weak::new()) };
        if let Some(live) = stream.link.live()
            && let Err(error) = stream.ensure(&live).await
            && live.connection.status().connected()
        {
            return Err(error);
        }
        Ok(Arc::new(stream))
    }

    async fn ensure(&self, live: &Arc<Live>) -> Result<()> {
        let declared = self.declared.lock().unwrap_or_else(PoisonError::into_inner).as_ptr();
        if declared == Arc::as_ptr(live) {
            return Ok(());
        }
        // On a channel of its own: a refusal closes it.
        let declaring = live.answer(async {
            let channel = live.connection.create_channel().await.map_err(lost)?;
            declare(&channel, &self.queue).await?;
            channel.close(200, "bye".into()).await.map_err(lost)
        });
        declaring.await??;
        *self.declared.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(live);
        Ok(())
    }

    pub async fn publish(&self, batch: &Bytes) -> Result<()> {
        let _admitted = self.crew.admit()?;
        let live = self.link.live().ok_or_else(|| Error::unavailable("RabbitMQ is not connected"))?;
        self.ensure(&live).await?;
        let message = Message {
            exchange: ShortString::default(),
            routing_key: self.queue.clone(),
            body: batch,
            properties: BasicProperties::default().with_content_type("application/octet-stream".into()),
            is_mandatory: true,
        };
        let result = self.link.publish(message).await;
        if result.is_err() {
            // The queue may have been deleted: it is declared again before the next batch.
            *self.declared.lock().unwrap_or_else(PoisonError::into_inner) = Weak::new();
        }
        result
    }

    pub async fn consume(&self, consumer: &str, after_offset: Option<u64>, handler: StreamHandler) -> Result<()> {
        let reader = Reader {
            label: format!("{}.{consumer}", self.queue),
            queue: self.queue.clone(),
            after: after_offset,
            handler,
        };
        start(&self.crew, &self.link, &self.detached, reader).await
    }
}

/// One consumer of a stream and where it is.
struct Reader {
    label: String,
    queue: ShortString,
    after: Option<u64>,
    handler: StreamHandler,
}

impl Reader {
    async fn begin(&self, channel: &Channel, offset: AMQPValue) -> Result<lapin::Consumer> {
        channel.basic_qos(PREFETCH, BasicQosOptions::default()).await.map_err(lost)?;
        let arguments = table([("x-stream-offset", offset)]);
        channel
            .basic_consume(self.queue.clone(), "".into(), BasicConsumeOptions::default(), arguments)
            .await
            .map_err(lost)
    }

    /// Whether the stream has a batch of this offset or a later one: if not, it is not the stream that the offset is of.
    async fn reaches(&self, offset: u64, connection: &Connection) -> Result<bool> {
        let channel = connection.create_channel().await.map_err(lost)?;
        // Begins with the last chunk, which holds several batches.
        let mut last = self.begin(&channel, text("last")).await?;
        let mut is_there = false;
        while let Ok(Some(delivery)) = timeout(LOOK, last.next()).await {
            let delivery = delivery.map_err(lost)?;
            if offset_of(&delivery)? >= offset {
                is_there = true;
                break;
            }
            settle(&delivery, Verdict::Done).await?;
        }
        channel.close(200, "bye".into()).await.map_err(lost)?;
        Ok(is_there)
    }
}

fn offset_of(delivery: &Delivery) -> Result<u64> {
    match delivery.properties.headers().as_ref().and_then(|headers| headers.inner().get("x-stream-offset")) {
        Some(AMQPValue::LongLongInt(offset)) => Ok(*offset as u64),
        _ => Err(Error::internal("a message of a stream came without its offset")),
    }
}

impl Consumer for Reader {
    fn label(&self) -> String {
        self.label.clone()
    }

    async fn attach(&mut self, connection: &Connection, channel: &Channel) -> Result<lapin::Consumer> {
        declare(channel, &self.queue).await?;
        if let Some(after) = self.after
            && !self.reaches(after, connection).await?
        {
            // The broker would wait for that offset, and silently pass over all batches before it.
            tracing::warn!(stream = self.label, after, "the stream was made anew: reading it from its start");
            self.after = None;
        }
        let offset = match self.after {
            Some(after) => AMQPValue::LongLongInt(after.saturating_add(1) as i64),
            None => text("first"),
        };
        self.begin(channel, offset).await
    }

    async fn take(&mut self, delivery: &Delivery, crew: &Crew) -> Result<Verdict> {
        let offset = offset_of(delivery)?;
        // The broker may begin a little before the offset that was asked for.
        if self.after.is_none_or(|after| offset > after) {
            let batch = Bytes::copy_from_slice(&delivery.data);
            crew.handle_batch(&self.label, &self.handler, offset, &batch).await?;
            self.after = Some(offset);
        }
        Ok(Verdict::Done)
    }
}
