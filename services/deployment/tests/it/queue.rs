//! Requests from a queue, against a real RabbitMQ, asked by a plain client of AMQP.

use std::time::Duration;

use axum::http::StatusCode;
use fishy_bus::{Bus, BusOptions};
use fishy_config::{Config, RequestQueue};
use fishy_core::{Env, Ids, RandomIds};
use futures::StreamExt;
use lapin::options::{
    BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, ExchangeDeleteOptions, QueueDeclareOptions,
    QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer, message::Delivery};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::world::{App, World, columns, spec, variable};

const LIMIT: Duration = Duration::from_secs(30);

fn amqp_url() -> String {
    variable("FISHY_TEST_AMQP").unwrap_or_else(|| "amqp://guest:guest@127.0.0.1:5672".into())
}

/// Queues of one test, and a client that asks through them.
struct Client {
    channel: Channel,
    prefix: String,
    replies: Consumer,
    reply_to: String,
    _connection: Connection,
}

impl Client {
    async fn new() -> Self {
        let prefix = format!("test-{}", RandomIds.new_id());
        let connection = Connection::connect(&amqp_url(), ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        let exclusive = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
        let queue = channel.queue_declare("".into(), exclusive, FieldTable::default()).await.unwrap();
        let reply_to = queue.name().as_str().to_owned();
        let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        let replies =
            channel.basic_consume(reply_to.as_str().into(), "".into(), options, FieldTable::default()).await.unwrap();
        Self { channel, prefix, replies, reply_to, _connection: connection }
    }

    fn name(&self, last: &str) -> String {
        format!("q-{}.{last}", self.prefix)
    }

    fn settings(&self, roles: &[&str]) -> RequestQueue {
        RequestQueue {
            requests: self.name("requests"),
            results: self.name("results"),
            dead: String::new(),
            principal: "pens".into(),
            roles: roles.iter().map(|&role| role.to_owned()).collect(),
            prefetch: 4,
            patience_ms: 60_000,
        }
    }

    async fn ask(&self, body: &[u8], properties: BasicProperties) {
        let (queue, options) = (self.name("requests"), BasicPublishOptions::default());
        self.channel.basic_publish("".into(), queue.as_str().into(), options, body, properties).await.unwrap();
    }

    fn reply_here(&self) -> BasicProperties {
        BasicProperties::default().with_reply_to(self.reply_to.as_str().into())
    }

    async fn reply(&mut self) -> Delivery {
        timeout(LIMIT, self.replies.next()).await.unwrap().unwrap().unwrap()
    }

    /// Takes the next message of a queue.
    async fn take(&self, last: &str) -> Delivery {
        let take = async {
            loop {
                let options = BasicGetOptions { no_ack: true };
                let got = self.channel.basic_get(self.name(last).as_str().into(), options).await.unwrap();
                if let Some(message) = got {
                    return message.delivery;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(LIMIT, take).await.unwrap()
    }

    async fn count(&self, last: &str) -> u32 {
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let queue = self.channel.queue_declare(self.name(last).as_str().into(), passive, FieldTable::default()).await;
        queue.unwrap().message_count()
    }

    async fn delete_all(&self) {
        for queue in ["requests", "results", "requests.dead"].map(|last| self.name(last)) {
            let _ = self.channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await;
        }
        for queue in ["dead", "deployment", "stream.predictions"].map(|last| format!("{}.{last}", self.prefix)) {
            let _ = self.channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await;
        }
        for exchange in ["events", "dead"].map(|last| format!("{}.{last}", self.prefix)) {
            let _ = self.channel.exchange_delete(exchange.as_str().into(), ExchangeDeleteOptions::default()).await;
        }
    }
}

fn body_of(delivery: &Delivery) -> Value {
    serde_json::from_slice(&delivery.data).unwrap()
}

fn header(delivery: &Delivery, name: &str) -> Option<AMQPValue> {
    delivery.properties.headers().as_ref().and_then(|headers| headers.inner().get(name).cloned())
}

fn reason(delivery: &Delivery) -> Value {
    match header(delivery, "fishy-error") {
        Some(AMQPValue::LongString(text)) => serde_json::from_slice(text.as_bytes()).unwrap(),
        other => panic!("no reason: {other:?}"),
    }
}

/// A deployment that also takes requests from a queue, as somebody with these roles.
async fn serving(roles: &[&str]) -> (World, App, Client, Bus) {
    let client = Client::new().await;
    let mut world = World::new().await;
    let options = BusOptions { prefix: client.prefix.clone(), ..BusOptions::default() };
    let bus = Bus::connect_with(&amqp_url(), options, Env::system()).await.unwrap();
    world.bus = bus.clone();
    let mut config: Config = world.config();
    config.deployment.queues.insert("virtual-oxygen".into(), client.settings(roles));
    let app = world.start_with(config).await;
    app.api.apply(&spec(false)).await.unwrap();
    (world, app, client, bus)
}

async fn finish(app: App, client: Client, bus: Bus) {
    bus.close().await;
    app.shutdown().await;
    client.delete_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_come_with_what_their_requests_brought_and_repetitions_have_the_same_id() {
    let (_world, app, mut client, bus) = serving(&["sensor"]).await;
    let counted = async || {
        let told = app.get("/v2/models/virtual-oxygen/stats").await.json();
        told["model_stats"][0]["inference_count"].as_u64().unwrap()
    };
    let before = counted().await;
    let mut headers = FieldTable::default();
    headers.insert("farm".into(), AMQPValue::LongString("Hitra".into()));
    let asked = || {
        client
            .reply_here()
            .with_correlation_id("c-1".into())
            .with_message_id("pen-4:05".into())
            .with_headers(headers.clone())
    };
    let asked = [asked(), asked()];
    let mut request = columns("", 10.0);
    request.as_object_mut().unwrap().remove("id");
    for properties in asked {
        client.ask(request.to_string().as_bytes(), properties).await;
    }
    for _ in 0..2 {
        let reply = client.reply().await;
        let body = body_of(&reply);
        assert_eq!(body["outputs"][0]["data"], json!([15.5]), "{body}");
        assert_eq!(body["id"], "pen-4:05");
        assert_eq!(reply.properties.correlation_id().as_ref().unwrap().as_str(), "c-1");
        assert_eq!(reply.properties.content_type().as_ref().unwrap().as_str(), "application/json");
        assert_eq!(header(&reply, "farm"), Some(AMQPValue::LongString("Hitra".into())));
        assert_eq!(header(&reply, "fishy-status"), Some(AMQPValue::LongInt(200)));
    }
    assert_eq!(counted().await, before + 2, "counted like requests of the other doors");

    // Without reply_to, to the configured queue. Equal bytes without any id are one prediction; others are another.
    for temperature in [1.0, 1.0, 2.0] {
        let mut request = columns("", temperature);
        request.as_object_mut().unwrap().remove("id");
        client.ask(request.to_string().as_bytes(), BasicProperties::default()).await;
    }
    let mut ids: Vec<String> = Vec::new();
    for _ in 0..3 {
        ids.push(body_of(&client.take("results").await)["id"].as_str().unwrap().to_owned());
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 2, "{ids:?}");
    // The id in the body counts before all others.
    client.ask(columns("mine", 1.0).to_string().as_bytes(), client.reply_here().with_message_id("m".into())).await;
    assert_eq!(body_of(&client.reply().await)["id"], "mine");
    // RabbitMQ's way back without a queue.
    let direct = "amq.rabbitmq.reply-to";
    let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    let consuming = client.channel.basic_consume(direct.into(), "".into(), options, FieldTable::default());
    client.replies = consuming.await.unwrap();
    let properties = BasicProperties::default().with_reply_to(direct.into());
    client.ask(columns("direct", 1.0).to_string().as_bytes(), properties).await;
    assert_eq!(body_of(&client.reply().await)["id"], "direct");
    assert_eq!(client.count("requests").await, 0);
    assert_eq!(client.count("requests.dead").await, 0);
    finish(app, client, bus).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_request_is_told_so_and_put_aside_with_the_reason() {
    let (_world, app, mut client, bus) = serving(&["sensor"]).await;
    let unknown = json!({"inputs": [{"name": "weight", "shape": [1], "datatype": "FP64", "data": [1.0]}]}).to_string();
    let binary = {
        let mut request = columns("b", 1.0);
        request["parameters"] = json!({"binary_data_output": true});
        request.to_string()
    };
    for (bad, says) in [("{ no JSON", "request body"), (unknown.as_str(), "weight"), (binary.as_str(), "JSON")] {
        client.ask(bad.as_bytes(), client.reply_here().with_correlation_id("c".into())).await;
        let reply = client.reply().await;
        assert!(body_of(&reply)["error"].as_str().unwrap().contains(says), "{}", body_of(&reply));
        assert_eq!(header(&reply, "fishy-status"), Some(AMQPValue::LongInt(400)));
        assert_eq!(reply.properties.correlation_id().as_ref().unwrap().as_str(), "c");
        let dead = client.take("requests.dead").await;
        assert_eq!(dead.data, bad.as_bytes(), "as it came");
        assert_eq!(reason(&dead), body_of(&reply));
        assert_eq!(dead.properties.reply_to().as_ref().unwrap().as_str(), client.reply_to);
    }
    // A queue that is not there, and one that is not the client's.
    for (reply_to, says) in [("nowhere".to_owned(), "nowhere"), (format!("{}.dead", client.prefix), "your own")] {
        let properties = BasicProperties::default().with_reply_to(reply_to.as_str().into());
        client.ask(columns("a", 1.0).to_string().as_bytes(), properties).await;
        let told = reason(&client.take("requests.dead").await);
        assert!(told["error"].as_str().unwrap().contains(says), "{told}");
    }
    client.ask(columns("good", 10.0).to_string().as_bytes(), client.reply_here()).await;
    assert_eq!(body_of(&client.reply().await)["id"], "good", "what comes after it is answered");
    assert_eq!(client.count("requests").await, 0);
    assert_eq!(client.count("requests.dead").await, 0, "once each");
    finish(app, client, bus).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_principal_whom_no_policy_permits_is_denied() {
    let (_world, app, mut client, bus) = serving(&[]).await;
    client.ask(columns("a", 1.0).to_string().as_bytes(), client.reply_here()).await;
    let reply = client.reply().await;
    assert!(body_of(&reply)["error"].as_str().unwrap().contains("pens may not do deployment:predict"));
    let status = i32::from(StatusCode::FORBIDDEN.as_u16());
    assert_eq!(header(&reply, "fishy-status"), Some(AMQPValue::LongInt(status)));
    assert_eq!(reason(&client.take("requests.dead").await), body_of(&reply));
    finish(app, client, bus).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_waits_for_a_deployment_that_is_not_ready() {
    let client = Client::new().await;
    let mut world = World::new().await;
    let options = BusOptions { prefix: client.prefix.clone(), ..BusOptions::default() };
    world.bus = Bus::connect_with(&amqp_url(), options, Env::system()).await.unwrap();
    world.registry.lock().unwrap().champion = None;
    let mut config = world.config();
    config.deployment.queues.insert("virtual-oxygen".into(), client.settings(&["sensor"]));
    let app = world.start_with(config).await;
    let _ = app.api.apply(&spec(false)).await;
    app.until(|deployment| deployment.problem.is_some()).await;
    client.ask(columns("a", 10.0).to_string().as_bytes(), client.reply_here()).await;
    // Taken from the queue, and kept.
    let mut is_taken = false;
    for _ in 0..2000 {
        is_taken = client.count("requests").await == 0;
        if is_taken {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(is_taken);
    world.registry.lock().unwrap().champion = Some("1".into());
    app.until_version("1").await;
    let mut client = client;
    assert_eq!(body_of(&client.reply().await)["outputs"][0]["data"], json!([15.5]));
    assert_eq!(client.count("requests.dead").await, 0);
    let bus = world.bus.clone();
    finish(app, client, bus).await;
}

#[tokio::test]
async fn a_mistake_in_the_settings_is_told_at_start() {
    let good = || RequestQueue {
        requests: "q-requests".into(),
        results: String::new(),
        dead: String::new(),
        principal: "pens".into(),
        roles: Vec::new(),
        prefetch: 1,
        patience_ms: 60_000,
    };
    for (settings, says) in [(good(), "bus.url"), (RequestQueue { patience_ms: 0, ..good() }, "patience_ms")] {
        let world = World::new().await;
        let mut config = world.config();
        config.deployment.queues.insert("virtual-oxygen".into(), settings);
        let error = world.try_start(config).await.err().unwrap();
        let told = error.chain();
        assert!(told.contains(says) && told.contains("deployment.queues.virtual-oxygen"), "{told}");
    }
}
