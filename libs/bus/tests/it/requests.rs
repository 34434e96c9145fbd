use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fishy_bus::{Answer, Bus, QueuedRequest, RequestHandler, RequestQueues};
use fishy_core::{Env, Error, ErrorCode};
use futures::FutureExt;
use lapin::BasicProperties;
use lapin::options::{BasicGetOptions, BasicPublishOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable};
use tokio::time::timeout;

use crate::broker_away::Proxy;
use crate::fixture::{Broker, Fixture, LIMIT, on_rabbit, until};

fn queues(prefix: &str) -> RequestQueues {
    RequestQueues {
        requests: format!("q-{prefix}"),
        results: Some(format!("q-{prefix}.results")),
        dead: format!("q-{prefix}.dead"),
        prefetch: 3,
        patience: Duration::from_secs(20),
    }
}

/// Gives the body back, but for the requests that say what should happen to them.
fn echo() -> RequestHandler {
    let seen = Arc::new(std::sync::Mutex::new(BTreeSet::new()));
    Arc::new(move |request: QueuedRequest| {
        let is_first = seen.lock().unwrap().insert(request.body.clone());
        let (status, body) = match &request.body[..] {
            b"busy" if is_first => (503, Bytes::from_static(b"later")),
            b"bad" => (400, Bytes::from_static(b"it is bad")),
            b"panic" => panic!("as asked"),
            b"error" => return async { Err(Error::internal("a secret")) }.boxed(),
            _ => (200, request.body.clone()),
        };
        async move { Ok(Answer { status, content_type: "text/plain".into(), body }) }.boxed()
    })
}

struct Client {
    broker: Broker,
    queues: RequestQueues,
}

impl Client {
    async fn new(fixture: &Fixture) -> Self {
        let prefix = &fixture.options.prefix;
        Self { broker: Broker::connect(prefix).await, queues: queues(prefix) }
    }

    async fn ask(&self, body: &str) {
        let (queue, options) = (self.queues.requests.as_str().into(), BasicPublishOptions::default());
        let properties = BasicProperties::default();
        self.broker.channel.basic_publish("".into(), queue, options, body.as_bytes(), properties).await.unwrap();
    }

    /// Takes the next message of a queue: its body, and the reason where it is dead.
    async fn take(&self, queue: &str) -> (String, Option<String>) {
        let take = async {
            loop {
                let got = self.broker.channel.basic_get(queue.into(), BasicGetOptions { no_ack: true }).await.unwrap();
                if let Some(message) = got {
                    let headers = message.delivery.properties.headers().clone().unwrap_or_default();
                    let reason = headers.inner().get("fishy-error").map(|reason| match reason {
                        AMQPValue::LongString(text) => String::from_utf8_lossy(text.as_bytes()).into_owned(),
                        other => panic!("{other:?}"),
                    });
                    return (String::from_utf8(message.delivery.data).unwrap(), reason);
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(LIMIT, take).await.unwrap()
    }

    async fn result(&self) -> String {
        self.take(self.queues.results.as_ref().unwrap()).await.0
    }

    async fn delete(&self) {
        let RequestQueues { requests, results, dead, .. } = &self.queues;
        for queue in [requests, results.as_ref().unwrap(), dead] {
            let options = QueueDeleteOptions::default();
            let _ = self.broker.channel.queue_delete(queue.as_str().into(), options).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_request_is_answered_or_put_aside_with_its_reason() {
    on_rabbit(async |fixture: Fixture| {
        let client = Client::new(&fixture).await;
        fixture.bus.serve(client.queues.clone(), echo()).await.unwrap();
        for body in ["a", "busy"] {
            client.ask(body).await;
            assert_eq!(client.result().await, body);
        }
        for (body, says) in [("bad", "it is bad"), ("panic", "internal"), ("error", "internal")] {
            client.ask(body).await;
            let (dead, reason) = client.take(&client.queues.dead).await;
            let (reason, told) = (reason.unwrap(), client.result().await);
            assert_eq!(dead, body);
            assert!(reason.contains(says) && reason == told && !told.contains("secret"), "{reason} {told}");
        }
        client.ask("after").await;
        assert_eq!(client.result().await, "after");
        fixture.bus.close().await;
        client.delete().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_somebody_else_has_declared_is_taken_as_it_is() {
    on_rabbit(async |fixture: Fixture| {
        let client = Client::new(&fixture).await;
        let (queue, options) = (client.queues.requests.as_str(), QueueDeclareOptions::durable());
        client.broker.channel.queue_declare(queue.into(), options, FieldTable::default()).await.unwrap();
        client.ask("before").await;
        fixture.bus.serve(client.queues.clone(), echo()).await.unwrap();
        assert_eq!(client.result().await, "before");
        fixture.bus.close().await;
        client.delete().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_go_on_when_the_broker_is_back() {
    on_rabbit(async |fixture: Fixture| {
        let client = Client::new(&fixture).await;
        let proxy = Proxy::start(true).await;
        let bus = Bus::connect_with(&proxy.url, fixture.options.clone(), Env::system()).await.unwrap();
        bus.serve(client.queues.clone(), echo()).await.unwrap();
        let mut asked = BTreeSet::new();
        for round in 0..3 {
            for number in 0..20 {
                let body = format!("{round}-{number}");
                client.ask(&body).await;
                asked.insert(body);
            }
            proxy.cut();
            until(|| !bus.is_healthy()).await;
            proxy.mend();
            until(|| bus.is_healthy()).await;
        }
        let mut answered = BTreeSet::new();
        while answered.len() < asked.len() {
            answered.insert(client.result().await);
        }
        assert_eq!(answered, asked);
        bus.close().await;
        client.delete().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_that_could_not_work_are_refused() {
    on_rabbit(async |fixture: Fixture| {
        let good = queues(&fixture.options.prefix);
        let ours = format!("{}.dead", fixture.options.prefix);
        for bad in [
            RequestQueues { prefetch: 0, ..good.clone() },
            RequestQueues { dead: good.requests.clone(), ..good.clone() },
            RequestQueues { requests: String::new(), ..good.clone() },
            RequestQueues { results: Some(ours), ..good.clone() },
        ] {
            let error = fixture.bus.serve(bad, echo()).await.unwrap_err();
            assert_eq!(error.code(), ErrorCode::InvalidArgument);
        }
        let error = Bus::in_process().serve(good, echo()).await.unwrap_err();
        assert!(error.message().contains("bus.url"), "{error}");
    })
    .await;
}
