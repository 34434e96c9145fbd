//! Metrics: the history of all values, and the latest one of each key beside it.

use std::collections::BTreeMap;

use fishy_core::Result;
use fishy_db::{Batch, Row, Value, args};

use super::{Read, Sql, rows_by_id};
use crate::domain::metric::{self, MetricValue, Point};
use crate::domain::records::Metric;

/// Adds measurements to the history of a run. What is exactly the same as before is kept once.
pub(crate) fn add_to_history(batch: &mut Batch, run_id: &str, points: &[Point]) {
    let rows = points.iter().map(|point| {
        let (value, is_nan) = point.value.stored();
        args![run_id, &point.key, point.timestamp, point.step, value, is_nan]
    });
    add_rows_to_history(batch, rows);
}

/// The same, of rows of a run's id, key, time, step, stored value and whether that stands for no number.
pub(super) fn add_rows_to_history(batch: &mut Batch, rows: impl Iterator<Item = Vec<Value>>) {
    let insert = "INSERT INTO metrics(run_id, key, timestamp, step, value, is_nan)";
    batch.bulk(insert, "ON CONFLICT DO NOTHING", rows);
}

/// Logs measurements of a run, but for its history: its latest values, and what belongs to logged models.
pub(crate) fn log_latest(batch: &mut Batch, run_id: &str, points: &[Point]) {
    let rows = metric::latest(points).into_iter().map(|point| {
        let (value, is_nan) = point.value.stored();
        args![run_id, &point.key, value, point.timestamp, point.step, is_nan]
    });
    let insert = "INSERT INTO latest_metrics(run_id, key, value, timestamp, step, is_nan)";
    let suffix = "ON CONFLICT (run_id, key) DO UPDATE SET value = excluded.value, timestamp = excluded.timestamp, \
                  step = excluded.step, is_nan = excluded.is_nan \
                  WHERE (excluded.step, excluded.timestamp, excluded.value) \
                  > (latest_metrics.step, latest_metrics.timestamp, latest_metrics.value)";
    batch.bulk(insert, suffix, rows);

    // The last one of each place: one statement must not touch a row twice.
    let mut of_models = BTreeMap::new();
    for point in points {
        if let Some(model_id) = &point.model_id {
            of_models.insert((model_id, &point.key, point.timestamp, point.step), point);
        }
    }
    let rows = of_models.into_iter().map(|((model_id, key, timestamp, step), point)| {
        let (value, is_nan) = point.value.stored();
        let (name, digest) = (point.dataset_name.as_ref(), point.dataset_digest.as_ref());
        args![model_id, key, timestamp, step, run_id, value, is_nan, name, digest]
    });
    let insert = "INSERT INTO logged_model_metrics(model_id, key, timestamp, step, run_id, value, is_nan, \
                  dataset_name, dataset_digest)";
    let suffix = "ON CONFLICT (model_id, key, timestamp, step, run_id) DO UPDATE SET value = excluded.value, \
                  is_nan = excluded.is_nan, dataset_name = excluded.dataset_name, \
                  dataset_digest = excluded.dataset_digest";
    batch.bulk(insert, suffix, rows);
}

fn value_of(row: &Row) -> Result<MetricValue> {
    Ok(MetricValue::from_stored(row.get("value")?, row.get("is_nan")?))
}

pub(super) fn metric_of(row: &Row, run_id: Option<String>) -> Result<Metric> {
    Ok(Metric {
        key: row.get("key")?,
        value: value_of(row)?,
        timestamp: row.get("timestamp")?,
        step: row.get("step")?,
        dataset_name: None,
        dataset_digest: None,
        model_id: None,
        run_id,
    })
}

/// The latest values of runs.
pub(crate) async fn latest(read: &mut impl Read, run_ids: &[String]) -> Result<BTreeMap<String, Vec<Metric>>> {
    let select = "SELECT run_id, key, value, timestamp, step, is_nan FROM latest_metrics WHERE run_id IN ";
    let rows = rows_by_id(read, select, " ORDER BY run_id, key", "run_id", run_ids).await?;
    let read_all = |rows: Vec<Row>| rows.iter().map(|row| metric_of(row, None)).collect::<Result<Vec<_>>>();
    rows.into_iter().map(|(id, rows)| Ok((id, read_all(rows)?))).collect()
}

/// All values of a metric, in the order of time; all of them without a limit.
pub(crate) async fn history(
    read: &mut impl Read,
    run_id: &str,
    key: &str,
    limit: Option<i64>,
    offset: i64,
) -> Result<Vec<Metric>> {
    let sql = "SELECT key, value, timestamp, step, is_nan FROM metrics WHERE run_id = $1 AND key = $2 \
               ORDER BY timestamp, step, value LIMIT $3 OFFSET $4";
    let rows = read.rows(sql, args![run_id, key, limit.unwrap_or(i64::MAX), offset]).await?;
    rows.iter().map(|row| metric_of(row, None)).collect()
}

/// The values of a metric of many runs.
pub(crate) async fn history_of_runs(
    read: &mut impl Read,
    run_ids: &[String],
    key: &str,
    limit: i64,
) -> Result<Vec<Metric>> {
    let mut sql = Sql::new("SELECT run_id, key, value, timestamp, step, is_nan FROM metrics WHERE key = ");
    let place = sql.arg(key);
    sql.push(&place);
    let list = sql.list(run_ids.iter());
    let limit = sql.arg(limit);
    sql.push(&format!(" AND run_id IN {list} ORDER BY run_id, timestamp, step, value LIMIT {limit}"));
    let rows = read.rows(&sql.text, sql.args).await?;
    rows.iter().map(|row| metric_of(row, Some(row.get("run_id")?))).collect()
}

/// All measurements of logged models.
pub(crate) async fn of_models(read: &mut impl Read, ids: &[String]) -> Result<BTreeMap<String, Vec<Metric>>> {
    let select = "SELECT model_id, key, value, timestamp, step, is_nan, run_id, dataset_name, dataset_digest \
                  FROM logged_model_metrics WHERE model_id IN ";
    let rows = rows_by_id(read, select, " ORDER BY key, timestamp, step, run_id", "model_id", ids).await?;
    let metric = |row: &Row| -> Result<Metric> {
        let metric = metric_of(row, Some(row.get("run_id")?))?;
        let (dataset_name, dataset_digest) = (row.get("dataset_name")?, row.get("dataset_digest")?);
        Ok(Metric { model_id: Some(row.get("model_id")?), dataset_name, dataset_digest, ..metric })
    };
    rows.into_iter().map(|(id, rows)| Ok((id, rows.iter().map(metric).collect::<Result<_>>()?))).collect()
}
