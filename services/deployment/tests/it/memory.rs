//! Models that go to save memory, and come back with the next request.

use axum::http::{Method, StatusCode};
use fishy_config::Config;
use fishy_contracts::deployment::{DeploymentSpec, EngineSettings};
use futures::future::join_all;
use serde_json::{Value, json};

use crate::grpc::{request, send};
use crate::world::{Answered, App, World, columns};

/// Two of this crate's models fit, and three do not: each is taken to cost a little more than 512 KiB.
const TWO: u64 = 1_300_000;

fn named(name: &str) -> DeploymentSpec {
    DeploymentSpec { name: name.into(), model: "models:/oxygen@champion".into(), is_gated: false }
}

fn with_budget(world: &World, bytes: u64) -> Config {
    let mut config = world.config();
    config.deployment.memory_budget_bytes = bytes;
    config.deployment.registry_poll_ms = 60_000;
    config
}

async fn infer(app: &App, name: &str, id: &str) -> Answered {
    app.post(&format!("/v2/models/{name}/infer"), &columns(id, 10.0)).await
}

/// The names of the deployments whose models are in memory.
async fn loaded(app: &App) -> Vec<String> {
    let all = app.api.list().await.unwrap().items;
    all.into_iter().filter(|one| one.is_loaded).map(|one| one.spec.name).collect()
}

/// Looked for each second, and after each load: a model that was in use just then goes a little later.
async fn until_loaded(app: &App, names: &[&str]) {
    for _ in 0..2000 {
        if loaded(app).await == names {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("in memory: {:?}, and not {names:?}", loaded(app).await);
}

/// A deployment `a` that served before, and a new process that loads on demand.
async fn asleep(change: impl FnOnce(&mut Config)) -> (World, App) {
    let world = World::new().await;
    let app = world.start().await;
    app.api.apply(&named("a")).await.unwrap();
    app.shutdown().await;
    let mut config = with_budget(&world, 0);
    config.deployment.load_at_start = false;
    change(&mut config);
    let app = world.start_with(config).await;
    (world, app)
}

#[tokio::test]
async fn the_least_recently_used_model_goes_and_its_next_request_loads_it_again() {
    let world = World::new().await;
    let app = world.start_with(with_budget(&world, TWO)).await;
    app.api.apply(&named("a")).await.unwrap();
    app.api.apply(&named("b")).await.unwrap();
    assert_eq!(loaded(&app).await, ["a", "b"]);
    assert_eq!(infer(&app, "a", "1").await.status, 200);
    app.api.apply(&named("c")).await.unwrap();
    until_loaded(&app, &["a", "c"]).await;

    let index = app.call(Method::POST, "/v2/repository/index", &[], "").await.json();
    let states: Vec<&Value> = index.as_array().unwrap().iter().map(|model| &model["state"]).collect();
    assert_eq!(states, ["READY", "UNAVAILABLE", "READY"]);
    assert_eq!((&index[1]["version"], &index[1]["name"]), (&json!("1"), &json!("b")));
    assert!(index[1]["reason"].as_str().unwrap().contains("next request"), "{index}");
    assert_eq!(app.api.get("b").await.unwrap().current.unwrap().version, "1", "it serves all the same");
    assert_eq!(app.get("/v2/models/b/ready").await.status, 200);
    assert_eq!(app.get("/v2/models/b/versions/7/ready").await.status, 404);
    assert_eq!(app.get("/v2/health/ready").await.status, 200);
    assert_eq!(app.running.problems().await, Vec::<String>::new());
    assert_eq!(app.get("/v2/models/b/stats").await.json(), json!({"model_stats": []}));
    assert_eq!(loaded(&app).await, ["a", "c"], "looking loads nothing");

    let answer = infer(&app, "b", "2").await;
    assert_eq!((answer.status, &answer.json()["model_version"]), (StatusCode::OK, &json!("1")), "{}", answer.body);
    until_loaded(&app, &["b", "c"]).await;
    let mut asked = request("3", 10.0);
    asked.model = "a".into();
    let (status, message, answer) = send(&app.client, &asked, &[]).await;
    assert_eq!((status, answer.version.as_str()), (0, "1"), "{message}");
    until_loaded(&app, &["a", "b"]).await;
    assert_eq!(app.get("/v2/models/c").await.json()["versions"], json!(["1"]), "metadata come from the model");
    until_loaded(&app, &["a", "c"]).await;
}

#[tokio::test]
async fn requests_that_come_together_share_one_load() {
    let (_world, app) = asleep(|_| ()).await;
    assert_eq!(loaded(&app).await, Vec::<String>::new());
    let ask = |id: usize| {
        let app = &app;
        async move { infer(app, "a", &id.to_string()).await }
    };
    let answers = join_all((0..20).map(ask)).await;
    for answer in answers {
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
    // The statistics belong to a loaded model: a second load would have begun them anew.
    let statistics = app.get("/v2/models/a/stats").await.json();
    assert_eq!(statistics["model_stats"][0]["inference_count"], 20, "{statistics}");
}

#[tokio::test]
async fn a_new_version_replaces_one_that_is_not_in_memory() {
    let (world, app) = asleep(|config| config.deployment.registry_poll_ms = 50).await;
    world.move_alias("2", false).await;
    for _ in 0..2000 {
        if app.api.get("a").await.unwrap().current.unwrap().version == "2" {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(infer(&app, "a", "1").await.json()["model_version"], "2");
}

#[tokio::test]
async fn pinned_models_stay_and_are_loaded_at_start() {
    let world = World::new().await;
    let app = world.start_with(with_budget(&world, 1)).await;
    app.api.apply(&named("a")).await.unwrap();
    app.api.set_engine("a", &EngineSettings { is_pinned: true, ..EngineSettings::default() }).await.unwrap();
    app.api.apply(&named("b")).await.unwrap();
    assert_eq!(infer(&app, "b", "1").await.status, 200);
    until_loaded(&app, &["a"]).await;
    app.shutdown().await;
    let mut config = with_budget(&world, 1);
    config.deployment.load_at_start = false;
    let app = world.start_with(config).await;
    assert_eq!(loaded(&app).await, ["a"]);
}

#[tokio::test]
async fn no_request_fails_while_models_come_and_go() {
    let world = World::new().await;
    let app = world.start_with(with_budget(&world, 1)).await;
    for name in ["a", "b", "c"] {
        app.api.apply(&named(name)).await.unwrap();
    }
    let ask = |worker: usize| {
        let app = &app;
        async move {
            for round in 0..20 {
                let name = ["a", "b", "c"][(worker + round) % 3];
                let answer = infer(app, name, &format!("{worker}-{round}")).await;
                assert_eq!(answer.status, 200, "{name}: {}", answer.body);
                assert_eq!(answer.json()["outputs"][0]["data"], json!([15.5]));
            }
        }
    };
    join_all((0..6).map(ask)).await;
}

#[tokio::test]
async fn a_load_that_fails_is_told_and_one_that_works_again_ends_that() {
    let (world, app) = asleep(|config| config.deployment.registry_poll_ms = 50).await;
    let digest = app.api.get("a").await.unwrap().current.unwrap().digest;
    let files = world.dir.path().join("deployment/models").join(digest);
    std::fs::remove_dir_all(files).unwrap();
    world.registry.lock().unwrap().damaged.insert("model.onnx".into(), b"rubbish".to_vec());
    for id in ["1", "2"] {
        let answer = infer(&app, "a", id).await;
        assert_eq!(answer.status, 503, "{}", answer.body);
        let told = answer.json()["error"].as_str().unwrap().to_owned();
        assert!(told.contains("deployment a cannot be loaded into memory"), "{told}");
    }
    assert_eq!(app.get("/v2/models/a/ready").await.status, 503);
    assert_eq!(app.get("/v2/health/ready").await.status, 503);
    // The follower has nothing against the deployment, and leaves the problem in place.
    assert!(app.running.problems().await.iter().any(|problem| problem.contains("into memory")));
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    assert!(app.running.problems().await.iter().any(|problem| problem.contains("into memory")));

    world.registry.lock().unwrap().damaged.clear();
    world.clock.advance_ms(10_001);
    assert_eq!(infer(&app, "a", "3").await.status, 200);
    assert_eq!(app.get("/v2/health/ready").await.status, 200);
    assert_eq!(app.running.problems().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_load_that_hangs_ends_with_its_timeout() {
    let (world, app) = asleep(|config| config.deployment.load_timeout_ms = 200).await;
    let digest = app.api.get("a").await.unwrap().current.unwrap().digest;
    std::fs::remove_dir_all(world.dir.path().join("deployment/models").join(digest)).unwrap();
    world.registry.lock().unwrap().is_stuck = true;
    let answer = infer(&app, "a", "1").await;
    assert_eq!(answer.status, 503);
    assert!(answer.body.contains("deployment.load_timeout_ms"), "{}", answer.body);
}

#[tokio::test]
async fn requests_that_wait_for_a_load_are_predictions_in_flight() {
    let (_world, app) = asleep(|config| config.deployment.max_concurrent_predictions = 0).await;
    let answer = infer(&app, "a", "1").await;
    assert_eq!(answer.status, 429);
    assert!(answer.body.contains("max_concurrent_predictions"), "{}", answer.body);
    assert_eq!(loaded(&app).await, Vec::<String>::new());
}
