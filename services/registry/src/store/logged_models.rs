//! Logged models.

use fishy_core::{Error, Result};
use fishy_db::{Row, Tx, args};

use super::{Read, Sql, last_of_each, metrics, pairs, rows_by_id};
use crate::domain::records::{ACTIVE, DELETED, LoggedModel, LoggedModelData, LoggedModelInfo, Pair};

/// The columns of a logged model in a statement that calls it `m`.
pub(crate) const COLUMNS: &str = "m.model_id, m.experiment_id, m.name, m.artifact_uri, m.status, m.model_type, \
                                  m.source_run_id, m.creation_time, m.last_updated_time, m.lifecycle_stage";

/// Writes a new logged model.
pub(crate) async fn create(tx: &mut Tx, info: &LoggedModelInfo, experiment_id: i64, params: &[Pair]) -> Result<()> {
    let sql = "INSERT INTO logged_models(model_id, experiment_id, name, artifact_uri, status, model_type, \
               source_run_id, creation_time, last_updated_time, lifecycle_stage) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8, $9)";
    let args = args![
        &info.model_id,
        experiment_id,
        &info.name,
        &info.artifact_uri,
        &info.status,
        info.model_type.as_ref(),
        info.source_run_id.as_ref(),
        info.creation_timestamp_ms,
        ACTIVE
    ];
    tx.execute(sql, args).await?;
    log_params(tx, &info.model_id, params).await?;
    set_tags(tx, &info.model_id, &info.tags).await
}

/// A logged model; not one that was deleted.
pub(crate) async fn get(read: &mut impl Read, model_id: &str) -> Result<Option<LoggedModel>> {
    let sql = format!("SELECT {COLUMNS} FROM logged_models m WHERE m.model_id = $1 AND m.lifecycle_stage = $2");
    let Some(row) = read.row(&sql, args![model_id, ACTIVE]).await? else { return Ok(None) };
    Ok(from_rows(read, vec![row]).await?.pop())
}

/// Which of these logged models exist.
pub(crate) async fn existing(read: &mut impl Read, ids: &[&str]) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for ids in ids.chunks(super::IDS_IN_ONE_LIST) {
        let mut sql = Sql::new("SELECT model_id FROM logged_models WHERE model_id IN ");
        let list = sql.list(ids.iter().copied());
        sql.push(&list);
        for row in read.rows(&sql.text, sql.args).await? {
            found.push(row.get("model_id")?);
        }
    }
    Ok(found)
}

/// Where the newest logged model of a run with this name has its files.
pub(crate) async fn of_run(read: &mut impl Read, run_id: &str, name: &str) -> Result<Option<(String, String)>> {
    let sql = "SELECT model_id, artifact_uri FROM logged_models WHERE source_run_id = $1 AND name = $2 \
               AND lifecycle_stage = $3 ORDER BY creation_time DESC, model_id DESC LIMIT 1";
    let row = read.row(sql, args![run_id, name, ACTIVE]).await?;
    row.map(|row| Ok((row.get("model_id")?, row.get("artifact_uri")?))).transpose()
}

/// Logged models with everything, in the order of the rows.
pub(crate) async fn from_rows(read: &mut impl Read, rows: Vec<Row>) -> Result<Vec<LoggedModel>> {
    let ids: Vec<String> = rows.iter().map(|row| row.get("model_id")).collect::<Result<_>>()?;
    let select = "SELECT model_id, key, value FROM logged_model_params WHERE model_id IN ";
    let mut params = rows_by_id(read, select, " ORDER BY key", "model_id", &ids).await?;
    let select = "SELECT model_id, key, value FROM logged_model_tags WHERE model_id IN ";
    let mut tags = rows_by_id(read, select, " ORDER BY key", "model_id", &ids).await?;
    let mut metrics = metrics::of_models(read, &ids).await?;
    rows.into_iter()
        .zip(ids)
        .map(|(row, id)| {
            let data = LoggedModelData {
                params: pairs(params.remove(&id))?,
                metrics: metrics.remove(&id).unwrap_or_default(),
            };
            let info = LoggedModelInfo {
                tags: pairs(tags.remove(&id))?,
                model_id: id,
                experiment_id: row.get::<i64>("experiment_id")?.to_string(),
                name: row.get("name")?,
                creation_timestamp_ms: row.get("creation_time")?,
                last_updated_timestamp_ms: row.get("last_updated_time")?,
                artifact_uri: row.get("artifact_uri")?,
                status: row.get("status")?,
                model_type: row.get("model_type")?,
                source_run_id: row.get("source_run_id")?,
            };
            Ok(LoggedModel { info, data })
        })
        .collect()
}

/// Sets the status; tells whether there is such a model.
pub(crate) async fn set_status(tx: &mut Tx, model_id: &str, status: &str, now_ms: i64) -> Result<bool> {
    let sql =
        "UPDATE logged_models SET status = $2, last_updated_time = $3 WHERE model_id = $1 AND lifecycle_stage = $4";
    Ok(tx.execute(sql, args![model_id, status, now_ms, ACTIVE]).await? > 0)
}

/// Deletes a logged model; tells whether there ever was one.
pub(crate) async fn delete(tx: &mut Tx, model_id: &str, now_ms: i64) -> Result<bool> {
    let sql = "UPDATE logged_models SET lifecycle_stage = $2, last_updated_time = $3 \
               WHERE model_id = $1";
    Ok(tx.execute(sql, args![model_id, DELETED, now_ms]).await? > 0)
}

/// Logs parameters. They are written once: a key that is there already is an error.
pub(crate) async fn log_params(tx: &mut Tx, model_id: &str, params: &[Pair]) -> Result<()> {
    let params = last_of_each(params);
    let rows = params.iter().map(|param| args![model_id, &param.key, &param.value]);
    let insert = "INSERT INTO logged_model_params(model_id, key, value)";
    let written = tx.bulk(insert, "ON CONFLICT DO NOTHING", rows).await?;
    if written == params.len() as u64 {
        return Ok(());
    }
    let keys: Vec<&str> = params.iter().map(|param| param.key.as_str()).collect();
    Err(Error::invalid(format!(
        "Changing param values is not allowed: one of {} was already logged for the model '{model_id}'",
        keys.join(", ")
    )))
}

/// Sets tags.
pub(crate) async fn set_tags(tx: &mut Tx, model_id: &str, tags: &[Pair]) -> Result<()> {
    let rows = last_of_each(tags).into_iter().map(|tag| args![model_id, &tag.key, &tag.value]);
    let suffix = "ON CONFLICT (model_id, key) DO UPDATE SET value = excluded.value";
    tx.bulk("INSERT INTO logged_model_tags(model_id, key, value)", suffix, rows).await.map(drop)
}

/// Deletes a tag; tells whether there was one.
pub(crate) async fn delete_tag(tx: &mut Tx, model_id: &str, key: &str) -> Result<bool> {
    Ok(tx.execute("DELETE FROM logged_model_tags WHERE model_id = $1 AND key = $2", args![model_id, key]).await? > 0)
}
