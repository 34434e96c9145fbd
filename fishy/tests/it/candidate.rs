//! A candidate against the traffic of a server.

use std::time::Duration;

use serde_json::{Value, json};

use super::registry::Server;
use super::rig::{fishy, root, run};

pub async fn send(server: &Server, method: reqwest::Method, path: &str, body: impl Into<reqwest::Body>) -> Value {
    let asked = reqwest::Client::new().request(method, format!("{}{path}", server.url)).body(body);
    let answer = asked.header("content-type", "application/json").send().await.unwrap();
    assert!(answer.status().is_success(), "{path}: {}", answer.text().await.unwrap());
    serde_json::from_str(&answer.text().await.unwrap()).unwrap_or_default()
}

/// Two versions, 99.5 apart, of which the first serves.
async fn deploy(server: &Server) {
    let experiment = server.post("experiments/create", json!({"name": "e"})).await;
    let experiment = experiment["experiment_id"].as_str().unwrap().to_owned();
    server.post("registered-models/create", json!({"name": "oxygen"})).await;
    for onnx in ["linear_half.onnx", "linear_hundred.onnx"] {
        let made = server.post("runs/create", json!({"experiment_id": experiment, "start_time": 5})).await;
        let made = made["run"]["info"]["run_id"].as_str().unwrap();
        let model = std::fs::read(root().join("services/deployment/tests/fixtures").join(onnx)).unwrap();
        let path = format!("/api/2.0/mlflow-artifacts/artifacts/{experiment}/{made}/artifacts/m/model.onnx");
        send(server, reqwest::Method::PUT, &path, model).await;
        let version = json!({"name": "oxygen", "source": format!("runs:/{made}/m"), "run_id": made});
        server.post("model-versions/create", version).await;
    }
    let output = run(&["deploy", "oxygen", "--model", "models:/oxygen/1", "--url", &server.url]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_candidate_is_asked_what_was_asked_live() {
    let server = Server::start();
    deploy(&server).await;
    send(
        &server,
        reqwest::Method::PUT,
        "/api/v1/monitors/oxygen",
        json!({"name": "oxygen", "deployment": "oxygen"}).to_string(),
    )
    .await;
    for number in 0..30 {
        let row = json!([f64::from(number), 1.0, 1.0]);
        let request = json!({
            "id": format!("p-{number}"),
            "parameters": {"labels": {"pen": (number % 2).to_string()}},
            "inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": row}],
        });
        send(&server, reqwest::Method::POST, "/v2/models/oxygen/infer", request.to_string()).await;
    }
    // In pen 0 the first version is right.
    let items: Vec<Value> = (0..30)
        .step_by(2)
        .map(|number| json!({"prediction_id": format!("p-{number}"), "value": f64::from(number) + 5.5}))
        .collect();
    send(&server, reqwest::Method::POST, "/api/v1/feedback/ground-truth", json!({"items": items}).to_string()).await;
    let logged = format!("/api/v1/predictions?deployment=oxygen&from_ms=0&to_ms={}", i64::MAX);
    for attempt in 0.. {
        let page = send(&server, reqwest::Method::GET, &logged, "").await;
        let items = page["items"].as_array().unwrap();
        if items.len() == 30 && items.iter().filter(|one| one["value"].is_number()).count() == 15 {
            break;
        }
        assert!(attempt < 1_000, "monitoring never had it all: {page}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let asked = ["deploy", "replay", "oxygen", "--version", "2", "--by", "pen", "--threshold", "20"];
    let report = server.json(&asked);
    let overall = &report["overall"];
    assert_eq!((&overall["rows"], &overall["changed"], &report["is_complete"]), (&json!(30), &json!(30), &json!(true)));
    assert_eq!(overall["flips"], json!([{"threshold": 20.0, "to_below": 0, "to_above": 15}]));
    assert_eq!(overall["difference"]["mean"], json!(99.5));
    assert_eq!(report["slices"][0]["value"], "0");
    assert_eq!(report["slices"][0]["figures"]["recorded"]["mae"], json!(0.0));
    assert_eq!(report["slices"][0]["figures"]["candidate"]["mae"], json!(99.5));
    let printed = server.text(&asked);
    assert!(printed.contains("version 2 asked what oxygen was asked"), "{printed}");
    assert!(printed.contains("30 (100.0 %)") || printed.contains("+99.5000"), "{printed}");
    let unknown = run(&["deploy", "replay", "oxygen", "--version", "9", "--url", &server.url]);
    assert!(!unknown.status.success());
    let nameless = fishy().args(["deploy", "--url", &server.url]).output().unwrap();
    assert!(String::from_utf8_lossy(&nameless.stderr).contains("required arguments were not provided"));
}
