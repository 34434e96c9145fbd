//! Runs, metrics, artifacts, versions: what the client of the real protocol cannot provoke, and both databases.

use axum::body::Body;
use axum::http::Method;
use fishy_core::Error;
use serde_json::{Value, json};

use crate::server::{Server, on_both};

on_both!(
    searches_are_the_same_on_both,
    pages_follow_each_other_without_a_gap,
    the_latest_value_is_kept_beside_the_history,
    versions_and_their_files,
    an_upload_that_breaks_off_leaves_what_was_there,
    models_are_listed_with_their_newest_versions,
    logged_models_are_searched_by_their_metrics,
    writers_at_the_same_time_lose_nothing,
    what_is_logged_is_in_its_history_at_once_and_once,
    a_run_whose_metrics_just_arrived_can_be_deleted_for_good,
);

async fn log(server: &Server, run: &str, key: &str, values: &[(f64, i64, i64)]) {
    let metrics: Vec<Value> = values
        .iter()
        .map(|(value, timestamp, step)| json!({"key": key, "value": value, "timestamp": timestamp, "step": step}))
        .collect();
    server.done("runs/log-batch", json!({"run_id": run, "metrics": metrics})).await;
}

async fn searches_are_the_same_on_both(server: Server) {
    let (experiment, first) = server.run().await;
    let mut runs = vec![first];
    for start in 1..4 {
        let body = json!({"experiment_id": experiment, "start_time": 5 + start, "run_name": format!("Run_{start}%")});
        runs.push(server.done("runs/create", body).await["run"]["info"]["run_id"].as_str().unwrap().to_owned());
    }
    for (at, run) in runs.iter().enumerate() {
        log(&server, run, "rmse", &[(at as f64, 1, 0)]).await;
        let params = json!([{"key": "path", "value": format!(r"C:\a_{at}'")}]);
        server.done("runs/log-batch", json!({"run_id": run, "params": params})).await;
    }
    for (filter, expected) in [
        ("metrics.rmse >= 1 AND metrics.rmse < 3", vec![2, 1]),
        (r"params.path = 'C:\a_2'''", vec![2]),
        (r"params.path LIKE 'C:\a__'''", vec![3, 2, 1, 0]),
        (r"params.path LIKE 'C:\a_%'", vec![3, 2, 1, 0]),
        (r"params.path LIKE 'c:%'", vec![]),
        (r"params.path ILIKE 'c:\A_1_'", vec![1]),
        ("run_name LIKE 'Run%' AND run_name != 'Run_1%'", vec![3, 2]),
        ("run_name ILIKE 'RUN_3%'", vec![3]),
        ("start_time > 6 AND start_time <= 8.0", vec![3, 2]),
        ("tags.x IS NULL AND status = 'RUNNING'", vec![3, 2, 1, 0]),
    ] {
        let answer = server.done("runs/search", json!({"experiment_ids": [experiment], "filter": filter})).await;
        let found: Vec<usize> = answer["runs"]
            .as_array()
            .map_or(&[][..], Vec::as_slice)
            .iter()
            .map(|run| runs.iter().position(|id| run["info"]["run_id"] == *id).unwrap())
            .collect();
        assert_eq!(found, expected, "{filter}");
    }
}

async fn pages_follow_each_other_without_a_gap(server: Server) {
    let (experiment, first) = server.run().await;
    let mut all = vec![first];
    for start in [7, 6, 6, 6, 5] {
        let body = json!({"experiment_id": experiment, "start_time": start});
        let run = server.done("runs/create", body).await;
        all.push(run["run"]["info"]["run_id"].as_str().unwrap().to_owned());
    }
    all.sort();
    for order in [json!([]), json!(["start_time DESC"]), json!(["start_time ASC"]), json!(["metrics.x", "run_id"])] {
        let (mut seen, mut token) = (Vec::new(), String::new());
        loop {
            let body =
                json!({"experiment_ids": [experiment], "max_results": 2, "order_by": order, "page_token": token});
            let answer = server.done("runs/search", body).await;
            seen.extend(
                answer["runs"].as_array().unwrap().iter().map(|r| r["info"]["run_id"].as_str().unwrap().to_owned()),
            );
            match answer["next_page_token"].as_str() {
                Some(next) => next.clone_into(&mut token),
                None => break,
            }
        }
        assert_eq!(seen.len(), all.len(), "{order}");
        seen.sort();
        assert_eq!(seen, all, "{order}");
        // A token of one order is no token of another.
        if order == json!([]) {
            let body = json!({"experiment_ids": [experiment], "order_by": ["end_time"], "page_token": token});
            assert_eq!(server.post("runs/search", body).await.0, 400);
        }
    }
}

async fn the_latest_value_is_kept_beside_the_history(server: Server) {
    let (_, run) = server.run().await;
    log(&server, &run, "loss", &[(9.0, 10, 0), (3.0, 20, 2), (3.0, 20, 2), (5.0, 5, 2)]).await;
    log(&server, &run, "loss", &[(1.0, 99, 1), (3.0, 20, 2)]).await;
    let metric = |answer: &Value| answer["run"]["data"]["metrics"][0].clone();
    let (_, answer) = server.get(&format!("runs/get?run_id={run}")).await;
    assert_eq!(metric(&answer), json!({"key": "loss", "value": 3.0, "timestamp": 20, "step": 2}));
    log(&server, &run, "loss", &[(4.0, 20, 2)]).await;
    let (_, answer) = server.get(&format!("runs/get?run_id={run}")).await;
    assert_eq!(metric(&answer)["value"], 4.0, "of one step and time the greatest value is the latest");
    let (_, answer) = server.get(&format!("metrics/get-history?run_id={run}&metric_key=loss")).await;
    let values: Vec<f64> = answer["metrics"].as_array().unwrap().iter().map(|m| m["value"].as_f64().unwrap()).collect();
    assert_eq!(values, [5.0, 9.0, 3.0, 4.0, 1.0]);
    let path = format!("metrics/get-history-bulk-interval?run_ids={run}&metric_key=loss&start_step=1&end_step=2");
    assert_eq!(server.get(&path).await.1["metrics"].as_array().unwrap().len(), 4);
}

async fn versions_and_their_files(server: Server) {
    let root = server.model("oxygen", 1).await;
    let client = server.client();
    let version = client.version("oxygen", "1").await.unwrap();
    let files = client.files(&version).await.unwrap();
    assert_eq!(files.len(), 1);
    assert_eq!((files[0].path.as_str(), files[0].size_bytes), ("model.onnx", 7));
    let content = client.download_checked(&version, &files[0], 100).await.unwrap();
    assert_eq!(&content[..], b"model 1");
    let door = format!("/api/2.0/mlflow-artifacts/artifacts/{root}/m1");
    for (method, path, body) in [
        (Method::PUT, format!("{door}/model.onnx"), "other"),
        (Method::PUT, format!("{door}/added"), "other"),
        (Method::DELETE, format!("{door}/model.onnx"), ""),
        (Method::DELETE, door.clone(), ""),
        (Method::DELETE, door.trim_end_matches("/m1").to_owned(), ""),
    ] {
        let (status, answer) = server.json(method.clone(), &path, body).await;
        assert_eq!(status, 400, "{method} {path}");
        assert!(
            answer["message"].as_str().unwrap().contains("version 1 of the registered model \"oxygen\""),
            "{answer}"
        );
    }
    assert_eq!(server.raw(Method::PUT, &format!("{door}/model.onnx"), "model 1").await.0, 200, "the same content");
    let delete = json!({"name": "oxygen", "version": "1"}).to_string();
    assert_eq!(server.raw(Method::DELETE, "/api/2.0/mlflow/model-versions/delete", delete).await.0, 200);
    assert_eq!(server.raw(Method::PUT, &format!("{door}/model.onnx"), "other").await.0, 200);
    // What was replaced is gone from the store.
    assert_eq!(server.db.query("SELECT blob FROM blob_garbage", vec![]).await.unwrap().len(), 0);
}

async fn an_upload_that_breaks_off_leaves_what_was_there(server: Server) {
    let door = "/api/2.0/mlflow-artifacts/artifacts/a/b";
    assert_eq!(server.raw(Method::PUT, door, "first").await.0, 200);
    let broken = futures::stream::iter([Ok("sec".into()), Err(Error::unavailable("gone"))]);
    let broken = Body::from_stream::<_>(futures::StreamExt::map(broken, |chunk: Result<bytes::Bytes, Error>| chunk));
    assert_eq!(server.raw(Method::PUT, door, broken).await.0, 400);
    assert_eq!(server.raw(Method::PUT, door, vec![0; 1_000_001]).await.0, 429, "over the limit");
    assert_eq!(server.raw(Method::GET, door, "").await, (200, b"first".to_vec()));
    for (path, why) in [("a", "is a folder"), ("a/b/c", "lies below a file")] {
        let door = format!("/api/2.0/mlflow-artifacts/artifacts/{path}");
        let (status, answer) = server.json(Method::PUT, &door, "x").await;
        assert!(status == 400 && answer["message"].as_str().unwrap().contains(why), "{path}: {answer}");
    }
    let (_, list) = server.json(Method::GET, "/api/2.0/mlflow-artifacts/artifacts?path=a", "").await;
    assert_eq!(list, json!({"files": [{"path": "b", "is_dir": false, "file_size": 5}]}));
}

async fn models_are_listed_with_their_newest_versions(server: Server) {
    for name in ["b", "a"] {
        server.model(name, 3).await;
    }
    for (version, stage) in [("1", "Staging"), ("2", "staging")] {
        let body = json!({"name": "a", "version": version, "stage": stage});
        server.done("model-versions/transition-stage", body).await;
    }
    server.done("registered-models/alias", json!({"name": "a", "alias": "x", "version": "2"})).await;
    server.done("model-versions/set-tag", json!({"name": "b", "version": "3", "key": "k", "value": "v"})).await;
    let (_, answer) = server.get("registered-models/search").await;
    let latest = |model: &Value| {
        let versions = model["latest_versions"].as_array().unwrap().iter();
        versions
            .map(|v| format!("{}{}", v["current_stage"].as_str().unwrap(), v["version"].as_str().unwrap()))
            .collect()
    };
    let [a, b] = answer["registered_models"].as_array().unwrap().as_slice() else { panic!("{answer}") };
    assert_eq!((a["name"].as_str(), b["name"].as_str()), (Some("a"), Some("b")));
    let names: (Vec<String>, Vec<String>) = (latest(a), latest(b));
    assert_eq!(names, (vec!["Staging2".into(), "None3".into()], vec!["None3".into()]));
    assert_eq!(a["latest_versions"][0]["aliases"], json!(["x"]));
    assert_eq!(b["latest_versions"][0]["tags"], json!([{"key": "k", "value": "v"}]));
    let found = server.client().versions_with_tag("b", "k", "v").await.unwrap();
    assert_eq!(found.iter().map(|v| v.version.as_str()).collect::<Vec<_>>(), ["3"]);
    server.done("registered-models/rename", json!({"name": "a", "new_name": "c"})).await;
    let (_, answer) = server.get("registered-models/alias?name=c&alias=x").await;
    assert_eq!(answer["model_version"]["version"], "2");
}

async fn logged_models_are_searched_by_their_metrics(server: Server) {
    let (experiment, run) = server.run().await;
    let mut ids = Vec::new();
    for at in 0..3 {
        server.clock.advance_ms(1);
        let body = json!({"experiment_id": experiment, "name": format!("n{at}"), "source_run_id": run});
        let model = server.done("logged-models", body).await["model"]["info"]["model_id"].as_str().unwrap().to_owned();
        for (dataset, value) in [("sea", f64::from(at)), ("lake", f64::from(-at))] {
            let time = if dataset == "sea" { 1 } else { 2 };
            let body = json!({"run_id": run, "key": "acc", "value": value, "timestamp": time, "step": 0,
                              "model_id": model, "dataset_name": dataset, "dataset_digest": "d"});
            server.done("runs/log-metric", body).await;
        }
        ids.push(model);
    }
    let order =
        |dataset: Option<&str>| json!([{"field_name": "metrics.acc", "ascending": true, "dataset_name": dataset}]);
    for (body, expected) in [
        (json!({}), vec![2, 1, 0]),
        (json!({"order_by": order(None)}), vec![2, 1, 0]),
        (json!({"order_by": order(Some("sea"))}), vec![0, 1, 2]),
        (json!({"filter": "metrics.acc >= 1", "datasets": [{"dataset_name": "sea"}]}), vec![2, 1]),
        (json!({"filter": "metrics.acc >= 1", "datasets": [{"dataset_name": "lake"}]}), vec![]),
        (json!({"datasets": [{"dataset_name": "sea", "dataset_digest": "other"}]}), vec![]),
    ] {
        let mut body = body;
        body["experiment_ids"] = json!([experiment]);
        let answer = server.done("logged-models/search", body.clone()).await;
        let found: Vec<usize> = answer["models"]
            .as_array()
            .map_or(&[][..], Vec::as_slice)
            .iter()
            .map(|model| ids.iter().position(|id| model["info"]["model_id"] == **id).unwrap())
            .collect();
        assert_eq!(found, expected, "{body}");
    }
    let body = json!({"run_id": run, "key": "acc", "value": 1, "timestamp": 1, "model_id": "m-none"});
    assert_eq!(server.post("runs/log-metric", body).await.0, 404);
}

async fn writers_at_the_same_time_lose_nothing(server: Server) {
    let root = server.model("oxygen", 1).await;
    let run = root.split('/').nth(1).unwrap().to_owned();
    let source = json!({"name": "oxygen", "source": format!("runs:/{run}/m1"), "run_id": run});
    let batch = |step: i64| {
        let metrics: Vec<Value> = (0..50)
            .map(|key| json!({"key": format!("k{key}"), "value": step, "timestamp": step, "step": step}))
            .collect();
        json!({"run_id": run, "metrics": metrics, "params": [{"key": "p", "value": "1"}]})
    };
    let versions = futures::future::join_all((0..12).map(|_| server.done("model-versions/create", source.clone())));
    let batches = futures::future::join_all((0..12).map(|step| server.done("runs/log-batch", batch(step))));
    let (versions, _) = tokio::join!(versions, batches);
    let mut numbers: Vec<i64> =
        versions.iter().map(|answer| answer["model_version"]["version"].as_str().unwrap().parse().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (2..=13).collect::<Vec<i64>>());
    let (_, answer) = server.get(&format!("runs/get?run_id={run}")).await;
    let metrics = answer["run"]["data"]["metrics"].as_array().unwrap();
    assert_eq!(metrics.len(), 50);
    assert!(metrics.iter().all(|metric| metric["step"] == 11), "{metrics:?}");
    let (_, answer) = server.get(&format!("metrics/get-history?run_id={run}&metric_key=k7")).await;
    assert_eq!(answer["metrics"].as_array().unwrap().len(), 12);
}

async fn values(server: &Server, run: &str, key: &str) -> Vec<Value> {
    let (_, answer) = server.get(&format!("metrics/get-history?run_id={run}&metric_key={key}")).await;
    answer["metrics"].as_array().map_or(Vec::new(), |all| all.iter().map(|metric| metric["value"].clone()).collect())
}

/// Batches may be written down in one form and moved into the histories later: whoever reads meets the histories.
async fn what_is_logged_is_in_its_history_at_once_and_once(server: Server) {
    let (experiment, run) = server.run().await;
    let (_, other) = server.run().await;
    for step in 0..150 {
        log(&server, &run, "a", &[(step as f64, 10 + step, step), (0.5, 10 + step, step)]).await;
        log(&server, &other, "a", &[(-1.0, 1, step)]).await;
        if step % 50 == 0 {
            assert_eq!(values(&server, &run, "a").await.len() as i64, 2 * (step + 1));
        }
    }
    // The same again, a retry of a client that has heard no answer.
    log(&server, &run, "a", &[(149.0, 159, 149), (0.5, 159, 149)]).await;
    let special = json!([{"key": "n", "value": "NaN", "timestamp": 1}, {"key": "n", "value": "Infinity", "timestamp": 2},
        {"key": "n", "value": 1e-310, "timestamp": 3}, {"key": "n", "value": -0.1, "timestamp": 4}]);
    server.done("runs/log-batch", json!({"run_id": run, "metrics": special})).await;
    assert_eq!(values(&server, &run, "a").await.len(), 300);
    let found = values(&server, &run, "n").await;
    assert_eq!(found, [json!("NaN"), json!(f64::MAX), json!(1e-310), json!(-0.1)]);
    assert_eq!(values(&server, &other, "a").await.len(), 150, "each run has its own");
    let path = format!("metrics/get-history-bulk?run_id={run}&run_id={other}&metric_key=a");
    log(&server, &other, "a", &[(-2.0, 2, 200)]).await;
    assert_eq!(server.get(&path).await.1["metrics"].as_array().unwrap().len(), 451);
    log(&server, &other, "late", &[(-2.0, 2, 200)]).await;
    let path = format!("metrics/get-history-bulk-interval?run_ids={other}&metric_key=late");
    assert_eq!(server.get(&path).await.1["metrics"].as_array().unwrap().len(), 1);
    // What nobody has read is there after the next start.
    log(&server, &run, "unread", &[(7.0, 1, 0)]).await;
    let server = server.start_again().await;
    assert_eq!(values(&server, &run, "unread").await, [json!(7.0)]);
    let search = json!({"experiment_ids": [experiment], "filter": "metrics.unread = 7"});
    assert_eq!(server.done("runs/search", search).await["runs"].as_array().unwrap().len(), 1);
}

async fn a_run_whose_metrics_just_arrived_can_be_deleted_for_good(server: Server) {
    let (_, run) = server.run().await;
    log(&server, &run, "a", &[(1.0, 1, 0)]).await;
    server.done("runs/delete", json!({ "run_id": run })).await;
    // As a program does it that does not know of batches which wait to be moved.
    let mut tx = server.db.begin().await.unwrap();
    for table in ["latest_metrics", "metrics", "params", "run_tags", "runs"] {
        tx.execute(&format!("DELETE FROM {table} WHERE run_id = $1"), fishy_db::args![&run]).await.unwrap();
    }
    tx.commit().await.unwrap();
    let (status, _) =
        server.post("runs/log-metric", json!({"run_id": run, "key": "a", "value": 1, "timestamp": 1})).await;
    assert_eq!(status, 404);
}
