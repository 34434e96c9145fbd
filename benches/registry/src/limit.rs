//! What SQLite itself could do: a bare loop that inserts metrics into our schema, on this machine, in this run.

use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use rusqlite::{Connection, params_from_iter, types::Value};

/// Metrics in a second.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    /// Histories alone: 100 rows a statement, 1,000 a transaction.
    pub history_per_second: f64,
    /// With the latest value of each key beside it, which is what logging a metric means.
    pub with_latest_per_second: f64,
}

const ROWS: usize = 100;

/// Inserts for so many seconds each. The server must not run.
pub fn measure(file: &Path, run_id: &str, seconds: f64) -> Result<Limit> {
    let connection = Connection::open(file)?;
    connection.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;")?;
    let mut step = 1_000_000_000;
    let history_per_second = insert(&connection, run_id, seconds, &mut step, false)?;
    let with_latest_per_second = insert(&connection, run_id, seconds, &mut step, true)?;
    Ok(Limit { history_per_second, with_latest_per_second })
}

fn insert(connection: &Connection, run_id: &str, seconds: f64, step: &mut i64, has_latest: bool) -> Result<f64> {
    let places = vec!["(?, ?, ?, ?, ?, ?)"; ROWS].join(", ");
    let history = format!("INSERT INTO metrics(run_id, key, timestamp, step, value, is_nan) VALUES {places}");
    let latest = format!(
        "INSERT INTO latest_metrics(run_id, key, timestamp, step, value, is_nan) VALUES {places} \
         ON CONFLICT (run_id, key) DO UPDATE SET value = excluded.value, timestamp = excluded.timestamp, \
         step = excluded.step, is_nan = excluded.is_nan"
    );
    let mut history = connection.prepare(&history)?;
    let mut latest = connection.prepare(&latest)?;
    let started = Instant::now();
    let mut count = 0;
    while started.elapsed().as_secs_f64() < seconds {
        connection.execute_batch("BEGIN IMMEDIATE")?;
        for _ in 0..10 {
            *step += 1;
            let rows: Vec<Value> = (0..ROWS)
                .flat_map(|key| {
                    let value = Value::Real(*step as f64 / (key + 1) as f64);
                    let run_id = Value::Text(run_id.to_owned());
                    [run_id, Value::Text(format!("metric {key}")), (*step).into(), (*step).into(), value, 0.into()]
                })
                .collect();
            history.execute(params_from_iter(rows.iter()))?;
            if has_latest {
                latest.execute(params_from_iter(rows.iter()))?;
            }
            count += ROWS;
        }
        connection.execute_batch("COMMIT")?;
    }
    Ok(count as f64 / started.elapsed().as_secs_f64())
}
