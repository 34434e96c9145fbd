//! Measurements that have arrived and are not in the histories yet. On SQLite only.
//!
//! A history lies together by run, metric and time, so a batch of a hundred metrics changes two hundred pages of its
//! indexes, each of which goes to disk as a whole. Here a batch is one row. What arrived is moved for many batches of a run
//! at once, which changes the same pages once for all of them: every now and then, and before a history is read.

use fishy_core::{Error, Result};
use fishy_db::{Batch, Db, Row, args};

use super::metrics;
use crate::domain::metric::Point;

/// How many batches are moved in one transaction at most, and about how many measurements: others write in between.
const BATCHES: i64 = 100;
const POINTS: usize = 5_000;

/// As a batch is written: key, time, step, value, and whether that is no number.
type Arrived = (String, i64, i64, f64, bool);

/// Writes down what arrived.
pub(crate) fn add(batch: &mut Batch, run_id: &str, points: &[Point]) -> Result<()> {
    if points.is_empty() {
        return Ok(());
    }
    let arrived = |point: &Point| {
        let (value, is_nan) = point.value.stored();
        (point.key.clone(), point.timestamp, point.step, value, is_nan)
    };
    let arrived: Vec<Arrived> = points.iter().map(arrived).collect();
    let text = serde_json::to_string(&arrived)
        .map_err(|error| Error::internal("measurements cannot be written").with_source(error))?;
    batch.execute("INSERT INTO metric_arrivals(run_id, points) VALUES ($1, $2)", args![run_id, text]);
    Ok(())
}

/// The runs for which something arrived.
pub(crate) async fn runs(db: &Db) -> Result<Vec<String>> {
    let rows = db.query("SELECT DISTINCT run_id FROM metric_arrivals ORDER BY run_id", args![]).await?;
    rows.iter().map(|row| row.get("run_id")).collect()
}

/// Moves what has arrived for a run into its histories. Done by two at once, it is done once.
pub(crate) async fn settle(db: &Db, run_id: &str) -> Result<()> {
    let newest = "SELECT MAX(seq) AS seq FROM metric_arrivals WHERE run_id = $1";
    let newest: Option<i64> = db.query_opt(newest, args![run_id]).await?.map_or(Ok(None), |row| row.get("seq"))?;
    // What arrives from now on is for the next time: one who logs without a pause holds up no reader.
    let Some(newest) = newest else { return Ok(()) };
    let mut done = 0_i64;
    while done < newest {
        let select = "SELECT seq, points FROM metric_arrivals WHERE run_id = $1 AND seq > $2 AND seq <= $3 \
                      ORDER BY seq LIMIT $4";
        let rows = db.query(select, args![run_id, done, newest, BATCHES]).await?;
        // Another one was faster.
        if rows.is_empty() {
            return Ok(());
        }
        let run_id = run_id.to_owned();
        let work = tokio::task::spawn_blocking(move || moved(&run_id, &rows)).await;
        let (batch, last) = work.map_err(|error| Error::internal("a move broke off").with_source(error))??;
        db.write(batch).await?;
        done = last;
    }
    Ok(())
}

/// The move of the first of these batches, and the number of the last one in it.
fn moved(run_id: &str, rows: &[Row]) -> Result<(Batch, i64)> {
    let (mut arrived, mut last) = (Vec::new(), 0_i64);
    for row in rows {
        let points: Vec<Arrived> = serde_json::from_str(&row.get::<String>("points")?)
            .map_err(|error| Error::internal("measurements that arrived cannot be read").with_source(error))?;
        arrived.extend(points);
        last = row.get("seq")?;
        if arrived.len() >= POINTS {
            break;
        }
    }
    // In the order in which they will lie.
    arrived.sort_by(|a, b| (&a.0, a.1, a.2).cmp(&(&b.0, b.1, b.2)));
    let mut batch = Batch::new();
    let rows = arrived
        .into_iter()
        .map(|(key, timestamp, step, value, is_nan)| args![run_id, key, timestamp, step, value, is_nan]);
    metrics::add_rows_to_history(&mut batch, rows);
    batch.execute("DELETE FROM metric_arrivals WHERE run_id = $1 AND seq <= $2", args![run_id, last]);
    Ok((batch, last))
}
