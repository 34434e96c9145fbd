use axum::http::Method;
use fishy_contracts::deployment::DeploymentSpec;
use serde_json::{Value, json};

use crate::world::{INFER, INVOKE, World, columns, serving, spec};

const JSON: (&str, &str) = ("content-type", "application/json");

#[tokio::test]
async fn an_inference_request_is_answered_by_column_by_matrix_and_nested() {
    let (_world, app) = serving().await;
    let by_column = app.post(INFER, &columns("p-1", 10.0)).await;
    let expected = json!({
        "id": "p-1",
        "model_name": "virtual-oxygen",
        "model_version": "1",
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 1], "data": [15.5]}],
    });
    assert_eq!(by_column.json(), expected, "{}", by_column.body);

    let matrix = json!({"id": "p-2", "inputs": [
        {"name": "x", "shape": [2, 3], "datatype": "FP32", "data": [[1, 0, 0], [0, 1, 0]]},
    ]});
    let body = app.post("/v2/models/virtual-oxygen/versions/1/infer", &matrix).await.json();
    assert_eq!(body["outputs"][0]["data"], json!([1.5, 2.5]));
    assert_eq!(body["parameters"], json!({"prediction_ids": ["p-2", "p-2/1"]}));

    let mut with_null = columns("", 1.0);
    with_null["inputs"][0]["data"] = json!([null]);
    with_null["outputs"] = json!([{"name": "y", "parameters": {"binary_data": false}}]);
    let body = app.post(INFER, &with_null).await.json();
    assert_eq!(body["outputs"][0]["data"], json!([null]), "a missing value gives what the model makes of NaN");
    assert_eq!(body["id"].as_str().map(str::len), Some(36), "an empty id is none");
}

#[tokio::test]
async fn metadata_tells_the_models_own_inputs_and_health_has_bodies() {
    let (_world, app) = serving().await;
    let expected = json!({
        "name": "virtual-oxygen",
        "versions": ["1"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 1]}],
    });
    assert_eq!(app.get("/v2/models/virtual-oxygen").await.json(), expected);
    assert_eq!(app.get("/v2/models/virtual-oxygen/versions/1").await.json(), expected);
    assert_eq!(app.get("/v2/health/live").await.json(), json!({"live": true}));
    assert_eq!(app.get("/v2/health/ready").await.json(), json!({"ready": true}));
    assert_eq!(app.get("/v2").await.json()["name"], "fishy");
    let ready = json!({"name": "virtual-oxygen", "ready": true});
    assert_eq!(app.get("/v2/models/virtual-oxygen/ready").await.json(), ready);
    for missing in ["/v2/models/nobody", "/v2/models/nobody/ready", "/v2/models/virtual-oxygen/versions/9/ready"] {
        assert_eq!(app.get(missing).await.status, 404, "{missing}");
    }
}

#[tokio::test]
async fn all_forms_of_mlflows_scoring_protocol_are_answered() {
    let (_world, app) = serving().await;
    let names = ["ph", "salinity", "temperature", "unused"];
    let records = json!([{"y": 15.5}, {"y": 25.5}]);
    let split = json!({"dataframe_split": {"columns": names, "index": [0, 1], "data": [[1, 1, 10, 0], [1, 1, 20, 0]]}});
    assert_eq!(app.post(INVOKE, &split).await.json(), json!({"predictions": records}));
    let row = |temperature: i32| json!({"temperature": temperature, "ph": 1, "salinity": 1});
    for key in ["dataframe_records", "instances", "inputs"] {
        let answer = app.post(INVOKE, &json!({key: [row(10), row(20)]})).await;
        assert_eq!(answer.json(), json!({"predictions": records}), "{key}");
    }
    let by_name = json!({"inputs": {"x": [[10, 1, 1]]}});
    let arrays = json!({"predictions": {"y": [[15.5]]}});
    assert_eq!(app.post(INVOKE, &by_name).await.json(), arrays);
    assert_eq!(app.post(INVOKE, &json!({"instances": [[10, 1, 1]]})).await.json(), arrays);
    let headers = [("content-type", "text/csv; charset=utf-8"), ("x-prediction-id", "csv-1")];
    let csv = app.call(Method::POST, INVOKE, &headers, "temperature,salinity,ph\n10,1,1\n").await;
    assert_eq!(csv.json(), json!({"predictions": [{"y": 15.5}]}));
    assert_eq!(csv.headers["x-prediction-id"], "csv-1");
    for path in ["ping", "health", "version"] {
        assert_eq!(app.get(&format!("/deployments/virtual-oxygen/{path}")).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn bad_requests_get_the_protocols_own_error_and_leave_nothing() {
    let (world, app) = serving().await;
    world.collect_stream().await;
    let tensor = |name: &str, datatype: &str, data: Value| json!({"inputs": [{"name": name, "shape": [1, 3], "datatype": datatype, "data": data}]});
    let cases = [
        (json!("not an object"), "request body"),
        (json!({}), "missing field `inputs`"),
        (json!({"inputs": []}), "input \"x\" is missing"),
        (tensor("z", "FP32", json!([1, 2, 3])), "unknown input \"z\""),
        (tensor("x", "FP32", json!([1, 2])), "has 2 elements"),
        (tensor("x", "FLOAT", json!([1, 2, 3])), "\"FLOAT\""),
        (tensor("x", "FP32", json!(["a", "b", "c"])), "holds texts"),
        (tensor("x", "INT64", json!([1.5, 2, 3])), "says it is INT64"),
        (tensor("x", "BYTES", json!(["a", "b", "c"])), "cannot be FP32"),
        (json!({"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32"}]}), "neither data nor"),
        (json!({"id": "no/slash", "inputs": []}), "id \"no/slash\""),
        (json!({"parameters": {"event_time": "soon"}, "inputs": []}), "event_time soon"),
        (
            json!({"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}],
                "outputs": [{"name": "z"}]}),
            "unknown output \"z\"",
        ),
    ];
    for (body, part) in cases {
        let answer = app.post(INFER, &body).await;
        assert_eq!(answer.status, 400, "{body}");
        let error = answer.json()["error"].as_str().unwrap_or_default().to_owned();
        assert!(error.contains(part), "{body}: {error}");
    }
    for length in ["12", "many", "1"] {
        let binary = [JSON, ("inference-header-content-length", length)];
        assert_eq!(app.call(Method::POST, INFER, &binary, "{}").await.status, 400, "{length}");
    }
    assert_eq!(app.call(Method::POST, INFER, &[JSON], "{\"inputs\": [").await.status, 400);
    assert_eq!(app.call(Method::POST, INFER, &[JSON], "x".repeat(70_000)).await.status, 429);
    assert_eq!(app.post("/v2/models/nobody/infer", &columns("a", 1.0)).await.status, 404);

    let scoring = [
        (json!({}), "send one"),
        (json!({"inputs": [[1, 2, 3]], "instances": [[1, 2, 3]]}), "send one"),
        (json!({"inputs": [[1, 2], [3]]}), "differ in length"),
        (json!({"unknown": 1}), "unknown field"),
        (json!({"dataframe_split": {"columns": ["ph"], "data": [[1]]}}), "features are missing: temperature, salinity"),
        (json!({"dataframe_records": []}), "features are missing"),
    ];
    for (body, part) in scoring {
        let answer = app.post(INVOKE, &body).await;
        assert_eq!(
            (answer.status.as_u16(), answer.json()["error_code"].as_str()),
            (400, Some("INVALID_PARAMETER_VALUE"))
        );
        assert!(answer.body.contains(part), "{body}: {}", answer.body);
    }
    let parquet = [("content-type", "application/vnd.apache.parquet")];
    assert_eq!(app.call(Method::POST, INVOKE, &parquet, "x").await.status, 400);
    let unknown = app.call(Method::POST, INVOKE, &[("content-type", "application/x-pickle")], "x").await;
    assert_eq!((unknown.status.as_u16(), unknown.json()["error_code"].as_str()), (415, Some("BAD_REQUEST")));

    // The next good one is the first and only record.
    assert_eq!(app.post(INFER, &columns("good", 1.0)).await.status, 200);
    crate::world::eventually("one record", || !world.streamed.lock().unwrap().is_empty()).await;
    assert_eq!(world.streamed.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn deployments_are_checked_listed_and_deleted() {
    let (world, app) = serving().await;
    let put = |path: &'static str, body: Value| app.call(Method::PUT, path, &[JSON], body.to_string());
    let wrong_name = put("/api/v1/deployments/a", json!({"name": "b", "model": "models:/m@c"})).await;
    assert_eq!((wrong_name.status.as_u16(), wrong_name.json()["code"].as_str()), (400, Some("INVALID_ARGUMENT")));
    for model in ["oxygen", "models:/oxygen", "runs:/1/model"] {
        assert_eq!(put("/api/v1/deployments/a", json!({"name": "a", "model": model})).await.status, 400, "{model}");
    }
    let fixed = json!({"name": "a", "model": "models:/oxygen/1", "is_gated": true});
    assert_eq!(put("/api/v1/deployments/a", fixed).await.status, 400);
    assert_eq!(put("/api/v1/deployments/a", json!({"name": "a", "model": "models:/m/1", "x": 1})).await.status, 400);
    assert_eq!(put("/api/v1/deployments/-a", json!({"name": "-a", "model": "models:/m/1"})).await.status, 400);

    let fixed = DeploymentSpec { name: "fixed".into(), model: "models:/oxygen/2".into(), is_gated: false };
    let deployment = app.api.apply(&fixed).await.unwrap();
    assert_eq!(deployment.current.unwrap().version, "2");
    let names: Vec<String> = app.api.list().await.unwrap().items.into_iter().map(|d| d.spec.name).collect();
    assert_eq!(names, ["fixed", "virtual-oxygen"]);

    assert_eq!(app.call(Method::DELETE, "/api/v1/deployments/fixed", &[], "").await.status, 204);
    assert_eq!(app.call(Method::DELETE, "/api/v1/deployments/fixed", &[], "").await.status, 404);
    assert_eq!(app.get("/api/v1/deployments/fixed").await.status, 404);
    assert_eq!(app.get("/v2/models/fixed").await.status, 404);
    let again = app.api.apply(&fixed).await.unwrap().current.unwrap();
    assert_eq!(again.number, 2, "revision numbers are never given twice");
    assert_eq!(app.api.revisions("fixed").await.unwrap().items, [again]);

    let audit = world.emitted(fishy_contracts::events::AUDIT_ENTRY).await;
    let deleted = audit.iter().find(|entry| entry["details"] == json!({"deleted": true})).unwrap();
    assert_eq!((&deleted["actor"], &deleted["resource"]), (&json!("service:pipelines"), &json!("deployments/fixed")));
}

#[tokio::test]
async fn more_requests_than_allowed_are_answered_429() {
    let world = World::new().await;
    let mut config = world.config();
    config.deployment.max_concurrent_predictions = 0;
    let app = world.start_with(config).await;
    app.api.apply(&spec(false)).await.unwrap();
    let answer = app.post(INFER, &columns("a", 1.0)).await;
    assert_eq!(answer.status, 429);
    assert!(answer.headers.contains_key("retry-after"));
    assert_eq!(app.post(INVOKE, &json!({"inputs": [[1, 2, 3]]})).await.json()["error_code"], "RESOURCE_EXHAUSTED");
}
