//! The gRPC door through the real router: what the layer of the routes does, and what the real clients' tests cannot see.

use axum::http::Method;
use fishy_http::ServiceClient;
use prost::Message;
use serde_json::json;

use crate::world::{App, COLUMNS, World, call, serving, spec};

#[derive(Clone, PartialEq, prost::Message)]
pub struct Request {
    #[prost(string, tag = "1")]
    pub model: String,
    #[prost(string, tag = "3")]
    id: String,
    #[prost(message, repeated, tag = "5")]
    inputs: Vec<Input>,
    #[prost(bytes = "vec", repeated, tag = "7")]
    pub raw: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Input {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    datatype: String,
    #[prost(int64, repeated, tag = "3")]
    shape: Vec<i64>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Answer {
    #[prost(string, tag = "2")]
    pub version: String,
    #[prost(string, tag = "3")]
    id: String,
    #[prost(bytes = "vec", repeated, tag = "6")]
    pub raw: Vec<Vec<u8>>,
}

const INFER: &str = "/inference.GRPCInferenceService/ModelInfer";
const INVALID: u32 = 3;
const DENIED: u32 = 7;
const EXHAUSTED: u32 = 8;

/// One row by column, as the models of this crate's tests take it.
pub fn request(id: &str, temperature: f64) -> Request {
    let values = [temperature, 1.0, 1.0];
    Request {
        model: "virtual-oxygen".into(),
        id: id.into(),
        inputs: COLUMNS.map(|name| Input { name: name.into(), datatype: "FP64".into(), shape: vec![1] }).into(),
        raw: values.map(|value| value.to_le_bytes().to_vec()).into(),
    }
}

/// Status, its message, and the answer.
pub async fn send(client: &ServiceClient, request: &Request, headers: &[(&str, &str)]) -> (u32, String, Answer) {
    let message = request.encode_to_vec();
    let mut body = vec![0];
    body.extend((message.len() as u32).to_be_bytes());
    body.extend(message);
    let headers = [&[("content-type", "application/grpc")], headers].concat();
    let answer = call(client, Method::POST, INFER, &headers, body).await;
    let text = |name: &str| answer.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    let status = text("grpc-status").map_or(0, |status| status.parse().unwrap());
    let decoded = Answer::decode(answer.raw.get(5..).unwrap_or_default()).unwrap();
    (status, text("grpc-message").unwrap_or_default(), decoded)
}

async fn recorded(app: &App) -> serde_json::Value {
    app.get("/v2/models/virtual-oxygen/stats").await.json()["model_stats"][0]["inference_count"].clone()
}

#[tokio::test]
async fn a_call_is_answered_and_recorded_as_a_request_of_http_is() {
    let (world, app) = serving().await;
    world.collect_stream().await;
    let (status, message, answer) = send(&app.client, &request("g-1", 10.0), &[]).await;
    assert_eq!((status, answer.version.as_str(), answer.id.as_str()), (0, "1", "g-1"), "{message}");
    assert_eq!(answer.raw, [15.5_f32.to_le_bytes().to_vec()]);
    crate::world::eventually("the record comes over the stream", || {
        world.streamed.lock().unwrap().iter().any(|record| record.id == "g-1" && record.inputs["temperature"] == 10.0)
    })
    .await;
    assert_eq!(recorded(&app).await, json!(1));
}

#[tokio::test]
async fn who_may_not_predict_is_told_so_and_bad_values_are_the_callers() {
    let (_world, app) = serving().await;
    let stranger = app.as_service("registry");
    let (status, message, _) = send(&stranger, &request("g-1", 10.0), &[]).await;
    assert_eq!(status, DENIED);
    assert!(message.contains("deployment:predict"), "{message}");
    let mut cut = request("g-1", 10.0);
    cut.raw[0].pop();
    let (status, message, _) = send(&app.client, &cut, &[]).await;
    assert_eq!(status, INVALID);
    assert!(message.contains("temperature"), "{message}");
    assert_eq!(recorded(&app).await, json!(0));
}

#[tokio::test]
async fn overload_and_a_deadline_that_has_passed_are_resource_exhausted() {
    let world = World::new().await;
    let mut config = world.config();
    config.deployment.max_concurrent_predictions = 0;
    let app = world.start_with(config).await;
    app.api.apply(&spec(false)).await.unwrap();
    let (status, message, _) = send(&app.client, &request("g-1", 10.0), &[]).await;
    assert_eq!(status, EXHAUSTED);
    assert!(message.contains("max_concurrent_predictions"), "{message}");
}

#[tokio::test]
async fn every_method_asks_who_calls() {
    let (_world, app) = serving().await;
    let nobody = app.as_service("nobody-knows");
    let methods = ["RepositoryModelUnload", "RepositoryModelLoad", "ModelInfer"];
    for method in methods {
        let path = format!("/inference.GRPCInferenceService/{method}");
        let body = vec![0, 0, 0, 0, 0];
        let answer = call(&nobody, Method::POST, &path, &[("content-type", "application/grpc")], body).await;
        assert_eq!(answer.headers["grpc-status"], "7", "{method}");
    }
    let answer = call(&app.client, Method::POST, "/inference.GRPCInferenceService/Nothing", &[], "").await;
    assert_eq!(answer.headers["grpc-status"], "12");
}
