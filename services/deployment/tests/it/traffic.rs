//! Splits, shadows, canaries, promotion: what happens to requests while versions change.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use fishy_contracts::deployment::{CanaryRule, EngineSettings, PromoteRequest, Shadow, Split, TrafficSpec};
use fishy_contracts::events::AUDIT_ENTRY;
use fishy_core::ErrorCode;
use http::Method;
use serde_json::{Value, json};

use crate::world::{COLUMNS, INFER, World, call, columns, eventually, model_files, serving, spec};

const NAME: &str = "virtual-oxygen";

fn split(version: &str, percent: f64) -> TrafficSpec {
    TrafficSpec { splits: vec![Split { version: version.into(), percent }], ..TrafficSpec::default() }
}

fn with_key(id: &str, key: &str) -> Value {
    let mut request = columns(id, 10.0);
    request["parameters"] = json!({"sticky_key": key});
    request
}

#[tokio::test]
async fn a_share_of_the_requests_goes_to_the_candidate_and_keys_stay_where_they_are() {
    let (world, app) = serving().await;
    world.collect_stream().await;
    let report = app.api.set_traffic(NAME, &split("2", 25.0)).await.unwrap();
    assert_eq!((report.splits[0].version.as_str(), report.problem), ("2", None));
    let mut by_version = [0, 0];
    for number in 0..200 {
        let answer = app.post(INFER, &columns(&format!("f-{number}"), 10.0)).await.json();
        let is_candidate = answer["model_version"] == "2";
        assert_eq!(answer["outputs"][0]["data"], json!([if is_candidate { 115.0 } else { 15.5 }]));
        by_version[usize::from(is_candidate)] += 1;
    }
    assert!((48..=52).contains(&by_version[1]), "{by_version:?}");
    for pen in 0..20 {
        let mut seen = Vec::new();
        for again in 0..5 {
            let answer = app.post(INFER, &with_key(&format!("s-{pen}-{again}"), &format!("pen-{pen}"))).await.json();
            seen.push(answer["model_version"].as_str().unwrap().to_owned());
        }
        assert!(seen.iter().all(|version| *version == seen[0]), "pen {pen}: {seen:?}");
    }
    let report = app.api.traffic(NAME).await.unwrap();
    assert_eq!(report.splits[0].requests + report.champion.unwrap().requests, 300);
    // Either version can be asked for by its number, and records say which one answered.
    assert_eq!(app.post("/v2/models/virtual-oxygen/versions/2/infer", &columns("v", 1.0)).await.status, 200);
    assert_eq!(app.get("/v2/models/virtual-oxygen").await.json()["versions"], json!(["1", "2"]));
    eventually("all records", || world.streamed.lock().unwrap().len() == 301).await;
    let is_marked =
        world.streamed.lock().unwrap().iter().all(|record| (record.version == "2") == (record.revision == 0));
    assert!(is_marked);
    app.api.set_traffic(NAME, &TrafficSpec::default()).await.unwrap();
    for number in 0..20 {
        let answer = app.post(INFER, &columns(&format!("e-{number}"), 10.0)).await.json();
        assert_eq!(answer["model_version"], "1");
    }
}

#[tokio::test]
async fn a_shadow_is_asked_compared_and_never_answers() {
    let (world, app) = serving().await;
    world.collect_stream().await;
    let shadow = |version: &str| TrafficSpec {
        shadow: Some(Shadow { version: version.into(), percent: 100.0, tolerance: 1e-4, is_recorded: false }),
        ..TrafficSpec::default()
    };
    app.api.set_traffic(NAME, &shadow("2")).await.unwrap();
    for number in 0..10 {
        let answer = app.post(INFER, &columns(&format!("a-{number}"), 10.0)).await.json();
        assert_eq!(answer["model_version"], "1");
    }
    let mut compared = 0;
    while compared < 10 {
        compared = app.api.traffic(NAME).await.unwrap().shadow.unwrap().compared;
        tokio::task::yield_now().await;
    }
    let report = app.api.traffic(NAME).await.unwrap().shadow.unwrap();
    assert_eq!((report.agreed, report.version.errors), (0, 0));
    assert!((report.mean_abs_difference - 99.5).abs() < 1e-3 && (report.max_abs_difference - 99.5).abs() < 1e-3);
    eventually("the records of the answers", || world.streamed.lock().unwrap().len() == 10).await;
    assert!(world.streamed.lock().unwrap().iter().all(|record| record.version == "1"));
}

#[tokio::test]
async fn a_canary_that_fails_is_taken_back_and_no_caller_notices() {
    let (world, app) = serving().await;
    world.registry.lock().unwrap().versions.insert("3".into(), model_files("fragile.onnx", &COLUMNS));
    let rule = CanaryRule { min_requests: 10, max_error_rate: 0.2, ..CanaryRule::default() };
    let canary = TrafficSpec { canary: Some(rule), ..split("3", 50.0) };
    app.api.set_traffic(NAME, &canary).await.unwrap();
    let mut number = 0;
    // It answers where it can.
    for _ in 0..16 {
        number += 1;
        let answer = app.post(INFER, &columns(&format!("fine-{number}"), 10.0)).await;
        assert_eq!(answer.status, 200);
    }
    assert_eq!(app.api.traffic(NAME).await.unwrap().rolled_back, None);
    while app.api.traffic(NAME).await.unwrap().rolled_back.is_none() {
        number += 1;
        let answer = app.post(INFER, &columns(&format!("bad-{number}"), 60.0)).await;
        assert_eq!(
            (answer.status.as_u16(), answer.json()["model_version"].as_str()),
            (200, Some("1")),
            "{}",
            answer.body
        );
        assert!(number < 1000);
    }
    let report = app.api.traffic(NAME).await.unwrap();
    let reason = report.rolled_back.unwrap();
    assert!(reason.starts_with("version 3 was taken back: it failed in"), "{reason}");
    assert!(report.spec.splits.is_empty());
    let audit = world.emitted(AUDIT_ENTRY).await;
    assert!(audit.iter().any(|entry| entry["details"]["canary_taken_back"] == json!(reason)), "{audit:?}");
    // It stays so after a restart.
    app.shutdown().await;
    let app = world.start().await;
    assert_eq!(app.api.traffic(NAME).await.unwrap().rolled_back.as_deref(), Some(reason.as_str()));
}

#[tokio::test]
async fn candidates_that_cannot_be_served_are_refused_when_they_are_named() {
    let (world, app) = serving().await;
    world.registry.lock().unwrap().versions.insert("3".into(), model_files("linear_half.onnx", &["a", "b", "c"]));
    for (traffic, code) in [
        (split("9", 10.0), ErrorCode::NotFound),
        (split("2", 0.0), ErrorCode::InvalidArgument),
        (split("2", 101.0), ErrorCode::InvalidArgument),
        (TrafficSpec { canary: Some(CanaryRule::default()), ..TrafficSpec::default() }, ErrorCode::InvalidArgument),
    ] {
        assert_eq!(app.api.set_traffic(NAME, &traffic).await.unwrap_err().code(), code, "{traffic:?}");
    }
    let report = app.api.set_traffic(NAME, &split("3", 50.0)).await.unwrap();
    assert!(report.problem.unwrap().contains("its signature is another one"));
    for number in 0..10 {
        assert_eq!(app.post(INFER, &columns(&format!("a-{number}"), 10.0)).await.json()["model_version"], "1");
    }
}

#[tokio::test]
async fn a_gated_deployment_gives_requests_only_to_what_the_gate_lets_through() {
    let world = World::new().await;
    world.registry.lock().unwrap().allowed.insert("1".into());
    let app = world.start().await;
    app.api.apply(&spec(true)).await.unwrap();
    assert_eq!(app.api.set_traffic(NAME, &split("2", 10.0)).await.unwrap_err().code(), ErrorCode::PermissionDenied);
    let promote = PromoteRequest { version: "2".into() };
    assert_eq!(app.api.promote(NAME, &promote).await.unwrap_err().code(), ErrorCode::PermissionDenied);
    let shadow = Shadow { version: "2".into(), percent: 100.0, tolerance: 0.0, is_recorded: false };
    let mirrored = TrafficSpec { shadow: Some(shadow), ..TrafficSpec::default() };
    assert_eq!(app.api.set_traffic(NAME, &mirrored).await.unwrap().problem, None, "a shadow answers nobody");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promotions_and_rollbacks_under_load_fail_no_request() {
    let (_world, app) = serving().await;
    let (is_done, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..4)
        .map(|client| {
            let (http, is_done, sent) = (app.client.clone(), Arc::clone(&is_done), Arc::clone(&sent));
            tokio::spawn(async move {
                let mut number = 0;
                while !is_done.load(Ordering::SeqCst) {
                    number += 1;
                    let body = columns(&format!("{client}-{number}"), 10.0).to_string();
                    let answer = call(&http, Method::POST, INFER, &[], body).await;
                    assert_eq!(answer.status, 200, "{}", answer.body);
                    let answer = answer.json();
                    let expected = if answer["model_version"] == "1" { 15.5 } else { 115.0 };
                    assert!((answer["outputs"][0]["data"][0].as_f64().unwrap() - expected).abs() < 1e-3, "{answer}");
                    sent.fetch_add(1, Ordering::SeqCst);
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    let flow = || async {
        let before = sent.load(Ordering::SeqCst);
        eventually("requests flow", || sent.load(Ordering::SeqCst) > before + 20).await;
    };
    for _ in 0..3 {
        flow().await;
        app.api.set_traffic(NAME, &split("2", 50.0)).await.unwrap();
        flow().await;
        let promoted = app.api.promote(NAME, &PromoteRequest { version: "2".into() }).await.unwrap();
        assert_eq!(promoted.current.unwrap().version, "2");
        assert!(app.api.traffic(NAME).await.unwrap().spec.splits.is_empty(), "the choice was made");
        flow().await;
        let settings = EngineSettings { sessions: Some(1), max_batch_rows: 4, ..EngineSettings::default() };
        assert_eq!(app.api.set_engine(NAME, &settings).await.unwrap(), settings);
        flow().await;
        assert_eq!(app.api.rollback(NAME).await.unwrap().current.unwrap().version, "1");
        app.api.set_engine(NAME, &EngineSettings::default()).await.unwrap();
    }
    is_done.store(true, Ordering::SeqCst);
    for client in clients {
        client.await.unwrap();
    }
    let bad = EngineSettings { max_batch_rows: 0, ..EngineSettings::default() };
    assert_eq!(app.api.set_engine(NAME, &bad).await.unwrap_err().code(), ErrorCode::InvalidArgument);
}
