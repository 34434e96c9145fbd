use fishy_contracts::deployment::DeploymentSpec;
use serde_json::{Value, json};

use crate::world::{App, World, bare_files, columns, serving};

const EXPLAIN: &str = "/v2/models/virtual-oxygen/explain";
const WEIGHTS: [f64; 3] = [1.0, 2.0, 3.0];

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap_or_else(|| panic!("{value}")).iter().map(|value| value.as_f64().unwrap()).collect()
}

fn assert_close(found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() < 1e-5, "{found}, {expected}");
    }
}

fn matrix(rows: &[[f64; 3]]) -> Value {
    json!([{"name": "x", "shape": [rows.len(), 3], "datatype": "FP32", "data": rows}])
}

/// A linear model: each feature did its weight times its distance from the background's mean.
fn check(output: &Value, row: [f64; 3], mean: [f64; 3]) {
    let expected: Vec<f64> = (0..3).map(|feature| WEIGHTS[feature] * (row[feature] - mean[feature])).collect();
    assert_close(&numbers(&output["values"]), &expected);
    let (base, prediction) = (output["base_value"].as_f64().unwrap(), output["prediction"].as_f64().unwrap());
    assert_close(&[base + expected.iter().sum::<f64>()], &[prediction]);
    assert!(output["additivity_gap"].as_f64().unwrap() < 1e-5);
}

#[tokio::test]
async fn rows_are_explained_against_the_background_that_comes_with_them() {
    let (_world, app) = serving().await;
    let background = [[0.0, 0.0, 0.0], [2.0, 4.0, 6.0], [1.0, 2.0, 3.0]];
    let body = json!({"id": "e-1", "inputs": matrix(&[[10.0, 1.0, 1.0], [0.0, 0.0, 5.0]]), "background": {"inputs": matrix(&background)}});
    let answer = app.post(EXPLAIN, &body).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let answer = answer.json();
    assert_eq!(answer["features"], json!(["temperature", "salinity", "ph"]));
    assert_eq!(
        (&answer["id"], &answer["model_version"], &answer["background_rows"]),
        (&json!("e-1"), &json!("1"), &json!(3))
    );
    assert_eq!(answer["method"], json!({"name": "exact"}));
    assert_eq!(answer["evaluations"], json!(2 * (7 * 3 + 1)));
    for (index, row) in [[10.0, 1.0, 1.0], [0.0, 0.0, 5.0]].into_iter().enumerate() {
        let output = &answer["explanations"][index]["outputs"][0];
        assert_eq!(output["name"], "y");
        check(output, row, [1.0, 2.0, 3.0]);
    }
    // An explanation is no prediction.
    assert_eq!(app.get("/v2/models/virtual-oxygen/stats").await.json()["model_stats"][0]["inference_count"], 0);
}

#[tokio::test]
async fn without_a_background_the_example_of_the_model_is_it_and_columns_do_as_well() {
    let (_world, app) = serving().await;
    let answer = app.post("/v2/models/virtual-oxygen/versions/1/explain", &columns("e-2", 10.0)).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    check(&answer.json()["explanations"][0]["outputs"][0], [10.0, 1.0, 1.0], [1.0, 2.0, 3.0]);
}

#[tokio::test]
async fn sampling_is_chosen_by_request_and_tells_its_errors() {
    let (_world, app) = serving().await;
    let mut body = columns("e-3", 10.0);
    body["parameters"] = json!({"method": "permutation", "max_evaluations": 200, "seed": 4});
    let answer = app.post(EXPLAIN, &body).await.json();
    assert_eq!(answer["method"], json!({"name": "permutation", "pairs": 49, "seed": 4}));
    let output = &answer["explanations"][0]["outputs"][0];
    check(output, [10.0, 1.0, 1.0], [1.0, 2.0, 3.0]);
    // A linear model has no interactions: the orders agree.
    assert!(numbers(&output["standard_errors"]).iter().all(|error| *error < 1e-5), "{output}");
}

#[tokio::test]
async fn what_cannot_be_explained_is_told_in_the_protocols_form() {
    let (_world, app) = serving().await;
    let with = |parameters: Value| {
        let mut body = columns("e", 10.0);
        body["parameters"] = parameters;
        body
    };
    let mut bad_background = columns("e", 10.0);
    bad_background["background"] = json!({"inputs": [{"name": "q", "shape": [1], "datatype": "FP32", "data": [1]}]});
    let mut bad_output = columns("e", 10.0);
    bad_output["outputs"] = json!([{"name": "z"}]);
    let many = matrix(&vec![[0.0; 3]; 65]);
    let cases = [
        (with(json!({"max_evaluations": 5})), "needs 6 evaluations at least"),
        (with(json!({"method": "guess"})), "parameters"),
        (with(json!({"max_evaluations": 100_000_000})), "evaluations in all"),
        (bad_background, "background: unknown input"),
        (bad_output, "unknown output"),
        (json!({"inputs": many}), "at most 64 rows"),
        (json!({"inputs": []}), "missing"),
    ];
    for (body, says) in cases {
        let answer = app.post(EXPLAIN, &body).await;
        assert_eq!(answer.status, 400, "{says}: {}", answer.body);
        assert!(answer.json()["error"].as_str().unwrap().contains(says), "{says}: {}", answer.body);
    }
    let answer = app.post("/v2/models/nobody/explain", &columns("e", 1.0)).await;
    assert_eq!(answer.status, 404);
}

async fn deployed(onnx: &str) -> (World, App) {
    let world = World::new().await;
    world.registry.lock().unwrap().versions.insert("3".into(), bare_files(onnx));
    let app = world.start().await;
    let fixed = DeploymentSpec { name: "m".into(), model: "models:/oxygen/3".into(), is_gated: false };
    assert_eq!(app.api.apply(&fixed).await.unwrap().problem, None);
    (world, app)
}

#[tokio::test]
async fn the_classes_of_a_classifier_are_explained_by_name_and_their_values_cancel() {
    let (_world, app) = deployed("zipmap.onnx").await;
    let metadata = app.get("/v2/models/m").await.json();
    let input = &metadata["inputs"][0];
    let width = input["shape"][1].as_i64().unwrap_or(2) as usize;
    let row = |value: f64| json!([{"name": input["name"], "shape": [1, width], "datatype": input["datatype"], "data": vec![value; width]}]);
    let nothing = app.post("/v2/models/m/explain", &json!({"inputs": row(1.0)})).await;
    assert_eq!(nothing.status, 400);
    assert!(nothing.body.contains("no input example"), "{}", nothing.body);
    let answer =
        app.post("/v2/models/m/explain", &json!({"inputs": row(0.75), "background": {"inputs": row(0.25)}})).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let outputs = answer.json()["explanations"][0]["outputs"].clone();
    let elements: Vec<&str> = outputs.as_array().unwrap().iter().map(|o| o["element"].as_str().unwrap()).collect();
    assert_eq!(elements, ["3", "7"]);
    for output in outputs.as_array().unwrap() {
        let sum: f64 = numbers(&output["values"]).iter().sum();
        let change = output["prediction"].as_f64().unwrap() - output["base_value"].as_f64().unwrap();
        assert_close(&[sum], &[change]);
        assert!(change.abs() > 1e-6, "the two rows are answered differently: {output}");
    }
}
