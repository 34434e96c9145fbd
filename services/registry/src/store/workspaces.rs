//! Which workspaces there are: kept in the database of the default one.

use fishy_core::{Error, ErrorCode, Result};
use fishy_db::{Row, Tx, args};

use super::Read;
use crate::domain::workspace::{DEFAULT, Workspace};

const COLUMNS: &str = "id, name, description";

fn workspace(row: &Row) -> Result<Workspace> {
    Ok(Workspace { id: row.get("id")?, name: row.get("name")?, description: row.get("description")? })
}

/// Makes sure that the default workspace has a row, which says what it is for.
pub(crate) async fn ensure_default(tx: &mut Tx, now_ms: i64) -> Result<()> {
    let sql = "INSERT INTO workspaces(id, name, description, creation_time, last_updated_time) \
               VALUES (0, $1, 'Default workspace for legacy resources', $2, $2) ON CONFLICT DO NOTHING";
    tx.execute(sql, args![DEFAULT, now_ms]).await.map(drop)
}

/// All workspaces, by name.
pub(crate) async fn all(read: &mut impl Read) -> Result<Vec<Workspace>> {
    let rows = read.rows(&format!("SELECT {COLUMNS} FROM workspaces ORDER BY name"), args![]).await?;
    rows.iter().map(workspace).collect()
}

/// One workspace.
pub(crate) async fn get(read: &mut impl Read, name: &str) -> Result<Option<Workspace>> {
    let row = read.row(&format!("SELECT {COLUMNS} FROM workspaces WHERE name = $1"), args![name]).await?;
    row.as_ref().map(workspace).transpose()
}

/// How many there are besides the default one.
pub(crate) async fn count(read: &mut impl Read) -> Result<i64> {
    let row = read.row("SELECT COUNT(*) AS n FROM workspaces WHERE id <> 0", args![]).await?;
    row.map_or(Ok(0), |row| row.get("n"))
}

/// Keeps other replicas from counting and making until the transaction ends.
pub(crate) async fn lock(tx: &mut Tx) -> Result<()> {
    tx.execute("UPDATE workspaces SET name = name WHERE id = 0", args![]).await.map(drop)
}

/// Makes one.
pub(crate) async fn create(tx: &mut Tx, name: &str, description: Option<&str>, now_ms: i64) -> Result<()> {
    let sql = "INSERT INTO workspaces(name, description, creation_time, last_updated_time) VALUES ($1, $2, $3, $3)";
    tx.execute(sql, args![name, description, now_ms]).await.map(drop).map_err(|error| match error.code() {
        ErrorCode::AlreadyExists => Error::already_exists(format!("Workspace '{name}' already exists.")),
        _ => error,
    })
}

/// Changes the description.
pub(crate) async fn describe(tx: &mut Tx, id: i64, description: Option<&str>, now_ms: i64) -> Result<()> {
    let sql = "UPDATE workspaces SET description = $2, last_updated_time = $3 WHERE id = $1";
    tx.execute(sql, args![id, description, now_ms]).await.map(drop)
}

/// Forgets one; its database and its files are to go.
pub(crate) async fn delete(tx: &mut Tx, id: i64, now_ms: i64) -> Result<()> {
    tx.execute("DELETE FROM workspaces WHERE id = $1", args![id]).await?;
    tx.execute("INSERT INTO workspace_garbage(id, deleted_time) VALUES ($1, $2)", args![id, now_ms]).await.map(drop)
}

/// What is to go.
pub(crate) async fn garbage(read: &mut impl Read) -> Result<Vec<i64>> {
    let rows = read.rows("SELECT id FROM workspace_garbage ORDER BY id", args![]).await?;
    rows.iter().map(|row| row.get("id")).collect()
}

/// It is gone.
pub(crate) async fn forget(tx: &mut Tx, id: i64) -> Result<()> {
    tx.execute("DELETE FROM workspace_garbage WHERE id = $1", args![id]).await.map(drop)
}

/// What is in the database of a workspace, in words; empty when nothing is.
pub(crate) async fn contents(read: &mut impl Read) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for (what, count) in [
        ("registered models", "SELECT COUNT(*) AS n FROM registered_models"),
        ("experiments", "SELECT COUNT(*) AS n FROM experiments WHERE id <> 0"),
        ("runs", "SELECT COUNT(*) AS n FROM runs"),
        ("logged models", "SELECT COUNT(*) AS n FROM logged_models"),
        ("artifacts", "SELECT COUNT(*) AS n FROM artifacts"),
        ("webhooks", "SELECT COUNT(*) AS n FROM webhooks"),
    ] {
        let row = read.row(count, args![]).await?;
        let n: i64 = row.map_or(Ok(0), |row| row.get("n"))?;
        if n > 0 {
            found.push(format!("{what}: {n}"));
        }
    }
    Ok(found)
}
