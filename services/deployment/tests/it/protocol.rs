//! What the Open Inference Protocol's clients send beside plain JSON.

use std::io::{Read, Write};

use fishy_contracts::deployment::DeploymentSpec;
use fishy_inference::{Datatype, TensorData, bf16, f16};
use http::Method;
use serde_json::{Value, json};

use crate::world::{App, HALF, INFER, World, bare_files, columns, model_files, spec};

async fn serving(onnx: &str) -> (World, App) {
    let world = World::new().await;
    world.registry.lock().unwrap().versions.insert("3".into(), bare_files(onnx));
    let app = world.start().await;
    let fixed = DeploymentSpec { name: "m".into(), model: "models:/oxygen/3".into(), is_gated: false };
    let deployment = app.api.apply(&fixed).await.unwrap();
    assert_eq!(deployment.problem, None);
    (world, app)
}

fn values() -> Vec<(&'static str, TensorData, Value)> {
    vec![
        ("bool", TensorData::Bool(vec![true, false]), json!([true, false])),
        ("int8", TensorData::Int8(vec![-128, 127]), json!([-128, 127])),
        ("int16", TensorData::Int16(vec![-32768, 1]), json!([-32768, 1])),
        ("int32", TensorData::Int32(vec![i32::MIN, 1]), json!([i32::MIN, 1])),
        ("int64", TensorData::Int64(vec![i64::MIN, 1]), json!([i64::MIN, 1])),
        ("uint8", TensorData::Uint8(vec![0, 255]), json!([0, 255])),
        ("uint16", TensorData::Uint16(vec![0, 65535]), json!([0, 65535])),
        ("uint32", TensorData::Uint32(vec![0, u32::MAX]), json!([0, u32::MAX])),
        ("uint64", TensorData::Uint64(vec![0, u64::MAX]), json!([0, u64::MAX])),
        ("fp16", TensorData::Fp16(vec![f16::from_f32(1.5), f16::from_f32(-2.0)]), json!([1.5, -2.0])),
        ("bf16", TensorData::Bf16(vec![bf16::from_f32(1.5), bf16::from_f32(-2.0)]), json!([1.5, -2.0])),
        ("fp32", TensorData::Fp32(vec![0.1, -2.0]), json!([0.1, -2.0])),
        ("fp64", TensorData::Fp64(vec![0.1, 1e300]), json!([0.1, 1e300])),
        ("bytes", TensorData::Bytes(vec!["Tromsø".into(), String::new()]), json!(["Tromsø", ""])),
    ]
}

#[tokio::test]
async fn every_datatype_goes_in_and_out_as_json() {
    let (_world, app) = serving("identity.onnx").await;
    let inputs: Vec<Value> = values()
        .into_iter()
        .map(|(name, data, json)| {
            json!({"name": name, "shape": [2], "datatype": data.datatype().as_str(), "data": json})
        })
        .collect();
    let answer = app.post("/v2/models/m/infer", &json!({"id": "a", "inputs": inputs})).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let outputs = answer.json()["outputs"].clone();
    for (index, (name, data, json)) in values().into_iter().enumerate() {
        let expected =
            json!({"name": format!("{name}_out"), "shape": [2], "datatype": data.datatype().as_str(), "data": json});
        assert_eq!(outputs[index], expected);
    }
}

/// A request with binary inputs: the JSON, then the tensors.
fn binary_request(outputs: &Value) -> (String, Vec<u8>) {
    let mut tail = Vec::new();
    let inputs: Vec<Value> = values()
        .into_iter()
        .map(|(name, data, _)| {
            let begin = tail.len();
            data.write_bytes(&mut tail);
            json!({"name": name, "shape": [2], "datatype": data.datatype().as_str(),
                "parameters": {"binary_data_size": tail.len() - begin}})
        })
        .collect();
    let head = json!({"id": "b", "inputs": inputs, "outputs": outputs, "parameters": {"binary_data_output": true}});
    let mut body = head.to_string().into_bytes();
    let length = body.len().to_string();
    body.extend(tail);
    (length, body)
}

#[tokio::test]
async fn every_datatype_goes_in_and_out_as_binary() {
    let (_world, app) = serving("identity.onnx").await;
    let (length, body) = binary_request(&json!([]));
    let headers = [("inference-header-content-length", length.as_str()), ("content-type", "application/octet-stream")];
    let answer = app.call(Method::POST, "/v2/models/m/infer", &headers, body).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let split: usize = answer.headers["inference-header-content-length"].to_str().unwrap().parse().unwrap();
    let head: Value = serde_json::from_slice(&answer.raw[..split]).unwrap();
    let mut rest = &answer.raw[split..];
    for (output, (name, data, _)) in head["outputs"].as_array().unwrap().iter().zip(values()) {
        assert_eq!(output["name"], format!("{name}_out"));
        assert_eq!(output.get("data"), None);
        let size = output["parameters"]["binary_data_size"].as_u64().unwrap() as usize;
        let datatype = Datatype::parse(output["datatype"].as_str().unwrap()).unwrap();
        assert_eq!(TensorData::from_bytes(datatype, &rest[..size]).unwrap(), data);
        rest = &rest[size..];
    }
    assert!(rest.is_empty());
    assert_eq!(head["parameters"]["binary_data_output"], true, "parameters come back");
}

#[tokio::test]
async fn outputs_come_as_they_are_asked_for_binary_or_not() {
    let (_world, app) = serving("identity.onnx").await;
    let wanted = json!([
        {"name": "int8_out", "parameters": {"binary_data": false}},
        {"name": "bool_out", "parameters": {"binary_data": true}},
    ]);
    let (length, mut body) = binary_request(&wanted);
    let headers = [("inference-header-content-length", length.as_str())];
    let answer = app.call(Method::POST, "/v2/models/m/infer", &headers, body.clone()).await;
    let split: usize = answer.headers["inference-header-content-length"].to_str().unwrap().parse().unwrap();
    let head: Value = serde_json::from_slice(&answer.raw[..split]).unwrap();
    let expected = json!([
        {"name": "int8_out", "datatype": "INT8", "shape": [2], "data": [-128, 127]},
        {"name": "bool_out", "datatype": "BOOL", "shape": [2], "parameters": {"binary_data_size": 2}},
    ]);
    assert_eq!((&head["outputs"], &answer.raw[split..]), (&expected, &[1_u8, 0][..]));

    for change in ["cut", "long"] {
        match change {
            "cut" => body.truncate(body.len() - 1),
            _ => body.extend([0; 2]),
        }
        let answer = app.call(Method::POST, "/v2/models/m/infer", &headers, body.clone()).await;
        assert_eq!(answer.status, 400, "{change}");
        assert!(answer.json()["error"].is_string());
    }
}

#[tokio::test]
async fn bodies_may_be_packed_both_ways() {
    let (_world, app) = serving("layers.onnx").await;
    let rows = 200;
    let data = vec![0.5; rows * 8];
    let request = json!({"id": "z", "inputs": [{"name": "x", "shape": [rows, 8], "datatype": "FP32", "data": data}]});
    let request = request.to_string();
    let plain = app.call(Method::POST, "/v2/models/m/infer", &[], request.clone()).await;
    for name in ["gzip", "deflate"] {
        let packed = if name == "gzip" {
            let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            writer.write_all(request.as_bytes()).unwrap();
            writer.finish().unwrap()
        } else {
            let mut writer = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
            writer.write_all(request.as_bytes()).unwrap();
            writer.finish().unwrap()
        };
        let headers = [("content-encoding", name), ("accept-encoding", name)];
        let answer = app.call(Method::POST, "/v2/models/m/infer", &headers, packed).await;
        assert_eq!((answer.status.as_u16(), answer.headers["content-encoding"].to_str().unwrap()), (200, name));
        let mut text = String::new();
        if name == "gzip" {
            flate2::read::GzDecoder::new(&answer.raw[..]).read_to_string(&mut text).unwrap();
        } else {
            flate2::read::ZlibDecoder::new(&answer.raw[..]).read_to_string(&mut text).unwrap();
        }
        assert_eq!(text, plain.body);
        let broken = app.call(Method::POST, "/v2/models/m/infer", &headers[..1], "not packed").await;
        assert_eq!((broken.status.as_u16(), broken.json()["error"].is_string()), (400, true));
    }
}

#[tokio::test]
async fn maps_of_scikit_learn_come_with_their_keys_and_sequences_as_rows() {
    let x = json!({"inputs": [{"name": "x", "shape": [2, 2], "datatype": "FP32", "data": [[0.25, 0.75], [0.5, 0.5]]}]});
    let (_world, app) = serving("zipmap_text.onnx").await;
    let expected = json!({"name": "probabilities", "datatype": "FP32", "shape": [2, 2],
        "parameters": {"keys": ["healthy", "lice"]}, "data": [0.25, 0.75, 0.5, 0.5]});
    assert_eq!(app.post("/v2/models/m/infer", &x).await.json()["outputs"][0], expected);
    let metadata = app.get("/v2/models/m").await.json();
    assert_eq!(metadata["outputs"][0]["shape"], json!([-1, 2]));
    let (_world, app) = serving("sequence.onnx").await;
    let expected = json!({"name": "rows", "datatype": "FP32", "shape": [2, 2], "data": [0.25, 0.75, 0.5, 0.5]});
    assert_eq!(app.post("/v2/models/m/infer", &x).await.json()["outputs"][0], expected);
}

#[tokio::test]
async fn models_are_listed_unloaded_and_loaded_again() {
    let world = World::new().await;
    let app = world.start().await;
    app.api.apply(&spec(false)).await.unwrap();
    let ready = json!([{"name": "virtual-oxygen", "version": "1", "state": "READY", "reason": ""}]);
    for body in ["", "{}", r#"{"ready": true}"#] {
        assert_eq!(app.call(Method::POST, "/v2/repository/index", &[], body).await.json(), ready);
    }
    assert_eq!(app.call(Method::POST, "/v2/repository/index", &[], "[").await.status, 400);
    let unload = "/v2/repository/models/virtual-oxygen/unload";
    assert_eq!(app.call(Method::POST, unload, &[], "{}").await.status, 200);
    let index = app.call(Method::POST, "/v2/repository/index", &[], "").await.json();
    assert_eq!(index[0]["state"], "UNAVAILABLE");
    assert!(index[0]["reason"].as_str().unwrap().contains("unloaded"), "{index}");
    assert_eq!(app.call(Method::POST, "/v2/repository/index", &[], r#"{"ready": true}"#).await.json(), json!([]));
    let answer = app.post(INFER, &columns("a", 1.0)).await;
    assert_eq!(answer.status, 503);
    assert!(answer.json()["error"].as_str().unwrap().contains("/load"), "{}", answer.body);
    assert_eq!(app.running.problems().await, Vec::<String>::new(), "unloaded on purpose");
    // Neither a moved alias nor the poll brings it back.
    world.move_alias("2", true).await;
    app.api.refresh("virtual-oxygen").await.unwrap();
    assert_eq!(app.post(INFER, &columns("a", 1.0)).await.status, 503);
    let load = "/v2/repository/models/virtual-oxygen/load";
    assert_eq!(app.call(Method::POST, load, &[], "").await.status, 200);
    assert_eq!(app.post(INFER, &columns("a", 1.0)).await.json()["model_version"], "2");
    assert_eq!(app.call(Method::POST, "/v2/repository/models/nobody/load", &[], "").await.status, 404);
}

#[tokio::test]
async fn statistics_count_requests_rows_and_failures() {
    let world = World::new().await;
    let app = world.start().await;
    app.api.apply(&spec(false)).await.unwrap();
    let matrix = |rows: usize| json!({"inputs": [{"name": "x", "shape": [rows, 3], "datatype": "FP32", "data": vec![1; rows * 3]}]});
    app.post(INFER, &matrix(1)).await;
    app.post(INFER, &matrix(4)).await;
    app.post(INFER, &json!({"inputs": []})).await;
    for path in ["/v2/models/virtual-oxygen/stats", "/v2/models/virtual-oxygen/versions/1/stats", "/v2/models/stats"] {
        let model = app.get(path).await.json()["model_stats"][0].clone();
        assert_eq!((&model["name"], &model["version"]), (&json!("virtual-oxygen"), &json!("1")), "{path}");
        assert_eq!((&model["inference_count"], &model["execution_count"]), (&json!(5), &json!(2)));
        let stats = &model["inference_stats"];
        assert_eq!((&stats["success"]["count"], &stats["fail"]["count"]), (&json!(2), &json!(1)));
        assert!(stats["compute_infer"]["ns"].as_u64().unwrap() > 0);
        let sizes: Vec<_> =
            model["batch_stats"].as_array().unwrap().iter().map(|batch| batch["batch_size"].clone()).collect();
        assert_eq!(sizes, [json!(1), json!(4)]);
    }
    assert_eq!(app.get("/v2/models/nobody/stats").await.status, 404);
}

#[tokio::test]
async fn whatever_is_wrong_is_told_in_the_protocols_form() {
    let world = World::new().await;
    let app = world.start().await;
    app.api.apply(&spec(false)).await.unwrap();
    for (method, path, status) in [
        (Method::GET, "/v2/nothing", 404),
        (Method::POST, "/v2/models/virtual-oxygen/generate", 404),
        (Method::GET, INFER, 405),
        (Method::DELETE, "/v2/models/virtual-oxygen", 405),
        (Method::POST, "/v2/models/virtual-oxygen/versions/7/infer", 404),
    ] {
        let body = columns("a", 1.0).to_string();
        let answer = app.call(method.clone(), path, &[], body).await;
        assert_eq!(answer.status.as_u16(), status, "{method} {path}");
        assert!(answer.json()["error"].is_string(), "{method} {path}: {}", answer.body);
    }
    let nested =
        json!({"inputs": [{"name": "x", "shape": [2, 3], "datatype": "FP32", "data": [[1, 2], [3, 4], [5, 6]]}]});
    let answer = app.post(INFER, &nested).await;
    assert!(answer.json()["error"].as_str().unwrap().contains("nested as [3, 2]"), "{}", answer.body);
}

#[tokio::test]
async fn the_parameters_of_a_request_come_back() {
    let world = World::new().await;
    let app = world.start().await;
    app.api.apply(&spec(false)).await.unwrap();
    let mut request = columns("p-1", 10.0);
    request["parameters"] = json!({"labels": {"pen": 4}, "mine": "yes", "ratio": 0.5});
    let answer = app.post(INFER, &request).await.json();
    assert_eq!((&answer["id"], &answer["parameters"]), (&json!("p-1"), &request["parameters"]));
    request["parameters"] = json!({"timeout": "never"});
    assert_eq!(app.post(INFER, &request).await.status, 400);
}

#[tokio::test]
async fn a_model_that_does_not_reproduce_its_golden_outputs_is_refused() {
    let world = World::new().await;
    let app = world.start().await;
    let with_golden = |golden: Value| {
        let mut files = model_files(HALF, &crate::world::COLUMNS);
        files.insert("golden_outputs.json".into(), golden.to_string().into_bytes());
        files
    };
    // 1·1 + 2·2 + 3·3 + 0.5
    world.registry.lock().unwrap().versions.insert("1".into(), with_golden(json!({"outputs": {"y": [[14.5]]}})));
    assert_eq!(app.api.apply(&spec(false)).await.unwrap().problem, None);
    world.registry.lock().unwrap().versions.insert("3".into(), with_golden(json!({"outputs": {"y": [[14.6]]}})));
    world.move_alias("3", true).await;
    let problem = app.until(|deployment| deployment.problem.is_some()).await.problem.unwrap();
    assert!(problem.contains("does not reproduce") && problem.contains("14.6"), "{problem}");
    let mut unfit = model_files(HALF, &crate::world::COLUMNS);
    unfit.insert("serving_input_example.json".into(), br#"{"dataframe_records": [{"ph": 1}]}"#.to_vec());
    world.registry.lock().unwrap().versions.insert("4".into(), unfit);
    world.move_alias("4", true).await;
    let is_refused =
        |problem: &Option<String>| problem.as_deref().is_some_and(|text| text.contains("its own input example"));
    app.until(|deployment| is_refused(&deployment.problem)).await;
    assert_eq!(app.post(INFER, &columns("a", 10.0)).await.json()["model_version"], "1");
}
