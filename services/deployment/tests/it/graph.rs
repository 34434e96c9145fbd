//! Inference graphs through the doors of the protocol: each kind of node, records, restarts, members that change.

use fishy_contracts::deployment::{DeploymentSpec, GraphNode};
use fishy_core::ErrorCode;
use http::Method;
use serde_json::{Value, json};

use crate::grpc::{request, send};
use crate::world::{App, World, columns, eventually};

const DENIED: u32 = 7;

fn model(name: &str) -> Value {
    json!({"kind": "model", "deployment": name})
}

fn graph(value: Value) -> GraphNode {
    serde_json::from_value(value).unwrap()
}

/// `half` answers t + 2s + 3p + 0.5, `hundred` the same + 100; `champion` is the one that the alias names.
async fn members() -> (World, App) {
    let world = World::new().await;
    let app = world.start().await;
    for (name, model) in
        [("half", "models:/oxygen/1"), ("hundred", "models:/oxygen/2"), ("champion", "models:/oxygen@champion")]
    {
        let spec = DeploymentSpec { name: name.into(), model: model.into(), is_gated: false };
        assert_eq!(app.api.apply(&spec).await.unwrap().problem, None);
    }
    (world, app)
}

/// `oxygen` of the first takes the place of the temperature in the second.
fn chain(first: &str) -> GraphNode {
    graph(json!({"kind": "sequence", "nodes": [
        {"kind": "model", "deployment": first, "outputs": {"y": "oxygen"}},
        {"kind": "model", "deployment": "hundred", "inputs": {"temperature": "oxygen"}},
    ]}))
}

async fn infer(app: &App, name: &str, body: &Value) -> Value {
    let answer = app.post(&format!("/v2/models/{name}/infer"), body).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()
}

/// So many rows as the matrix of the models.
fn rows(id: &str, temperatures: &[f64]) -> Value {
    let data: Vec<f64> = temperatures.iter().flat_map(|temperature| [*temperature, 1.0, 1.0]).collect();
    json!({"id": id, "inputs": [{"name": "x", "shape": [temperatures.len(), 3], "datatype": "FP32", "data": data}]})
}

#[tokio::test]
async fn a_sequence_answers_at_every_door_and_is_one_prediction() {
    let (world, app) = members().await;
    world.collect_stream().await;
    let made = app.api.set_graph("chain", &chain("half")).await.unwrap();
    assert_eq!((made.revision, made.problem), (1, None));
    let metadata = app.get("/v2/models/chain").await.json();
    assert_eq!(
        metadata,
        json!({"name": "chain", "versions": ["1"], "platform": "ensemble",
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}],
            "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 1]}]})
    );
    let mut body = columns("c-1", 10.0);
    body["parameters"] = json!({"labels": {"pen": "4"}});
    let answer = infer(&app, "chain", &body).await;
    assert_eq!((&answer["id"], &answer["model_version"]), (&json!("c-1"), &json!("1")));
    assert_eq!(answer["outputs"][0]["data"], json!([120.5]));
    let (status, message, answer) = {
        let mut asked = request("c-2", 10.0);
        asked.model = "chain".into();
        send(&app.client, &asked, &[]).await
    };
    assert_eq!((status, answer.version.as_str()), (0, "1"), "{message}");
    assert_eq!(answer.raw, [120.5_f32.to_le_bytes().to_vec()]);
    let frame = json!({"dataframe_records": [{"temperature": 10.0, "salinity": 1.0, "ph": 1.0}]});
    let answer = app.post("/deployments/chain/invocations", &frame).await;
    assert_eq!((answer.status.as_u16(), answer.json()), (200, json!({"predictions": [{"y": 120.5}]})));
    for path in ["/v2/models/chain/ready", "/v2/models/chain/versions/1/ready", "/deployments/chain/ping"] {
        assert_eq!(app.get(path).await.status, 200, "{path}");
    }
    let index = app.post("/v2/repository/index", &json!({"ready": true})).await.json();
    assert!(
        index.as_array().unwrap().contains(&json!({"name": "chain", "version": "1", "state": "READY", "reason": ""}))
    );
    eventually("the records come over the stream", || world.streamed.lock().unwrap().len() >= 3).await;
    app.shutdown().await;
    let records = world.streamed.lock().unwrap().clone();
    assert_eq!(records.len(), 3, "the nodes record nothing: {records:?}");
    let first = records.iter().find(|record| record.id == "c-1").unwrap();
    assert_eq!((first.deployment.as_str(), first.revision, first.version.as_str()), ("chain", 1, "1"));
    assert_eq!((&first.inputs["temperature"], &first.outputs["y"]), (&json!(10.0), &json!(120.5)));
    assert_eq!(json!(first.labels), json!({"pen": "4", "fishy.path": "half@1 > hundred@2"}));
}

#[tokio::test]
async fn a_switch_sends_each_row_its_way() {
    let (world, app) = members().await;
    world.collect_stream().await;
    let warm = json!({"kind": "switch", "default": model("half"),
        "cases": [{"when": {"on": "temperature", "is": ">", "value": 20}, "node": model("hundred")}]});
    app.api.set_graph("warm", &graph(warm)).await.unwrap();
    let answer = infer(&app, "warm", &rows("w", &[10.0, 30.0, 12.0])).await;
    assert_eq!(answer["outputs"][0]["shape"], json!([3, 1]));
    assert_eq!(answer["outputs"][0]["data"], json!([15.5, 135.0, 17.5]));
    eventually("the records come over the stream", || world.streamed.lock().unwrap().len() == 3).await;
    let paths: Vec<_> =
        world.streamed.lock().unwrap().iter().map(|record| record.labels["fishy.path"].clone()).collect();
    assert_eq!(paths, ["[default] half@1", "[case 1] hundred@2", "[default] half@1"]);
    let by_output = json!({"kind": "sequence", "nodes": [
        {"kind": "model", "deployment": "half", "outputs": {"y": "oxygen"}},
        {"kind": "switch", "default": model("half"),
            "cases": [{"when": {"on": "oxygen", "is": ">=", "value": 15.5}, "node": model("hundred")}]},
    ]});
    app.api.set_graph("by-output", &graph(by_output)).await.unwrap();
    let answer = infer(&app, "by-output", &rows("o", &[10.0, 9.0])).await;
    assert_eq!(answer["outputs"][0]["data"], json!([115.0, 14.5]));
}

#[tokio::test]
async fn ensembles_make_one_answer_of_several() {
    let (_world, app) = members().await;
    for (combine, shape, data) in [
        ("average", json!([1, 1]), json!([(15.5 + 115.0 + 15.5) / 3.0_f64])),
        ("vote", json!([1, 1]), json!([15.5])),
        ("concatenate", json!([1, 3]), json!([15.5, 115.0, 15.5])),
    ] {
        let nodes = [model("hundred"), model("half"), model("half")];
        let nodes = if combine == "concatenate" { [model("half"), model("hundred"), model("half")] } else { nodes };
        let ensemble = json!({"kind": "ensemble", "combine": combine, "nodes": nodes});
        app.api.set_graph("ensemble", &graph(ensemble)).await.unwrap();
        let answer = infer(&app, "ensemble", &columns(combine, 10.0)).await;
        let output = &answer["outputs"][0];
        assert_eq!(output["shape"], shape, "{combine}");
        let values =
            |value: &Value| value.as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect::<Vec<_>>();
        for (is, should) in values(&output["data"]).into_iter().zip(values(&data)) {
            assert!((is - should).abs() < 1e-4, "{combine}: {answer}");
        }
    }
    assert_eq!(app.api.graph("ensemble").await.unwrap().revision, 3);
    assert_eq!(app.get("/v2/models/ensemble/versions/2").await.status, 404);
}

#[tokio::test]
async fn a_splitter_goes_by_weight_and_keys_stay_where_they_are() {
    let (_world, app) = members().await;
    let split = json!({"kind": "splitter", "routes": [
        {"weight": 75, "node": model("half")}, {"weight": 25, "node": model("hundred")}]});
    app.api.set_graph("split", &graph(split)).await.unwrap();
    let mut of_second = 0;
    for number in 0..200 {
        let answer = infer(&app, "split", &columns(&format!("s-{number}"), 10.0)).await;
        of_second += usize::from(answer["outputs"][0]["data"] == json!([115.0]));
    }
    assert!((48..=52).contains(&of_second), "{of_second}");
    let mut ways = Vec::new();
    for pen in 0..20 {
        let mut seen = Vec::new();
        for again in 0..3 {
            let mut body = columns(&format!("k-{pen}-{again}"), 10.0);
            body["parameters"] = json!({"sticky_key": format!("pen-{pen}")});
            seen.push(infer(&app, "split", &body).await["outputs"][0]["data"].clone());
        }
        assert!(seen.iter().all(|way| *way == seen[0]), "pen {pen}: {seen:?}");
        ways.extend(seen);
    }
    assert!(ways.iter().any(|way| *way != ways[0]), "keys are spread");
}

#[tokio::test]
async fn graphs_that_cannot_work_are_refused_when_they_are_declared() {
    let (_world, app) = members().await;
    app.api.set_graph("chain", &chain("half")).await.unwrap();
    for (bad, told) in [
        (model("nobody"), "deployment \"nobody\""),
        (model("chain"), "\"chain\" is a graph"),
        (model("mine"), "asks itself"),
        (json!({"kind": "model", "deployment": "half", "inputs": {"depth": "d"}}), "takes no input \"depth\""),
    ] {
        let error = app.api.set_graph("mine", &graph(bad)).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidArgument);
        assert!(error.message().contains(told), "{told}: {}", error.message());
    }
    assert_eq!(app.api.graph("mine").await.unwrap_err().code(), ErrorCode::NotFound);
    let taken = app.api.set_graph("half", &chain("hundred")).await.unwrap_err();
    assert_eq!(taken.code(), ErrorCode::AlreadyExists);
    let spec = DeploymentSpec { name: "chain".into(), model: "models:/oxygen/1".into(), is_gated: false };
    assert_eq!(app.api.apply(&spec).await.unwrap_err().code(), ErrorCode::AlreadyExists);
    let answer = app.post("/v2/models/chain/explain", &columns("e", 10.0)).await;
    assert!(answer.status.is_client_error() && answer.body.contains("is an inference graph"), "{}", answer.body);
    let answer = app.post("/v2/models/chain/infer", &json!({"inputs": []})).await;
    assert_eq!(answer.status, 400);
    assert!(answer.body.contains("\\\"x\\\" is missing"), "{}", answer.body);
}

#[tokio::test]
async fn a_graph_follows_its_members_and_survives_a_restart() {
    let (world, app) = members().await;
    app.api.set_graph("chain", &chain("champion")).await.unwrap();
    assert_eq!(infer(&app, "chain", &columns("a", 10.0)).await["outputs"][0]["data"], json!([120.5]));
    world.move_alias("2", true).await;
    while app.api.get("champion").await.unwrap().current.unwrap().version != "2" {
        tokio::task::yield_now().await;
    }
    assert_eq!(infer(&app, "chain", &columns("b", 10.0)).await["outputs"][0]["data"], json!([220.0]));
    app.shutdown().await;
    let app = world.start().await;
    assert_eq!(infer(&app, "chain", &columns("c", 10.0)).await["outputs"][0]["data"], json!([220.0]));
    assert_eq!(app.api.graphs().await.unwrap().items.len(), 1);
    // Without a member it does not answer, and says which one it is.
    app.call(Method::DELETE, "/api/v1/deployments/champion", &[], "").await;
    let answer = app.post("/v2/models/chain/infer", &columns("d", 10.0)).await;
    assert_eq!(answer.status, 503);
    assert!(answer.body.contains("champion"), "{}", answer.body);
    assert_eq!(app.get("/v2/models/chain/ready").await.status, 503);
    assert!(app.api.graph("chain").await.unwrap().problem.unwrap().contains("champion"));
    assert_eq!(app.call(Method::DELETE, "/api/v1/deployments/chain", &[], "").await.status, 204);
    assert_eq!(app.post("/v2/models/chain/infer", &columns("e", 10.0)).await.status, 404);
    // Its name is free again, and numbers go on.
    let spec = DeploymentSpec { name: "chain".into(), model: "models:/oxygen/1".into(), is_gated: false };
    app.api.apply(&spec).await.unwrap();
    assert_eq!(infer(&app, "chain", &columns("f", 10.0)).await["outputs"][0]["data"], json!([15.5]));
    app.call(Method::DELETE, "/api/v1/deployments/chain", &[], "").await;
    assert_eq!(app.api.set_graph("chain", &chain("half")).await.unwrap().revision, 2);
}

#[tokio::test]
async fn who_may_not_predict_and_what_fails_in_a_node_are_told() {
    let (world, app) = members().await;
    let files = crate::world::model_files("fragile.onnx", &crate::world::COLUMNS);
    world.registry.lock().unwrap().versions.insert("3".into(), files);
    let spec = DeploymentSpec { name: "fragile".into(), model: "models:/oxygen/3".into(), is_gated: false };
    app.api.apply(&spec).await.unwrap();
    app.api.set_graph("chain", &chain("fragile")).await.unwrap();
    let mut asked = request("g-1", 10.0);
    asked.model = "chain".into();
    let (status, message, _) = send(&app.as_service("registry"), &asked, &[]).await;
    assert_eq!(status, DENIED);
    assert!(message.contains("deployment:predict"), "{message}");
    let answer = app.post("/v2/models/chain/infer", &columns("bad", 60.0)).await;
    assert!(!answer.status.is_success());
    assert!(answer.body.contains("node nodes[0] (deployment \\\"fragile\\\")"), "{}", answer.body);
}
