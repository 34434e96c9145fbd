//! That the cost of a request does not grow with what is stored is seen in the plans of the database.

use crate::server::{On, Server};

async fn plan(server: &Server, sql: &str) -> String {
    let rows = server.db.query(&format!("EXPLAIN QUERY PLAN {sql}"), vec![]).await.unwrap();
    rows.iter().map(|row| row.get::<String>("detail").unwrap()).collect::<Vec<_>>().join("; ")
}

#[tokio::test]
async fn the_usual_reads_go_through_an_index() {
    let server = Server::start(On::Sqlite).await;
    for sql in [
        "SELECT run_id FROM runs r WHERE r.experiment_id IN (1) AND r.lifecycle_stage = 'active' AND r.start_time <= 5 \
         AND (r.start_time < 5 OR r.run_id > 'a') ORDER BY r.start_time DESC, r.run_id LIMIT 100",
        "SELECT value FROM metrics WHERE run_id = 'a' AND key = 'b' ORDER BY timestamp, step, value LIMIT 5",
        "SELECT r.run_id FROM params d CROSS JOIN runs r WHERE r.experiment_id IN (1) AND d.key = 'p' \
         AND substr(d.value, 1, 200) = 'v' AND r.run_id = d.run_id",
        "SELECT r.run_id FROM latest_metrics w CROSS JOIN params c CROSS JOIN runs r WHERE r.experiment_id IN (1) \
         AND w.key = 'm' AND (w.value <> 0 OR w.is_nan = 0) AND r.run_id = w.run_id AND c.key = 'p' \
         AND substr(c.value, 1, 200) = 'v' AND c.run_id >= w.run_id AND c.run_id <= w.run_id ORDER BY w.value DESC LIMIT 5",
        "SELECT MIN(m.step) FROM metrics m WHERE m.run_id = 'a' AND m.key = 'b' AND m.step >= 7",
        "SELECT path FROM artifacts WHERE folder = 'a' ORDER BY path",
        "SELECT name FROM model_versions WHERE artifact_path IN ('a', 'b')",
        "SELECT key FROM model_version_tags WHERE (name, version) IN (VALUES ('a', 1), ('b', 2))",
        "SELECT MAX(x.version) FROM model_versions x WHERE x.name = 'a' AND x.stage = 'None'",
    ] {
        let plan = plan(&server, sql).await;
        assert!(plan.contains("SEARCH"), "{sql}: {plan}");
        assert!(!plan.contains("TEMP B-TREE FOR ORDER BY"), "{sql}: {plan}");
        let scans = plan.split("; ").filter(|step| step.starts_with("SCAN") && !step.contains("VALUES CLAUSE"));
        assert_eq!(scans.count(), 0, "{sql}: {plan}");
    }
}

#[tokio::test]
async fn a_parameter_of_a_run_is_looked_up_among_those_of_its_value() {
    let server = Server::start(On::Sqlite).await;
    let plan = plan(
        &server,
        "SELECT w.run_id FROM latest_metrics w CROSS JOIN params c WHERE w.key = 'm' AND c.key = 'p' \
         AND substr(c.value, 1, 200) = 'v' AND c.run_id >= w.run_id AND c.run_id <= w.run_id",
    )
    .await;
    assert!(plan.contains("COVERING INDEX params_by_value (key=? AND <expr>=? AND run_id>? AND run_id<?)"), "{plan}");
}

#[tokio::test]
async fn a_point_of_a_history_is_looked_up_by_its_step() {
    let server = Server::start(On::Sqlite).await;
    let plan = plan(
        &server,
        "SELECT m.key, m.value, m.timestamp, m.step, m.is_nan FROM (SELECT 5 AS place UNION SELECT 7) p CROSS JOIN metrics m \
         WHERE m.run_id = 'a' AND m.key = 'b' AND m.step >= p.place AND m.step <= p.place LIMIT 9",
    )
    .await;
    assert!(plan.contains("metrics_by_step (run_id=? AND key=? AND step>? AND step<?)"), "{plan}");
}
