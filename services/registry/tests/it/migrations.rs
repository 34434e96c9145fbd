//! An older program goes on beside a newer one: its statements still read and write after the newer migrations.

use fishy_db::{Db, DbOptions, OUTBOX, args};
use fishy_registry::MIGRATIONS;
use serde_json::json;

use crate::server::{Server, on_both};

on_both!(an_older_program_reads_and_writes_beside_a_newer_one);

/// What the first release writes.
const OLD_WRITES: [&str; 12] = [
    "INSERT INTO experiments(name, artifact_location, lifecycle_stage, creation_time, last_update_time) \
     VALUES ('old', 'mlflow-artifacts:/9', 'active', 1, 1)",
    "INSERT INTO runs(run_id, experiment_id, name, user_id, status, start_time, end_time, artifact_uri, lifecycle_stage) \
     SELECT 'r1', id, 'n', 'u', 'RUNNING', 5, NULL, 'mlflow-artifacts:/9/r1/artifacts', 'active' FROM experiments WHERE name = 'old'",
    "INSERT INTO run_tags(run_id, key, value) VALUES ('r1', 'k', 'v')",
    "INSERT INTO params(run_id, key, value) VALUES ('r1', 'p', 'v')",
    "INSERT INTO metrics(run_id, key, timestamp, step, value, is_nan) VALUES ('r1', 'm', 1, 0, 2.5, 0)",
    "INSERT INTO latest_metrics(run_id, key, value, timestamp, step, is_nan) VALUES ('r1', 'm', 2.5, 1, 0, 0)",
    "INSERT INTO registered_models(name, description, user_id, creation_time, last_updated_time, last_version) \
     VALUES ('old', NULL, 'u', 1, 1, 1)",
    "INSERT INTO model_versions(name, version, stage, description, user_id, source, artifact_path, run_id, run_link, \
     model_id, creation_time, last_updated_time) \
     VALUES ('old', 1, 'None', NULL, 'u', 'runs:/r1/m', '9/r1/artifacts/m', 'r1', NULL, NULL, 1, 1)",
    "INSERT INTO aliases(name, alias, version) VALUES ('old', 'champion', 1)",
    "INSERT INTO alias_history(time_ms, name, alias, from_version, to_version, actor) VALUES (1, 'old', 'champion', NULL, 1, 'user:a')",
    "INSERT INTO artifacts(path, folder, size_bytes, sha256, blob, modified_time) \
     VALUES ('9/r1/artifacts/m', '9/r1/artifacts', 1, 'ab', 'artifacts/ab/1', 1)",
    "INSERT INTO protected_aliases(name, alias, deployment, actor, time_ms) VALUES ('old', 'gated', 'live', 'user:a', 1)",
];

/// What the first release reads, each of which finds one row.
const OLD_READS: [&str; 8] = [
    "SELECT id, name, artifact_location, lifecycle_stage, creation_time, last_update_time FROM experiments WHERE name = 'old'",
    "SELECT r.run_id, r.experiment_id, r.name, r.user_id, r.status, r.start_time, r.end_time, r.artifact_uri, \
     r.lifecycle_stage FROM runs r WHERE r.run_id = 'r1'",
    "SELECT value FROM metrics WHERE run_id = 'r1' AND key = 'm' ORDER BY timestamp, step, value",
    "SELECT key, value, timestamp, step, is_nan FROM latest_metrics WHERE run_id = 'r1'",
    "SELECT m.name, m.description, m.user_id, m.creation_time, m.last_updated_time FROM registered_models m WHERE m.name = 'old'",
    "SELECT version, stage, source, artifact_path, run_id, model_id FROM model_versions WHERE name = 'old'",
    "SELECT seq, time_ms, from_version, to_version, actor FROM alias_history WHERE name = 'old' AND alias = 'champion'",
    "SELECT path, size_bytes, sha256, blob FROM artifacts WHERE path = '9/r1/artifacts/m'",
];

async fn run(db: &Db, statements: &[&str]) {
    let mut tx = db.begin().await.unwrap();
    for sql in statements {
        tx.execute(sql, args![]).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
    tx.commit().await.unwrap();
}

async fn check_reads(db: &Db) {
    for sql in OLD_READS {
        assert_eq!(db.query(sql, args![]).await.unwrap().len(), 1, "{sql}");
    }
}

/// Takes back what the old statements wrote.
async fn forget(db: &Db) {
    run(
        db,
        &[
            "DELETE FROM registered_models WHERE name = 'old'",
            "DELETE FROM alias_history WHERE name = 'old'",
            "DELETE FROM protected_aliases WHERE name = 'old'",
            "DELETE FROM artifacts WHERE path = '9/r1/artifacts/m'",
            "DELETE FROM latest_metrics WHERE run_id = 'r1'",
            "DELETE FROM metrics WHERE run_id = 'r1'",
            "DELETE FROM params WHERE run_id = 'r1'",
            "DELETE FROM run_tags WHERE run_id = 'r1'",
            "DELETE FROM runs WHERE run_id = 'r1'",
            "DELETE FROM experiments WHERE name = 'old'",
        ],
    )
    .await;
}

async fn an_older_program_reads_and_writes_beside_a_newer_one(server: Server) {
    // In a database of the first release, which is then brought up to date.
    let (url, schema) = server.another_database();
    let db = Db::connect(&url, &schema, DbOptions::default()).await.unwrap();
    let first: Vec<_> = [OUTBOX, MIGRATIONS[0]].to_vec();
    db.migrate(&first).await.unwrap();
    run(&db, &OLD_WRITES).await;
    let all: Vec<_> = std::iter::once(OUTBOX).chain(MIGRATIONS.iter().copied()).collect();
    let newer: Vec<i64> = all[2..].iter().map(|migration| migration.version).collect();
    assert_eq!(db.pending(&all).await.unwrap(), newer);
    assert_eq!(db.migrate(&all).await.unwrap(), newer);
    check_reads(&db).await;
    assert_eq!(db.pending(&first).await.unwrap(), [0_i64; 0], "nor does the older program want to change anything");
    forget(&db).await;
    run(&db, &OLD_WRITES).await;
    check_reads(&db).await;
    db.close().await;

    // In a database that the newer program works with: it reads what the older one writes.
    run(&server.db, &OLD_WRITES).await;
    check_reads(&server.db).await;
    let run = server.get("runs/get?run_id=r1").await.1;
    assert_eq!(run["run"]["data"]["metrics"][0]["value"], 2.5, "{run}");
    let version = server.get("registered-models/alias?name=old&alias=champion").await.1;
    assert_eq!(version["model_version"]["version"], json!("1"), "{version}");
}
