//! Requests from a queue while the server is killed.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use lapin::options::{
    BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeDeleteOptions, QueueDeclareOptions,
    QueueDeleteOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use serde_json::{Value, json};

use super::cluster::setting;
use super::rig::{fishy, root};

const REQUESTS: usize = 600;
const KILLS: usize = 3;
const LIMIT: Duration = Duration::from_mins(2);

/// A server that can be killed and started again.
pub struct Server {
    child: Child,
    pub url: String,
}

impl Server {
    pub fn start(config: &Path) -> Self {
        let mut child =
            fishy().args(["up", "--config"]).arg(config).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let mut said = Vec::new();
        let url = lines.find_map(|line| {
            let url = line.strip_prefix("fishy is up at ").map(str::to_owned);
            said.push(line);
            url
        });
        let url = url.unwrap_or_else(|| panic!("it did not start: {}", said.join("\n")));
        // What it says later must have somewhere to go.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, url }
    }

    /// What `kill -9` does.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub async fn send(&self, method: reqwest::Method, path: &str, body: impl Into<reqwest::Body>) -> Value {
        let asked = reqwest::Client::new().request(method, format!("{}{path}", self.url)).body(body);
        let answer = asked.header("content-type", "application/json").send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.text().await.unwrap());
        serde_json::from_str(&answer.text().await.unwrap()).unwrap_or_default()
    }

    /// A registered model with an alias, and the deployment that follows it.
    pub async fn deploy(&self) {
        let post = async |path: &str, body: Value| {
            self.send(reqwest::Method::POST, &format!("/api/2.0/mlflow/{path}"), body.to_string()).await
        };
        let experiment = post("experiments/create", json!({"name": "e"})).await;
        let experiment = experiment["experiment_id"].as_str().unwrap().to_owned();
        let run = post("runs/create", json!({"experiment_id": experiment, "start_time": 5})).await;
        let run = run["run"]["info"]["run_id"].as_str().unwrap().to_owned();
        let model = std::fs::read(root().join("services/deployment/tests/fixtures/linear_half.onnx")).unwrap();
        let path = format!("/api/2.0/mlflow-artifacts/artifacts/{experiment}/{run}/artifacts/m/model.onnx");
        self.send(reqwest::Method::PUT, &path, model).await;
        post("registered-models/create", json!({"name": "oxygen"})).await;
        let version = json!({"name": "oxygen", "source": format!("runs:/{run}/m"), "run_id": run});
        post("model-versions/create", version).await;
        post("registered-models/alias", json!({"name": "oxygen", "alias": "champion", "version": "1"})).await;
        let spec = json!({"name": "oxygen", "model": "models:/oxygen@champion", "is_gated": false});
        self.send(reqwest::Method::PUT, "/api/v1/deployments/oxygen", spec.to_string()).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub async fn channel(broker: &str) -> (Connection, Channel) {
    let connection = Connection::connect(broker, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    (connection, channel)
}

/// Takes what is in the results: prediction ids by correlation id.
async fn collect(channel: &Channel, queue: &str, answered: &mut BTreeMap<String, Vec<String>>) {
    while let Some(message) = channel.basic_get(queue.into(), BasicGetOptions { no_ack: true }).await.unwrap() {
        let correlation = message.delivery.properties.correlation_id().as_ref().unwrap().as_str().to_owned();
        let body: Value = serde_json::from_slice(&message.delivery.data).unwrap();
        assert!(body["outputs"][0]["data"][0].is_number(), "{body}");
        answered.entry(correlation).or_default().push(body["id"].as_str().unwrap().to_owned());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_of_a_queue_is_lost_when_the_server_is_killed() {
    let broker = setting("FISHY_TEST_AMQP", "amqp://guest:guest@127.0.0.1:5672/%2f");
    let prefix = format!("fishy_queue_{}", std::process::id());
    let (requests, results) = (format!("q_{prefix}"), format!("q_{prefix}_results"));
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("fishy.toml");
    let data_dir = folder.path().join("data");
    let text = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n[storage]\ndata_dir = {data_dir:?}\n[bus]\nurl = {broker:?}\n\
         prefix = {prefix:?}\n[deployment.queues.oxygen]\nrequests = {requests:?}\nresults = {results:?}\n\
         principal = \"pens\"\nroles = [\"sensor\"]\n"
    );
    std::fs::write(&config, text).unwrap();
    let mut server = Server::start(&config);
    server.deploy().await;
    let (_connection, channel) = channel(&broker).await;
    let started = Instant::now();
    let mut answered = BTreeMap::new();
    for number in 0..REQUESTS {
        // No id: that of the answer is made of the message.
        let row = json!([number as f64, 1.0, 1.0]);
        let body = json!({"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": row}]}).to_string();
        let properties =
            BasicProperties::default().with_correlation_id(format!("c-{number}").into()).with_delivery_mode(2);
        let confirm = channel.basic_publish(
            "".into(),
            requests.as_str().into(),
            BasicPublishOptions::default(),
            body.as_bytes(),
            properties,
        );
        confirm.await.unwrap().await.unwrap();
        if number % (REQUESTS / (KILLS + 1)) == REQUESTS / (KILLS + 1) - 1 && number + 1 < REQUESTS {
            collect(&channel, &results, &mut answered).await;
            server.kill();
            server = Server::start(&config);
        }
    }
    while answered.len() < REQUESTS {
        assert!(started.elapsed() < LIMIT, "{} of {REQUESTS} requests were answered", answered.len());
        collect(&channel, &results, &mut answered).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut ids = BTreeMap::new();
    for (correlation, of_one) in &answered {
        assert!(of_one.iter().all(|id| *id == of_one[0]), "another id for the same request: {of_one:?}");
        assert!(ids.insert(of_one[0].clone(), correlation).is_none(), "two requests with one id");
    }
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let dead = channel.queue_declare(format!("{requests}.dead").into(), passive, FieldTable::default()).await.unwrap();
    assert_eq!(dead.message_count(), 0);
    server.kill();
    let services = ["deployment", "monitoring", "pipelines", "governance", "registry", "dead", "stream.predictions"];
    let queues = [requests.clone(), results, format!("{requests}.dead")].into_iter();
    for queue in queues.chain(services.iter().map(|last| format!("{prefix}.{last}"))) {
        let _ = channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await;
    }
    for exchange in ["events", "dead"].map(|last| format!("{prefix}.{last}")) {
        let _ = channel.exchange_delete(exchange.into(), ExchangeDeleteOptions::default()).await;
    }
}
