//! Forgetting what is older than it is kept for.

use fishy_core::Result;
use fishy_db::{Db, Tx, args};

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
