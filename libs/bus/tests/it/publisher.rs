//! Messages to queues and exchanges that are not the bus's.

use std::time::Duration;

use fishy_bus::{Outgoing, Publisher, Target};
use fishy_core::{Env, ErrorCode, Ids, RandomIds, Result};
use lapin::options::{BasicGetOptions, ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use tokio::time::timeout;

use crate::broker_away::Proxy;
use crate::fixture::{Broker, LIMIT, amqp_url};

fn message(number: usize) -> Outgoing {
    Outgoing {
        routing_key: "oxygen".into(),
        message_id: number.to_string(),
        kind: "test.made.v1".into(),
        content_type: "application/json".into(),
        headers: vec![("cloudEvents:id".into(), number.to_string())],
        body: number.to_string().into(),
    }
}

fn messages(range: std::ops::Range<usize>) -> Vec<Outgoing> {
    range.map(message).collect()
}

async fn publish(publisher: &Publisher, messages: &[Outgoing]) {
    let publish = async {
        while publisher.publish_all(messages).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(LIMIT, publish).await.unwrap();
}

async fn take(broker: &Broker, queue: &str, count: usize) -> Vec<String> {
    let mut bodies = Vec::new();
    let take = async {
        while bodies.len() < count {
            match broker.channel.basic_get(queue.into(), BasicGetOptions { no_ack: true }).await.unwrap() {
                Some(message) => bodies.push(String::from_utf8(message.delivery.data).unwrap()),
                None => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    timeout(LIMIT, take).await.unwrap();
    bodies
}

fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_arrive_in_their_order_also_when_the_broker_was_away_at_first() {
    let prefix = format!("test-{}", RandomIds.new_id());
    let broker = Broker::connect(&prefix).await;
    let queue = format!("p-{prefix}");
    let proxy = Proxy::start(false).await;
    let publisher =
        Publisher::connect(&proxy.url, Target::Queue(queue.clone()), &prefix, &Env::system()).await.unwrap();
    assert_eq!(publisher.publish_all(&messages(0..1)).await.unwrap_err().code(), ErrorCode::Unavailable);
    proxy.mend();
    publish(&publisher, &messages(0..250)).await;
    assert_eq!(take(&broker, &queue, 250).await, numbers(0..250));
    // Somebody deletes the queue: what nobody takes is an error, and then it is declared again.
    let gone = broker.channel.queue_delete(queue.as_str().into(), lapin::options::QueueDeleteOptions::default());
    gone.await.unwrap();
    let lost = publisher.publish_all(&messages(0..5)).await.unwrap_err();
    assert!(lost.message().contains("no queue of RabbitMQ takes the message"), "{lost}");
    publish(&publisher, &messages(5..10)).await;
    assert_eq!(take(&broker, &queue, 5).await, numbers(5..10));
    proxy.cut();
    let cut = async { while publisher.publish_all(&messages(10..11)).await.is_ok() {} };
    timeout(LIMIT, cut).await.unwrap();
    publisher.close().await;
    let _ = broker.channel.queue_delete(queue.as_str().into(), lapin::options::QueueDeleteOptions::default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exchange_routes_by_key_and_names_of_ours_are_refused() -> Result<()> {
    let prefix = format!("test-{}", RandomIds.new_id());
    let broker = Broker::connect(&prefix).await;
    let (exchange, queue) = (format!("x-{prefix}"), format!("p-{prefix}"));
    let env = Env::system();
    let publisher = Publisher::connect(&amqp_url(), Target::Exchange(exchange.clone()), &prefix, &env).await?;
    let unbound = publisher.publish_all(&messages(0..3)).await.unwrap_err();
    assert_eq!(unbound.code(), ErrorCode::Unavailable);
    let transient = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
    broker.channel.queue_declare(queue.as_str().into(), transient, FieldTable::default()).await.unwrap();
    let (to, from, key) = (queue.as_str().into(), exchange.as_str().into(), "oxygen".into());
    broker.channel.queue_bind(to, from, key, QueueBindOptions::default(), FieldTable::default()).await.unwrap();
    publish(&publisher, &messages(0..3)).await;
    assert_eq!(take(&broker, &queue, 3).await, numbers(0..3));
    publisher.close().await;
    broker.channel.exchange_delete(exchange.as_str().into(), ExchangeDeleteOptions::default()).await.unwrap();

    for name in ["", "amq.topic", &format!("{prefix}.events")] {
        let target = Target::Exchange(name.to_owned());
        let refused = Publisher::connect(&amqp_url(), target, &prefix, &env).await.err().unwrap();
        assert_eq!(refused.code(), ErrorCode::InvalidArgument, "{name}");
    }
    Ok(())
}
