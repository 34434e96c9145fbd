use std::path::{Path, PathBuf};

use serde_json::json;

use crate::world::{INFER, World, columns, spec};

fn model_dirs(world: &World) -> Vec<PathBuf> {
    let models = world.dir.path().join("deployment/models");
    std::fs::read_dir(models).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[tokio::test]
async fn a_damaged_artifact_is_refused_and_a_repaired_one_served() {
    let world = World::new().await;
    let app = world.start().await;
    app.api.apply(&spec(false)).await.unwrap();
    world.registry.lock().unwrap().damaged.insert("model.onnx".into(), b"damaged on its way".to_vec());
    world.move_alias("2", true).await;
    let deployment = app.until(|deployment| deployment.problem.is_some()).await;
    let problem = deployment.problem.unwrap();
    assert!(problem.contains("model.onnx of oxygen version 2 is damaged: its SHA-256 is"), "{problem}");
    assert_eq!(deployment.current.unwrap().version, "1");
    assert_eq!(model_dirs(&world).len(), 1, "nothing of it is kept");
    world.registry.lock().unwrap().damaged.clear();
    let repaired = app.api.refresh("virtual-oxygen").await.unwrap();
    assert_eq!((repaired.current.unwrap().version.as_str(), repaired.problem), ("2", None));
}

#[tokio::test]
async fn serving_goes_on_when_registry_and_governance_are_away_also_after_a_restart() {
    let world = World::new().await;
    world.registry.lock().unwrap().allowed.insert("1".into());
    let app = world.start().await;
    app.api.apply(&spec(true)).await.unwrap();
    world.registry.lock().unwrap().is_away = true;
    assert_eq!(app.post(INFER, &columns("a", 10.0)).await.status, 200);
    app.until(|deployment| deployment.problem.is_some()).await;
    app.shutdown().await;

    let app = world.start().await;
    let answer = app.post(INFER, &columns("b", 10.0)).await;
    assert_eq!(answer.json()["outputs"][0]["data"], json!([15.5]), "served before the registry was asked");
    let away = app.until(|deployment| deployment.problem.is_some()).await;
    assert_eq!(away.current.unwrap().number, 1);
    assert_eq!(app.running.problems().await.len(), 1);
    world.registry.lock().unwrap().is_away = false;
    app.until(|deployment| deployment.problem.is_none()).await;
}

#[tokio::test]
async fn a_damaged_cache_is_found_at_start_and_the_previous_revision_serves_until_it_is_fetched_again() {
    let world = World::new().await;
    let app = world.start().await;
    app.api.apply(&spec(false)).await.unwrap();
    world.move_alias("2", true).await;
    let newest = app.until_version("2").await.current.unwrap();
    app.shutdown().await;
    let onnx = world.dir.path().join("deployment/models").join(&newest.digest).join("model.onnx");
    let mut bytes = std::fs::read(&onnx).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&onnx, bytes).unwrap();
    world.registry.lock().unwrap().is_away = true;

    let app = world.start().await;
    let answer = app.post(INFER, &columns("a", 10.0)).await.json();
    assert_eq!((&answer["model_version"], &answer["outputs"][0]["data"]), (&json!("1"), &json!([15.5])));
    let deployment = app.served().await;
    assert_eq!(deployment.current.unwrap().number, 1);
    assert!(deployment.problem.is_some());
    world.registry.lock().unwrap().is_away = false;
    let repaired = app.api.refresh("virtual-oxygen").await.unwrap();
    assert_eq!((repaired.current.unwrap(), repaired.problem), (newest, None));
}

#[tokio::test]
async fn files_that_changed_in_the_registry_are_not_taken_for_the_old_ones() {
    let world = World::new().await;
    let app = world.start().await;
    app.api.apply(&spec(false)).await.unwrap();
    app.shutdown().await;
    for dir in model_dirs(&world) {
        std::fs::remove_dir_all(dir).unwrap();
    }
    let other = world.registry.lock().unwrap().versions["2"].clone();
    world.registry.lock().unwrap().versions.insert("1".into(), other);
    let app = world.start().await;
    let deployment = app.api.refresh("virtual-oxygen").await.unwrap();
    assert_eq!(deployment.current, None);
    assert!(deployment.problem.unwrap().contains("have changed since"));
}

#[tokio::test]
async fn two_processes_cannot_share_a_data_folder() {
    let world = World::new().await;
    let _app = world.start().await;
    let error = world.try_start(world.config()).await.err().unwrap();
    assert!(error.message().contains("used by another process"), "{error}");
}

#[tokio::test]
async fn a_spool_that_cannot_be_written_is_a_problem_and_predictions_go_on() {
    let world = World::new().await;
    let mut config = world.config();
    config.deployment.spool_max_bytes = 64;
    let app = world.start_with(config).await;
    app.api.apply(&spec(false)).await.unwrap();
    assert_eq!(app.post(INFER, &columns("a", 10.0)).await.status, 200);
    assert_eq!(app.running.problems().await, ["the prediction spool is full"]);
    app.shutdown().await;

    let mut config = world.config();
    config.deployment.spool_max_bytes = 64;
    config.deployment.spool_when_full = fishy_config::SpoolFull::Refuse;
    let app = world.start_with(config).await;
    let answer = app.post(INFER, &columns("a", 10.0)).await;
    assert_eq!(answer.status, 429, "{}", answer.body);
    assert!(answer.json()["error"].as_str().unwrap().contains("spool is full"));
}

pub fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
