//! Checks: how far they are, their windows, what changed since, references, and alarms.

use fishy_contracts::monitoring::{Alarm, CheckSpec, CheckWindow};
use fishy_core::Result;
use fishy_db::{Db, Row, Tx, args};

use super::{from_json, to_json};
use crate::domain::checks::spans::Span;
use crate::domain::window;

/// How far a check is.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckState {
    pub spec: String,
    pub first_end_ms: i64,
    pub closed_ms: i64,
    pub alarm_after_ms: i64,
    pub revision: i64,
}

/// The specification as it is compared: windows of another one are void.
pub fn text_of(spec: &CheckSpec) -> Result<String> {
    to_json(spec)
}

pub async fn state(db: &Db, monitor: &str, name: &str) -> Result<Option<CheckState>> {
    let sql = "select spec, first_end_ms, closed_ms, alarm_after_ms, revision from check_states
               where monitor = $1 and name = $2";
    let Some(row) = db.query_opt(sql, args![monitor, name]).await? else { return Ok(None) };
    Ok(Some(CheckState {
        spec: row.get("spec")?,
        first_end_ms: row.get("first_end_ms")?,
        closed_ms: row.get("closed_ms")?,
        alarm_after_ms: row.get("alarm_after_ms")?,
        revision: row.get("revision")?,
    }))
}

pub async fn names(db: &Db, monitor: &str) -> Result<Vec<String>> {
    let rows = db.query("select name from check_states where monitor = $1 order by name", args![monitor]).await?;
    rows.iter().map(|row| row.get("name")).collect()
}

/// Begins a check, or begins it anew under another specification; `false` when somebody else did.
pub async fn begin(tx: &mut Tx, monitor: &str, name: &str, state: &CheckState) -> Result<bool> {
    let sql = "insert into check_states(monitor, name, spec, first_end_ms, closed_ms, alarm_after_ms, revision)
               values ($1, $2, $3, $4, $5, $6, $7)
               on conflict (monitor, name) do update set spec = excluded.spec, first_end_ms = excluded.first_end_ms,
                 closed_ms = excluded.closed_ms, alarm_after_ms = excluded.alarm_after_ms, revision = excluded.revision
               where check_states.revision < excluded.revision";
    let args =
        args![monitor, name, &state.spec, state.first_end_ms, state.closed_ms, state.alarm_after_ms, state.revision];
    let is_first = tx.execute(sql, args).await? == 1;
    if is_first {
        tx.execute("delete from check_windows where monitor = $1 and name = $2", args![monitor, name]).await?;
    }
    Ok(is_first)
}

/// Forgets a check that its monitor does not have any more.
pub async fn forget(tx: &mut Tx, monitor: &str, name: &str) -> Result<()> {
    for table in ["check_windows", "check_states"] {
        tx.execute(&format!("delete from {table} where monitor = $1 and name = $2"), args![monitor, name]).await?;
    }
    Ok(())
}

/// Notes how far a check is; `false` when somebody else wrote first.
pub async fn set_closed(tx: &mut Tx, monitor: &str, name: &str, revision: i64, closed_ms: i64) -> Result<bool> {
    let sql = "update check_states set closed_ms = $4, revision = revision + 1
               where monitor = $1 and name = $2 and revision = $3";
    Ok(tx.execute(sql, args![monitor, name, revision, closed_ms]).await? == 1)
}

pub async fn put(tx: &mut Tx, monitor: &str, windows: &[CheckWindow]) -> Result<()> {
    let mut rows = Vec::with_capacity(windows.len());
    for window in windows {
        rows.push(args![monitor, &window.check, window.end_ms, to_json(window)?]);
    }
    let suffix = "on conflict (monitor, name, end_ms) do update set figures = excluded.figures";
    tx.bulk("insert into check_windows(monitor, name, end_ms, figures)", suffix, rows).await.map(drop)
}

fn window_of(row: &Row) -> Result<CheckWindow> {
    from_json(&row.get::<String>("figures")?)
}

/// Windows that end in a span (its end included), oldest first; of all checks where the name is empty.
pub async fn windows(
    db: &Db,
    monitor: &str,
    name: &str,
    from_ms: i64,
    to_ms: i64,
    limit: usize,
) -> Result<Vec<CheckWindow>> {
    let sql = "select figures from check_windows
               where monitor = $1 and (name = $2 or $2 = '') and end_ms >= $3 and end_ms <= $4
               order by end_ms, name limit $5";
    db.query(sql, args![monitor, name, from_ms, to_ms, limit]).await?.iter().map(window_of).collect()
}

/// The newest windows of a check that end before a time, oldest first.
pub async fn before(db: &Db, monitor: &str, name: &str, end_ms: i64, limit: usize) -> Result<Vec<CheckWindow>> {
    let sql = "select figures from check_windows where monitor = $1 and name = $2 and end_ms < $3
               order by end_ms desc limit $4";
    let rows = db.query(sql, args![monitor, name, end_ms, limit]).await?;
    rows.iter().rev().map(window_of).collect()
}

/// Hands the marks of changed hours on to the checks, before the windows that they were for forget them.
pub async fn take_marks(tx: &mut Tx, monitor: &str, from_ms: i64, to_ms: i64, turn: i64) -> Result<()> {
    let sql = "insert into check_marks(monitor, hour_ms, n)
               select monitor, hour_ms, n from touched where monitor = $1 and hour_ms >= $2 and hour_ms < $3 and n <= $4
               on conflict (monitor, hour_ms) do update set n = excluded.n";
    tx.execute(sql, args![monitor, from_ms, to_ms, turn]).await.map(drop)
}

/// Marks hours as changed.
pub async fn mark(tx: &mut Tx, monitor: &str, hours: impl IntoIterator<Item = i64>, turn: i64) -> Result<()> {
    let rows = hours.into_iter().map(|hour_ms| args![monitor, hour_ms, turn]);
    let suffix = "on conflict (monitor, hour_ms) do update set n = excluded.n";
    tx.bulk("insert into check_marks(monitor, hour_ms, n)", suffix, rows.collect::<Vec<_>>()).await.map(drop)
}

/// Changed hours, oldest first, with the turn that changed them.
pub async fn marks(db: &Db, monitor: &str, limit: usize) -> Result<Vec<(i64, i64)>> {
    let sql = "select hour_ms, n from check_marks where monitor = $1 order by hour_ms limit $2";
    let rows = db.query(sql, args![monitor, limit]).await?;
    rows.iter().map(|row| Ok((row.get("hour_ms")?, row.get("n")?))).collect()
}

/// Forgets marks, unless they were made anew since.
pub async fn clear_marks(tx: &mut Tx, monitor: &str, marks: &[(i64, i64)]) -> Result<()> {
    for (hour_ms, turn) in marks {
        let sql = "delete from check_marks where monitor = $1 and hour_ms = $2 and n <= $3";
        tx.execute(sql, args![monitor, *hour_ms, *turn]).await?;
    }
    Ok(())
}

pub async fn reference(db: &Db, monitor: &str, span: Span) -> Result<Option<String>> {
    let sql = "select sample from check_references where monitor = $1 and from_ms = $2 and to_ms = $3";
    let row = db.query_opt(sql, args![monitor, span.from_ms, span.to_ms]).await?;
    row.map(|row| row.get("sample")).transpose()
}

/// Reads what [`reference`] gave, away from the async threads.
pub fn read_reference(sample: &str) -> Result<Vec<window::Row>> {
    from_json(sample)
}

/// Keeps a reference unless one of the span is kept already.
pub async fn put_reference(tx: &mut Tx, monitor: &str, span: Span, sample: &str) -> Result<()> {
    let sql = "insert into check_references(monitor, from_ms, to_ms, sample) values ($1, $2, $3, $4)
               on conflict (monitor, from_ms, to_ms) do nothing";
    tx.execute(sql, args![monitor, span.from_ms, span.to_ms, sample]).await.map(drop)
}

pub async fn put_alarm(tx: &mut Tx, alarm: &Alarm) -> Result<()> {
    let sql = "insert into alarms(id, monitor, name, since_ms, until_ms, alarm) values ($1, $2, $3, $4, $5, $6)
               on conflict (id) do update set until_ms = excluded.until_ms, alarm = excluded.alarm";
    let args = args![&alarm.id, &alarm.monitor, &alarm.check, alarm.since_ms, alarm.until_ms, to_json(alarm)?];
    tx.execute(sql, args).await.map(drop)
}

fn alarm_of(row: &Row) -> Result<Alarm> {
    from_json(&row.get::<String>("alarm")?)
}

/// Alarms of a check that last; of all checks of the monitor where the name is empty.
pub async fn open_alarms(db: &Db, monitor: &str, name: &str) -> Result<Vec<Alarm>> {
    let sql = "select alarm from alarms where monitor = $1 and (name = $2 or $2 = '') and until_ms is null
               order by since_ms desc, id desc";
    db.query(sql, args![monitor, name]).await?.iter().map(alarm_of).collect()
}

/// Alarms that began up to a time and had not ended then.
pub async fn alarms_at(db: &Db, monitor: &str, time_ms: i64) -> Result<Vec<Alarm>> {
    let sql = "select alarm from alarms where monitor = $1 and since_ms <= $2 and (until_ms is null or until_ms > $2)";
    db.query(sql, args![monitor, time_ms]).await?.iter().map(alarm_of).collect()
}

/// Newest first.
pub async fn alarms(db: &Db, monitor: &str, limit: usize) -> Result<Vec<Alarm>> {
    let sql = "select alarm from alarms where monitor = $1 order by since_ms desc, id desc limit $2";
    db.query(sql, args![monitor, limit]).await?.iter().map(alarm_of).collect()
}
