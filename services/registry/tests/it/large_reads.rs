//! Searches and charts of so much that they are answered in other ways than those of little: the answers are the same.

use std::cmp::Ordering;

use fishy_db::{Engine, args};
use serde_json::{Value, json};

use crate::server::{Server, on_both};

on_both!(
    a_large_search_answers_what_a_small_one_would,
    a_dense_history_is_thinned_by_rank,
    a_history_of_few_steps_is_thinned_by_time,
    an_uneven_history_is_thinned_by_rank,
);

/// More than are counted before a search chooses what it begins with.
const RUNS: i64 = 6_000;

/// A table `n` of the numbers from 0.
fn numbers(count: i64) -> String {
    format!("WITH RECURSIVE n(n) AS (SELECT CAST(0 AS BIGINT) UNION ALL SELECT n + 1 FROM n WHERE n + 1 < {count})")
}

async fn fill(server: &Server, statements: &[String]) {
    let mut tx = server.db.begin().await.unwrap();
    for sql in statements {
        tx.execute(sql, args![]).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
    // As it would by itself a minute later.
    if server.db.engine() == Engine::Postgres {
        for table in ["runs", "params", "latest_metrics", "metrics"] {
            tx.execute(&format!("ANALYZE {table}"), args![]).await.unwrap();
        }
    }
    tx.commit().await.unwrap();
}

const ID: &str = "substr(CAST(100000 + n AS TEXT), 2)";

fn id(n: i64) -> String {
    format!("{n:05}")
}

/// A metric `a` that ties, is NaN for some runs, 0 for some and missing for others; a metric `b` of all; parameters of
/// half of them, of few of them, and of few of them with long values that differ at their ends.
async fn runs(server: &Server, experiment: &str) {
    let numbers = numbers(RUNS);
    let metrics = "INSERT INTO latest_metrics(run_id, key, value, timestamp, step, is_nan)";
    let params = "INSERT INTO params(run_id, key, value)";
    fill(
        server,
        &[
            format!(
                "INSERT INTO runs(run_id, experiment_id, name, user_id, status, start_time, end_time, artifact_uri, \
                 lifecycle_stage) {numbers} SELECT {ID}, {experiment}, 'n', 'u', 'FINISHED', n / 3, NULL, 'u', 'active' FROM n"
            ),
            format!(
                "{metrics} {numbers} SELECT {ID}, 'a', CASE WHEN n % 10 = 5 THEN 0.0 ELSE \
                 CAST(n * 7919 % 100 - 47 AS DOUBLE PRECISION) END, 1, 1, CASE WHEN n % 10 = 5 THEN 1 ELSE 0 END \
                 FROM n WHERE n % 10 <> 0"
            ),
            format!("{metrics} {numbers} SELECT {ID}, 'b', CAST(n % 100 AS DOUBLE PRECISION), 1, 1, 0 FROM n"),
            format!("{params} {numbers} SELECT {ID}, 'half', 'v' || CAST(n % 4 AS TEXT) FROM n WHERE n % 4 < 2"),
            format!("{params} {numbers} SELECT {ID}, 'all', 'v' FROM n"),
            format!("{params} {numbers} SELECT {ID}, 'few', 'x' FROM n WHERE n % 1000 = 7"),
            format!(
                "{params} {numbers} SELECT {ID}, 'long', '{}' || CAST(n % 3 AS TEXT) FROM n WHERE n % 100 = 1",
                "é".repeat(250)
            ),
        ],
    )
    .await;
}

/// The metric `a` of a run, as it is ordered: what is missing last, NaN before it.
fn a(n: i64) -> (u8, i64) {
    match n % 10 {
        0 => (2, 0),
        5 => (1, 0),
        _ => (0, n * 7919 % 100 - 47),
    }
}

fn newest_first(one: i64, other: i64) -> Ordering {
    (other / 3).cmp(&(one / 3)).then(one.cmp(&other))
}

async fn found(server: &Server, experiment: &str, filter: &str, order: &Value, pages: usize) -> Vec<String> {
    let (mut ids, mut token) = (Vec::new(), String::new());
    for _ in 0..pages {
        let body = json!({"experiment_ids": [experiment], "filter": filter, "order_by": order, "max_results": 70,
            "page_token": token});
        let answer = server.done("runs/search", body).await;
        let runs = answer["runs"].as_array().cloned().unwrap_or_default();
        ids.extend(runs.iter().map(|run| run["info"]["run_id"].as_str().unwrap().to_owned()));
        match answer["next_page_token"].as_str() {
            Some(next) => next.clone_into(&mut token),
            None => break,
        }
    }
    ids
}

async fn a_large_search_answers_what_a_small_one_would(server: Server) {
    type Matches = fn(i64) -> bool;
    type Order = fn(i64, i64) -> Ordering;
    let made = server.done("experiments/create", json!({"name": "large"})).await;
    let experiment = made["experiment_id"].as_str().unwrap().to_owned();
    let (other, run) = server.run().await;
    runs(&server, &experiment).await;
    // What another experiment has in the same indices.
    let metrics = json!([{"key": "a", "value": 49.5, "timestamp": 1, "step": 1},
        {"key": "b", "value": 99.0, "timestamp": 1, "step": 1}]);
    let params = json!([{"key": "few", "value": "x"}, {"key": "all", "value": "v"}]);
    server.done("runs/log-batch", json!({"run_id": run, "metrics": metrics, "params": params})).await;

    let long = "é".repeat(250);
    let filters: [(String, Matches); 9] = [
        (String::new(), |_| true),
        ("params.few = 'x'".into(), |n| n % 1000 == 7),
        ("params.all = 'v' AND params.half = 'v1'".into(), |n| n % 4 == 1),
        ("params.all = 'v' AND metrics.b >= 0".into(), |_| true),
        ("metrics.a > -1 AND metrics.a < 1".into(), |n| a(n) == (0, 0)),
        ("metrics.b = 97 AND params.half != 'v0'".into(), |n| n % 100 == 97),
        (format!("params.long = '{long}1'"), |n| n % 100 == 1 && n % 3 == 1),
        ("params.none = 'x'".into(), |_| false),
        ("metrics.b > 97 AND tags.x IS NULL AND start_time >= 1000".into(), |n| n % 100 > 97 && n >= 3000),
    ];
    let orders: [(Value, Order); 5] = [
        (json!([]), newest_first),
        (json!(["start_time ASC"]), |one, other| (one / 3).cmp(&(other / 3)).then(one.cmp(&other))),
        (json!(["metrics.a ASC"]), |one, other| a(one).cmp(&a(other)).then(newest_first(one, other))),
        (json!(["metrics.a DESC", "metrics.b"]), |one, other| {
            let key = |n: i64| (a(n).0, -a(n).1, n % 100);
            key(one).cmp(&key(other)).then(newest_first(one, other))
        }),
        (json!(["params.half", "metrics.b DESC"]), |one, other| {
            let key = |n: i64| ((n % 4).min(2), -(n % 100));
            key(one).cmp(&key(other)).then(newest_first(one, other))
        }),
    ];
    for (filter, matches) in &filters {
        for (order, compared) in &orders {
            // To the end, where those are that have no value; through all of them once.
            let pages = if filter.is_empty() && order == &json!(["metrics.a ASC"]) { 100 } else { 3 };
            let mut expected: Vec<i64> = (0..RUNS).filter(|n| matches(*n)).collect();
            expected.sort_by(|one, other| compared(*one, *other));
            expected.truncate(pages * 70);
            let expected: Vec<String> = expected.into_iter().map(id).collect();
            assert_eq!(found(&server, &experiment, filter, order, pages).await, expected, "{filter} {order}");
        }
    }
    let of_other = found(&server, &other, "params.few = 'x'", &json!(["metrics.a DESC"]), 2).await;
    assert_eq!(of_other, [run]);
}

/// A history of one run under a key: the columns as SQL of `n`.
async fn history(server: &Server, run: &str, key: &str, count: i64, (timestamp, step): (&str, &str)) {
    let points = format!("'{run}', '{key}', {timestamp}, {step}, CAST(n AS DOUBLE PRECISION), 0 FROM n");
    let columns = "(run_id, key, timestamp, step, value, is_nan)";
    let latest = format!("WHERE n = {count} - 1");
    fill(
        server,
        &[
            format!("INSERT INTO metrics{columns} {} SELECT {points}", numbers(count)),
            format!("INSERT INTO latest_metrics{columns} {} SELECT {points} {latest}", numbers(count)),
        ],
    )
    .await;
}

/// The values of a thinned history.
async fn chart(server: &Server, run: &str, key: &str, rest: &str) -> Vec<i64> {
    let path = format!("metrics/get-history-bulk-interval?run_ids={run}&metric_key={key}&{rest}");
    let (status, answer) = server.get(&path).await;
    assert_eq!(status, 200, "{answer}");
    let metrics = answer["metrics"].as_array().map_or(&[][..], Vec::as_slice);
    metrics.iter().map(|metric| metric["value"].as_f64().unwrap() as i64).collect()
}

/// The first of each of `count` buckets, of which the first ones have one point more, and the last point.
fn by_rank(points: i64, count: i64) -> Vec<i64> {
    let mut ranks: Vec<i64> = (0..count).map(|n| n * (points / count) + n.min(points % count)).collect();
    ranks.pop();
    ranks.push(points - 1);
    ranks
}

async fn a_dense_history_is_thinned_by_rank(server: Server) {
    let (_, run) = server.run().await;
    history(&server, &run, "many", 12_345, ("n", "n")).await;
    history(&server, &run, "few", 1_234, ("n", "n * n")).await;
    for count in [1, 2, 7, 320, 1_000] {
        let question = format!("max_results={count}");
        assert_eq!(chart(&server, &run, "many", &question).await, by_rank(12_345, count), "many, {count}");
        assert_eq!(chart(&server, &run, "few", &question).await, by_rank(1_234, count), "few, {count}");
    }
    let part = chart(&server, &run, "many", "max_results=100&start_step=1000&end_step=11999").await;
    assert_eq!(part, by_rank(11_000, 100).into_iter().map(|n| n + 1_000).collect::<Vec<_>>());
    assert_eq!(chart(&server, &run, "many", "start_step=20000&end_step=30000&max_results=9").await.len(), 0);
    assert_eq!(chart(&server, &run, "few", "max_results=2000").await, (0..1_234).collect::<Vec<_>>());
}

async fn a_history_of_few_steps_is_thinned_by_time(server: Server) {
    let (_, run) = server.run().await;
    // Nobody said which step.
    history(&server, &run, "none", 12_000, ("1000 + n", "0")).await;
    assert_eq!(chart(&server, &run, "none", "max_results=320").await, by_rank(12_000, 320));
    // Each step has six points, of which the first stands for it.
    history(&server, &run, "shared", 12_000, ("n", "n / 6")).await;
    let found = chart(&server, &run, "shared", "max_results=100").await;
    assert_eq!(found[..99], (0..99).map(|n| n * 120).collect::<Vec<_>>());
    assert_eq!(found[99..], [11_999]);
}

async fn an_uneven_history_is_thinned_by_rank(server: Server) {
    let (_, run) = server.run().await;
    // Nearly all steps lie together, and there is one time.
    history(&server, &run, "far", 11_000, ("7", "CASE WHEN n = 10999 THEN 1000000000000 ELSE n END")).await;
    assert_eq!(chart(&server, &run, "far", "max_results=320").await, by_rank(11_000, 320));
    let within = "max_results=50&start_step=0&end_step=1000000000000";
    assert_eq!(chart(&server, &run, "far", within).await, by_rank(11_000, 50));
}
