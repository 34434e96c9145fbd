//! Prediction events through the monitor: stored, and their windows, sensors and checks computed.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use fishy_contracts::deployment::PREDICTION_STREAM;
use fishy_contracts::monitoring::Watermark;
use fishy_core::time::DAY_MS;
use fishy_db::args;

use crate::farm::{BATCH, DEPLOYMENT, Farm, START_MS, id, monitor};
use crate::report::Report;
use crate::service::{SCHEMA, Service};
use crate::used::own_cpu_s;
use crate::{Arguments, grouped};

/// Days of event time.
const DAYS: i64 = 2;
/// Events in a second of the load whose lag is measured.
const RATE: f64 = 20_000.0;

/// How many predictions are stored.
async fn stored(service: &Service) -> Result<u64> {
    let row = service.db.query_opt("select count(*) as n from predictions", args![]).await?;
    Ok(row.map_or(Ok(0), |row| row.get::<i64>("n"))? as u64)
}

/// As fast as they are taken, by one publisher that waits for each batch, as the deployment service does.
pub async fn throughput(arguments: &Arguments, report: &mut Report) -> Result<()> {
    let count = if arguments.quick { 100_000 } else { 500_000 };
    let folder = tempfile::tempdir()?;
    let service = Service::start(folder.path()).await?;
    service.client.apply(&serde_json::from_value(monitor())?).await?;
    let stream = service.bus.stream(PREDICTION_STREAM).await?;
    let batches = Farm::new(1).batches(0, count, DAYS * DAY_MS)?;
    let load = format!("{} events of 12 features and 5 slices", grouped(count as u64));

    let (started, cpu_s) = (Instant::now(), own_cpu_s()?);
    for batch in batches {
        stream.publish(batch).await?;
    }
    let (seconds, taken_s) = (started.elapsed().as_secs_f64(), own_cpu_s()? - cpu_s);
    ensure!(stored(&service).await? == count as u64, "not all events were stored");
    let limit = inserts_per_cpu_s(folder.path(), count)?;
    report.more(&format!("{load}: stored"), "events/s of CPU", count as f64 / taken_s, "target", 100_000.0);
    report.limit(limit);
    report.more(&format!("{load}: stored"), "events/s", count as f64 / seconds, "target", 100_000.0);

    let (started, cpu_s) = (Instant::now(), own_cpu_s()?);
    service.client.watermark(DEPLOYMENT, Watermark { time_ms: START_MS + DAYS * DAY_MS }).await?;
    let closed_s = own_cpu_s()? - cpu_s;
    println!("  {DAYS} days closed in {:.1} s", started.elapsed().as_secs_f64());
    let windows = service.client.windows(DEPLOYMENT, "day", START_MS, START_MS + DAYS * DAY_MS).await?.items;
    let counted: u64 = windows.iter().map(|window| window.predictions).sum();
    ensure!(counted == count as u64, "the windows hold {counted} of {count} events");
    let whole = format!("{load}: stored, windows, sensors, checks");
    report.more(&whole, "events/s of CPU", count as f64 / (taken_s + closed_s), "target", 100_000.0);
    service.end().await;
    Ok(())
}

/// At a steady rate: how long after it was due a batch was stored.
pub async fn lag(arguments: &Arguments, report: &mut Report) -> Result<()> {
    let seconds = if arguments.quick { 4.0 } else { 15.0 };
    let count = (RATE * seconds) as usize;
    let folder = tempfile::tempdir()?;
    let service = Service::start(folder.path()).await?;
    service.client.apply(&serde_json::from_value(monitor())?).await?;
    let stream = service.bus.stream(PREDICTION_STREAM).await?;
    let batches = Farm::new(2).batches(0, count, (seconds * 1_000.0) as i64)?;
    let (started, cpu_s) = (Instant::now(), own_cpu_s()?);
    let mut lags = Vec::with_capacity(batches.len());
    for (place, batch) in batches.into_iter().enumerate() {
        // The first record of a batch waits for the others.
        let first = Duration::from_secs_f64((place * BATCH) as f64 / RATE);
        let due = Duration::from_secs_f64(((place + 1) * BATCH) as f64 / RATE);
        tokio::time::sleep(due.saturating_sub(started.elapsed())).await;
        stream.publish(batch).await?;
        lags.push(started.elapsed().saturating_sub(first).as_secs_f64());
    }
    let busy = (own_cpu_s()? - cpu_s) / started.elapsed().as_secs_f64();
    ensure!(stored(&service).await? == count as u64, "not all events were stored");
    lags.sort_by(f64::total_cmp);
    let load = format!("events at {}/s for {seconds:.0} s", grouped(RATE as u64));
    report.less(&load, "lag s, longest", lags.last().copied().unwrap_or_default(), "target", 1.0);
    report.less(&load, "lag s, median", lags[lags.len() / 2], "target", 1.0);
    report.less(&load, "processors used", busy, "target", 1.0);
    service.end().await;
    Ok(())
}

/// What SQLite itself could do: a bare loop that inserts such rows into such a table, with the same durability, without
/// reading records, looking for known ones or counting.
fn inserts_per_cpu_s(folder: &std::path::Path, count: usize) -> Result<f64> {
    let file = folder.join(format!("{SCHEMA}.db"));
    let connection = rusqlite::Connection::open(file)?;
    connection.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;")?;
    let columns = "prediction_id, deployment, version, time_ms, inputs, labels, output, outputs";
    let mut insert =
        connection.prepare(&format!("insert into predictions({columns}) values (?, ?, ?, ?, ?, ?, ?, null)"))?;
    let mut farm = Farm::new(3);
    let (inputs, labels) = (serde_json::to_string(&farm.inputs())?, serde_json::to_string(&farm.labels(0))?);
    let first = 1 << 40;
    let ids: Vec<String> = (0..count as u64).map(|number| id(first + number)).collect();
    let cpu_s = own_cpu_s()?;
    for (place, ids) in ids.chunks(BATCH).enumerate() {
        connection.execute_batch("begin immediate")?;
        for (row, id) in ids.iter().enumerate() {
            let time_ms = START_MS + (place * BATCH + row) as i64;
            insert.execute(rusqlite::params![id, "limit", "3", time_ms, inputs, labels, 7.5])?;
        }
        connection.execute_batch("commit")?;
    }
    let used_s = own_cpu_s()? - cpu_s;
    connection.execute("delete from predictions where deployment = 'limit'", [])?;
    Ok(count as f64 / used_s)
}
