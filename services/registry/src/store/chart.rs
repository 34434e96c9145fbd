//! Histories thinned for charts, without reading all of them.

use fishy_core::Result;
use fishy_db::{Db, Engine, Row, args};

use super::metrics::metric_of;
use crate::domain::records::Metric;

/// A history of at most so many points is thinned by rank, which reads every point.
const RANKED: i64 = 10_000;
/// So many points are read for each that is kept, where they share steps; where more do, steps do not tell them apart.
const SHARED: i64 = 10;

/// The points of one metric of one run between two steps, both included.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span<'a> {
    pub run_id: &'a str,
    pub key: &'a str,
    pub first_step: i64,
    pub last_step: i64,
}

const OF_SPAN: &str = "FROM metrics WHERE run_id = $1 AND key = $2 AND step >= $3 AND step <= $4";

/// What points are told apart by where they are too many to be ranked.
#[derive(Debug, Clone, Copy)]
enum Axis {
    Step,
    Time,
}

/// The points of a span, at most `count` of them, in the order of steps; the very last is always among them.
///
/// They are cut into `count` buckets, and the first point of each stands for it. The buckets have one number of points
/// where there are few, as with MLflow; where there are many they are of one width in steps, which is the same when each
/// step has its point, or in time when most of the points are of few steps.
pub(crate) async fn thinned(db: &Db, span: Span<'_>, count: i64) -> Result<Vec<Metric>> {
    let Span { run_id, key, first_step, last_step } = span;
    let sql = format!("SELECT COUNT(*) AS n FROM (SELECT 1 {OF_SPAN} LIMIT $5) p");
    let args = args![run_id, key, first_step, last_step, RANKED + 1];
    let points = db.query_opt(&sql, args).await?.map_or(Ok(0), |row| row.get("n"))?;
    if points <= RANKED {
        return ranked(db, span, count, points).await;
    }
    if let Some(found) = spread(db, span, count, Axis::Step).await? {
        return Ok(found);
    }
    // Time knows no bounds of steps.
    if (first_step, last_step) == (i64::MIN, i64::MAX)
        && let Some(found) = spread(db, span, count, Axis::Time).await?
    {
        return Ok(found);
    }
    let sql = format!("SELECT COUNT(*) AS n {OF_SPAN}");
    let args = args![run_id, key, first_step, last_step];
    let points = db.query_opt(&sql, args).await?.map_or(Ok(0), |row| row.get("n"))?;
    ranked(db, span, count, points).await
}

/// By rank: the first `points % count` buckets have one point more than the others.
async fn ranked(db: &Db, span: Span<'_>, count: i64, points: i64) -> Result<Vec<Metric>> {
    const IN_ORDER: &str = "ORDER BY step, timestamp, value, is_nan";
    let Span { run_id, key, first_step, last_step } = span;
    let mut found = if points <= count {
        let sql = format!("SELECT key, value, timestamp, step, is_nan {OF_SPAN} {IN_ORDER} LIMIT $5");
        let args = args![run_id, key, first_step, last_step, count];
        points_of(run_id, &db.query(&sql, args).await?)?
    } else {
        let (size, larger) = (points / count, points % count);
        let sql = format!(
            "SELECT key, value, timestamp, step, is_nan FROM ( \
               SELECT key, value, timestamp, step, is_nan, ROW_NUMBER() OVER ({IN_ORDER}) - 1 AS place {OF_SPAN} \
             ) p WHERE CASE WHEN place < $5 THEN place % ($6 + 1) = 0 ELSE (place - $5) % $6 = 0 END {IN_ORDER}"
        );
        let args = args![run_id, key, first_step, last_step, larger * (size + 1), size];
        points_of(run_id, &db.query(&sql, args).await?)?
    };
    let sql = format!(
        "SELECT key, value, timestamp, step, is_nan {OF_SPAN} \
         ORDER BY step DESC, timestamp DESC, value DESC, is_nan DESC LIMIT 1"
    );
    let last = db.query_opt(&sql, args![run_id, key, first_step, last_step]).await?;
    end_with(&mut found, points_of(run_id, last.as_slice())?.pop(), count);
    Ok(found)
}

/// At `count` places of one distance on an axis, each of which is looked up; `None` where the points are so uneven that
/// most of the places find the same ones.
async fn spread(db: &Db, span: Span<'_>, count: i64, axis: Axis) -> Result<Option<Vec<Metric>>> {
    let Span { run_id, key, first_step, last_step } = span;
    let (column, bounds) = match axis {
        Axis::Step => ("step", (first_step, last_step)),
        Axis::Time => ("timestamp", (i64::MIN, i64::MAX)),
    };
    let sql = format!(
        "SELECT (SELECT MIN({column}) FROM metrics WHERE run_id = $1 AND key = $2 AND {column} >= $3) AS first, \
         (SELECT MAX({column}) FROM metrics WHERE run_id = $1 AND key = $2 AND {column} <= $4) AS last"
    );
    let Some(ends) = db.query_opt(&sql, args![run_id, key, bounds.0, bounds.1]).await? else { return Ok(None) };
    let (Some(first), Some(last)) = (ends.get::<Option<i64>>("first")?, ends.get::<Option<i64>>("last")?) else {
        return Ok(None);
    };
    let Some(width) = last.checked_sub(first).and_then(|distance| distance.checked_add(1)).filter(|w| *w >= count)
    else {
        return Ok(None);
    };
    let of_place = format!("m.run_id = $1 AND m.key = $2 AND m.{column} >= p.place AND m.{column} <= p.place");
    // Without statistics PostgreSQL would read the whole history and compare each point with each place: a limit of its own
    // makes it look up one place after the other.
    let at_place = match db.engine() {
        Engine::Sqlite => format!("metrics m WHERE {of_place}"),
        Engine::Postgres => format!("LATERAL (SELECT * FROM metrics m WHERE {of_place} LIMIT $8) m"),
    };
    // As by rank, if each place had one point. Where a place is found by an equation, SQLite reads the whole history for
    // each, out of the primary key, which has all columns.
    let sql = format!(
        "WITH RECURSIVE n(n) AS (SELECT CAST(0 AS BIGINT) UNION ALL SELECT n + 1 FROM n WHERE n + 1 < $5), \
         places(place) AS (SELECT (SELECT MIN(m.{column}) FROM metrics m WHERE m.run_id = $1 AND m.key = $2 \
           AND m.{column} >= $3 + n * $6 + CASE WHEN n < $7 THEN n ELSE $7 END) FROM n \
           UNION SELECT CAST($4 AS BIGINT)) \
         SELECT m.key, m.value, m.timestamp, m.step, m.is_nan FROM places p CROSS JOIN {at_place} LIMIT $8"
    );
    let most = (count + 1) * SHARED;
    let args = args![run_id, key, first, last, count, width / count, width % count, most];
    let rows = db.query(&sql, args).await?;
    if rows.len() as i64 >= most {
        return Ok(None);
    }
    let mut found = points_of(run_id, &rows)?;
    let order = |a: &Metric, b: &Metric| {
        let place = |metric: &Metric| match axis {
            Axis::Step => (metric.step, metric.timestamp),
            Axis::Time => (metric.timestamp, metric.step),
        };
        let (one, other) = (a.value.stored(), b.value.stored());
        place(a).cmp(&place(b)).then(one.0.total_cmp(&other.0)).then(one.1.cmp(&other.1))
    };
    found.sort_by(order);
    let newest = match axis {
        Axis::Step => found.last().cloned(),
        Axis::Time => {
            let sql = "SELECT key, value, timestamp, step, is_nan FROM latest_metrics WHERE run_id = $1 AND key = $2";
            points_of(run_id, db.query_opt(sql, args![run_id, key]).await?.as_slice())?.pop()
        }
    };
    found.dedup_by_key(|metric| match axis {
        Axis::Step => metric.step,
        Axis::Time => metric.timestamp,
    });
    if (found.len() as i64) < count / 2 {
        return Ok(None);
    }
    found.sort_by_key(|metric| (metric.step, metric.timestamp));
    // The place of the last one was looked up beside the others.
    found.truncate(count as usize);
    end_with(&mut found, newest, count);
    Ok(Some(found))
}

/// Lets the last point be among those that were found, in the place of another one where these are enough.
fn end_with(found: &mut Vec<Metric>, last: Option<Metric>, count: i64) {
    let place = |metric: &Metric| (metric.step, metric.timestamp, metric.value.0.to_bits());
    if let Some(last) = last
        && found.last().is_some_and(|known| place(known) != place(&last))
    {
        if found.len() as i64 >= count {
            found.pop();
        }
        found.push(last);
    }
}

fn points_of(run_id: &str, rows: &[Row]) -> Result<Vec<Metric>> {
    rows.iter().map(|row| metric_of(row, Some(run_id.to_owned()))).collect()
}
