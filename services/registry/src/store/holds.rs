//! What is held back from being deleted for good.

use fishy_contracts::registry::{Hold, HoldKind};
use fishy_core::{Error, Result};
use fishy_db::{Row, Tx, args};

use super::{Read, Sql};

const COLUMNS: &str = "kind, id, reason, actor, time_ms";

/// How a kind is written.
pub(crate) const fn kind_text(kind: HoldKind) -> &'static str {
    match kind {
        HoldKind::Experiment => "experiment",
        HoldKind::Run => "run",
        HoldKind::LoggedModel => "logged_model",
        HoldKind::Model => "model",
    }
}

fn hold_of(row: &Row) -> Result<Hold> {
    let kind: String = row.get("kind")?;
    let all = [HoldKind::Experiment, HoldKind::Run, HoldKind::LoggedModel, HoldKind::Model];
    let found = all.into_iter().find(|known| kind_text(*known) == kind);
    Ok(Hold {
        kind: found.ok_or_else(|| Error::internal(format!("{kind:?} is nothing that can be held")))?,
        id: row.get("id")?,
        reason: row.get("reason")?,
        actor: row.get("actor")?,
        time_ms: row.get("time_ms")?,
    })
}

/// Holds something; another reason replaces the one before.
pub(crate) async fn put(tx: &mut Tx, hold: &Hold, root: Option<&str>) -> Result<()> {
    let sql = "INSERT INTO holds(kind, id, reason, actor, time_ms, root) VALUES ($1, $2, $3, $4, $5, $6) \
               ON CONFLICT (kind, id) DO UPDATE SET reason = excluded.reason, actor = excluded.actor, \
               time_ms = excluded.time_ms, root = excluded.root";
    let args = args![kind_text(hold.kind), &hold.id, &hold.reason, &hold.actor, hold.time_ms, root];
    tx.execute(sql, args).await.map(drop)
}

/// Ends a hold; tells whether there was one.
pub(crate) async fn delete(tx: &mut Tx, kind: HoldKind, id: &str) -> Result<bool> {
    Ok(tx.execute("DELETE FROM holds WHERE kind = $1 AND id = $2", args![kind_text(kind), id]).await? > 0)
}

/// The hold on one thing.
pub(crate) async fn get(read: &mut impl Read, kind: HoldKind, id: &str) -> Result<Option<Hold>> {
    let sql = format!("SELECT {COLUMNS} FROM holds WHERE kind = $1 AND id = $2");
    read.row(&sql, args![kind_text(kind), id]).await?.as_ref().map(hold_of).transpose()
}

/// All holds, newest first.
pub(crate) async fn all(read: &mut impl Read) -> Result<Vec<Hold>> {
    let sql = format!("SELECT {COLUMNS} FROM holds ORDER BY time_ms DESC, kind, id");
    read.rows(&sql, args![]).await?.iter().map(hold_of).collect()
}

/// A hold on something whose artifacts are at one of these paths.
pub(crate) async fn at(read: &mut impl Read, paths: &[&str]) -> Result<Option<Hold>> {
    let mut sql = Sql::new(&format!("SELECT {COLUMNS} FROM holds WHERE root IN "));
    let list = sql.list(paths.iter().copied());
    sql.push(&list);
    sql.push(" LIMIT 1");
    read.row(&sql.text, sql.args).await?.as_ref().map(hold_of).transpose()
}
