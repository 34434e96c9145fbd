//! Whole answers of the protocol, and what malformed requests get.

use axum::http::Method;
use serde_json::{Value, json};

use crate::server::{On, Server};

#[tokio::test]
async fn answers_have_the_form_of_mlflow() {
    let server = Server::start(On::Sqlite).await;
    let mut told = Vec::new();
    let mut tell = |what: &str, (status, answer): (u16, Value)| told.push(json!([what, status, answer]));
    tell(
        "experiment",
        server.post("experiments/create", json!({"name": "e", "tags": [{"key": "a", "value": "b"}]})).await,
    );
    tell("experiment again", server.post("experiments/create", json!({"name": "e"})).await);
    tell("get experiment", server.get("experiments/get?experiment_id=1").await);
    let run = server.post("runs/create", json!({"experiment_id": "1", "start_time": 1, "user_id": "ada"})).await;
    let run_id = run.1["run"]["info"]["run_id"].as_str().unwrap().to_owned();
    tell("run", run);
    let point = json!({"run_id": run_id, "key": "m", "value": "NaN", "timestamp": "3"});
    tell("metric", server.post("runs/log-metric", point).await);
    let input = json!({"tags": [{"key": "mlflow.data.context", "value": "train"}],
                       "dataset": {"name": "d", "digest": "1", "source_type": "local", "source": "x"}});
    tell("inputs", server.post("runs/log-inputs", json!({"run_id": run_id, "datasets": [input]})).await);
    tell("update", server.post("runs/update", json!({"run_id": run_id, "status": "FINISHED", "end_time": 9})).await);
    tell("get run", server.get(&format!("runs/get?run_id={run_id}")).await);
    tell(
        "logged model",
        server.post("logged-models", json!({"experiment_id": "1", "name": "n", "source_run_id": run_id})).await,
    );
    tell("model", server.post("registered-models/create", json!({"name": "oxygen", "description": "mg/L"})).await);
    let source = json!({"name": "oxygen", "source": format!("runs:/{run_id}/n"), "tags": [{"key": "t", "value": "1"}]});
    tell("version", server.post("model-versions/create", source).await);
    tell(
        "alias",
        server.post("registered-models/alias", json!({"name": "oxygen", "alias": "c", "version": "1"})).await,
    );
    tell("get model", server.get("registered-models/get?name=oxygen").await);
    tell("no run", server.get("runs/get?run_id=nope").await);
    tell("no name", server.post("registered-models/create", json!({})).await);
    tell("wrong type", server.post("registered-models/create", json!({"name": 123})).await);
    tell("empty search", server.post("runs/search", json!({"experiment_ids": ["0"]})).await);
    insta::assert_json_snapshot!(told);
    assert!(server.running.problems().await.is_empty());
    server.stop.cancel();
    server.running.shutdown().await;
}

#[tokio::test]
async fn malformed_requests_are_refused_and_write_nothing() {
    let server = Server::start(On::Sqlite).await;
    let (_, run) = server.run().await;
    let before = server.get(&format!("runs/get?run_id={run}")).await;
    let metric = "/api/2.0/mlflow/runs/log-metric";
    for body in [
        "notjson".to_owned(),
        "[]".to_owned(),
        "{".to_owned(),
        format!(r#"{{"run_id": "{run}", "key": "a", "value": NaN, "timestamp": 1}}"#),
        format!(r#"{{"run_id": "{run}", "key": "a", "value": 1e999, "timestamp": 1}}"#),
        format!(r#"{{"run_id": "{run}", "key": "a", "value": "1e999", "timestamp": 1}}"#),
        format!(r#"{{"run_id": "{run}", "key": "a", "value": 1, "timestamp": 1.5}}"#),
        format!(r#"{{"run_id": "{run}", "key": "a", "value": 1, "timestamp": 99999999999999999999}}"#),
        format!(r#"{{"run_id": "{run}", "key": "a", "value": 1}}"#),
        format!(r#"{{"run_id": "{run}", "key": "a\u0000", "value": 1, "timestamp": 1}}"#),
        format!(r#"{{"run_id": "{run}", "runId": "{run}", "key": "a", "value": 1, "timestamp": 1}}"#),
    ] {
        let (status, answer) = server.json(Method::POST, metric, body.clone()).await;
        assert_eq!((status, answer["error_code"].as_str()), (400, Some("INVALID_PARAMETER_VALUE")), "{body}");
    }
    let strange = r#"{"run_id": "../x", "key": "a", "value": 1, "timestamp": 1}"#;
    assert_eq!(server.json(Method::POST, metric, strange).await.0, 404);
    let huge = format!(r#"{{"x": "{}"}}"#, "x".repeat(5 * 1024 * 1024));
    assert_eq!(server.json(Method::POST, metric, huge).await.0, 429);
    assert_eq!(server.get(&format!("runs/get?run_id={run}")).await, before);
    // The id of a run is looked for even when it looks strange, and texts that no database takes are refused.
    assert_eq!(server.get("runs/get?run_id=a%00b").await.0, 400);
    let tag = json!({"run_id": run, "key": "t", "value": "a\u{0}b"});
    assert_eq!(server.post("runs/set-tag", tag).await.0, 400);
    assert_eq!(server.json(Method::PUT, "/api/v1/registry/protected-aliases", r#"{"model": "m"}"#).await.0, 400);
    let (status, problem) = server.json(Method::GET, "/api/v1/registry/models/none/versions/1/files", "").await;
    assert_eq!((status, problem["code"].as_str()), (404, Some("NOT_FOUND")), "our own API has its own form");
}
