//! What happened to aliases, tags and stages: written once, never changed.

use fishy_contracts::registry::PastChange;
use fishy_core::Result;
use fishy_db::{Row, Tx, args};

use super::Read;

/// Who does something, and why where that was said.
#[derive(Debug, Clone, Copy)]
pub(crate) struct By<'a> {
    pub actor: &'a str,
    pub reason: Option<&'a str>,
}

/// A change of a tag or a stage.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Change<'a> {
    pub name: &'a str,
    /// None for a tag of the model itself.
    pub version: Option<i64>,
    /// `tag` or `stage`.
    pub kind: &'a str,
    pub key: &'a str,
    pub from: Option<&'a str>,
    pub to: Option<&'a str>,
}

/// Notes a change for ever; what changes nothing is no change.
pub(crate) async fn remember(tx: &mut Tx, change: Change<'_>, by: By<'_>, now_ms: i64) -> Result<()> {
    let Change { name, version, kind, key, from, to } = change;
    if from == to {
        return Ok(());
    }
    let sql = "INSERT INTO change_history(time_ms, name, version, kind, key, from_value, to_value, actor, reason) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
    tx.execute(sql, args![now_ms, name, version, kind, key, from, to, by.actor, by.reason]).await.map(drop)
}

/// The columns of a change, for both of the tables.
const OF_ALIAS: &str = "SELECT time_ms, seq, 'alias' AS kind, alias AS key, CAST(NULL AS BIGINT) AS version, \
    CAST(from_version AS TEXT) AS from_value, CAST(to_version AS TEXT) AS to_value, actor, reason, gate, promotion_id \
    FROM alias_history";
const OF_OTHERS: &str = "SELECT time_ms, seq, kind, key, version, from_value, to_value, actor, reason, \
    CAST(NULL AS TEXT), CAST(NULL AS TEXT) FROM change_history";

fn change_of(row: &Row) -> Result<PastChange> {
    Ok(PastChange {
        time_ms: row.get("time_ms")?,
        kind: row.get("kind")?,
        key: row.get("key")?,
        version: row.get::<Option<i64>>("version")?.map(|version| version.to_string()),
        from: row.get("from_value")?,
        to: row.get("to_value")?,
        actor: row.get("actor")?,
        reason: row.get("reason")?,
        gate: row.get("gate")?,
        promotion_id: row.get("promotion_id")?,
    })
}

/// The last move of an alias that had happened at a time.
pub(crate) async fn move_before(
    read: &mut impl Read,
    name: &str,
    alias: &str,
    time_ms: i64,
) -> Result<Option<PastChange>> {
    let sql =
        format!("{OF_ALIAS} WHERE name = $1 AND alias = $2 AND time_ms <= $3 ORDER BY time_ms DESC, seq DESC LIMIT 1");
    read.row(&sql, args![name, alias, time_ms]).await?.as_ref().map(change_of).transpose()
}

/// All changes of a model, newest first; of one kind or all, of one key or all.
pub(crate) async fn of_model(
    read: &mut impl Read,
    name: &str,
    (kind, key): (Option<&str>, Option<&str>),
    limit: i64,
) -> Result<Vec<PastChange>> {
    let sql = format!(
        "SELECT * FROM ({OF_ALIAS} WHERE name = $1 UNION ALL {OF_OTHERS} WHERE name = $1) h \
         WHERE ($2 = '' OR kind = $2) AND ($3 = '' OR key = $3) ORDER BY time_ms DESC, kind, seq DESC LIMIT $4"
    );
    let args = args![name, kind.unwrap_or(""), key.unwrap_or(""), limit];
    read.rows(&sql, args).await?.iter().map(change_of).collect()
}
