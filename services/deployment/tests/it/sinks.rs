//! The prediction log as CloudEvents, to real HTTP servers and a real RabbitMQ.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::Bytes;
use fishy_config::{Config, PredictionSink};
use fishy_contracts::deployment::{Shadow, SinkStatus, TrafficSpec};
use fishy_core::{Ids, RandomIds};
use hmac::{Hmac, KeyInit, Mac};
use lapin::message::Delivery;
use lapin::options::{
    BasicGetOptions, ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, ConnectionProperties};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use crate::faults::copy_dir;
use crate::world::{App, INFER, INVOKE, NOW_MS, World, columns, eventually, spec, variable};

/// Somebody who takes events over HTTP.
#[derive(Clone)]
pub struct Lake {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<(HeaderMap, Bytes)>>>,
    /// What it answers to the next requests instead of taking them.
    refusals: Arc<Mutex<VecDeque<u16>>>,
    /// It answers every request with 503.
    is_away: Arc<Mutex<bool>>,
    max_bytes: Arc<AtomicUsize>,
}

impl Lake {
    /// One that is not there yet: its port is closed.
    pub async fn away() -> Self {
        let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        Self {
            address,
            requests: Arc::default(),
            refusals: Arc::default(),
            is_away: Arc::default(),
            max_bytes: Arc::new(AtomicUsize::new(usize::MAX)),
        }
    }

    pub async fn new() -> (Self, AbortOnDropHandle<()>) {
        let lake = Self::away().await;
        let serving = lake.come().await;
        (lake, serving)
    }

    /// Begins to listen.
    pub async fn come(&self) -> AbortOnDropHandle<()> {
        let listener = TcpListener::bind(self.address).await.unwrap();
        let router = Router::new()
            .route("/events", post(Self::take))
            .layer(DefaultBodyLimit::disable())
            .with_state(self.clone());
        AbortOnDropHandle::new(tokio::spawn(async move { axum::serve(listener, router).await.unwrap() }))
    }

    #[expect(clippy::unused_async, reason = "axum takes handlers that are")]
    async fn take(State(lake): State<Self>, headers: HeaderMap, body: Bytes) -> Response {
        let refusal = lake.refusals.lock().unwrap().pop_front();
        if let Some(status) = refusal {
            return (StatusCode::from_u16(status).unwrap(), [("retry-after", "0")]).into_response();
        }
        if *lake.is_away.lock().unwrap() {
            return StatusCode::SERVICE_UNAVAILABLE.into_response();
        }
        if body.len() > lake.max_bytes.load(Ordering::Relaxed) {
            return StatusCode::PAYLOAD_TOO_LARGE.into_response();
        }
        lake.requests.lock().unwrap().push((headers, body));
        StatusCode::NO_CONTENT.into_response()
    }

    pub fn url(&self) -> String {
        format!("http://{}/events", self.address)
    }

    /// The bodies that were taken.
    fn bodies(&self) -> Vec<Value> {
        self.requests.lock().unwrap().iter().map(|(_, body)| serde_json::from_slice(body).unwrap()).collect()
    }

    /// The events of all batches, in the order they came.
    pub fn events(&self) -> Vec<Value> {
        let batches = self.bodies().into_iter();
        batches.flat_map(|batch| batch.as_array().unwrap().clone()).collect()
    }

    /// How often each id came.
    pub fn ids(&self) -> BTreeMap<String, usize> {
        let mut ids = BTreeMap::new();
        for event in self.events() {
            *ids.entry(event["id"].as_str().unwrap().to_owned()).or_default() += 1;
        }
        ids
    }
}

pub fn sink(settings: Value) -> PredictionSink {
    serde_json::from_value(settings).unwrap()
}

fn with_sinks(world: &World, sinks: impl IntoIterator<Item = (&'static str, Value)>) -> Config {
    let mut config = world.config();
    config.deployment.sinks = sinks.into_iter().map(|(name, settings)| (name.to_owned(), sink(settings))).collect();
    config
}

async fn start(world: &World, config: Config) -> App {
    let app = world.start_with(config).await;
    app.api.apply(&spec(false)).await.unwrap();
    app
}

async fn predict(app: &App, ids: impl IntoIterator<Item = String>) {
    for id in ids {
        assert_eq!(app.post(INFER, &columns(&id, 10.0)).await.status, 200);
    }
}

fn numbered(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| format!("p-{number:03}")).collect()
}

/// Each of them once.
fn once(range: std::ops::Range<usize>) -> BTreeMap<String, usize> {
    numbered(range).into_iter().map(|id| (id, 1)).collect()
}

/// The first sink, once it has passed everything.
async fn passed(app: &App) -> SinkStatus {
    loop {
        let status = app.api.sinks().await.unwrap().items.remove(0);
        if status.waiting_records == 0 {
            return status;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The last problem, once there is one.
async fn problem_of(app: &App) -> String {
    loop {
        if let Some(problem) = app.running.problems().await.pop() {
            return problem;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn records_come_in_batches_with_their_attributes_signed() {
    let world = World::new().await;
    let (lake, _serving) = Lake::new().await;
    let settings = json!({"url": lake.url(), "token": "let-me-in", "secret": "a shared secret"});
    let app = start(&world, with_sinks(&world, [("lake", settings)])).await;
    let mut request = columns("p", 10.0);
    request["parameters"] = json!({"event_time": "2012-06-01T00:00:00Z", "labels": {"pen": "4"}});
    assert_eq!(app.post(INFER, &request).await.status, 200);
    let split = json!({"columns": ["temperature", "salinity", "ph"], "data": [[1, 1, 1], [null, 2, 2]]});
    let params = json!({"prediction_id": "q"});
    assert_eq!(app.post(INVOKE, &json!({"dataframe_split": split, "params": params})).await.status, 200);
    let unrecorded = json!({"record": false});
    let mut request = columns("r", 10.0);
    request["parameters"] = unrecorded;
    assert_eq!(app.post(INFER, &request).await.status, 200);

    eventually("three events", || lake.events().len() >= 3).await;
    let events = lake.events();
    let ids: Vec<&str> = events.iter().map(|event| event["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["p", "q", "q/1"]);
    let expected = json!({
        "specversion": "1.0", "id": "p", "source": "/deployments/virtual-oxygen",
        "type": "fishy.deployment.prediction.recorded.v1", "time": "2012-01-01T05:00:00.000Z",
        "subject": "virtual-oxygen", "partitionkey": "p", "modelversion": "1", "revision": 1,
        "datacontenttype": "application/json",
        "data": {
            "id": "p", "deployment": "virtual-oxygen", "revision": 1, "version": "1", "time_ms": 1_338_508_800_000_i64,
            "received_ms": NOW_MS, "latency_us": events[0]["data"]["latency_us"],
            "inputs": {"temperature": 10.0, "salinity": 1.0, "ph": 1.0}, "outputs": {"y": 15.5}, "labels": {"pen": "4"},
        },
    });
    assert_eq!(events[0], expected);
    assert_eq!((&events[2]["partitionkey"], &events[2]["data"]["inputs"]["temperature"]), (&json!("q"), &Value::Null));
    for (headers, body) in lake.requests.lock().unwrap().iter() {
        let header = |name: &str| headers[name].to_str().unwrap();
        assert_eq!(header("content-type"), "application/cloudevents-batch+json; charset=utf-8");
        assert_eq!(header("authorization"), "Bearer let-me-in");
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(b"a shared secret").unwrap();
        mac.update(format!("{}.", header("fishy-timestamp")).as_bytes());
        mac.update(body);
        assert_eq!(header("fishy-signature"), format!("sha256={}", hex::encode(mac.finalize().into_bytes())));
    }
    assert_eq!(app.running.problems().await, Vec::<String>::new());
    let status = app.api.sinks().await.unwrap().items.remove(0);
    assert_eq!((status.name.as_str(), status.kind.as_str(), status.sent, status.dropped), ("lake", "http", 3, 0));
    app.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn single_events_come_structured_or_with_their_attributes_as_headers() {
    let world = World::new().await;
    let ((structured, _first), (binary, _second)) = (Lake::new().await, Lake::new().await);
    let sinks = [
        ("structured", json!({"url": structured.url(), "mode": "structured"})),
        ("binary", json!({"url": binary.url(), "mode": "binary"})),
    ];
    let app = start(&world, with_sinks(&world, sinks)).await;
    predict(&app, numbered(0..30)).await;
    let count = |lake: &Lake| lake.requests.lock().unwrap().len();
    eventually("all events", || count(&structured) == 30 && count(&binary) == 30).await;
    let ids = |names: Vec<String>| names.into_iter().collect::<BTreeSet<String>>();
    let bodies = structured.bodies();
    let came = bodies.iter().map(|event| event["data"]["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids(came), ids(numbered(0..30)));
    for (headers, body) in structured.requests.lock().unwrap().iter() {
        assert_eq!(headers["content-type"], "application/cloudevents+json; charset=utf-8");
        let event: Value = serde_json::from_slice(body).unwrap();
        assert_eq!((&event["specversion"], &event["id"]), (&json!("1.0"), &event["data"]["id"]));
    }
    let mut came = Vec::new();
    for (headers, body) in binary.requests.lock().unwrap().iter() {
        let record: Value = serde_json::from_slice(body).unwrap();
        let header = |name: &str| headers[name].to_str().unwrap().to_owned();
        assert_eq!(header("content-type"), "application/json");
        let expected = [
            ("ce-specversion", "1.0"),
            ("ce-id", record["id"].as_str().unwrap()),
            ("ce-source", "/deployments/virtual-oxygen"),
            ("ce-type", "fishy.deployment.prediction.recorded.v1"),
            ("ce-time", "2012-01-01T05:00:00.000Z"),
            ("ce-modelversion", "1"),
            ("ce-revision", "1"),
        ];
        for (name, value) in expected {
            assert_eq!(header(name), value);
        }
        came.push(header("ce-id"));
    }
    assert_eq!(ids(came), ids(numbered(0..30)));
    app.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_wait_for_a_sink_that_is_away_and_everybody_can_see_it() {
    let world = World::new().await;
    world.collect_stream().await;
    let lake = Lake::away().await;
    let app = start(&world, with_sinks(&world, [("lake", json!({"url": lake.url()}))])).await;
    predict(&app, numbered(0..40)).await;
    // The other readers do not wait for it.
    eventually("the stream", || world.streamed.lock().unwrap().len() == 40).await;
    let problem = problem_of(&app).await;
    assert!(problem.starts_with("prediction sink lake: it cannot be reached: about"), "{problem}");
    let status = app.api.sinks().await.unwrap().items.remove(0);
    assert_eq!((status.sent, status.waiting_records, status.dropped), (0, 40, 0));
    assert!(status.waiting_bytes > 0 && status.problem.is_some() && status.last_sent_ms.is_none(), "{status:?}");

    let _serving = lake.come().await;
    eventually("all events", || lake.ids().len() == 40).await;
    assert_eq!(lake.ids(), once(0..40));
    let status = passed(&app).await;
    assert_eq!((status.sent, status.problem, status.last_sent_ms), (40, None, Some(NOW_MS)));
    assert_eq!(app.running.problems().await, Vec::<String>::new());
    app.shutdown().await;
}

/// What `kill -9` leaves is what the kernel has: a copy of the folder, taken while the service runs.
#[tokio::test(flavor = "multi_thread")]
async fn a_sink_goes_on_where_it_was_after_a_kill() {
    let world = World::new().await;
    let (lake, _serving) = Lake::new().await;
    let settings = json!({"url": lake.url(), "batch_records": 7});
    let app = start(&world, with_sinks(&world, [("lake", settings.clone())])).await;
    predict(&app, numbered(0..20)).await;
    eventually("the first events", || lake.ids().len() == 20).await;
    // The cursor moves when the sink has answered.
    passed(&app).await;
    *lake.is_away.lock().unwrap() = true;
    predict(&app, numbered(20..50)).await;
    let killed = tempfile::tempdir().unwrap();
    copy_dir(&world.dir.path().join("deployment"), &killed.path().join("deployment"));
    app.shutdown().await;
    assert_eq!(lake.ids().len(), 20);

    *lake.is_away.lock().unwrap() = false;
    let mut config = with_sinks(&world, [("lake", settings)]);
    config.storage.data_dir = killed.path().display().to_string();
    let after = world.start_with(config).await;
    eventually("all events", || lake.ids().len() == 50).await;
    assert_eq!(lake.ids(), once(0..50), "none twice: none was under way");
    after.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_sink_does_not_take_is_sent_again_and_what_is_too_large_in_parts() {
    let world = World::new().await;
    let (lake, _serving) = Lake::new().await;
    lake.refusals.lock().unwrap().extend([500, 400, 429, 302]);
    *lake.is_away.lock().unwrap() = true;
    let app = start(&world, with_sinks(&world, [("lake", json!({"url": lake.url()}))])).await;
    predict(&app, numbered(0..20)).await;
    let mut large = columns("large", 10.0);
    let labels: BTreeMap<String, String> = (0..16).map(|number| (format!("note-{number}"), "x".repeat(200))).collect();
    large["parameters"] = json!({"labels": labels});
    assert_eq!(app.post(INFER, &large).await.status, 200);
    predict(&app, numbered(20..40)).await;
    // Four events are too many, and one of them is too large alone.
    lake.max_bytes.store(2_500, Ordering::Relaxed);
    eventually("all refusals", || lake.refusals.lock().unwrap().is_empty()).await;
    *lake.is_away.lock().unwrap() = false;
    eventually("all events but one", || lake.ids().len() == 40).await;
    let status = passed(&app).await;
    assert_eq!((status.refused, status.dropped, status.problem), (1, 0, None));
    let order: Vec<String> = lake.events().iter().map(|event| event["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(order, numbered(0..40), "in their order");
    assert!(lake.requests.lock().unwrap().iter().all(|(_, body)| body.len() <= 2_500));
    app.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sinks_get_their_share_of_their_deployments_in_their_format() {
    let world = World::new().await;
    let ((half, _first), (none, _second), (kserve, _third)) = (Lake::new().await, Lake::new().await, Lake::new().await);
    let sinks = [
        ("half", json!({"url": half.url(), "sample": 0.5})),
        ("none", json!({"url": none.url(), "deployments": ["another"]})),
        ("kserve", json!({"url": kserve.url(), "deployments": ["virtual-oxygen"], "format": "kserve"})),
    ];
    let app = start(&world, with_sinks(&world, sinks)).await;
    predict(&app, numbered(0..200)).await;
    eventually("all of KServe's events", || kserve.events().len() == 400).await;
    app.shutdown().await;
    let sampled = half.ids();
    assert!((70..=130).contains(&sampled.len()), "about half of 200: {}", sampled.len());
    assert!(half.events().iter().all(|event| event["sampledrate"] == 2));
    assert_eq!(none.events(), Vec::<Value>::new());
    let events = kserve.events();
    assert_eq!(events[0]["type"], "org.kubeflow.serving.inference.request");
    assert_eq!(events[1]["type"], "org.kubeflow.serving.inference.response");
    assert_eq!((&events[0]["id"], &events[1]["id"]), (&json!("p-000"), &json!("p-000")));
    assert_eq!(events[0]["data"]["inputs"][2]["data"], json!([10.0]));
    let output = json!([{"name": "y", "shape": [1], "datatype": "FP64", "data": [15.5]}]);
    assert_eq!(events[1]["data"]["outputs"], output);
    // The request is one that the same model answers in the same way.
    let again = world.start().await;
    let answer = again.post(INFER, &events[0]["data"]).await.json();
    assert_eq!(answer["outputs"][0]["data"], json!([15.5]), "{answer}");
    again.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_of_a_shadow_are_kept_for_sinks_and_monitoring_has_none_of_them() {
    let world = World::new().await;
    world.collect_stream().await;
    let (lake, _serving) = Lake::new().await;
    let app = start(&world, with_sinks(&world, [("lake", json!({"url": lake.url()}))])).await;
    let shadow = Shadow { version: "2".into(), percent: 100.0, tolerance: 1e-4, is_recorded: true };
    let traffic = TrafficSpec { shadow: Some(shadow), ..TrafficSpec::default() };
    app.api.set_traffic("virtual-oxygen", &traffic).await.unwrap();
    predict(&app, numbered(0..10)).await;
    let mut unrecorded = columns("unrecorded", 10.0);
    unrecorded["parameters"] = json!({"record": false});
    assert_eq!(app.post(INFER, &unrecorded).await.status, 200);
    // Answered again, recorded once.
    predict(&app, numbered(0..1)).await;
    eventually("both answers to each", || lake.events().len() >= 20).await;
    app.shutdown().await;
    let (shadows, given): (Vec<Value>, Vec<Value>) =
        lake.events().into_iter().partition(|event| event["type"] == "fishy.deployment.prediction.shadowed.v1");
    let ids =
        |events: &[Value]| events.iter().map(|event| event["id"].as_str().unwrap().to_owned()).collect::<BTreeSet<_>>();
    assert_eq!((shadows.len(), given.len()), (10, 10));
    assert_eq!(ids(&shadows), ids(&given));
    for event in &shadows {
        let (data, source) = (&event["data"], "/deployments/virtual-oxygen/shadows/2");
        assert_eq!((&event["source"], &event["modelversion"]), (&json!(source), &json!("2")));
        assert_eq!((&data["outputs"]["y"], &data["is_shadow"]), (&json!(115.0), &json!(true)));
    }
    assert!(given.iter().all(|event| event["data"]["outputs"]["y"] == 15.5));
    assert_eq!(world.streamed.lock().unwrap().len(), 10);
    assert!(world.streamed.lock().unwrap().iter().all(|record| record.version == "1" && !record.is_shadow));
}

#[tokio::test]
async fn a_sink_that_cannot_work_keeps_the_process_from_starting() {
    let world = World::new().await;
    let config = with_sinks(&world, [("lake", json!({"url": "http://127.0.0.1:1/", "sample": 2.0}))]);
    let error = world.try_start(config).await.err().unwrap();
    assert!(error.message().contains("deployment.sinks.lake") && error.message().contains("sample is 2"), "{error}");
}

fn amqp_url() -> String {
    variable("FISHY_TEST_AMQP").unwrap_or_else(|| "amqp://guest:guest@127.0.0.1:5672".into())
}

async fn channel() -> (Connection, Channel) {
    let connection = Connection::connect(&amqp_url(), ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    (connection, channel)
}

/// Takes so many messages of a queue.
async fn take(channel: &Channel, queue: &str, count: usize) -> Vec<Delivery> {
    let mut taken = Vec::new();
    let take = async {
        while taken.len() < count {
            match channel.basic_get(queue.into(), BasicGetOptions { no_ack: true }).await.unwrap() {
                Some(message) => taken.push(message.delivery),
                None => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), take).await.unwrap();
    taken
}

/// The attributes among the headers; the broker adds some of its own.
fn headers(delivery: &Delivery) -> BTreeMap<String, String> {
    let headers = delivery.properties.headers().as_ref().unwrap().inner().iter();
    let headers = headers.filter(|(name, _)| name.as_str().starts_with("cloudEvents:"));
    let text = |value: &AMQPValue| match value {
        AMQPValue::LongString(text) => String::from_utf8(text.as_bytes().to_vec()).unwrap(),
        other => panic!("{other:?}"),
    };
    headers.map(|(name, value)| (name.as_str().to_owned(), text(value))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn events_go_to_queues_and_exchanges_of_rabbitmq() {
    let world = World::new().await;
    let name = format!("sink-{}", RandomIds.new_id());
    let (queue, exchange, bound) = (format!("{name}.queue"), format!("{name}.exchange"), format!("{name}.bound"));
    let sinks = [
        ("queue", json!({"url": amqp_url(), "queue": queue})),
        ("exchange", json!({"url": amqp_url(), "exchange": exchange, "mode": "structured"})),
    ];
    let app = start(&world, with_sinks(&world, sinks)).await;
    predict(&app, numbered(0..150)).await;
    let (_connection, channel) = channel().await;
    let came = take(&channel, &queue, 150).await;
    let ids: Vec<String> = came.iter().map(|delivery| headers(delivery)["cloudEvents:id"].clone()).collect();
    assert_eq!(ids, numbered(0..150));
    let (first, properties) = (headers(&came[0]), &came[0].properties);
    for (name, value) in [
        ("specversion", "1.0"),
        ("source", "/deployments/virtual-oxygen"),
        ("type", "fishy.deployment.prediction.recorded.v1"),
        ("time", "2012-01-01T05:00:00.000Z"),
        ("subject", "virtual-oxygen"),
        ("revision", "1"),
    ] {
        assert_eq!(first[&format!("cloudEvents:{name}")], value);
    }
    assert_eq!(properties.content_type().as_ref().unwrap().as_str(), "application/json");
    assert_eq!(properties.message_id().as_ref().unwrap().as_str(), "p-000");
    assert_eq!(*properties.delivery_mode(), Some(2), "it survives the broker's restart");
    let record: Value = serde_json::from_slice(&came[0].data).unwrap();
    assert_eq!((&record["id"], &record["outputs"]["y"]), (&json!("p-000"), &json!(15.5)));

    // No queue takes what goes to the exchange: it waits, and is not lost.
    let problem = problem_of(&app).await;
    assert!(problem.contains("prediction sink exchange: no queue of RabbitMQ takes the message"), "{problem}");
    let durable = QueueDeclareOptions::durable();
    channel.queue_declare(bound.as_str().into(), durable, FieldTable::default()).await.unwrap();
    let (to, from, key) = (bound.as_str().into(), exchange.as_str().into(), "virtual-oxygen".into());
    channel.queue_bind(to, from, key, QueueBindOptions::default(), FieldTable::default()).await.unwrap();
    // A batch that was bound for nowhere in part is sent again as a whole: some may come twice.
    let mut came = Vec::new();
    let mut outputs = BTreeMap::new();
    while outputs.len() < 150 {
        let delivery = take(&channel, &bound, 1).await.remove(0);
        let event: Value = serde_json::from_slice(&delivery.data).unwrap();
        outputs.insert(event["id"].as_str().unwrap().to_owned(), event["data"]["outputs"]["y"].clone());
        came.push(delivery);
    }
    assert_eq!(outputs.keys().cloned().collect::<Vec<_>>(), numbered(0..150));
    assert_eq!(outputs["p-000"], json!(15.5));
    let form = came[0].properties.content_type().as_ref().unwrap().as_str().to_owned();
    assert_eq!(form, "application/cloudevents+json; charset=utf-8");
    app.shutdown().await;
    for queue in [queue, bound] {
        channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await.unwrap();
    }
    channel.exchange_delete(exchange.as_str().into(), ExchangeDeleteOptions::default()).await.unwrap();
}
