//! Windows, the marks of changed hours, references, counts by bin, and the state of sensor checks.

use std::collections::BTreeMap;

use fishy_contracts::monitoring::Window;
use fishy_core::Result;
use fishy_db::{Db, Row, Tx, args};

use super::{from_json, to_json};
use crate::domain::sensors::Sensors;
use crate::domain::window::{DriftCounts, References};

/// A window, and the version whose reference it was compared with.
pub struct WindowRow {
    pub window: Window,
    pub reference_version: Option<String>,
}

/// The hours of a span that changed up to a turn.
pub async fn touched(db: &Db, monitor: &str, from_ms: i64, to_ms: i64, turn: i64, limit: usize) -> Result<Vec<i64>> {
    let sql = "select hour_ms from touched where monitor = $1 and hour_ms >= $2 and hour_ms < $3 and n <= $4
               order by hour_ms limit $5";
    let rows = db.query(sql, args![monitor, from_ms, to_ms, turn, limit]).await?;
    rows.iter().map(|row| row.get("hour_ms")).collect()
}

/// Forgets marks up to a turn: later ones stay, for the next time.
pub async fn clear_touched(tx: &mut Tx, monitor: &str, from_ms: i64, to_ms: i64, turn: i64) -> Result<()> {
    let sql = "delete from touched where monitor = $1 and hour_ms >= $2 and hour_ms < $3 and n <= $4";
    tx.execute(sql, args![monitor, from_ms, to_ms, turn]).await.map(drop)
}

pub async fn put(tx: &mut Tx, monitor: &str, windows: &[WindowRow]) -> Result<()> {
    let mut rows = Vec::with_capacity(windows.len());
    for WindowRow { window, reference_version } in windows {
        rows.push(args![
            monitor,
            &window.length,
            window.start_ms,
            window.predictions,
            window.labels,
            window.mae,
            window.rmse,
            to_json(&window.psi)?,
            to_json(&window.ks)?,
            to_json(&window.missing)?,
            reference_version.as_ref()
        ]);
    }
    let into = "insert into windows(monitor, length, start_ms, predictions, labels, mae, rmse, psi, ks, missing, \
                reference_version)";
    let suffix = "on conflict (monitor, length, start_ms) do update set predictions = excluded.predictions, \
                  labels = excluded.labels, mae = excluded.mae, rmse = excluded.rmse, psi = excluded.psi, \
                  ks = excluded.ks, missing = excluded.missing, reference_version = excluded.reference_version";
    tx.bulk(into, suffix, rows).await.map(drop)
}

fn window_of(row: &Row) -> Result<Window> {
    Ok(Window {
        length: row.get("length")?,
        start_ms: row.get("start_ms")?,
        predictions: row.get::<i64>("predictions")? as u64,
        labels: row.get::<i64>("labels")? as u64,
        mae: row.get("mae")?,
        rmse: row.get("rmse")?,
        psi: from_json(&row.get::<String>("psi")?)?,
        ks: from_json(&row.get::<String>("ks")?)?,
        missing: from_json(&row.get::<String>("missing")?)?,
    })
}

pub async fn list(db: &Db, monitor: &str, length: &str, from_ms: i64, to_ms: i64, limit: usize) -> Result<Vec<Window>> {
    let sql = "select length, start_ms, predictions, labels, mae, rmse, psi, ks, missing from windows
               where monitor = $1 and length = $2 and start_ms >= $3 and start_ms < $4 order by start_ms limit $5";
    db.query(sql, args![monitor, length, from_ms, to_ms, limit]).await?.iter().map(window_of).collect()
}

/// The version whose reference the window of a day was compared with: `None` when there is no window yet.
pub async fn day_reference(db: &Db, monitor: &str, day_ms: i64) -> Result<Option<Option<String>>> {
    let sql = "select reference_version from windows where monitor = $1 and length = 'day' and start_ms = $2";
    db.query_opt(sql, args![monitor, day_ms]).await?.map(|row| row.get("reference_version")).transpose()
}

pub async fn reference(db: &Db, monitor: &str, version: &str) -> Result<Option<References>> {
    let sql = "select features from reference_samples where monitor = $1 and version = $2";
    let row = db.query_opt(sql, args![monitor, version]).await?;
    row.map(|row| from_json(&row.get::<String>("features")?)).transpose()
}

pub async fn put_reference(
    tx: &mut Tx,
    monitor: &str,
    version: &str,
    references: &References,
    sampled: u64,
) -> Result<()> {
    let sql = "insert into reference_samples(monitor, version, features, sampled) values ($1, $2, $3, $4)
               on conflict (monitor, version) do nothing";
    tx.execute(sql, args![monitor, version, to_json(references)?, sampled]).await.map(drop)
}

/// Days with predictions, and their counts against a version's reference where they were counted.
pub async fn drift_days(
    db: &Db,
    monitor: &str,
    version: &str,
    from_ms: i64,
    to_ms: i64,
) -> Result<Vec<(i64, Option<DriftCounts>)>> {
    let sql = "select w.start_ms, c.counts from windows w
               left join drift_counts c on c.monitor = w.monitor and c.day_ms = w.start_ms and c.version = $2
               where w.monitor = $1 and w.length = 'day' and w.start_ms >= $3 and w.start_ms < $4 and w.predictions > 0";
    let rows = db.query(sql, args![monitor, version, from_ms, to_ms]).await?;
    rows.iter()
        .map(|row| {
            let counts: Option<String> = row.get("counts")?;
            Ok((row.get("start_ms")?, counts.as_deref().map(from_json).transpose()?))
        })
        .collect()
}

/// Forgets the counts of days that changed, and of those that no drift window reaches any more.
pub async fn clear_drift_counts(tx: &mut Tx, monitor: &str, days: &[i64], before_ms: i64) -> Result<()> {
    for day_ms in days {
        let sql = "delete from drift_counts where monitor = $1 and day_ms = $2";
        tx.execute(sql, args![monitor, *day_ms]).await?;
    }
    let sql = "delete from drift_counts where monitor = $1 and day_ms < $2";
    tx.execute(sql, args![monitor, before_ms]).await.map(drop)
}

pub async fn put_drift_counts(
    tx: &mut Tx,
    monitor: &str,
    version: &str,
    days: &BTreeMap<i64, DriftCounts>,
) -> Result<()> {
    let mut rows = Vec::with_capacity(days.len());
    for (day_ms, counts) in days {
        rows.push(args![monitor, *day_ms, version, to_json(counts)?]);
    }
    let suffix = "on conflict (monitor, day_ms, version) do update set counts = excluded.counts";
    tx.bulk("insert into drift_counts(monitor, day_ms, version, counts)", suffix, rows).await.map(drop)
}

/// The state of the checks of one sensor, as text.
#[derive(Debug, Clone)]
pub struct SensorState {
    pub series: String,
    pub feature: String,
    pub state: String,
}

pub async fn sensor_states(db: &Db, monitor: &str) -> Result<Vec<SensorState>> {
    let rows = db.query("select series, feature, state from sensor_states where monitor = $1", args![monitor]).await?;
    rows.iter()
        .map(|row| {
            Ok(SensorState { series: row.get("series")?, feature: row.get("feature")?, state: row.get("state")? })
        })
        .collect()
}

/// The comparisons of probes with each other: features and states, as text.
pub type NeighbourStates = Vec<(String, String)>;

/// The comparisons of probes with each other, as text by feature.
pub async fn neighbour_states(db: &Db, monitor: &str) -> Result<Vec<(String, String)>> {
    let rows = db.query("select feature, state from neighbour_states where monitor = $1", args![monitor]).await?;
    rows.iter().map(|row| Ok((row.get("feature")?, row.get("state")?))).collect()
}

/// Reads what [`sensor_states`] and [`neighbour_states`] gave, away from the async threads.
pub fn read_sensors(rows: &[SensorState], neighbours: &[(String, String)]) -> Result<Sensors> {
    let mut sensors = Sensors::default();
    for row in rows {
        sensors.series.entry(row.series.clone()).or_default().insert(row.feature.clone(), from_json(&row.state)?);
    }
    for (feature, state) in neighbours {
        sensors.neighbours.insert(feature.clone(), from_json(state)?);
    }
    Ok(sensors)
}

/// Writes them for [`put_sensor_states`] and [`put_neighbour_states`], away from the async threads.
pub fn write_sensors(sensors: &Sensors) -> Result<(Vec<SensorState>, NeighbourStates)> {
    let mut rows = Vec::new();
    for (series, checks) in &sensors.series {
        for (feature, state) in checks {
            rows.push(SensorState { series: series.clone(), feature: feature.clone(), state: to_json(state)? });
        }
    }
    let neighbours = sensors.neighbours.iter().map(|(feature, state)| Ok((feature.clone(), to_json(state)?)));
    Ok((rows, neighbours.collect::<Result<_>>()?))
}

pub async fn put_neighbour_states(tx: &mut Tx, monitor: &str, states: &[(String, String)]) -> Result<()> {
    let sql = "insert into neighbour_states(monitor, feature, state) values ($1, $2, $3)
               on conflict (monitor, feature) do update set state = excluded.state";
    for (feature, state) in states {
        tx.execute(sql, args![monitor, feature, state]).await?;
    }
    Ok(())
}

/// One by one: some 4 KB each, and a PostgreSQL connection is slow with statements of more than 16 KB, which its socket
/// does not take at once.
pub async fn put_sensor_states(tx: &mut Tx, monitor: &str, states: &[SensorState]) -> Result<()> {
    let sql = "insert into sensor_states(monitor, series, feature, state) values ($1, $2, $3, $4)
               on conflict (monitor, series, feature) do update set state = excluded.state";
    for SensorState { series, feature, state } in states {
        tx.execute(sql, args![monitor, series, feature, state]).await?;
    }
    Ok(())
}
