//! Late labels joined to many stored predictions.

use std::path::Path;
use std::time::Instant;

use anyhow::{Result, ensure};
use fishy_contracts::monitoring::{GroundTruth, GroundTruthItem};
use fishy_core::time::DAY_MS;
use fishy_db::args;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rusqlite::Connection;

use crate::farm::{DEPLOYMENT, Farm, START_MS, id, monitor};
use crate::report::Report;
use crate::service::{SCHEMA, Service};
use crate::used::own_cpu_s;
use crate::{Arguments, grouped};

const LABELS: usize = 100_000;
/// Items of one request, as `fishy feedback ground-truth` sends them.
const CHUNK: usize = 5_000;
/// Days over which the predictions are spread.
const DAYS: i64 = 100;
/// Predictions of one transaction that seeds.
const SEED: usize = 100_000;

/// Sends 100,000 true values of predictions all over the store, and waits until they are joined.
pub async fn run(arguments: &Arguments, report: &mut Report) -> Result<()> {
    let count: u64 = if arguments.quick { 1_000_000 } else { 10_000_000 };
    let folder = tempfile::tempdir()?;
    let service = Service::start(folder.path()).await?;
    service.client.apply(&serde_json::from_value(monitor())?).await?;
    service.end().await;
    let started = Instant::now();
    seed(folder.path(), count)?;
    println!("  seeded {} predictions in {:.0} s", grouped(count), started.elapsed().as_secs_f64());

    let mut numbers: Vec<u64> = (0..count).collect();
    let (chosen, _) = numbers.partial_shuffle(&mut ChaCha8Rng::seed_from_u64(1), 2 * LABELS);
    let (sent, bare) = chosen.split_at(LABELS);
    let limit = bare_joins(folder.path(), bare)?;
    let service = Service::start(folder.path()).await?;
    let item = |number: &u64| GroundTruthItem {
        prediction_id: id(*number),
        value: 7.5,
        time_ms: Some(START_MS + (DAYS + 7) * DAY_MS),
    };
    let items: Vec<GroundTruthItem> = sent.iter().map(item).collect();
    let (started, cpu_s) = (Instant::now(), own_cpu_s()?);
    for items in items.chunks(CHUNK) {
        service.client.ground_truth(&GroundTruth { items: items.to_vec() }).await?;
    }
    let (seconds, used_s) = (started.elapsed().as_secs_f64(), own_cpu_s()? - cpu_s);
    let sql = "select count(*) as n from ground_truth where value = 7.5 and deployment is not null";
    let row = service.db.query_opt(sql, args![]).await?;
    let joined = row.map_or(Ok(0), |row| row.get::<i64>("n"))?;
    ensure!(joined == LABELS as i64, "{joined} labels were joined");
    let load = format!("{} late labels joined to {}", grouped(LABELS as u64), grouped(count));
    report.less(&load, "seconds", seconds, "target", 5.0);
    report.limit(limit.seconds);
    report.less(&load, "CPU seconds", used_s, "target", 5.0);
    report.limit(limit.cpu_s);
    service.end().await;
    Ok(())
}

/// Through the front door this would take a quarter of an hour.
fn seed(folder: &Path, count: u64) -> Result<()> {
    let connection = Connection::open(folder.join(format!("{SCHEMA}.db")))?;
    connection.execute_batch("PRAGMA synchronous = OFF; PRAGMA cache_size = -200000;")?;
    let columns = "prediction_id, deployment, version, time_ms, inputs, labels, output";
    let mut insert =
        connection.prepare(&format!("insert into predictions({columns}) values (?, ?, '3', ?, ?, ?, 7.0)"))?;
    let mut farm = Farm::new(4);
    let rows: Vec<(String, String)> = (0..997)
        .map(|number| Ok((serde_json::to_string(&farm.inputs())?, serde_json::to_string(&farm.labels(number))?)))
        .collect::<Result<_>>()?;
    for first in (0..count).step_by(SEED) {
        connection.execute_batch("begin")?;
        for number in first..(first + SEED as u64).min(count) {
            let (inputs, labels) = &rows[number as usize % rows.len()];
            let time_ms = START_MS + (number as i64 * DAYS * DAY_MS) / count as i64;
            insert.execute(rusqlite::params![id(number), DEPLOYMENT, time_ms, inputs, labels])?;
        }
        connection.execute_batch("commit")?;
    }
    let newest_ms = START_MS + DAYS * DAY_MS - 1;
    connection.execute(
        "insert into deployments(deployment, newest_ms, predictions, labels) values (?, ?, ?, 0)
         on conflict (deployment) do update set newest_ms = excluded.newest_ms, predictions = excluded.predictions",
        rusqlite::params![DEPLOYMENT, newest_ms, count as i64],
    )?;
    connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE);")?;
    Ok(())
}

/// What a bare loop took.
struct Limit {
    seconds: f64,
    cpu_s: f64,
}

/// What SQLite itself could do: a bare loop that writes the true values of as many other predictions in the same file beside
/// what is read of these, with the same durability, in the order of their ids.
fn bare_joins(folder: &Path, numbers: &[u64]) -> Result<Limit> {
    let connection = Connection::open(folder.join(format!("{SCHEMA}.db")))?;
    connection.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;")?;
    let mut insert = connection.prepare(
        "insert into ground_truth(prediction_id, value, arrived_ms, received_ms, actor, is_joined, deployment, version,
           time_ms, output, is_corrected)
         select prediction_id, 6.5, ?, ?, 'bench', 1, deployment, version, time_ms, output, 0 from predictions
         where prediction_id = ?",
    )?;
    let arrived_ms = START_MS + (DAYS + 7) * DAY_MS;
    let (started, cpu_s) = (Instant::now(), own_cpu_s()?);
    for numbers in numbers.chunks(CHUNK) {
        let mut ids: Vec<String> = numbers.iter().map(|number| id(*number)).collect();
        ids.sort_unstable();
        connection.execute_batch("begin immediate")?;
        for id in &ids {
            ensure!(insert.execute(rusqlite::params![arrived_ms, arrived_ms, id])? == 1, "{id} is not there");
        }
        connection.execute_batch("commit")?;
    }
    Ok(Limit { seconds: started.elapsed().as_secs_f64(), cpu_s: own_cpu_s()? - cpu_s })
}
