//! What the doors answer.

use fishy_contracts::pipelines::PipelineSpec;
use fishy_http::Call;
use http::Method;
use serde_json::{Value, json};

use crate::world::{Process, World};

const QUICK: &str = "name = \"p\"\n[[step]]\nname = \"s\"\nkind = \"command\"\ncommand = [\"true\"]\n";

async fn answer(process: &Process, method: Method, path: &str, body: Option<Value>) -> String {
    let call = Call::new(method.clone(), path);
    let call = match &body {
        Some(body) => call.json(body).unwrap(),
        None => call,
    };
    let reply = process.http.send(call).await.unwrap();
    let status = reply.status.as_u16();
    let body: Value = serde_json::from_slice(&reply.bytes().await.unwrap()).unwrap();
    format!("{method} {path}\n{status} {}\n", body.get("detail").unwrap_or(&body))
}

#[tokio::test]
async fn bad_input_is_refused_in_words() {
    let world = World::new();
    let process = world.start().await;
    process.apply(&world, QUICK).await;
    let spec = |name: &str, definition: &str, folder: &str| {
        Some(json!({"name": name, "definition": definition, "folder": folder}))
    };
    let (get, put, post) = (Method::GET, Method::PUT, Method::POST);
    let mut answers = String::new();
    for (method, path, body) in [
        (&put, "/api/v1/pipelines/q", spec("p", QUICK, "")),
        (&put, "/api/v1/pipelines/q", spec("q", QUICK, "")),
        (&put, "/api/v1/pipelines/p", spec("p", QUICK, "relative/folder")),
        (&put, "/api/v1/pipelines/p", spec("p", &QUICK.replace("[[step]]", "colour = 1\n[[step]]"), "")),
        (&put, "/api/v1/pipelines/p", Some(json!({"name": "p", "definition": QUICK, "folders": ""}))),
        (&get, "/api/v1/pipelines/nothing", None),
        (&post, "/api/v1/pipelines/nothing/runs", Some(json!({}))),
        (&post, "/api/v1/pipelines/p/runs", Some(json!({"params": {"speed": "1"}}))),
        (&post, "/api/v1/pipelines/p/runs", Some(json!({"as_of_ms": "now"}))),
        (&get, "/api/v1/pipelines/p/runs?page_token=x", None),
        (&get, "/api/v1/pipeline-runs/nothing", None),
        (&get, "/api/v1/pipeline-runs/nothing/steps/s/log", None),
        (&post, "/api/v1/pipeline-runs/nothing/cancel", Some(json!(null))),
        (&get, "/api/v1/pipeline-runs/by-trigger/nothing", None),
    ] {
        answers += &answer(&process, method.clone(), path, body).await;
    }
    insta::assert_snapshot!("refusals", answers);
    assert!(process.client.runs("p").await.unwrap().items.is_empty(), "a refused start left a run");
}

#[tokio::test]
async fn lists_come_in_pages() {
    let world = World::new();
    let process = world.start().await;
    for name in ["a", "b", "c"] {
        process.apply(&world, &QUICK.replace("\"p\"", &format!("\"{name}\""))).await;
    }
    let names = process.client.list().await.unwrap().items.into_iter().map(|spec: PipelineSpec| spec.name);
    assert_eq!(names.collect::<Vec<_>>(), ["a", "b", "c"]);
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(process.start_run("a").await.id);
    }
    let page = |token: String| {
        let process = &process;
        async move {
            let path = format!("/api/v1/pipelines/a/runs?limit=2{token}");
            process.http.get::<fishy_contracts::List<fishy_contracts::pipelines::Run>>(&path).await.unwrap()
        }
    };
    let first = page(String::new()).await;
    let second = page(format!("&page_token={}", first.next_page_token.clone().unwrap())).await;
    let listed: Vec<String> = first.items.into_iter().chain(second.items).map(|run| run.id).rev().collect();
    assert_eq!((listed, second.next_page_token), (ids, None));
}

#[tokio::test]
async fn only_those_who_may_can_change_or_start() {
    let world = World::new();
    let process = world.start().await;
    process.apply(&world, QUICK).await;
    let as_deployment = process.as_service("deployment");
    let denied = as_deployment.start("p", &serde_json::from_value(json!({})).unwrap()).await.unwrap_err();
    assert_eq!(denied.code(), fishy_core::ErrorCode::PermissionDenied);
    assert!(as_deployment.list().await.is_ok());
    let as_monitoring = process.as_service("monitoring");
    assert!(as_monitoring.start("p", &serde_json::from_value(json!({})).unwrap()).await.is_ok());
}
