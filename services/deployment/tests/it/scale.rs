//! A thousand deployments of a small model in one process: prints figures, and asserts that all are answered.

use std::time::Instant;

use fishy_contracts::deployment::DeploymentSpec;
use fishy_db::args;

use crate::world::{World, columns};

const DEPLOYMENTS: usize = 1000;

/// Resident memory of this process in MB.
fn resident_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints figures: run it with --run-ignored only --no-capture"]
#[expect(clippy::print_stdout, reason = "its figures are what it is for")]
async fn a_thousand_deployments() {
    let world = World::new().await;
    let app = world.start().await;
    let spec = DeploymentSpec { name: "d0000".into(), model: "models:/oxygen/1".into(), is_gated: false };
    app.api.apply(&spec).await.unwrap();
    app.shutdown().await;
    let mut tx = world.db.begin().await.unwrap();
    for number in 1..DEPLOYMENTS {
        let name = format!("d{number:04}");
        let sql = "insert into deployments select $1, model, is_gated, created_ms, base_revision, deleted_ms \
                   from deployments where name = 'd0000'";
        tx.execute(sql, args![&name]).await.unwrap();
        let sql = "insert into revisions select $1, number, model, version, digest, features, outputs, tags, \
                   promotion_id, activated_ms from revisions where deployment = 'd0000'";
        tx.execute(sql, args![&name]).await.unwrap();
    }
    tx.commit().await.unwrap();
    let before = resident_mb();
    let mut config = world.config();
    config.deployment.load_at_start = false;
    config.deployment.registry_poll_ms = 60_000;
    let begun = Instant::now();
    let app = world.start_with(config.clone()).await;
    let started = begun.elapsed();
    println!("before {before:.0} MB; {DEPLOYMENTS} on demand: start {started:?}, {:.0} MB", resident_mb());
    let begun = Instant::now();
    for number in 0..DEPLOYMENTS {
        let path = format!("/v2/models/d{number:04}/infer");
        let answer = app.post(&path, &columns(&number.to_string(), 10.0)).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
    println!("all loaded by their first request: {:?}, {:.0} MB", begun.elapsed(), resident_mb());
    app.shutdown().await;
    config.deployment.load_at_start = true;
    let begun = Instant::now();
    let app = world.start_with(config).await;
    println!("all loaded at start: {:?}, {:.0} MB", begun.elapsed(), resident_mb());
    let all = app.api.list().await.unwrap().items;
    assert!(all.len() == DEPLOYMENTS && all.iter().all(|one| one.is_loaded));
}
