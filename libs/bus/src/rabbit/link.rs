//! The connection to the broker: one task keeps it, everybody else borrows what is there.

use std::sync::Arc;
use std::time::Duration;

use fishy_core::{Env, Error, Result};
use futures::StreamExt;
use lapin::options::{
    BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{FieldTable, ShortString};
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, ExchangeKind};
use tokio::sync::{Mutex, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Names, lost, table, text};
use crate::BusOptions;
use crate::handling::Backoff;

/// For a whole handshake with its declarations, and for a confirm.
const LIMIT: Duration = Duration::from_secs(10);
/// Seconds; the broker and we give up a silent connection after twice that.
const HEARTBEAT: u16 = 10;
/// A second look at the state, in case that no event told of a loss.
const LOOK: Duration = Duration::from_secs(1);

pub(super) const PERSISTENT: u8 = 2;

/// A connection that was good when last looked at.
pub(crate) struct Live {
    pub connection: Connection,
    pub publisher: Channel,
    /// For messages that a queue must take, one at a time: see [`Live::publish`].
    mandatory: Channel,
    one_at_a_time: Mutex<()>,
    /// Says that it does not work: whoever notices it first says so to all others.
    pub broken: CancellationToken,
}

impl Live {
    /// Waits for an answer of the broker as long as the connection lives and not for too long: what was asked on a
    /// connection that is being lost may never be answered.
    pub async fn answer<T>(&self, asked: impl Future<Output = T>) -> Result<T> {
        tokio::select! {
            () = self.broken.cancelled() => Err(Error::unavailable("the connection to RabbitMQ was lost")),
            answer = timeout(LIMIT, asked) => answer.map_err(|_| {
                self.broken.cancel();
                Error::unavailable("RabbitMQ did not answer in time")
            }),
        }
    }

    /// Publishes on a channel that asks for confirms; answers when the broker has confirmed, with false when no queue wants a
    /// mandatory message. Only on a channel where one message is under way at a time is it certain which message that is of:
    /// the client library gives a returned message to the next confirm, whose ever that is.
    pub async fn publish(&self, channel: &Channel, message: Message<'_>) -> Result<bool> {
        let properties = message.properties.with_delivery_mode(PERSISTENT);
        let options = BasicPublishOptions { mandatory: message.is_mandatory, ..BasicPublishOptions::default() };
        let confirmed = self.answer(async {
            channel.basic_publish(message.exchange, message.routing_key, options, message.body, properties).await?.await
        });
        match confirmed.await? {
            Ok(Confirmation::Ack(returned)) => Ok(returned.is_none()),
            Ok(Confirmation::Nack(_) | Confirmation::NotRequested) => {
                Err(Error::unavailable("RabbitMQ did not confirm a message"))
            }
            Err(error) => Err(lost(error)),
        }
    }
}

/// One message to publish.
pub(crate) struct Message<'a> {
    pub exchange: ShortString,
    pub routing_key: ShortString,
    pub body: &'a [u8],
    pub properties: BasicProperties,
    /// Whether it is an error that no queue wants it.
    pub is_mandatory: bool,
}

#[derive(Clone)]
pub(crate) struct Link {
    live: watch::Receiver<Option<Arc<Live>>>,
    closing: CancellationToken,
    keeper: TaskTracker,
}

impl Link {
    /// Answers after the first try to connect. With `names`, it is the link of the bus, which declares what they name.
    pub async fn start(url: &str, names: Option<Names>, options: &BusOptions, env: &Env) -> Result<Self> {
        // The URL may hold a password: it is not repeated.
        let mut uri: AMQPUri = url.parse().map_err(|error: String| {
            Error::invalid("not an AMQP URL: it has the form amqp://user:password@host:port/vhost").with_source(error)
        })?;
        if uri.scheme == AMQPScheme::AMQPS {
            // An error means that the process has chosen a provider already.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        uri.query.heartbeat.get_or_insert(HEARTBEAT);
        uri.query.connection_timeout.get_or_insert(LIMIT.as_millis() as u64);
        let (sender, live) = watch::channel(None);
        let keeper = Keeper {
            uri,
            name: format!("{}-{}", options.prefix, env.new_id()),
            names,
            backoff: Backoff::new(options),
            options: options.clone(),
            live: sender,
            closing: CancellationToken::new(),
        };
        let link = Self { live, closing: keeper.closing.clone(), keeper: TaskTracker::new() };
        let (tried, first_try) = tokio::sync::oneshot::channel();
        link.keeper.spawn(keeper.run(tried));
        let _ = first_try.await;
        Ok(link)
    }

    /// The connection, if there is one now.
    pub fn live(&self) -> Option<Arc<Live>> {
        self.live.borrow().clone()
    }

    /// Waits for a connection; none when `stopping` comes first.
    pub async fn wait(&self, stopping: &CancellationToken) -> Option<Arc<Live>> {
        let mut live = self.live.clone();
        tokio::select! {
            () = stopping.cancelled() => None,
            found = live.wait_for(Option::is_some) => found.ok().and_then(|live| live.clone()),
        }
    }

    pub async fn publish(&self, message: Message<'_>) -> Result<()> {
        let live = self.live().ok_or_else(|| Error::unavailable("RabbitMQ is not connected"))?;
        let is_taken = if message.is_mandatory {
            let _turn = live.one_at_a_time.lock().await;
            live.publish(&live.mandatory, message).await?
        } else {
            live.publish(&live.publisher, message).await?
        };
        if is_taken {
            return Ok(());
        }
        Err(Error::unavailable("no queue of RabbitMQ takes the message"))
    }

    pub async fn close(&self) {
        self.closing.cancel();
        self.keeper.close();
        self.keeper.wait().await;
    }
}

/// Makes connections and watches them.
struct Keeper {
    uri: AMQPUri,
    name: String,
    names: Option<Names>,
    options: BusOptions,
    backoff: Backoff,
    live: watch::Sender<Option<Arc<Live>>>,
    closing: CancellationToken,
}

impl Keeper {
    async fn run(mut self, tried: tokio::sync::oneshot::Sender<()>) {
        let mut tried = Some(tried);
        while !self.closing.is_cancelled() {
            let opened = tokio::select! {
                () = self.closing.cancelled() => break,
                opened = timeout(LIMIT, self.open()) => opened,
            };
            match opened.unwrap_or_else(|_| Err(Error::unavailable("RabbitMQ did not answer in time"))) {
                Ok(live) => {
                    tracing::info!("connected to RabbitMQ");
                    self.measure(1.0);
                    self.backoff = Backoff::new(&self.options);
                    self.live.send_replace(Some(Arc::clone(&live)));
                    tried.take();
                    self.watch(&live).await;
                    live.broken.cancel();
                    self.live.send_replace(None);
                    self.measure(0.0);
                    let bye = live.connection.close(200, "bye".into());
                    if !matches!(timeout(Duration::from_secs(2), bye).await, Ok(Ok(()))) {
                        tracing::warn!("the connection to RabbitMQ is lost");
                    }
                }
                Err(error) => {
                    tracing::warn!(error = error.chain(), "cannot connect to RabbitMQ, trying again");
                    tried.take();
                }
            }
            self.backoff.pause(&self.closing).await;
        }
    }

    async fn open(&self) -> Result<Arc<Live>> {
        let properties = ConnectionProperties::default().with_connection_name(self.name.as_str().into());
        let connection = Connection::connect_uri(self.uri.clone(), properties).await.map_err(lost)?;
        let publisher = connection.create_channel().await.map_err(lost)?;
        if let Some(names) = &self.names {
            declare(names, &publisher).await?;
        }
        let mandatory = connection.create_channel().await.map_err(lost)?;
        for channel in [&publisher, &mandatory] {
            channel.confirm_select(ConfirmSelectOptions::default()).await.map_err(lost)?;
        }
        let broken = CancellationToken::new();
        Ok(Arc::new(Live { connection, publisher, mandatory, one_at_a_time: Mutex::new(()), broken }))
    }

    fn measure(&self, connected: f64) {
        if self.names.is_some() {
            metrics::gauge!("fishy_bus_connected").set(connected);
        }
    }

    /// Answers when the connection is of no use any more, or the bus closes.
    async fn watch(&self, live: &Live) {
        let mut events = std::pin::pin!(live.connection.events_listener());
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.closing.cancelled() => return,
                () = live.broken.cancelled() => return,
                event = events.next() => match event {
                    Some(lapin::Event::Error(error)) => tracing::debug!(error = %error, "RabbitMQ reported an error"),
                    Some(_) => {}
                    None => return,
                },
                _ = look.tick() => {}
            }
            let channels = [&live.publisher, &live.mandatory];
            if !live.connection.status().connected()
                || channels.into_iter().any(|channel| !channel.status().connected())
            {
                return;
            }
        }
    }
}

async fn declare(names: &Names, channel: &Channel) -> Result<()> {
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let (events, dead) = (names.events()?, names.dead()?);
    channel.exchange_declare(events, ExchangeKind::Topic, durable, FieldTable::default()).await.map_err(lost)?;
    channel.exchange_declare(dead.clone(), ExchangeKind::Fanout, durable, FieldTable::default()).await.map_err(lost)?;
    let quorum = table([("x-queue-type", text("quorum"))]);
    channel.queue_declare(dead.clone(), QueueDeclareOptions::durable(), quorum).await.map_err(lost)?;
    let bind = QueueBindOptions::default();
    channel.queue_bind(dead.clone(), dead, "".into(), bind, FieldTable::default()).await.map_err(lost)
}
