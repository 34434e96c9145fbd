//! Uploads whose parts a client sends to the object store itself: what is under way.

use fishy_core::Result;
use fishy_db::{Tx, args};

use super::Read;

/// An upload that was started and neither completed nor given up.
#[derive(Debug, Clone)]
pub(crate) struct Upload {
    /// What the client calls it.
    pub id: String,
    /// The artifact that it becomes.
    pub path: String,
    /// Where its content goes.
    pub blob: String,
    /// What the object store calls it.
    pub store_id: String,
}

const COLUMNS: &str = "SELECT id, path, blob, store_id FROM artifact_uploads";

fn upload_of(row: &fishy_db::Row) -> Result<Upload> {
    Ok(Upload { id: row.get("id")?, path: row.get("path")?, blob: row.get("blob")?, store_id: row.get("store_id")? })
}

/// Remembers an upload.
pub(crate) async fn put(tx: &mut Tx, upload: &Upload, now_ms: i64) -> Result<()> {
    let sql = "INSERT INTO artifact_uploads(id, path, blob, store_id, started_time) VALUES ($1, $2, $3, $4, $5)";
    tx.execute(sql, args![&upload.id, &upload.path, &upload.blob, &upload.store_id, now_ms]).await.map(drop)
}

/// One upload.
pub(crate) async fn get(read: &mut impl Read, id: &str) -> Result<Option<Upload>> {
    read.row(&format!("{COLUMNS} WHERE id = $1"), args![id]).await?.as_ref().map(upload_of).transpose()
}

/// Uploads that were started before a time.
pub(crate) async fn started_before(read: &mut impl Read, time_ms: i64, limit: i64) -> Result<Vec<Upload>> {
    let sql = format!("{COLUMNS} WHERE started_time < $1 ORDER BY started_time, id LIMIT $2");
    read.rows(&sql, args![time_ms, limit]).await?.iter().map(upload_of).collect()
}

/// Forgets an upload; tells whether it was there.
pub(crate) async fn forget(tx: &mut Tx, id: &str) -> Result<bool> {
    Ok(tx.execute("DELETE FROM artifact_uploads WHERE id = $1", args![id]).await? > 0)
}
