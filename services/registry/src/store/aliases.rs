//! Aliases, and which of them are protected.

use fishy_contracts::registry::ProtectedAlias;
use fishy_core::Result;
use fishy_db::{Row, Tx, args};

use super::Read;
use super::history::By;

/// The version an alias names.
pub(crate) async fn version(read: &mut impl Read, name: &str, alias: &str) -> Result<Option<i64>> {
    let row = read.row("SELECT version FROM aliases WHERE name = $1 AND alias = $2", args![name, alias]).await?;
    row.map(|row| row.get("version")).transpose()
}

/// All aliases of a model, each with its version.
pub(crate) async fn of_model(read: &mut impl Read, name: &str) -> Result<Vec<(String, i64)>> {
    let rows = read.rows("SELECT alias, version FROM aliases WHERE name = $1 ORDER BY alias", args![name]).await?;
    rows.iter().map(|row| Ok((row.get("alias")?, row.get("version")?))).collect()
}

/// Lets an alias name a version.
pub(crate) async fn set(tx: &mut Tx, name: &str, alias: &str, version: i64) -> Result<()> {
    let sql = "INSERT INTO aliases(name, alias, version) VALUES ($1, $2, $3) \
               ON CONFLICT (name, alias) DO UPDATE SET version = excluded.version";
    tx.execute(sql, args![name, alias, version]).await.map(drop)
}

/// Deletes an alias.
pub(crate) async fn delete(tx: &mut Tx, name: &str, alias: &str) -> Result<()> {
    tx.execute("DELETE FROM aliases WHERE name = $1 AND alias = $2", args![name, alias]).await.map(drop)
}

/// One move of an alias.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Move<'a> {
    pub name: &'a str,
    pub alias: &'a str,
    pub from: Option<i64>,
    pub to: Option<i64>,
    pub by: By<'a>,
    /// The gated deployment that follows it.
    pub gate: Option<&'a str>,
    /// The promotion that the gate let through.
    pub promotion_id: Option<&'a str>,
}

/// Notes a move for ever.
pub(crate) async fn remember(tx: &mut Tx, moved: Move<'_>, now_ms: i64) -> Result<()> {
    let sql = "INSERT INTO alias_history(time_ms, name, alias, from_version, to_version, actor, reason, gate, \
               promotion_id) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
    let Move { name, alias, from, to, by, gate, promotion_id } = moved;
    tx.execute(sql, args![now_ms, name, alias, from, to, by.actor, by.reason, gate, promotion_id]).await.map(drop)
}

/// The deployment that an alias is protected for.
pub(crate) async fn protected_for(read: &mut impl Read, name: &str, alias: &str) -> Result<Option<String>> {
    let sql = "SELECT deployment FROM protected_aliases WHERE name = $1 AND alias = $2 ORDER BY deployment LIMIT 1";
    read.row(sql, args![name, alias]).await?.map(|row| row.get("deployment")).transpose()
}

/// The protected aliases of a model.
pub(crate) async fn protected_of_model(read: &mut impl Read, name: &str) -> Result<Vec<ProtectedAlias>> {
    let sql = "SELECT name, alias, deployment FROM protected_aliases WHERE name = $1 ORDER BY alias, deployment";
    read.rows(sql, args![name]).await?.iter().map(protected).collect()
}

/// All protected aliases.
pub(crate) async fn all_protected(read: &mut impl Read) -> Result<Vec<ProtectedAlias>> {
    let sql = "SELECT name, alias, deployment FROM protected_aliases ORDER BY name, alias, deployment";
    read.rows(sql, args![]).await?.iter().map(protected).collect()
}

fn protected(row: &Row) -> Result<ProtectedAlias> {
    Ok(ProtectedAlias { model: row.get("name")?, alias: row.get("alias")?, deployment: row.get("deployment")? })
}

/// Protects an alias; tells whether it was not protected for this deployment before.
pub(crate) async fn protect(tx: &mut Tx, alias: &ProtectedAlias, actor: &str, now_ms: i64) -> Result<bool> {
    let sql = "INSERT INTO protected_aliases(name, alias, deployment, actor, time_ms) VALUES ($1, $2, $3, $4, $5) \
               ON CONFLICT DO NOTHING";
    Ok(tx.execute(sql, args![&alias.model, &alias.alias, &alias.deployment, actor, now_ms]).await? > 0)
}

/// Ends a protection; tells whether there was one.
pub(crate) async fn unprotect(tx: &mut Tx, model: &str, alias: &str, deployment: &str) -> Result<bool> {
    let sql = "DELETE FROM protected_aliases WHERE name = $1 AND alias = $2 AND deployment = $3";
    Ok(tx.execute(sql, args![model, alias, deployment]).await? > 0)
}
