//! Copies from other servers: ids, times and users survive, nothing is double, nothing of our own is overwritten.

use axum::http::Method;
use serde_json::{Value, json};

use crate::server::{Server, on_both};

on_both!(
    a_copy_is_as_it_was_there,
    an_experiment_gets_another_number_where_its_own_is_taken,
    a_seal_needs_everything,
    what_did_not_come_from_there_stays,
);

const IMPORTS: &str = "/api/v1/registry/imports";
const THERE: &str = "https://mlflow.example.com";

async fn import(server: &Server, kind: &str, mut message: Value) -> (u16, Value) {
    message["source"] = THERE.into();
    server.json(Method::POST, &format!("{IMPORTS}/{kind}"), message.to_string()).await
}

async fn imported(server: &Server, kind: &str, message: Value) -> Value {
    let (status, answer) = import(server, kind, message).await;
    assert_eq!(status, 200, "{kind}: {answer}");
    answer
}

fn experiment(id: &str, name: &str) -> Value {
    json!({"digest": format!("{id} {name}"), "entity": {
        "experiment_id": id, "name": name, "lifecycle_stage": "deleted", "creation_time": 11,
        "last_update_time": "12", "tags": [{"key": "a", "value": "b"}],
    }})
}

fn run(status: &str) -> Value {
    json!({"digest": status, "entity": {
        "info": {
            "run_id": "r1", "run_name": "first", "experiment_id": "7", "user_id": "ida", "status": status,
            "start_time": 5, "end_time": 6, "lifecycle_stage": "deleted",
        },
        "data": {"params": [{"key": "p", "value": "1"}], "tags": [{"key": "t", "value": status}]},
    }})
}

async fn counts(server: &Server) -> Value {
    server.json(Method::GET, &format!("{IMPORTS}?source={THERE}"), "").await.1
}

async fn a_copy_is_as_it_was_there(server: Server) {
    let copied = imported(&server, "experiment", experiment("7", "pens")).await;
    assert_eq!(copied, json!({"target_id": "7", "is_unchanged": false}));
    let again = imported(&server, "experiment", experiment("7", "pens")).await;
    assert_eq!(again, json!({"target_id": "7", "is_unchanged": true}));
    let got = server.get("experiments/get?experiment_id=7").await.1["experiment"].clone();
    assert_eq!((&got["lifecycle_stage"], &got["creation_time"]), (&json!("deleted"), &json!(11)));
    assert_eq!(got["last_update_time"], 12);

    for status in ["RUNNING", "FINISHED"] {
        imported(&server, "run", run(status)).await;
        let points =
            json!([{"key": "m", "value": "NaN", "timestamp": 1, "step": 2}, {"key": "m", "value": 1, "timestamp": 1}]);
        imported(&server, "points", json!({"run_id": "r1", "points": points})).await;
        let seal = json!({"kind": "run", "id": "r1", "digest": status, "points": 2});
        imported(&server, "seal", seal).await;
        assert_eq!(imported(&server, "run", run(status)).await["is_unchanged"], true);
    }
    let got = server.get("runs/get?run_id=r1").await.1["run"].clone();
    assert_eq!((&got["info"]["user_id"], &got["info"]["status"]), (&json!("ida"), &json!("FINISHED")));
    assert_eq!((&got["info"]["lifecycle_stage"], &got["info"]["end_time"]), (&json!("deleted"), &json!(6)));
    assert_eq!(got["data"]["tags"].as_array().unwrap().len(), 1, "what is gone there is gone here: {got}");
    assert_eq!(got["data"]["metrics"][0]["value"], "NaN");

    let model = json!({"name": "oxygen", "creation_timestamp": 3, "last_updated_timestamp": 4, "user_id": "ida"});
    imported(&server, "model", json!({"digest": "1", "is_whole": true, "entity": model})).await;
    let version = json!({"name": "oxygen", "version": "4", "creation_timestamp": 8, "last_updated_timestamp": 9,
        "current_stage": "Production", "source": "runs:/r1/m", "run_id": "r1"});
    let version = json!({"digest": "1", "artifact_path": "7/r1/artifacts/m", "entity": version});
    imported(&server, "version", version).await;
    let got = server.get("model-versions/get?name=oxygen&version=4").await.1["model_version"].clone();
    assert_eq!((&got["current_stage"], &got["last_updated_timestamp"]), (&json!("Production"), &json!(9)));
    let expected = json!({"experiment": 1, "run": 1, "logged_model": 0, "model": 1, "version": 1});
    assert_eq!(counts(&server).await, expected);
    // The next numbers are free ones.
    let made = server.done("experiments/create", json!({"name": "ours"})).await;
    assert!(made["experiment_id"].as_str().unwrap().parse::<i64>().unwrap() > 7);
    server.done("runs/restore", json!({"run_id": "r1"})).await;
    let made = json!({"name": "oxygen", "source": "runs:/r1/m", "run_id": "r1"});
    assert_eq!(server.done("model-versions/create", made).await["model_version"]["version"], "5");
}

async fn an_experiment_gets_another_number_where_its_own_is_taken(server: Server) {
    let ours = server.done("experiments/create", json!({"name": "ours"})).await["experiment_id"].clone();
    let taken = ours.as_str().unwrap();
    let copied = imported(&server, "experiment", experiment(taken, "theirs")).await;
    assert_ne!(copied["target_id"], ours);
    let again = imported(&server, "experiment", experiment(taken, "renamed")).await;
    assert_eq!(again["target_id"], copied["target_id"], "it is the same experiment");
    let (status, answer) = import(&server, "experiment", experiment("99", "ours")).await;
    assert_eq!(status, 409, "{answer}");
    assert_eq!(imported(&server, "experiment", experiment("0", "Default")).await["target_id"], "0");
}

async fn a_seal_needs_everything(server: Server) {
    let (status, answer) = import(&server, "run", run("FINISHED")).await;
    assert_eq!(status, 412, "its experiment is not here: {answer}");
    imported(&server, "experiment", experiment("7", "pens")).await;
    imported(&server, "run", run("FINISHED")).await;
    let seal = |points: i64, sha256: &str| {
        let files = json!([{"path": "a/b", "sha256": sha256}]);
        json!({"kind": "run", "id": "r1", "digest": "FINISHED", "points": points, "files": files})
    };
    let door = "/api/2.0/mlflow-artifacts/artifacts/7/r1/artifacts/a/b";
    assert_eq!(server.raw(Method::PUT, door, "abc").await.0, 200);
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    for wrong in [seal(1, abc), seal(0, "other")] {
        assert_eq!(import(&server, "seal", wrong).await.0, 412);
        assert_eq!(counts(&server).await["run"], 0, "it is not whole");
    }
    imported(&server, "seal", seal(0, abc)).await;
    assert_eq!(counts(&server).await["run"], 1);
    assert_eq!(import(&server, "trace", json!({})).await.0, 404);
    assert_eq!(import(&server, "points", json!({"run_id": "none", "points": []})).await.0, 412);
}

async fn what_did_not_come_from_there_stays(server: Server) {
    server.model("oxygen", 1).await;
    let model = json!({"digest": "1", "entity": {"name": "oxygen", "description": "theirs"}});
    let (status, answer) = import(&server, "model", model).await;
    assert_eq!(status, 409, "{answer}");
    let got = server.get("registered-models/get?name=oxygen").await.1;
    assert_eq!(got["registered_model"]["description"], Value::Null);
    let version = json!({"digest": "1", "artifact_path": "x", "entity": {"name": "oxygen", "version": "1"}});
    assert_eq!(import(&server, "version", version).await.0, 412);
}
