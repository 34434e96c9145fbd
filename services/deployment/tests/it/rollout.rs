use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use fishy_contracts::events::{AUDIT_ENTRY, REVISION_ACTIVATED};
use serde_json::json;

use crate::world::{COLUMNS, Files, HALF, INFER, NOW_MS, World, call, columns, model_files, spec};

#[tokio::test]
async fn the_first_revision_serves_when_apply_answers_and_everybody_is_told() {
    let world = World::new().await;
    let app = world.start().await;
    let deployment = app.api.apply(&spec(false)).await.unwrap();
    let current = deployment.current.clone().unwrap();
    assert_eq!(deployment.problem, None);
    assert_eq!((current.number, current.version.as_str(), current.activated_ms), (1, "1", NOW_MS));
    assert_eq!(current.features, COLUMNS);
    assert_eq!(current.tags["fishy.made"], "v1");
    assert_eq!(current.digest.len(), 64);
    let events = world.emitted(REVISION_ACTIVATED).await;
    let expected = json!({
        "deployment": "virtual-oxygen", "revision": 1, "model": "oxygen", "version": "1",
        "digest": current.digest, "features": COLUMNS, "tags": {"fishy.made": "v1"},
    });
    assert_eq!(events, [expected]);
    let audit = world.emitted(AUDIT_ENTRY).await;
    let words: Vec<_> =
        audit.iter().map(|entry| (entry["actor"].as_str().unwrap(), entry["action"].as_str().unwrap())).collect();
    assert_eq!(words, [("service:pipelines", "deployment:write"), ("service:deployment", "deployment:activate")]);
    // Nothing has changed: nothing is done.
    app.api.apply(&spec(false)).await.unwrap();
    assert_eq!(app.api.refresh("virtual-oxygen").await.unwrap(), deployment);
    assert_eq!(world.emitted(REVISION_ACTIVATED).await.len(), 1);
    assert_eq!(app.running.problems().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alias_moves_under_load_and_no_request_fails() {
    let world = World::new().await;
    // Only the event can tell of it.
    let mut config = world.config();
    config.deployment.registry_poll_ms = 3_600_000;
    let app = world.start_with(config).await;
    app.api.apply(&spec(false)).await.unwrap();
    let (is_done, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..4)
        .map(|client| {
            let (http, is_done, sent) = (app.client.clone(), Arc::clone(&is_done), Arc::clone(&sent));
            tokio::spawn(async move {
                let mut answers = Vec::new();
                let mut number = 0;
                while !is_done.load(Ordering::SeqCst) {
                    number += 1;
                    let body = columns(&format!("{client}-{number}"), 10.0).to_string();
                    let answer = call(&http, http::Method::POST, INFER, &[], body).await;
                    assert_eq!(answer.status, 200, "{}", answer.body);
                    let body = answer.json();
                    answers.push((
                        body["model_version"].as_str().unwrap().to_owned(),
                        body["outputs"][0]["data"][0].as_f64().unwrap(),
                    ));
                    sent.fetch_add(1, Ordering::SeqCst);
                    // In process nothing ever has to wait, and these clients would keep all threads to themselves.
                    tokio::task::yield_now().await;
                }
                answers
            })
        })
        .collect();
    for version in ["2", "1", "2", "1"] {
        let before = sent.load(Ordering::SeqCst);
        crate::world::eventually("requests flow", || sent.load(Ordering::SeqCst) > before + 20).await;
        world.move_alias(version, true).await;
        app.until_version(version).await;
    }
    is_done.store(true, Ordering::SeqCst);
    let mut seen = [0, 0];
    for client in clients {
        for (version, value) in client.await.unwrap() {
            // Version and value are of one revision.
            let expected = if version == "1" { 15.5 } else { 115.0 };
            assert!((value - expected).abs() < 1e-3, "{version} {value}");
            seen[usize::from(version == "2")] += 1;
        }
    }
    assert!(seen[0] > 20 && seen[1] > 20, "{seen:?}");
    let numbers: Vec<_> =
        app.api.revisions("virtual-oxygen").await.unwrap().items.into_iter().map(|r| (r.number, r.version)).collect();
    let expected =
        [(5, "1"), (4, "2"), (3, "1"), (2, "2"), (1, "1")].map(|(number, version)| (number, version.to_owned()));
    assert_eq!(numbers, expected);
}

#[tokio::test]
async fn a_moved_alias_is_found_by_the_poll_when_no_event_tells() {
    let world = World::new().await;
    let app = world.start().await;
    app.api.apply(&spec(false)).await.unwrap();
    world.move_alias("2", false).await;
    let deployment = app.until_version("2").await;
    assert_eq!(deployment.current.unwrap().number, 2);
}

#[tokio::test]
async fn an_alias_that_does_not_exist_yet_is_waited_for() {
    let world = World::new().await;
    world.registry.lock().unwrap().champion = None;
    let app = world.start().await;
    let deployment = app.api.apply(&spec(false)).await.unwrap();
    assert_eq!(deployment.current, None);
    let problem = deployment.problem.unwrap();
    assert!(problem.contains("no alias \"champion\""), "{problem}");
    assert_eq!(app.running.problems().await, [format!("deployment virtual-oxygen: {problem}")]);
    let answer = app.post(INFER, &columns("a", 1.0)).await;
    assert_eq!(answer.status, 503);
    assert!(answer.body.contains("no alias"), "{}", answer.body);
    assert_eq!(app.get("/v2/models/virtual-oxygen/ready").await.json()["ready"], false);
    assert_eq!(app.get("/v2/health/ready").await.status, 503);
    world.move_alias("1", false).await;
    app.until(|deployment| deployment.current.is_some() && deployment.problem.is_none()).await;
    assert_eq!(app.post(INFER, &columns("a", 1.0)).await.status, 200);
}

#[tokio::test]
async fn a_gated_deployment_serves_only_what_the_gate_lets_through() {
    let world = World::new().await;
    let app = world.start().await;
    let first = app.api.apply(&spec(true)).await.unwrap();
    assert_eq!(first.current, None);
    assert!(first.problem.unwrap().contains("no promotion asks for it"));
    let protected = json!({"model": "oxygen", "alias": "champion", "deployment": "virtual-oxygen"});
    assert_eq!(world.registry.lock().unwrap().protected, [protected]);

    world.registry.lock().unwrap().allowed.insert("1".into());
    let served = app.until_version("1").await.current.unwrap();
    assert_eq!(served.promotion_id.as_deref(), Some("promotion-1"));

    // A registry that cannot protect the alias lets anybody move it; the deployment does not follow.
    world.move_alias("2", true).await;
    let champion = app.until(|deployment| deployment.problem.is_some()).await;
    let problem = champion.problem.unwrap();
    assert!(problem.contains("version 2 of oxygen is not rolled out"), "{problem}");
    assert_eq!(champion.current.unwrap().version, "1");
    assert_eq!(app.post(INFER, &columns("a", 10.0)).await.json()["model_version"], "1");

    world.registry.lock().unwrap().allowed.insert("2".into());
    assert_eq!(app.until_version("2").await.problem, None);
}

#[tokio::test]
async fn a_version_of_another_signature_is_refused_and_the_champion_serves_on() {
    let world = World::new().await;
    let app = world.start().await;
    app.api.apply(&spec(false)).await.unwrap();
    world.registry.lock().unwrap().versions.insert("3".into(), model_files(HALF, &["temperature", "ph", "salinity"]));
    world.move_alias("3", true).await;
    let deployment = app.until(|deployment| deployment.problem.is_some()).await;
    let problem = deployment.problem.unwrap();
    assert!(problem.contains("version 3 of oxygen is not rolled out: its signature is another one"), "{problem}");
    assert_eq!(deployment.current.unwrap().version, "1");
    assert_eq!(app.running.problems().await.len(), 1);
    assert_eq!(app.post(INFER, &columns("a", 10.0)).await.json()["outputs"][0]["data"], json!([15.5]));
    assert_eq!(app.get("/v2/health/ready").await.status, 200, "it serves");
    // Polls do not load it again and again, and the audit trail has it once.
    let downloads = world.registry.lock().unwrap().downloads;
    app.api.refresh("virtual-oxygen").await.unwrap();
    let refused = |entries: Vec<serde_json::Value>| entries.iter().filter(|entry| entry["outcome"] == "failed").count();
    assert_eq!(refused(world.emitted(AUDIT_ENTRY).await), 1);
    assert_eq!(world.registry.lock().unwrap().downloads, downloads, "its files are in the cache");
    world.move_alias("2", true).await;
    assert_eq!(app.until_version("2").await.problem, None);
}

#[tokio::test]
async fn a_model_that_cannot_be_served_says_why() {
    let world = World::new().await;
    let file = |text: &str| text.as_bytes().to_vec();
    let pickle = Files::from([
        ("MLmodel".into(), file("flavors: {sklearn: {pickled_model: model.pkl}}")),
        ("model.pkl".into(), file("cos\nsystem\n(S'touch /tmp/owned'\ntR.")),
    ]);
    let mut broken = model_files(HALF, &COLUMNS);
    broken.insert("model.onnx".into(), file("this is no model"));
    let mut outside = model_files(HALF, &COLUMNS);
    outside.insert("../../outside".into(), file("x"));
    let two_columns = model_files(HALF, &["temperature", "salinity"]);
    let cases = [
        (pickle, "mlflow.onnx.log_model"),
        (broken, "ONNX Runtime cannot load"),
        (outside, "Invalid path"),
        (two_columns, "names 2 columns"),
        (Files::new(), "has no files"),
    ];
    let app = world.start().await;
    for (files, part) in cases {
        world.registry.lock().unwrap().versions.insert("1".into(), files);
        let deployment = app.api.apply(&spec(false)).await.unwrap();
        assert_eq!(deployment.current, None);
        let problem = deployment.problem.unwrap();
        assert!(problem.contains(part), "{problem}");
    }
    assert!(!world.dir.path().join("deployment/outside").exists());
}
