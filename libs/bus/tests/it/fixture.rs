use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fishy_bus::{Bus, BusOptions, Handler, StreamHandler};
use fishy_core::{Env, Event, Ids, RandomIds, Result};
use futures::FutureExt;
use lapin::options::{
    BasicGetOptions, BasicPublishOptions, ExchangeDeleteOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use tokio::sync::mpsc;
use tokio::time::timeout;

pub const LIMIT: Duration = Duration::from_secs(20);

#[expect(clippy::disallowed_methods, reason = "tests find their services by environment")]
pub fn amqp_url() -> String {
    std::env::var("FISHY_TEST_AMQP").unwrap_or_else(|_| "amqp://guest:guest@127.0.0.1:5672".into())
}

/// Short pauses, so that a test sees every retry.
pub fn quick() -> BusOptions {
    BusOptions {
        prefix: format!("test-{}", RandomIds.new_id()),
        attempts: 3,
        min_backoff: Duration::from_millis(1),
        max_backoff: Duration::from_millis(20),
        consumer_wait: Duration::from_millis(200),
    }
}

/// A bus of its own, and for RabbitMQ the way to connect to it again as another process would.
#[derive(Clone)]
pub struct Fixture {
    pub bus: Bus,
    pub options: BusOptions,
}

impl Fixture {
    pub async fn connect(&self) -> Bus {
        Bus::connect_with(&amqp_url(), self.options.clone(), Env::system()).await.unwrap()
    }
}

pub async fn in_process<F: Future<Output = ()> + Send + 'static>(test: impl FnOnce(Fixture) -> F) {
    let options = quick();
    let bus = Bus::in_process_with(options.clone());
    test(Fixture { bus, options }).await;
}

/// Runs a test with exchanges and queues of its own, which are deleted at the end, also of a failed test.
pub async fn on_rabbit<F: Future<Output = ()> + Send + 'static>(test: impl FnOnce(Fixture) -> F) {
    let options = quick();
    let bus = Bus::connect_with(&amqp_url(), options.clone(), Env::system()).await.unwrap();
    let fixture = Fixture { bus: bus.clone(), options: options.clone() };
    let result = tokio::spawn(test(fixture)).await;
    bus.close().await;
    let broker = Broker::connect(&options.prefix).await;
    for queue in ["a", "b", "dead", "stream.s"] {
        let _ = broker.channel.queue_delete(broker.name(queue).into(), QueueDeleteOptions::default()).await;
    }
    for exchange in ["events", "dead"] {
        let name = broker.name(exchange);
        broker.channel.exchange_delete(name.into(), ExchangeDeleteOptions::default()).await.unwrap();
    }
    result.unwrap();
}

/// The broker as another client sees it.
pub struct Broker {
    pub channel: Channel,
    prefix: String,
    _connection: Connection,
}

impl Broker {
    pub async fn connect(prefix: &str) -> Self {
        let connection = Connection::connect(&amqp_url(), ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        Self { channel, prefix: prefix.to_owned(), _connection: connection }
    }

    pub fn name(&self, last: &str) -> String {
        format!("{}.{last}", self.prefix)
    }

    /// Waits for a message in the queue of the dead.
    pub async fn take_dead(&self) -> Vec<u8> {
        let take = async {
            loop {
                let got = self.channel.basic_get(self.name("dead").into(), BasicGetOptions { no_ack: true }).await;
                match got.unwrap() {
                    Some(message) => break message.delivery.data,
                    None => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        };
        timeout(LIMIT, take).await.unwrap()
    }

    pub async fn publish(&self, kind: &str, body: &[u8]) {
        let (exchange, options) = (self.name("events"), BasicPublishOptions::default());
        self.channel
            .basic_publish(exchange.into(), kind.into(), options, body, BasicProperties::default())
            .await
            .unwrap();
    }

    pub async fn declare_classic(&self, last: &str) {
        let options = QueueDeclareOptions::durable();
        self.channel.queue_declare(self.name(last).into(), options, FieldTable::default()).await.unwrap();
    }

    pub async fn delete(&self, last: &str) {
        self.channel.queue_delete(self.name(last).into(), QueueDeleteOptions::default()).await.unwrap();
    }
}

pub fn event(id: &str, kind: &str) -> Event {
    Event::new(id.to_owned(), "test", kind, "subject", 0, serde_json::json!({"id": id}))
}

/// A handler that tells the ids it was given, and answers what `answer` says about the id and the number of the try.
pub fn telling(
    answer: impl Fn(&str, usize) -> Result<()> + Send + Sync + 'static,
) -> (Handler, mpsc::UnboundedReceiver<String>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let tries = std::sync::Mutex::new(std::collections::HashMap::<String, usize>::new());
    let handler: Handler = Arc::new(move |event: Event| {
        let tried = {
            let mut tries = tries.lock().unwrap();
            let tried = tries.entry(event.id.clone()).or_default();
            *tried += 1;
            *tried
        };
        let _ = sender.send(event.id.clone());
        let result = answer(&event.id, tried);
        async move { result }.boxed()
    });
    (handler, receiver)
}

/// The same for the batches of a stream.
pub fn telling_batches(
    answer: impl Fn(&str) -> Result<()> + Send + Sync + 'static,
) -> (StreamHandler, mpsc::UnboundedReceiver<(u64, String)>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let handler: StreamHandler = Arc::new(move |offset: u64, batch: Bytes| {
        let text = String::from_utf8(batch.to_vec()).unwrap();
        let result = answer(&text);
        let _ = sender.send((offset, text));
        async move { result }.boxed()
    });
    (handler, receiver)
}

pub async fn take<T>(receiver: &mut mpsc::UnboundedReceiver<T>, count: usize) -> Vec<T> {
    let mut taken = Vec::new();
    for _ in 0..count {
        taken.push(timeout(LIMIT, receiver.recv()).await.unwrap().unwrap());
    }
    taken
}

/// Waits until something that is observed from outside becomes true.
pub async fn until(mut is_true: impl FnMut() -> bool) {
    let wait = async {
        while !is_true() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LIMIT, wait).await.unwrap();
}

/// Makes each `async fn name(fixture: Fixture)` of a module a test of both buses.
macro_rules! on_both_buses {
    ($($name:ident),* $(,)?) => {
        mod in_process {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() { crate::fixture::in_process(super::$name).await; })*
        }
        mod on_rabbit {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() { crate::fixture::on_rabbit(super::$name).await; })*
        }
    };
}
pub(crate) use on_both_buses;
