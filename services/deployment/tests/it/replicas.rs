use fishy_core::Env;
use fishy_db::{Db, DbOptions};

use crate::world::{INFER, World, columns, eventually, spec, variable};

/// Two replicas over one PostgreSQL: one makes a revision, the other takes it over.
#[tokio::test]
async fn a_replica_takes_over_what_another_one_rolled_out() {
    let url = variable("FISHY_TEST_POSTGRES").unwrap_or_else(|| "postgres://postgres@127.0.0.1:5432/test".to_owned());
    let schema = format!("deployment_{}", Env::system().new_id().replace('-', ""));
    let connect = || Db::connect(&url, &schema, DbOptions { max_connections: 4, ..DbOptions::default() });
    let mut first = World::with_db(tempfile::tempdir().unwrap(), connect().await.unwrap()).await;
    let mut second = World::with_db(tempfile::tempdir().unwrap(), connect().await.unwrap()).await;
    second.registry = std::sync::Arc::clone(&first.registry);
    (first.env, second.env) = (Env::system(), Env::system());
    // No poll of the registry, and the event goes to the first alone.
    let config = |world: &World| {
        let mut config = world.config();
        config.deployment.registry_poll_ms = 3_600_000;
        config
    };
    let a = first.start_with(config(&first)).await;
    let b = second.start_with(config(&second)).await;
    a.api.apply(&spec(false)).await.unwrap();
    let seen = b.until_version("1").await;
    assert_eq!(seen.current, a.served().await.current);
    first.move_alias("2", true).await;
    a.until_version("2").await;
    assert_eq!(b.until_version("2").await.current.unwrap().number, 2);
    assert_eq!(b.post(INFER, &columns("x", 10.0)).await.json()["model_version"], "2");

    // Both roll the same version out at once: one revision comes of it.
    first.registry.lock().unwrap().champion = Some("1".to_owned());
    let (x, y) = tokio::join!(a.api.refresh("virtual-oxygen"), b.api.refresh("virtual-oxygen"));
    assert_eq!((x.unwrap().current.unwrap().number, y.unwrap().current.unwrap().number), (3, 3));
    assert_eq!(a.api.revisions("virtual-oxygen").await.unwrap().items.len(), 3);

    let delete = a.call(http::Method::DELETE, "/api/v1/deployments/virtual-oxygen", &[], "").await;
    assert_eq!(delete.status, 204);
    for _ in 0..2000 {
        if b.get("/v2/models/virtual-oxygen").await.status == 404 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(b.get("/v2/models/virtual-oxygen").await.status, 404);
    let mut drop = first.db.begin().await.unwrap();
    drop.execute(&format!("drop schema {schema} cascade"), fishy_db::args![]).await.unwrap();
    drop.commit().await.unwrap();
}

/// A process for some of the deployments: the others are neither loaded nor counted, whoever asks it to.
#[tokio::test]
async fn a_process_serves_only_the_deployments_it_is_for() {
    let world = World::new().await;
    let only = |name: &str| {
        let mut config = world.config();
        config.deployment.only = vec![name.to_owned()];
        config
    };
    let other = world.start_with(only("another")).await;
    let applied = other.api.apply(&spec(false)).await.unwrap();
    assert!(applied.current.is_none() && applied.problem.is_none(), "{applied:?}");
    assert_eq!(other.get("/v2/models/virtual-oxygen").await.status, 404);
    assert!(!other.running.can_serve(), "what it is for is not there");
    other.shutdown().await;

    let own = world.start_with(only("virtual-oxygen")).await;
    own.until_version("1").await;
    assert!(own.running.can_serve());
    assert_eq!(own.post(INFER, &columns("x", 10.0)).await.status, 200);
    own.shutdown().await;
}

/// Requests are sent to a process once it has tried to load everything; a version that was refused takes nothing away.
#[tokio::test]
async fn a_process_takes_requests_when_it_has_tried_to_load_everything() {
    let world = World::new().await;
    world.registry.lock().unwrap().is_away = true;
    let app = world.start().await;
    app.api.apply(&spec(false)).await.unwrap();
    eventually("everything was tried", || app.running.can_serve()).await;
    assert!(!app.running.problems().await.is_empty(), "it is not ready all the same");
    world.registry.lock().unwrap().is_away = false;
    app.until_version("1").await;
    assert!(app.running.can_serve());
    app.shutdown().await;

    // A new replica with an empty cache, whose registry does not answer: not before it has tried.
    let second = World::with_db(tempfile::tempdir().unwrap(), world.db.clone()).await;
    second.registry.lock().unwrap().is_away = true;
    let app = second.start().await;
    eventually("everything was tried", || app.running.can_serve()).await;
    assert!(app.served().await.problem.is_some());
    app.shutdown().await;
}
