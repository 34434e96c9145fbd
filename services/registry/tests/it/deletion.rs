//! Deletion for good: what goes, what stays, and that nothing is left half done.

use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::{Method, Request};
use fishy_contracts::events::AUDIT_ENTRY;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::server::{On, Server, on_both, settled};

on_both!(
    what_was_deleted_goes_with_its_files,
    what_something_that_lives_refers_to_stays,
    what_is_held_stays_until_it_is_released,
    files_that_cannot_be_removed_now_are_removed_later,
    steps_and_what_makes_no_sense,
);

const GC: &str = "/api/v1/registry/gc";
const HOLDS: &str = "/api/v1/registry/holds";
const DAY_MS: i64 = 86_400_000;

/// All steps; what went, what stayed, and how many files are left.
async fn gc(server: &Server, request: Value) -> (Vec<Value>, Vec<Value>, u64) {
    let (mut request, mut purged, mut kept) = (request, Vec::new(), Vec::new());
    loop {
        let (status, answer) = server.json(Method::POST, GC, request.to_string()).await;
        assert_eq!(status, 200, "{answer}");
        purged.extend(answer["purged"].as_array().unwrap().clone());
        kept.extend(answer["kept"].as_array().unwrap().clone());
        let Some(next) = answer["next"].as_str() else { return (purged, kept, answer["files_left"].as_u64().unwrap()) };
        request["next"] = json!(next);
    }
}

fn ids<'a>(things: &'a [Value], kind: &str) -> BTreeSet<&'a str> {
    things.iter().filter(|thing| thing["kind"] == kind).map(|thing| thing["id"].as_str().unwrap()).collect()
}

async fn upload(server: &Server, path: &str, content: &str) {
    let door = format!("/api/2.0/mlflow-artifacts/artifacts/{path}");
    assert_eq!(server.raw(Method::PUT, &door, content.to_owned()).await.0, 200, "{path}");
}

/// A run with metrics, parameters, tags, a data set and a file.
async fn full_run(server: &Server, experiment: &str, at: &str) -> String {
    let run = server.done("runs/create", json!({"experiment_id": experiment, "start_time": 5})).await;
    let run = run["run"]["info"]["run_id"].as_str().unwrap().to_owned();
    let batch = json!({
        "run_id": run, "metrics": [{"key": "m", "value": 1.5, "timestamp": 1, "step": 0}],
        "params": [{"key": "p", "value": "v"}], "tags": [{"key": "t", "value": "v"}],
    });
    server.done("runs/log-batch", batch).await;
    let dataset = json!({"name": format!("d-{run}"), "digest": "1", "source_type": "local", "source": "s"});
    let inputs = json!([{"tags": [{"key": "context", "value": "train"}], "dataset": dataset}]);
    server.done("runs/log-inputs", json!({"run_id": run, "datasets": inputs})).await;
    upload(server, &format!("{experiment}/{run}/artifacts/{at}"), &format!("{at} of {run}")).await;
    run
}

async fn logged_model(server: &Server, experiment: &str, run: &str) -> (String, String) {
    let made = json!({"experiment_id": experiment, "name": "m", "source_run_id": run});
    let made = server.done("logged-models", made).await;
    let info = &made["model"]["info"];
    let root = info["artifact_uri"].as_str().unwrap().strip_prefix("mlflow-artifacts:/").unwrap().to_owned();
    upload(server, &format!("{root}/model.onnx"), "weights").await;
    (info["model_id"].as_str().unwrap().to_owned(), root)
}

async fn experiment(server: &Server, name: &str) -> String {
    let made = server.done("experiments/create", json!({ "name": name })).await;
    made["experiment_id"].as_str().unwrap().to_owned()
}

async fn count(server: &Server, table: &str) -> i64 {
    let rows = server.db.query(&format!("SELECT COUNT(*) AS n FROM {table}"), vec![]).await.unwrap();
    rows[0].get("n").unwrap()
}

/// Every file of the object store has a row, every row has its file, and every row belongs to something.
async fn check_consistent(server: &Server) {
    let rows = server.db.query("SELECT path, blob FROM artifacts", vec![]).await.unwrap();
    let referred: BTreeSet<String> = rows.iter().map(|row| row.get("blob").unwrap()).collect();
    let stored = server.blob.list_recursive("artifacts").await.unwrap();
    let stored: BTreeSet<String> = stored.into_iter().map(|file| file.path).collect();
    assert_eq!(referred, stored, "rows and files");
    assert_eq!(count(server, "blob_garbage").await, 0);
    for (table, key, of) in [
        ("metrics", "run_id", "runs"),
        ("run_models", "run_id", "runs"),
        ("run_datasets", "run_id", "runs"),
        ("run_models", "model_id", "logged_models"),
        ("logged_model_metrics", "model_id", "logged_models"),
        ("runs", "experiment_id", "experiments"),
        ("logged_models", "experiment_id", "experiments"),
        ("datasets", "experiment_id", "experiments"),
    ] {
        let id = if of == "experiments" { "id" } else { key };
        let sql = format!("SELECT COUNT(*) AS n FROM {table} WHERE {key} NOT IN (SELECT {id} FROM {of})");
        let dangling: i64 = server.db.query(&sql, vec![]).await.unwrap()[0].get("n").unwrap();
        assert_eq!(dangling, 0, "{table}.{key}");
    }
    for row in server.db.query("SELECT artifact_path FROM model_versions", vec![]).await.unwrap() {
        let root: String = row.get("artifact_path").unwrap();
        let path = format!("/api/2.0/mlflow-artifacts/artifacts?path={root}");
        let files = server.json(Method::GET, &path, "").await.1;
        assert!(files["files"].as_array().is_some_and(|files| !files.is_empty()), "{root}");
    }
}

async fn delete(server: &Server, family: &str, id: (&str, &str)) {
    server.done(&format!("{family}/delete"), json!({ id.0: id.1 })).await;
}

async fn what_was_deleted_goes_with_its_files(server: Server) {
    let (gone, stays) = (experiment(&server, "gone").await, experiment(&server, "stays").await);
    let in_gone = full_run(&server, &gone, "a/b.txt").await;
    let (model, _) = logged_model(&server, &gone, &in_gone).await;
    let deleted = full_run(&server, &stays, "b.txt").await;
    let alive = full_run(&server, &stays, "c.txt").await;
    delete(&server, "experiments", ("experiment_id", &gone)).await;
    server.clock.advance_ms(2 * DAY_MS);
    delete(&server, "runs", ("run_id", &deleted)).await;

    let (purged, kept, _) = gc(&server, json!({"older_than_ms": DAY_MS, "dry_run": true})).await;
    assert_eq!(ids(&purged, "run"), BTreeSet::from([in_gone.as_str()]), "the other one was deleted just now");
    assert_eq!(ids(&purged, "experiment"), BTreeSet::from([gone.as_str()]));
    assert_eq!(kept, Vec::<Value>::new());
    assert_eq!(count(&server, "runs").await, 3, "nothing was done");
    check_consistent(&server).await;

    let (again, _, left) = gc(&server, json!({"older_than_ms": DAY_MS})).await;
    let names =
        |things: &[Value]| things.iter().map(|thing| (thing["kind"].clone(), thing["id"].clone())).collect::<Vec<_>>();
    assert_eq!(names(&again), names(&purged), "what was said is what was done");
    assert_eq!(left, 0);
    let bytes = format!("a/b.txt of {in_gone}").len();
    let run = again.iter().find(|thing| thing["kind"] == "run").unwrap();
    assert_eq!((&run["files"], &run["bytes"]), (&json!(1), &json!(bytes)));
    check_consistent(&server).await;
    let (purged, ..) = gc(&server, json!({})).await;
    assert_eq!(names(&purged), [(json!("run"), json!(deleted))]);
    check_consistent(&server).await;

    settled(&server.db).await;
    assert_eq!(
        (count(&server, "runs").await, count(&server, "datasets").await, count(&server, "metrics").await),
        (1, 1, 1)
    );
    assert_eq!(count(&server, "logged_models").await, 0);
    assert_eq!(server.get(&format!("runs/get?run_id={alive}")).await.0, 200);
    for path in [
        format!("runs/get?run_id={deleted}"),
        format!("experiments/get?experiment_id={gone}"),
        format!("logged-models/{model}"),
    ] {
        assert_eq!(server.get(&path).await.0, 404, "{path}");
    }
    let folders = server.json(Method::GET, "/api/2.0/mlflow-artifacts/artifacts", "").await.1;
    assert_eq!(folders["files"].as_array().unwrap().len(), 1, "no empty folder stays: {folders}");
    experiment(&server, "gone").await;

    let audit: Vec<_> = server.events().await.into_iter().filter(|event| event.kind == AUDIT_ENTRY).collect();
    let of = |action: &str| audit.iter().filter(|event| event.data["action"] == action).count();
    assert_eq!((of("run.purge"), of("logged_model.purge"), of("experiment.purge")), (2, 1, 1));
}

async fn what_something_that_lives_refers_to_stays(server: Server) {
    let root = server.model("oxygen", 1).await;
    let registered = root.split('/').nth(1).unwrap().to_owned();
    let experiment = experiment(&server, "e").await;
    let maker = full_run(&server, &experiment, "a.txt").await;
    let (model, model_root) = logged_model(&server, &experiment, &maker).await;
    let source = json!({"name": "oxygen", "source": format!("models:/{model}"), "model_id": model});
    let measurer = full_run(&server, &experiment, "b.txt").await;
    let metric = json!({"run_id": measurer, "metrics": [{"key": "x", "value": 1.0, "timestamp": 1, "step": 0, "model_id": model}]});
    server.done("runs/log-batch", metric).await;
    for run in [&registered, &maker, &measurer] {
        delete(&server, "runs", ("run_id", run)).await;
    }
    let (purged, kept, _) = gc(&server, json!({})).await;
    assert_eq!(purged, Vec::<Value>::new());
    assert_eq!(ids(&kept, "run"), [&registered, &maker, &measurer].map(String::as_str).into());
    let why = |id: &str| kept.iter().find(|thing| thing["id"] == id).unwrap()["why"].as_str().unwrap();
    assert_eq!(why(&registered), "it is version 1 of the registered model oxygen");
    assert_eq!(why(&maker), format!("the logged model {model} refers to it"));
    check_consistent(&server).await;

    // A logged model that is registered stays when it is deleted, and with it what made it.
    server.done("model-versions/create", source).await;
    let path = format!("/api/2.0/mlflow/logged-models/{model}");
    assert_eq!(server.json(Method::DELETE, &path, "").await.0, 200);
    delete(&server, "experiments", ("experiment_id", &experiment)).await;
    let (purged, kept, _) = gc(&server, json!({})).await;
    assert_eq!(ids(&kept, "logged_model"), BTreeSet::from([model.as_str()]));
    assert_eq!(ids(&kept, "experiment"), BTreeSet::from([experiment.as_str()]));
    assert_eq!(ids(&purged, "run"), BTreeSet::from([measurer.as_str()]), "what measured a deleted model");
    let (dry, dry_kept, _) = gc(&server, json!({"dry_run": true})).await;
    assert!(dry.is_empty() && ids(&dry_kept, "experiment").contains(experiment.as_str()), "{dry:?}");
    check_consistent(&server).await;
    let content =
        server.raw(Method::GET, &format!("/api/2.0/mlflow-artifacts/artifacts/{model_root}/model.onnx"), "").await;
    assert_eq!(content, (200, b"weights".to_vec()));

    for version in ["1", "2"] {
        let body = json!({"name": "oxygen", "version": version}).to_string();
        assert_eq!(server.json(Method::DELETE, "/api/2.0/mlflow/model-versions/delete", body).await.0, 200);
    }
    let (purged, kept, _) = gc(&server, json!({})).await;
    assert_eq!(kept, Vec::<Value>::new());
    assert_eq!(purged.len(), 4, "two runs, a logged model, an experiment: {purged:?}");
    check_consistent(&server).await;
    assert_eq!(count(&server, "artifacts").await, 0);
}

async fn hold(server: &Server, method: Method, kind: &str, id: &str) -> (u16, Value) {
    server.json(method, HOLDS, json!({"kind": kind, "id": id, "reason": "case 7"}).to_string()).await
}

async fn what_is_held_stays_until_it_is_released(server: Server) {
    let (one, other) = (experiment(&server, "one").await, experiment(&server, "other").await);
    let in_one = full_run(&server, &one, "a.txt").await;
    let in_other = full_run(&server, &other, "b.txt").await;
    let alone = full_run(&server, &other, "c.txt").await;
    let (model, _) = logged_model(&server, &other, &in_other).await;
    server.model("oxygen", 1).await;
    for (kind, id) in [("experiment", one.as_str()), ("run", &in_other), ("model", "oxygen")] {
        let (status, held) = hold(&server, Method::PUT, kind, id).await;
        assert_eq!(
            (status, &held["actor"], &held["time_ms"]),
            (200, &json!("user:local-admin"), &json!(1_800_000_000_000_i64))
        );
    }
    delete(&server, "experiments", ("experiment_id", &one)).await;
    delete(&server, "experiments", ("experiment_id", &other)).await;
    let (purged, kept, _) = gc(&server, json!({})).await;
    assert_eq!(ids(&purged, "run"), BTreeSet::from([alone.as_str()]));
    assert_eq!(ids(&kept, "run"), BTreeSet::from([in_one.as_str(), in_other.as_str()]));
    assert_eq!(ids(&kept, "logged_model"), BTreeSet::from([model.as_str()]), "what a held run made");
    assert!(kept.iter().any(|thing| thing["why"].as_str().unwrap().contains("held since 2027-01-15T08:00:00")
        && thing["why"].as_str().unwrap().ends_with("case 7")));

    let path = format!("/api/2.0/mlflow-artifacts/artifacts/{other}/{in_other}/artifacts/b.txt");
    assert_eq!(server.raw(Method::DELETE, &path, "").await.0, 400);
    assert_eq!(server.raw(Method::PUT, &path, "changed").await.0, 400);
    assert_eq!(server.raw(Method::GET, &path, "").await.0, 200);
    for (path, body) in [
        ("registered-models/delete", json!({"name": "oxygen"})),
        ("model-versions/delete", json!({"name": "oxygen", "version": "1"})),
    ] {
        let (status, answer) = server.json(Method::DELETE, &format!("/api/2.0/mlflow/{path}"), body.to_string()).await;
        assert!(status == 400 && answer["message"].as_str().unwrap().contains("case 7"), "{answer}");
    }
    let held = server.json(Method::GET, HOLDS, "").await.1;
    assert_eq!(held["items"].as_array().unwrap().len(), 3);
    for (kind, id) in [("experiment", one.as_str()), ("run", &in_other), ("model", "oxygen")] {
        assert_eq!(hold(&server, Method::DELETE, kind, id).await.0, 200);
        assert_eq!(hold(&server, Method::DELETE, kind, id).await.0, 404);
    }
    let (purged, kept, _) = gc(&server, json!({})).await;
    assert_eq!((purged.len(), kept.len()), (5, 0), "two runs, a logged model, two experiments");
    check_consistent(&server).await;
    let delete = json!({"name": "oxygen"}).to_string();
    assert_eq!(server.json(Method::DELETE, "/api/2.0/mlflow/registered-models/delete", delete).await.0, 200);
    let audit = server.events().await;
    let of = |action: &str| audit.iter().filter(|event| event.data["action"] == action).count();
    assert_eq!((of("hold.set"), of("hold.release")), (3, 3));
}

async fn files_that_cannot_be_removed_now_are_removed_later(server: Server) {
    let experiment = experiment(&server, "e").await;
    let run = full_run(&server, &experiment, "a.txt").await;
    let rows = server.db.query("SELECT blob FROM artifacts", vec![]).await.unwrap();
    let blob: String = rows[0].get("blob").unwrap();
    // A link in its place, which the store refuses to touch: the file cannot be removed.
    let file = server.folder().join("artifacts").join(&blob);
    let aside = server.folder().join("aside");
    std::fs::rename(&file, &aside).unwrap();
    std::os::unix::fs::symlink(&aside, &file).unwrap();
    delete(&server, "runs", ("run_id", &run)).await;
    let (purged, _, left) = gc(&server, json!({})).await;
    assert_eq!((purged.len(), left), (1, 1), "it is known that one is left");
    assert_eq!(count(&server, "artifacts").await, 0);
    std::fs::remove_file(&file).unwrap();
    std::fs::rename(&aside, &file).unwrap();
    // An upload that was interrupted before its row was written.
    server.blob.put("artifacts/ff/orphan", "orphan".into()).await.unwrap();
    let (dry, ..) = gc(&server, json!({"dry_run": true})).await;
    assert_eq!(ids(&dry, "orphan"), BTreeSet::from(["artifacts/ff/orphan"]));
    let (purged, _, left) = gc(&server, json!({})).await;
    assert_eq!((ids(&purged, "orphan"), left), (BTreeSet::from(["artifacts/ff/orphan"]), 0));
    check_consistent(&server).await;
}

async fn steps_and_what_makes_no_sense(server: Server) {
    let experiment = experiment(&server, "e").await;
    for _ in 0..5 {
        let run = full_run(&server, &experiment, "a.txt").await;
        delete(&server, "runs", ("run_id", &run)).await;
    }
    let step = json!({"limit": 2, "next": "run:"});
    let answer = server.json(Method::POST, GC, step.to_string()).await.1;
    assert_eq!(answer["purged"].as_array().unwrap().len(), 2);
    assert!(answer["next"].as_str().unwrap().starts_with("run:"), "{answer}");
    let (purged, ..) = gc(&server, json!({"limit": 2})).await;
    assert_eq!(purged.len(), 3);
    for wrong in [
        json!({"limit": 0}),
        json!({"limit": 1_001}),
        json!({"older_than_ms": -1}),
        json!({"next": "walk"}),
        json!({"next": "experiment:x"}),
        json!({"older": 1}),
    ] {
        assert_eq!(server.json(Method::POST, GC, wrong.to_string()).await.0, 400, "{wrong}");
    }
    for (kind, id, status) in
        [("run", "nobody", 404), ("model", "nobody", 404), ("planet", "x", 400), ("experiment", "x", 400)]
    {
        assert_eq!(hold(&server, Method::PUT, kind, id).await.0, status, "{kind}");
    }
    let silent = json!({"kind": "experiment", "id": experiment, "reason": " "}).to_string();
    assert_eq!(server.json(Method::PUT, HOLDS, silent).await.0, 400);
}

/// Killed after so many steps of the program, wherever that is: the next one ends it.
async fn interrupted(on: On, polls: usize) -> bool {
    let server = Server::start(on).await;
    let experiment = experiment(&server, "e").await;
    let run = full_run(&server, &experiment, "a/b.txt").await;
    upload(&server, &format!("{experiment}/{run}/artifacts/c.txt"), "c").await;
    logged_model(&server, &experiment, &run).await;
    delete(&server, "experiments", ("experiment_id", &experiment)).await;
    let mut next = Value::Null;
    let mut left = polls;
    let is_whole = 'all: loop {
        let body = json!({ "next": next }).to_string();
        let request = Request::builder().method(Method::POST).uri(GC).body(Body::from(body)).unwrap();
        let mut answer = Box::pin(server.router.clone().oneshot(request));
        let response = loop {
            if left == 0 {
                break 'all false;
            }
            left -= 1;
            let polled = std::future::poll_fn(|context| std::task::Poll::Ready(answer.as_mut().poll(context))).await;
            match polled {
                std::task::Poll::Ready(response) => break response.unwrap(),
                std::task::Poll::Pending => tokio::task::yield_now().await,
            }
        };
        let body = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
        next = serde_json::from_slice::<Value>(&body).unwrap()["next"].take();
        if next.is_null() {
            break true;
        }
    };
    let server = server.start_again().await;
    gc(&server, json!({})).await;
    check_consistent(&server).await;
    for table in ["runs", "logged_models", "artifacts", "artifact_folders", "metrics", "datasets"] {
        assert_eq!(count(&server, table).await, 0, "{table} after {polls}");
    }
    is_whole
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deletion_that_is_interrupted_anywhere_is_ended_by_the_next() {
    let mut polls = 1;
    while !interrupted(On::Sqlite, polls).await {
        polls = (polls * 3).div_ceil(2);
        assert!(polls < 100_000_000, "it never ends");
    }
}
