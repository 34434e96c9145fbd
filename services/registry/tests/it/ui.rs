//! MLflow's web UI: its files, and what it asks by GraphQL.

use axum::http::{Method, Request};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::server::{On, Server, on_both};

async fn ask(server: &Server, body: Value) -> (u16, Value) {
    server.json(Method::POST, "/graphql", body.to_string()).await
}

async fn a_run_is_answered_with_all_that_belongs_to_it(server: Server) {
    let root = server.model("oxygen", 1).await;
    let run = root.split('/').nth(1).unwrap().to_owned();
    let experiment = root.split('/').next().unwrap().to_owned();
    let metrics = json!([{"key": "mae", "value": 0.5, "timestamp": 7, "step": 9_007_199_254_740_993_i64},
                         {"key": "odd", "value": "NaN", "timestamp": 7}]);
    server
        .done("runs/log-batch", json!({"run_id": run, "metrics": metrics, "params": [{"key": "p", "value": "1"}]}))
        .await;
    let query = "query GetRun($data: MlflowGetRunInput!) @component(name: \"x\") {
        mlflowGetRun(input: $data) {
            __typename
            apiError { code }
            run {
                info { runUuid status startTime endTime }
                experiment { name tags { key } }
                modelVersions { name version status tags { key } }
                data { metrics { key value step } params { key value } tags { key } }
                inputs { datasetInputs { dataset { name } } }
            }
        }
    }";
    let (status, answer) =
        ask(&server, json!({"query": query, "operationName": "GetRun", "variables": {"data": {"runId": run}}})).await;
    assert_eq!((status, &answer["errors"]), (200, &Value::Null), "{answer}");
    let got = &answer["data"]["mlflowGetRun"];
    assert_eq!((&got["__typename"], &got["apiError"]), (&json!("MlflowGetRunResponse"), &Value::Null));
    let got = &got["run"];
    let info = json!({"runUuid": run, "status": "RUNNING", "startTime": "5", "endTime": null});
    assert_eq!(got["info"], info, "whole numbers are texts: a browser would round them");
    assert_eq!(got["experiment"]["tags"], json!([]), "a list that is empty is there");
    assert!(got["experiment"]["name"].as_str().unwrap().starts_with("experiment "));
    assert_eq!(got["modelVersions"], json!([{"name": "oxygen", "version": "1", "status": "READY", "tags": []}]));
    let metrics = got["data"]["metrics"].as_array().unwrap();
    assert!(metrics.contains(&json!({"key": "mae", "value": 0.5, "step": "9007199254740993"})), "{metrics:?}");
    assert!(metrics.contains(&json!({"key": "odd", "value": null, "step": "0"})), "{metrics:?}");
    assert_eq!(got["inputs"]["datasetInputs"], json!([]));

    // Every other question, in one query, with names of its own.
    let query = format!(
        "{{ e: mlflowGetExperiment(input: {{experimentId: \"{experiment}\"}}) {{ experiment {{ experimentId creationTime }} }}
            h: mlflowGetMetricHistoryBulkInterval(input: {{runIds: [\"{run}\"], metricKey: \"mae\"}}) {{ metrics {{ runId value timestamp }} }}
            a: mlflowListArtifacts(input: {{runId: \"{run}\", path: \"m1\"}}) {{ files {{ path isDir fileSize }} }}
            v: mlflowSearchModelVersions(input: {{filter: \"name = 'oxygen'\", maxResults: 5}}) {{ modelVersions {{ source }} }}
            s: mlflowSearchRuns(input: {{experimentIds: [\"{experiment}\"], runViewType: ALL, filter: \"metrics.mae < 1\"}}) {{ runs {{ info {{ runId }} experiment {{ name }} }} }}
            test(inputString: \"yes\") {{ output }} }}"
    );
    let (status, answer) = ask(&server, json!({ "query": query })).await;
    assert_eq!((status, &answer["errors"]), (200, &Value::Null), "{answer}");
    let data = &answer["data"];
    assert_eq!(data["e"]["experiment"]["experimentId"], json!(experiment));
    assert_eq!(data["h"]["metrics"], json!([{"runId": run, "value": 0.5, "timestamp": "7"}]));
    assert_eq!(data["a"]["files"], json!([{"path": "m1/model.onnx", "isDir": false, "fileSize": "7"}]));
    assert_eq!(data["v"]["modelVersions"], json!([{"source": format!("runs:/{run}/m1")}]));
    assert_eq!(data["s"]["runs"][0]["info"]["runId"], json!(run));
    assert_eq!(data["test"], json!({"output": "yes"}));

    let mutation = "mutation M($ids: [String]) { mlflowSearchDatasets(input: {experimentIds: $ids}) { datasetSummaries { name } } }";
    let (_, answer) = ask(&server, json!({"query": mutation, "variables": {"ids": [experiment]}})).await;
    assert_eq!(answer, json!({"data": {"mlflowSearchDatasets": {"datasetSummaries": []}}, "errors": null}));
}

on_both!(a_run_is_answered_with_all_that_belongs_to_it);

#[tokio::test]
async fn questions_that_cannot_be_answered_say_why() {
    let server = Server::start(On::Sqlite).await;
    let run = "query($id: String) { mlflowGetRun(input: {runId: $id}) { run { info { runId } } } }";
    let (status, answer) = ask(&server, json!({"query": run, "variables": {"id": "none"}})).await;
    assert_eq!((status, &answer["data"]["mlflowGetRun"]), (200, &Value::Null));
    assert!(answer["errors"][0].as_str().unwrap().contains("none"), "{answer}");
    for (wrong, part) in [
        (json!({"query": "{ nothing }"}), "nothing"),
        (json!({"query": "{ mlflowGetRun(input: {id: \"a\"}) { apiError { code } } }"}), "id"),
        (json!({"query": format!("{{ {} }}", "test(inputString: \"a\") { output } ".repeat(11))}), "root fields"),
        (json!({"query": run, "variables": {"id": 5}}), "id"),
        (json!({"query": run, "operationName": "Other"}), "Other"),
        (json!({"query": "{ __schema { types { name } } }"}), "introspection"),
    ] {
        let (status, answer) = ask(&server, wrong.clone()).await;
        let told = answer["errors"][0].as_str().unwrap_or_default();
        assert!(status == 200 && told.contains(part), "{wrong}: {status} {answer}");
    }
    for malformed in [json!({}), json!({"query": 1}), json!({"query": "{"}), json!({"query": run, "variables": [1]})] {
        let (status, answer) = ask(&server, malformed.clone()).await;
        assert_eq!((status, &answer["error_code"]), (400, &json!("INVALID_PARAMETER_VALUE")), "{malformed}: {answer}");
    }
    let asked = "/graphql?query=%7Btest(inputString:%22a%22)%7Boutput%7D%7D&variables=%7B%7D";
    assert_eq!(server.json(Method::GET, asked, "").await.1["data"]["test"]["output"], json!("a"));
}

#[tokio::test]
async fn graphql_shows_only_what_its_caller_may_read() {
    // The policy permits the door itself, but not what is behind it.
    let policies =
        "@id(\"all-but-runs\") permit (principal, action, resource) unless { resource.kind like \"*/runs/get\" };";
    let server = Server::start_with(On::Sqlite, |_| {}, Some(policies)).await;
    let (_, run) = server.run().await;
    let query = "query($id: String) { mlflowGetRun(input: {runId: $id}) { run { info { runId } } } }";
    let (status, answer) = ask(&server, json!({"query": query, "variables": {"id": run}})).await;
    assert_eq!((status, &answer["data"]["mlflowGetRun"]), (200, &Value::Null));
    assert!(answer["errors"][0].as_str().unwrap().contains("may not"), "{answer}");
}

#[tokio::test]
async fn the_ui_is_served_below_its_folder_with_its_own_api() {
    let build = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(build.path().join("static/js")).unwrap();
    std::fs::write(build.path().join("index.html"), "<title>MLflow</title>").unwrap();
    std::fs::write(build.path().join("static/js/main.0a1b.js"), "go()").unwrap();
    std::fs::write(build.path().join("favicon.ico"), "icon").unwrap();
    let folder = build.path().to_str().unwrap().to_owned();
    let server = Server::start_with(On::Sqlite, |config| config.registry.mlflow_ui = folder, None).await;
    let get = async |path: &str| {
        let request = Request::get(path).body(axum::body::Body::empty()).unwrap();
        let response = server.router.clone().oneshot(request).await.unwrap();
        let (head, body) = response.into_parts();
        let header =
            |name: &str| head.headers.get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
        (
            head.status.as_u16(),
            header("location"),
            header("content-type"),
            header("cache-control"),
            body.collect().await.unwrap().to_bytes(),
        )
    };
    let (status, location, ..) = get("/mlflow").await;
    assert_eq!((status, location.as_str()), (308, "mlflow/"));
    let (status, _, kind, caching, body) = get("/mlflow/").await;
    assert_eq!(
        (status, kind.as_str(), caching.as_str(), &body[..]),
        (200, "text/html", "no-cache", &b"<title>MLflow</title>"[..])
    );
    let (status, _, kind, caching, body) = get("/mlflow/static-files/static/js/main.0a1b.js").await;
    assert_eq!((status, kind.as_str(), &body[..]), (200, "text/javascript", &b"go()"[..]));
    assert!(caching.contains("immutable"));
    assert_eq!(get("/mlflow/static-files/favicon.ico").await.3, "no-cache");
    for none in ["none.js", "static/js", "../secret", "%2e%2e/secret", "..%2fsecret", "static/../../x", "%00"] {
        let status = get(&format!("/mlflow/static-files/{none}")).await.0;
        assert!(status == 404 || status == 400, "{none}: {status}");
    }
    // Everything the page asks is relative to where it is.
    let (_, run) = server.run().await;
    for path in ["ajax-api/2.0/mlflow/runs/get", "api/2.0/mlflow/runs/get"] {
        assert_eq!(get(&format!("/mlflow/{path}?run_id={run}")).await.0, 200, "{path}");
    }
    assert_eq!(server.json(Method::POST, "/mlflow/graphql", r#"{"query": "{ test { output } }"}"#).await.0, 200);
    assert_eq!(get(&format!("/mlflow/get-artifact?run_id={run}&path=none")).await.0, 404);
    assert_eq!(get("/mlflow/ajax-api/2.0/mlflow/users/current").await.0, 404, "as an MLflow server without log-in");
    let (status, body) = server.json(Method::GET, "/mlflow/ajax-api/2.0/mlflow/traces", "").await;
    assert_eq!((status, &body["error_code"]), (501, &json!("NOT_IMPLEMENTED")));
}

#[tokio::test]
async fn without_a_ui_there_is_none_and_a_wrong_folder_is_told() {
    let server = Server::start(On::Sqlite).await;
    assert_eq!(server.raw(Method::GET, "/mlflow/", "").await.0, 404);
    let empty = tempfile::tempdir().unwrap();
    let folder = empty.path().to_str().unwrap().to_owned();
    let error = Server::try_start(On::Sqlite, |config| config.registry.mlflow_ui = folder, None).await.err().unwrap();
    assert!(error.message().contains("--mlflow-ui") && error.message().contains("index.html"), "{error}");
}
