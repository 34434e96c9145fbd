//! Alerts, who has still to be told of them, and silences.

use fishy_contracts::monitoring::{Alert, Silence};
use fishy_core::Result;
use fishy_db::{Db, Row, Tx, args};

use super::{from_json, to_json};

/// Something that a receiver has still to be told.
#[derive(Debug, Clone, PartialEq)]
pub struct Delivery {
    pub seq: i64,
    pub is_resolved: bool,
    pub due_ms: i64,
    pub attempts: i64,
    pub alert: Alert,
}

fn alert_of(row: &Row) -> Result<Alert> {
    from_json(&row.get::<String>("alert")?)
}

/// The alerts of a source that last.
pub async fn open_of(tx: &mut Tx, source: &str) -> Result<Vec<Alert>> {
    let sql = "select alert from alerts where source = $1 and ends_ms is null";
    tx.query(sql, args![source]).await?.iter().map(alert_of).collect()
}

/// Writes an alert that began, or has ended.
pub async fn put(tx: &mut Tx, source: &str, alert: &Alert, now_ms: i64) -> Result<()> {
    let sql = "insert into alerts(id, source, fingerprint, starts_ms, ends_ms, ended_ms, alert)
               values ($1, $2, $3, $4, $5, $6, $7)
               on conflict (id) do update
                 set ends_ms = excluded.ends_ms, ended_ms = excluded.ended_ms, alert = excluded.alert";
    let ended_ms = alert.ends_ms.map(|_| now_ms);
    let args = args![&alert.id, source, &alert.fingerprint, alert.starts_ms, alert.ends_ms, ended_ms, to_json(alert)?];
    tx.execute(sql, args).await.map(drop)
}

/// Whether an alert with the same labels lasts.
pub async fn is_open(tx: &mut Tx, fingerprint: &str) -> Result<bool> {
    let sql = "select 1 as one from alerts where fingerprint = $1 and ends_ms is null limit 1";
    Ok(tx.query_opt(sql, args![fingerprint]).await?.is_some())
}

/// Newest first.
pub async fn list(db: &Db, is_open: bool, limit: usize) -> Result<Vec<Alert>> {
    let which = if is_open { "where ends_ms is null" } else { "" };
    let sql = format!("select alert from alerts {which} order by starts_ms desc, id desc limit $1");
    db.query(&sql, args![limit]).await?.iter().map(alert_of).collect()
}

/// How many alerts last.
pub async fn count_open(db: &Db) -> Result<u64> {
    let row = db.query_opt("select count(*) as n from alerts where ends_ms is null", args![]).await?;
    row.map_or(Ok(0), |row| Ok(row.get::<i64>("n")? as u64))
}

/// Notes what receivers have to be told, from then on.
pub async fn enqueue(tx: &mut Tx, alert_id: &str, is_resolved: bool, receivers: &[(&str, i64)]) -> Result<()> {
    let rows: Vec<_> =
        receivers.iter().map(|(receiver, due_ms)| args![*receiver, alert_id, is_resolved, *due_ms, 0]).collect();
    let into = "insert into alert_deliveries(receiver, alert_id, is_resolved, due_ms, attempts)";
    tx.bulk(into, "", rows).await.map(drop)
}

/// What a receiver has still to be told, oldest first.
pub async fn waiting(db: &Db, receiver: &str, limit: usize) -> Result<Vec<Delivery>> {
    let sql = "select d.seq, d.is_resolved, d.due_ms, d.attempts, a.alert from alert_deliveries d
               join alerts a on a.id = d.alert_id where d.receiver = $1 order by d.seq limit $2";
    let rows = db.query(sql, args![receiver, limit]).await?;
    rows.iter()
        .map(|row| {
            Ok(Delivery {
                seq: row.get("seq")?,
                is_resolved: row.get("is_resolved")?,
                due_ms: row.get("due_ms")?,
                attempts: row.get("attempts")?,
                alert: alert_of(row)?,
            })
        })
        .collect()
}

/// Takes the turn to send these until a time; `false` when somebody else has it.
pub async fn claim(tx: &mut Tx, deliveries: &[&Delivery], until_ms: i64) -> Result<bool> {
    for delivery in deliveries {
        let sql = "update alert_deliveries set due_ms = $3, attempts = attempts + 1 where seq = $1 and due_ms = $2";
        if tx.execute(sql, args![delivery.seq, delivery.due_ms, until_ms]).await? != 1 {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Puts these off until a time.
pub async fn put_off(tx: &mut Tx, deliveries: &[&Delivery], due_ms: i64) -> Result<()> {
    for delivery in deliveries {
        tx.execute("update alert_deliveries set due_ms = $2 where seq = $1", args![delivery.seq, due_ms]).await?;
    }
    Ok(())
}

/// These have been told, or need not be.
pub async fn done(tx: &mut Tx, deliveries: &[&Delivery]) -> Result<()> {
    for delivery in deliveries {
        tx.execute("delete from alert_deliveries where seq = $1", args![delivery.seq]).await?;
    }
    Ok(())
}

fn silence_of(row: &Row) -> Result<Silence> {
    from_json(&row.get::<String>("silence")?)
}

/// Silences that have not ended, the next to end first.
pub async fn silences(db: &Db, now_ms: i64, limit: usize) -> Result<Vec<Silence>> {
    let sql = "select silence from silences where ends_ms > $1 order by ends_ms, id limit $2";
    db.query(sql, args![now_ms, limit]).await?.iter().map(silence_of).collect()
}

pub async fn silence(tx: &mut Tx, id: &str) -> Result<Option<Silence>> {
    let row = tx.query_opt("select silence from silences where id = $1", args![id]).await?;
    row.as_ref().map(silence_of).transpose()
}

pub async fn put_silence(tx: &mut Tx, silence: &Silence) -> Result<()> {
    let sql = "insert into silences(id, starts_ms, ends_ms, silence) values ($1, $2, $3, $4)
               on conflict (id) do update set ends_ms = excluded.ends_ms, silence = excluded.silence";
    tx.execute(sql, args![&silence.id, silence.starts_ms, silence.ends_ms, to_json(silence)?]).await.map(drop)
}

/// What was put off because of a silence is due again.
pub async fn wake_all(tx: &mut Tx, due_ms: i64) -> Result<()> {
    tx.execute("update alert_deliveries set due_ms = $1 where due_ms > $1 and attempts = 0", args![due_ms])
        .await
        .map(drop)
}
