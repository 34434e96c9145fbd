//! A promotion gate that asks for a replay, with all services in one server.

use std::time::Duration;

use fishy_core::Env;
use fishy_core::time::{HOUR_MS, rfc3339};
use reqwest::Method;
use serde_json::{Value, json};

use super::candidate::send;
use super::registry::Server;
use super::rig::{root, run};

const PREDICTIONS: i64 = 60;

/// The "training" is done: the param names the run that logged the model.
const PIPELINE: &str = r#"name = "retrain"
monitor = "oxygen"
model = "oxygen"
deployment = "oxygen"
[params]
run = ""
[data]
train_days = 60
holdout_rows = 30
min_train_rows = 20
[[step]]
name = "train"
kind = "command"
command = ["sh", "-c", '''
printf '{"model_uri": "runs:/%s/m", "run_id": "%s"}' "$FISHY_PARAM_RUN" "$FISHY_PARAM_RUN" > "$FISHY_OUTPUT"
''']
[[step]]
name = "register"
kind = "register"
[[step]]
name = "evaluate"
kind = "evaluate"
[[step]]
name = "gate"
kind = "gate"
min_labels = 24
[step.replay]
last_days = 30
thresholds = [150.0]
max_flips_share = 0.05
min_rows = 50
[[step]]
name = "promote"
kind = "promote"
"#;

/// Logs a model as MLflow's client does; the run that it belongs to.
async fn log_model(server: &Server, experiment: &str, onnx: &str) -> String {
    let made = server.post("runs/create", json!({"experiment_id": experiment, "start_time": 5})).await;
    let made = made["run"]["info"]["run_id"].as_str().unwrap().to_owned();
    let columns = ["temperature", "salinity", "ph"].map(|name| json!({"type": "double", "name": name}));
    let mlmodel = format!(
        "flavors:\n  onnx: {{data: model.onnx}}\n  python_function: {{data: model.onnx, loader_module: mlflow.onnx}}\n\
         signature:\n  inputs: '{}'\n",
        json!(columns)
    );
    let model = std::fs::read(root().join("services/deployment/tests/fixtures").join(onnx)).unwrap();
    for (file, content) in [("model.onnx", model), ("MLmodel", mlmodel.into_bytes())] {
        let path = format!("/api/2.0/mlflow-artifacts/artifacts/{experiment}/{made}/artifacts/m/{file}");
        send(server, Method::PUT, &path, content).await;
    }
    made
}

/// Hourly predictions up to now; the truth is what the other model says, 99.5 more.
async fn predict(server: &Server) {
    let now_ms = Env::system().now_ms();
    let mut items = Vec::new();
    for number in 0..PREDICTIONS {
        let column = |name: &str, value: f64| json!({"name": name, "shape": [1], "datatype": "FP64", "data": [value]});
        let inputs = [
            column("temperature", 8.0 + (number % 9) as f64 * 0.4),
            column("salinity", 30.0 + (number % 7) as f64 * 0.1),
            column("ph", 8.0 + (number % 5) as f64 * 0.01),
        ];
        let time = rfc3339(now_ms - (PREDICTIONS - number) * HOUR_MS);
        let id = format!("p-{number}");
        let request = json!({"id": id, "parameters": {"event_time": time}, "inputs": inputs});
        let answer = send(server, Method::POST, "/v2/models/oxygen/infer", request.to_string()).await;
        let value = answer["outputs"][0]["data"][0].as_f64().unwrap() + 99.5;
        items.push(json!({"prediction_id": id, "value": value}));
    }
    send(server, Method::POST, "/api/v1/feedback/ground-truth", json!({"items": items}).to_string()).await;
    let logged = format!("/api/v1/predictions?deployment=oxygen&from_ms=0&to_ms={}", i64::MAX);
    for attempt in 0.. {
        let page = send(server, Method::GET, &logged, "").await;
        let known = page["items"].as_array().unwrap().iter().filter(|one| one["value"].is_number()).count();
        if known as i64 == PREDICTIONS {
            return;
        }
        assert!(attempt < 1_000, "monitoring never had it all: {page}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Runs the pipeline for a model that was logged.
async fn retrain(server: &Server, logged: &str) -> Value {
    let start = json!({"reason": "a test", "params": {"run": logged}}).to_string();
    let started = send(server, Method::POST, "/api/v1/pipelines/retrain/runs", start).await;
    let path = format!("/api/v1/pipeline-runs/{}", started["id"].as_str().unwrap());
    for attempt in 0.. {
        let run = send(server, Method::GET, &path, "").await;
        if !matches!(run["status"].as_str().unwrap(), "queued" | "running" | "waiting") {
            return run;
        }
        assert!(attempt < 3_000, "it never ended: {run}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    unreachable!()
}

async fn serves(server: &Server) -> Value {
    send(server, Method::GET, "/api/v1/deployments/oxygen", "").await["current"]["version"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_better_challenger_that_flips_decisions_is_kept_out_and_one_that_does_not_is_promoted() {
    let server = Server::start();
    let experiment = server.post("experiments/create", json!({"name": "e"})).await;
    let experiment = experiment["experiment_id"].as_str().unwrap();
    server.post("registered-models/create", json!({"name": "oxygen"})).await;
    let champion = log_model(&server, experiment, "linear_half.onnx").await;
    let version = json!({"name": "oxygen", "source": format!("runs:/{champion}/m"), "run_id": champion});
    server.post("model-versions/create", version).await;
    let tag = json!({"name": "oxygen", "version": "1", "key": "fishy.training.to_ms", "value": "1"});
    server.post("model-versions/set-tag", tag).await;
    server.post("registered-models/alias", json!({"name": "oxygen", "alias": "champion", "version": "1"})).await;
    let output = run(&["deploy", "oxygen", "--model", "models:/oxygen@champion", "--url", &server.url]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let monitor = json!({"name": "oxygen", "deployment": "oxygen"}).to_string();
    send(&server, Method::PUT, "/api/v1/monitors/oxygen", monitor).await;
    predict(&server).await;
    let pipeline = json!({"name": "retrain", "definition": PIPELINE}).to_string();
    send(&server, Method::PUT, "/api/v1/pipelines/retrain", pipeline).await;

    // By its error alone it would be promoted: it is always right.
    let better = log_model(&server, experiment, "linear_hundred.onnx").await;
    let denied = retrain(&server, &better).await;
    assert_eq!(denied["status"], "rejected", "{denied:#}");
    let gate = &denied["steps"][3]["outputs"];
    let flipped =
        format!("{PREDICTIONS} of {PREDICTIONS} decisions flip with the challenger (10000 bp); 500 bp are allowed");
    assert_eq!(gate["reasons"], json!([flipped]), "{denied:#}");
    assert_eq!(gate["replay"]["rows"], json!(PREDICTIONS));
    assert!(gate["replay"]["challenger_error"].as_f64().unwrap() < 1e-3, "{denied:#}");
    assert_eq!(serves(&server).await, "1");
    let promotion = format!("/api/v1/promotions/{}", gate["promotion_id"].as_str().unwrap());
    let recorded = send(&server, Method::GET, &promotion, "").await;
    assert_eq!(recorded["request"]["facts"]["replay"]["overall"]["flips"][0]["to_above"], json!(PREDICTIONS));

    let steady = log_model(&server, experiment, "linear_half.onnx").await;
    let allowed = retrain(&server, &steady).await;
    assert_eq!(allowed["status"], "succeeded", "{allowed:#}");
    assert_eq!(allowed["steps"][3]["outputs"]["replay"]["flips"], 0);
    assert_eq!(serves(&server).await, "3");
}
