//! The prediction log as CloudEvents while the server is killed and a sink is away.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::StatusCode;
use axum::routing::post;
use lapin::options::{BasicGetOptions, QueueDeleteOptions};
use serde_json::{Value, json};

use super::cluster::setting;
use super::queue::{Server, channel};
use super::rig::run;

const ROUND: usize = 100;
const LIMIT: Duration = Duration::from_mins(2);

/// Ids of the events that came.
type Ids = Arc<Mutex<BTreeSet<String>>>;

async fn lake(ids: Ids, is_away: Arc<AtomicBool>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/events", listener.local_addr().unwrap());
    let take = move |body: String| {
        let is_taken = !is_away.load(Ordering::SeqCst);
        if is_taken {
            let events: Vec<Value> = serde_json::from_str(&body).unwrap();
            ids.lock().unwrap().extend(events.iter().map(|event| event["id"].as_str().unwrap().to_owned()));
        }
        async move { if is_taken { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE } }
    };
    let router = Router::new().route("/events", post(take));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    url
}

async fn predict(server: &Server, round: usize) {
    for number in 0..ROUND {
        let row = json!([number as f64, 1.0, 1.0]);
        let input = json!({"name": "x", "shape": [1, 3], "datatype": "FP32", "data": row});
        let request = json!({"id": format!("p-{round}-{number}"), "inputs": [input]});
        server.send(reqwest::Method::POST, "/v2/models/oxygen/infer", request.to_string()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answered_prediction_reaches_its_sinks_although_the_server_is_killed() {
    let broker = setting("FISHY_TEST_AMQP", "amqp://guest:guest@127.0.0.1:5672/%2f");
    let queue = format!("prediction_log_{}", std::process::id());
    let (ids, is_away) = (Ids::default(), Arc::new(AtomicBool::new(false)));
    let url = lake(Arc::clone(&ids), Arc::clone(&is_away)).await;
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("fishy.toml");
    let data_dir = folder.path().join("data");
    let text = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n[storage]\ndata_dir = {data_dir:?}\n\
         [deployment.sinks.lake]\nurl = {url:?}\nbatch_records = 30\n\
         [deployment.sinks.queue]\nurl = {broker:?}\nqueue = {queue:?}\n"
    );
    std::fs::write(&config, text).unwrap();
    let mut server = Server::start(&config);
    server.deploy().await;
    let started = Instant::now();
    let rounds = 4;
    for round in 0..rounds {
        // In two rounds the sink is away while predictions are answered, and comes back after a restart.
        is_away.store(round % 2 == 1, Ordering::SeqCst);
        predict(&server, round).await;
        if round == 1 {
            told_by_status(&server, started).await;
        }
        server.kill();
        is_away.store(false, Ordering::SeqCst);
        server = Server::start(&config);
    }
    let expected: BTreeSet<String> =
        (0..rounds).flat_map(|round| (0..ROUND).map(move |number| format!("p-{round}-{number}"))).collect();
    let (_connection, channel) = channel(&broker).await;
    let mut queued = BTreeSet::new();
    while queued != expected || *ids.lock().unwrap() != expected {
        let (lake, rabbit) = (ids.lock().unwrap().len(), queued.len());
        assert!(started.elapsed() < LIMIT, "of {}, {lake} came over HTTP and {rabbit} over RabbitMQ", expected.len());
        while let Some(message) =
            channel.basic_get(queue.as_str().into(), BasicGetOptions { no_ack: true }).await.unwrap()
        {
            queued.insert(message.delivery.properties.message_id().as_ref().unwrap().as_str().to_owned());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    server.kill();
    channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await.unwrap();
}

/// `fishy status` and `/ready` say that the sink is away, and how much waits for it.
async fn told_by_status(server: &Server, started: Instant) {
    loop {
        let printed = run(&["status", "--url", &server.url]);
        assert!(printed.status.success(), "{}", String::from_utf8_lossy(&printed.stderr));
        let printed = String::from_utf8(printed.stdout).unwrap();
        if printed.contains("deployment: prediction sink lake: it answered 503: about") {
            assert!(printed.contains("rabbitmq"), "{printed}");
            return;
        }
        assert!(started.elapsed() < LIMIT, "{printed}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
