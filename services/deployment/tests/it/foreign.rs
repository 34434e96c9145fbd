//! With an MLflow server as the registry, which keeps no checksums and asks no gate.

use fishy_core::ErrorCode;

use crate::world::{COLUMNS, HALF, HUNDRED, INFER, World, columns, model_files, spec};

async fn world() -> World {
    let mut world = World::new().await;
    world.is_foreign = true;
    world
}

#[tokio::test]
async fn an_alias_is_followed_by_looking_and_files_are_fetched_once() {
    let world = world().await;
    let app = world.start().await;
    app.api.apply(&spec(false)).await.unwrap();
    world.move_alias("2", false).await;
    app.until_version("2").await;
    let downloads = world.registry.lock().unwrap().downloads;
    assert_eq!(downloads, 6, "three files of each version");
    world.move_alias("1", false).await;
    app.until_version("1").await;
    assert_eq!(world.registry.lock().unwrap().downloads, downloads, "they are here, as their checksums say");
    assert_eq!(app.post(INFER, &columns("a", 10.0)).await.status, 200);
}

#[tokio::test]
async fn files_that_changed_since_they_were_fetched_first_are_refused() {
    let world = world().await;
    let app = world.start().await;
    app.api.apply(&spec(false)).await.unwrap();
    world.move_alias("2", false).await;
    let digest = app.until_version("2").await.current.unwrap().digest;
    world.move_alias("1", false).await;
    app.until_version("1").await;
    let models = world.dir.path().join("deployment/models");

    // Somebody puts other files in the place of a version, and the copy here is gone.
    std::fs::remove_dir_all(models.join(&digest)).unwrap();
    world.registry.lock().unwrap().versions.insert("2".into(), model_files(HALF, &COLUMNS));
    world.move_alias("2", false).await;
    let deployment = app.until(|deployment| deployment.problem.is_some()).await;
    let problem = deployment.problem.unwrap();
    assert!(problem.contains("model.onnx of oxygen version 2 is damaged") && problem.contains("was kept"), "{problem}");
    assert_eq!(deployment.current.unwrap().version, "1");

    // A file more is told by its name.
    world.registry.lock().unwrap().versions.get_mut("2").unwrap().insert("more.bin".into(), b"more".to_vec());
    let problem = app.api.refresh("virtual-oxygen").await.unwrap().problem.unwrap();
    assert!(problem.contains("more.bin is new or missing"), "{problem}");

    // A replica that never fetched it has no checksums, and the revision has the digest.
    std::fs::remove_dir_all(models.join(".checksums")).unwrap();
    let problem = app.api.refresh("virtual-oxygen").await.unwrap().problem.unwrap();
    assert!(problem.contains("have changed since they were served first"), "{problem}");

    // As it was, it is served.
    let files = model_files(HUNDRED, &COLUMNS);
    world.registry.lock().unwrap().versions.insert("2".into(), files);
    let repaired = app.api.refresh("virtual-oxygen").await.unwrap();
    assert_eq!((repaired.current.unwrap().digest, repaired.problem), (digest, None));
}

#[tokio::test]
async fn the_alias_of_a_gated_deployment_is_moved_only_through_the_gate() {
    let world = world().await;
    world.registry.lock().unwrap().allowed.extend(["1".to_owned(), "2".to_owned()]);
    let app = world.start().await;
    app.api.apply(&spec(true)).await.unwrap();
    world.move_alias("2", false).await;
    app.until_version("2").await;
    world.registry.lock().unwrap().allowed.remove("1");
    let error = app.api.rollback("virtual-oxygen").await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::PermissionDenied, "{error}");
    let registry = world.registry.lock().unwrap();
    assert_eq!(registry.champion.as_deref(), Some("2"), "it was not moved first");
    assert!(registry.protected.is_empty(), "it was not asked for what it cannot do");
}
