//! MLflow's scoring protocol: bodies beside JSON, the signature, and the door of a process with one model.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray};
use http::Method;
use parquet::arrow::ArrowWriter;
use serde_json::{Value, json};

use crate::world::{INVOKE, model_files, serving, spec};

fn parquet(columns: Vec<(&str, ArrayRef)>) -> Vec<u8> {
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

fn numbers(values: &[f64]) -> ArrayRef {
    Arc::new(Float64Array::from(values.to_vec()))
}

#[tokio::test]
async fn a_parquet_body_is_a_data_frame() {
    let (_world, app) = serving().await;
    let headers = [("content-type", "application/vnd.apache.parquet")];
    let body = parquet(vec![
        ("salinity", numbers(&[1.0, 1.0])),
        ("temperature", numbers(&[10.0, 20.0])),
        ("ph", numbers(&[1.0, 1.0])),
    ]);
    let answer = app.call(Method::POST, INVOKE, &headers, body).await;
    assert_eq!(answer.json(), json!({"predictions": [{"y": 15.5}, {"y": 25.5}]}), "{}", answer.body);
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["warm"]));
    let body = parquet(vec![("temperature", texts), ("salinity", numbers(&[1.0])), ("ph", numbers(&[1.0]))]);
    let answer = app.call(Method::POST, INVOKE, &headers, body).await;
    assert_eq!(answer.status, 400);
    let message = answer.json()["message"].as_str().unwrap().to_owned();
    assert_eq!(message, "column \"temperature\" holds texts, and the model's signature says double");
}

#[tokio::test]
async fn the_signature_is_enforced_in_every_form_and_the_column_named() {
    let (world, app) = serving().await;
    let mut files = model_files("linear_half.onnx", &["temperature", "salinity", "ph"]);
    let mlmodel = String::from_utf8(files["MLmodel"].clone()).unwrap();
    let mlmodel = mlmodel.replace(r#""type":"double","name":"ph""#, r#""type":"long","name":"ph""#);
    assert!(mlmodel.contains("long"), "{mlmodel}");
    let mlmodel = format!(
        "{mlmodel}  params: '[{{\"name\": \"alpha\", \"type\": \"double\", \"default\": 0.5, \"shape\": null}}]'\n"
    );
    files.insert("MLmodel".into(), mlmodel.into_bytes());
    world.registry.lock().unwrap().versions.insert("3".into(), files);
    world.move_alias("3", true).await;
    app.until_version("3").await;
    let row = |ph: Value| json!({"temperature": 10, "salinity": 1, "ph": ph});
    for body in [
        json!({"dataframe_records": [row(json!(7.5))]}),
        json!({"dataframe_split": {"columns": ["temperature", "salinity", "ph"], "data": [[10, 1, 7.5]]}}),
        json!({"instances": [row(json!(7.5))]}),
        json!({"inputs": [row(json!(7.5))]}),
    ] {
        let answer = app.post(INVOKE, &body).await;
        assert_eq!(answer.status, 400);
        assert!(
            answer.body.contains(r#"column \"ph\" holds 7.5, and the model's signature says long"#),
            "{}",
            answer.body
        );
    }
    let csv =
        app.call(Method::POST, INVOKE, &[("content-type", "text/csv")], "temperature,salinity,ph\n10,1,x\n").await;
    assert!(csv.body.contains(r#"column \"ph\" holds texts"#), "{}", csv.body);
    assert_eq!(
        app.post(INVOKE, &json!({"inputs": [row(json!(1))], "params": {"alpha": 1, "other": "x"}})).await.status,
        200
    );
    let wrong = app.post(INVOKE, &json!({"inputs": [row(json!(1))], "params": {"alpha": "high"}})).await;
    assert!(wrong.status == 400 && wrong.body.contains(r#"parameter \"alpha\""#), "{}", wrong.body);
}

#[tokio::test]
async fn a_process_with_one_deployment_answers_where_a_server_of_one_model_does() {
    let (_world, app) = serving().await;
    let body = json!({"inputs": {"x": [[10, 1, 1]]}});
    assert_eq!(app.post("/invocations", &body).await.json(), json!({"predictions": {"y": [[15.5]]}}));
    assert_eq!(app.get("/ping").await.status, 200);
    let mut other = spec(false);
    other.name = "other".into();
    app.api.apply(&other).await.unwrap();
    let answer = app.post("/invocations", &body).await;
    assert!(answer.status == 400 && answer.body.contains("/deployments/NAME/invocations"), "{}", answer.body);
}
