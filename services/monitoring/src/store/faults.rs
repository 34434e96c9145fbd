//! Data faults.

use fishy_contracts::monitoring::DataFault;
use fishy_core::{Error, Result};
use fishy_db::{Db, Row, Tx, args};

const COLUMNS: &str = "id, monitor, feature, series, kind, since_ms, until_ms, message";

fn fault_of(row: &Row) -> Result<DataFault> {
    Ok(DataFault {
        id: row.get("id")?,
        monitor: row.get("monitor")?,
        feature: row.get("feature")?,
        series: row.get("series")?,
        kind: row.get("kind")?,
        since_ms: row.get("since_ms")?,
        until_ms: row.get("until_ms")?,
        message: row.get("message")?,
    })
}

/// Writes a fault that began or ended; gives it with the id it has had from its beginning.
pub async fn put(tx: &mut Tx, fault: DataFault) -> Result<DataFault> {
    let sql = "insert into data_faults(id, monitor, feature, series, kind, since_ms, until_ms, message)
               values ($1, $2, $3, $4, $5, $6, $7, $8)
               on conflict (monitor, feature, series, kind, since_ms)
               do update set until_ms = excluded.until_ms, message = excluded.message
               returning id";
    let args = args![
        &fault.id,
        &fault.monitor,
        &fault.feature,
        &fault.series,
        &fault.kind,
        fault.since_ms,
        fault.until_ms,
        &fault.message
    ];
    let row = tx.query_opt(sql, args).await?.ok_or_else(|| Error::internal("a data fault was not written"))?;
    Ok(DataFault { id: row.get("id")?, ..fault })
}

pub async fn open(db: &Db, monitor: &str) -> Result<Vec<DataFault>> {
    let sql = format!(
        "select {COLUMNS} from data_faults where monitor = $1 and until_ms is null order by since_ms desc, id desc"
    );
    db.query(&sql, args![monitor]).await?.iter().map(fault_of).collect()
}

/// Newest first.
pub async fn list(db: &Db, monitor: &str, limit: usize) -> Result<Vec<DataFault>> {
    let sql = format!("select {COLUMNS} from data_faults where monitor = $1 order by since_ms desc, id desc limit $2");
    db.query(&sql, args![monitor, limit]).await?.iter().map(fault_of).collect()
}

/// Faults that overlap a span.
pub async fn between(db: &Db, monitor: &str, from_ms: i64, to_ms: i64) -> Result<Vec<DataFault>> {
    let sql = format!(
        "select {COLUMNS} from data_faults
         where monitor = $1 and since_ms < $3 and (until_ms is null or until_ms >= $2) order by since_ms"
    );
    db.query(&sql, args![monitor, from_ms, to_ms]).await?.iter().map(fault_of).collect()
}
