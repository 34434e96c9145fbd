//! Forgetting what is older than it is kept for.

use fishy_core::Result;
use fishy_db::{Db, Tx, Value, args};

use super::id_chunks;

/// Deployments and the event time before which their rows go.
pub async fn cutoffs(db: &Db, retention_ms: i64) -> Result<Vec<(String, i64)>> {
    let rows =
        db.query("select deployment, newest_ms from deployments where newest_ms > $1", args![retention_ms]).await?;
    rows.iter().map(|row| Ok((row.get("deployment")?, row.get::<i64>("newest_ms")? - retention_ms))).collect()
}

/// Deletes the oldest predictions before a time, with their true values; gives how many.
pub async fn purge_predictions(tx: &mut Tx, deployment: &str, before_ms: i64, limit: usize) -> Result<usize> {
    let sql = "select prediction_id from predictions where deployment = $1 and time_ms < $2 order by time_ms limit $3";
    let rows = tx.query(sql, args![deployment, before_ms, limit]).await?;
    let ids = rows.iter().map(|row| row.get::<String>("prediction_id")).collect::<Result<Vec<_>>>()?;
    for table in ["ground_truth_history", "ground_truth", "queue_leases", "opinions", "predictions"] {
        for (places, args) in id_chunks(ids.iter().map(String::as_str), 1) {
            tx.execute(&format!("delete from {table} where prediction_id in ({places})"), args).await?;
        }
    }
    Ok(ids.len())
}

/// The monitors of a deployment that have labelled history before a time.
pub async fn with_old_history(db: &Db, deployment: &str, before_ms: i64) -> Result<Vec<String>> {
    let sql = "select name from monitors where deployment = $1
                 and exists (select 1 from observations where monitor = monitors.name and time_ms < $2)";
    let rows = db.query(sql, args![deployment, before_ms]).await?;
    rows.iter().map(|row| row.get("name")).collect()
}

/// Deletes the oldest labelled history of a monitor before a time; gives how much.
pub async fn purge_observations(tx: &mut Tx, monitor: &str, before_ms: i64, limit: usize) -> Result<u64> {
    let sql = "delete from observations where monitor = $1 and id in
                 (select id from observations where monitor = $1 and time_ms < $2 order by time_ms limit $3)";
    tx.execute(sql, args![monitor, before_ms, limit]).await
}

/// Whether there are true values that [`purge_waiting`] would delete.
pub async fn has_waiting(db: &Db, received_before_ms: i64) -> Result<bool> {
    let sql = "select 1 as one from ground_truth where is_joined = 0 and received_ms < $1 limit 1";
    Ok(db.query_opt(sql, args![received_before_ms]).await?.is_some())
}

/// Deletes true values whose prediction never came, by the time they were received; gives how many.
pub async fn purge_waiting(tx: &mut Tx, received_before_ms: i64, limit: usize) -> Result<u64> {
    let sql = "delete from ground_truth where prediction_id in
                 (select prediction_id from ground_truth where is_joined = 0 and received_ms < $1
                  order by received_ms limit $2)";
    tx.execute(sql, args![received_before_ms, limit]).await
}

/// Alerts that ended before a time by the clock, the oldest first.
pub async fn ended_alerts(db: &Db, before_ms: i64, limit: usize) -> Result<Vec<String>> {
    let sql = "select id from alerts where ended_ms < $1 order by ended_ms, id limit $2";
    db.query(sql, args![before_ms, limit]).await?.iter().map(|row| row.get("id")).collect()
}

/// Deletes alerts with what was still to be told of them; gives how many messages these were.
pub async fn purge_alerts(tx: &mut Tx, ids: &[String]) -> Result<u64> {
    let mut untold = 0;
    for (places, args) in id_chunks(ids.iter().map(String::as_str), 1) {
        let sql = format!("delete from alert_deliveries where alert_id in ({places})");
        untold += tx.execute(&sql, args.clone()).await?;
        tx.execute(&format!("delete from alerts where id in ({places})"), args).await?;
    }
    Ok(untold)
}

/// Silences that ended before a time, the oldest first.
pub async fn ended_silences(db: &Db, before_ms: i64, limit: usize) -> Result<Vec<String>> {
    let sql = "select id from silences where ends_ms < $1 order by ends_ms, id limit $2";
    db.query(sql, args![before_ms, limit]).await?.iter().map(|row| row.get("id")).collect()
}

/// Deletes silences.
pub async fn purge_silences(tx: &mut Tx, ids: &[String]) -> Result<()> {
    for (places, args) in id_chunks(ids.iter().map(String::as_str), 1) {
        tx.execute(&format!("delete from silences where id in ({places})"), args).await?;
    }
    Ok(())
}

/// What was due before a time to receivers other than these: nobody tries to tell them any more.
pub async fn orphaned(db: &Db, receivers: &[&str], before_ms: i64, limit: usize) -> Result<Vec<i64>> {
    let places: Vec<String> = (0..receivers.len()).map(|place| format!("${}", place + 3)).collect();
    let others = if places.is_empty() { String::new() } else { format!("and receiver not in ({})", places.join(", ")) };
    let sql = format!("select seq from alert_deliveries where due_ms < $1 {others} order by due_ms, seq limit $2");
    let mut values = args![before_ms, limit];
    values.extend(receivers.iter().map(|receiver| Value::from(*receiver)));
    db.query(&sql, values).await?.iter().map(|row| row.get("seq")).collect()
}

/// Deletes messages to receivers.
pub async fn purge_deliveries(tx: &mut Tx, seqs: &[i64]) -> Result<()> {
    for seq in seqs {
        tx.execute("delete from alert_deliveries where seq = $1", args![*seq]).await?;
    }
    Ok(())
}
