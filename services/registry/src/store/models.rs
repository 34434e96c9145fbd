//! Registered models.

use fishy_core::{Error, ErrorCode, Result};
use fishy_db::{Row, Tx, args};

use super::{Read, Sql, last_of_each, pairs, rows_by_id, versions};
use crate::domain::records::{Alias, Pair, RegisteredModel};

/// The columns of a registered model in a statement that calls it `m`.
pub(crate) const COLUMNS: &str = "m.name, m.description, m.user_id, m.creation_time, m.last_updated_time";

fn exists_already(name: &str) -> Error {
    Error::already_exists(format!("Registered Model (name={name}) already exists."))
}

/// Writes a new registered model.
pub(crate) async fn create(
    tx: &mut Tx,
    name: &str,
    description: Option<&str>,
    tags: &[Pair],
    user_id: &str,
    now_ms: i64,
) -> Result<()> {
    let sql = "INSERT INTO registered_models(name, description, user_id, creation_time, last_updated_time, last_version) \
               VALUES ($1, $2, $3, $4, $4, 0)";
    tx.execute(sql, args![name, description, user_id, now_ms]).await.map_err(|error| match error.code() {
        ErrorCode::AlreadyExists => exists_already(name),
        _ => error,
    })?;
    set_tags(tx, name, tags).await
}

/// Whether there is such a model.
pub(crate) async fn exists(read: &mut impl Read, name: &str) -> Result<bool> {
    Ok(read.row("SELECT name FROM registered_models WHERE name = $1", args![name]).await?.is_some())
}

/// A registered model with everything.
pub(crate) async fn get(read: &mut impl Read, name: &str) -> Result<Option<RegisteredModel>> {
    let sql = format!("SELECT {COLUMNS} FROM registered_models m WHERE m.name = $1");
    let Some(row) = read.row(&sql, args![name]).await? else { return Ok(None) };
    Ok(from_rows(read, vec![row]).await?.pop())
}

/// Registered models with everything, in the order of the rows.
pub(crate) async fn from_rows(read: &mut impl Read, rows: Vec<Row>) -> Result<Vec<RegisteredModel>> {
    let names: Vec<String> = rows.iter().map(|row| row.get("name")).collect::<Result<_>>()?;
    let select = "SELECT name, key, value FROM registered_model_tags WHERE name IN ";
    let mut tags = rows_by_id(read, select, " ORDER BY key", "name", &names).await?;
    let select = "SELECT name, alias, version FROM aliases WHERE name IN ";
    let mut aliases = rows_by_id(read, select, " ORDER BY alias", "name", &names).await?;
    let mut latest = versions::latest(read, &names).await?;
    rows.into_iter()
        .zip(names)
        .map(|(row, name)| {
            let aliases = aliases.remove(&name).unwrap_or_default();
            Ok(RegisteredModel {
                latest_versions: latest.remove(&name).unwrap_or_default(),
                tags: pairs(tags.remove(&name))?,
                aliases: aliases.iter().map(alias_of).collect::<Result<_>>()?,
                name,
                creation_timestamp: row.get("creation_time")?,
                last_updated_timestamp: row.get("last_updated_time")?,
                user_id: row.get("user_id")?,
                description: row.get("description")?,
            })
        })
        .collect()
}

fn alias_of(row: &Row) -> Result<Alias> {
    Ok(Alias { alias: row.get("alias")?, version: row.get::<i64>("version")?.to_string() })
}

/// Notes that a model or one of its versions changed; tells whether there is such a model.
pub(crate) async fn touch(tx: &mut Tx, name: &str, now_ms: i64) -> Result<bool> {
    let sql = "UPDATE registered_models SET last_updated_time = $2 WHERE name = $1";
    Ok(tx.execute(sql, args![name, now_ms]).await? > 0)
}

/// Takes the next version number; `None` when there is no such model. Numbers are never given twice.
pub(crate) async fn next_version(tx: &mut Tx, name: &str, now_ms: i64) -> Result<Option<i64>> {
    let sql = "UPDATE registered_models SET last_version = last_version + 1, last_updated_time = $2 \
               WHERE name = $1 RETURNING last_version";
    tx.query_opt(sql, args![name, now_ms]).await?.map(|row| row.get("last_version")).transpose()
}

/// Sets the description.
pub(crate) async fn describe(tx: &mut Tx, name: &str, description: Option<&str>, now_ms: i64) -> Result<bool> {
    let sql = "UPDATE registered_models SET description = $2, last_updated_time = $3 WHERE name = $1";
    Ok(tx.execute(sql, args![name, description, now_ms]).await? > 0)
}

/// Gives a model another name; versions, tags and aliases follow.
pub(crate) async fn rename(tx: &mut Tx, name: &str, new_name: &str, now_ms: i64) -> Result<bool> {
    let sql = "UPDATE registered_models SET name = $2, last_updated_time = $3 WHERE name = $1";
    let renamed = tx.execute(sql, args![name, new_name, now_ms]).await.map_err(|error| match error.code() {
        ErrorCode::AlreadyExists => exists_already(new_name),
        _ => error,
    })?;
    tx.execute("UPDATE model_versions SET last_updated_time = $2 WHERE name = $1", args![new_name, now_ms]).await?;
    Ok(renamed > 0)
}

/// Deletes a model with its versions, tags and aliases.
pub(crate) async fn delete(tx: &mut Tx, name: &str) -> Result<bool> {
    Ok(tx.execute("DELETE FROM registered_models WHERE name = $1", args![name]).await? > 0)
}

/// The value of a tag.
pub(crate) async fn tag(read: &mut impl Read, name: &str, key: &str) -> Result<Option<String>> {
    let sql = "SELECT value FROM registered_model_tags WHERE name = $1 AND key = $2";
    read.row(sql, args![name, key]).await?.map(|row| row.get("value")).transpose()
}

/// Sets tags.
pub(crate) async fn set_tags(tx: &mut Tx, name: &str, tags: &[Pair]) -> Result<()> {
    let rows = last_of_each(tags).into_iter().map(|tag| args![name, &tag.key, &tag.value]);
    let suffix = "ON CONFLICT (name, key) DO UPDATE SET value = excluded.value";
    tx.bulk("INSERT INTO registered_model_tags(name, key, value)", suffix, rows).await.map(drop)
}

/// Deletes a tag.
pub(crate) async fn delete_tag(tx: &mut Tx, name: &str, key: &str) -> Result<bool> {
    Ok(tx.execute("DELETE FROM registered_model_tags WHERE name = $1 AND key = $2", args![name, key]).await? > 0)
}

/// The versions whose files lie in one of these folders or files, or whose files would be there: `name` and `version`.
pub(crate) async fn version_at(read: &mut impl Read, paths: &[&str]) -> Result<Option<(String, i64)>> {
    let mut sql = Sql::new("SELECT name, version FROM model_versions WHERE artifact_path IN ");
    let list = sql.list(paths.iter().copied());
    sql.push(&list);
    sql.push(" ORDER BY name, version LIMIT 1");
    let row = read.row(&sql.text, sql.args).await?;
    row.map(|row| Ok((row.get("name")?, row.get("version")?))).transpose()
}
