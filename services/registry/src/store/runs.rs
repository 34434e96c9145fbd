//! Runs, their tags and parameters.

use fishy_core::{Error, Result};
use fishy_db::{Batch, Row, Tx, args};

use super::{Read, inputs, last_of_each, metrics, pair, pairs, rows_by_id};
use crate::domain::records::{ACTIVE, DELETED, Pair, Run, RunData, RunInfo};

/// The tag that is the name of a run.
pub(crate) const NAME_TAG: &str = "mlflow.runName";

/// The columns of a run in a statement that calls it `r`.
pub(crate) const COLUMNS: &str = "r.run_id, r.experiment_id, r.name, r.user_id, r.status, r.start_time, r.end_time, \
                                  r.artifact_uri, r.lifecycle_stage";

/// Writes a new run, unless its experiment is not active by then: its tags, of which there is one at least, make the
/// transaction fail in that case.
pub(crate) fn create(batch: &mut Batch, info: &RunInfo, experiment_id: i64, tags: &[Pair]) {
    let sql = "INSERT INTO runs(run_id, experiment_id, name, user_id, status, start_time, end_time, artifact_uri, \
               lifecycle_stage) SELECT $1, id, $3, $4, $5, $6, $7, $8, $9 FROM experiments \
               WHERE id = $2 AND lifecycle_stage = $9";
    let args = args![
        &info.run_id,
        experiment_id,
        &info.run_name,
        &info.user_id,
        &info.status,
        info.start_time.unwrap_or(0),
        info.end_time,
        &info.artifact_uri,
        ACTIVE
    ];
    batch.execute(sql, args);
    write_tags(batch, &info.run_id, &last_of_each(tags));
}

fn write_tags(batch: &mut Batch, run_id: &str, tags: &[&Pair]) {
    let rows = tags.iter().map(|tag| args![run_id, &tag.key, &tag.value]);
    let suffix = "ON CONFLICT (run_id, key) DO UPDATE SET value = excluded.value";
    batch.bulk("INSERT INTO run_tags(run_id, key, value)", suffix, rows);
}

/// What a run is.
pub(crate) async fn info(read: &mut impl Read, run_id: &str) -> Result<Option<RunInfo>> {
    let sql = format!("SELECT {COLUMNS} FROM runs r WHERE r.run_id = $1");
    read.row(&sql, args![run_id]).await?.as_ref().map(info_of).transpose()
}

/// A run with everything.
pub(crate) async fn get(read: &mut impl Read, run_id: &str) -> Result<Option<Run>> {
    let sql = format!("SELECT {COLUMNS} FROM runs r WHERE r.run_id = $1");
    let Some(row) = read.row(&sql, args![run_id]).await? else { return Ok(None) };
    Ok(from_rows(read, vec![row]).await?.pop())
}

fn info_of(row: &Row) -> Result<RunInfo> {
    let run_id: String = row.get("run_id")?;
    Ok(RunInfo {
        run_uuid: run_id.clone(),
        run_id,
        run_name: row.get("name")?,
        experiment_id: row.get::<i64>("experiment_id")?.to_string(),
        user_id: row.get("user_id")?,
        status: row.get("status")?,
        start_time: row.get("start_time")?,
        end_time: row.get("end_time")?,
        artifact_uri: row.get("artifact_uri")?,
        lifecycle_stage: row.get("lifecycle_stage")?,
    })
}

/// Runs with everything, in the order of the rows: a handful of statements for all of them together.
pub(crate) async fn from_rows(read: &mut impl Read, rows: Vec<Row>) -> Result<Vec<Run>> {
    let infos: Vec<RunInfo> = rows.iter().map(info_of).collect::<Result<_>>()?;
    let ids: Vec<String> = infos.iter().map(|info| info.run_id.clone()).collect();
    let mut metrics = metrics::latest(read, &ids).await?;
    let select = "SELECT run_id, key, value FROM params WHERE run_id IN ";
    let mut params = rows_by_id(read, select, " ORDER BY run_id, key", "run_id", &ids).await?;
    let select = "SELECT run_id, key, value FROM run_tags WHERE run_id IN ";
    let mut tags = rows_by_id(read, select, " ORDER BY run_id, key", "run_id", &ids).await?;
    let mut links = inputs::of_runs(read, &ids).await?;
    infos
        .into_iter()
        .map(|info| {
            let id = info.run_id.clone();
            let data = RunData {
                metrics: metrics.remove(&id).unwrap_or_default(),
                params: pairs(params.remove(&id))?,
                tags: pairs(tags.remove(&id))?,
            };
            let (inputs, outputs) = links.remove(&id).unwrap_or_default();
            Ok(Run { info, data, inputs, outputs })
        })
        .collect()
}

/// Changes what is given.
pub(crate) async fn update(
    tx: &mut Tx,
    run_id: &str,
    status: Option<&str>,
    end_time: Option<i64>,
    name: Option<&str>,
) -> Result<()> {
    let sql = "UPDATE runs SET status = COALESCE($2, status), end_time = COALESCE($3, end_time), \
               name = COALESCE($4, name) WHERE run_id = $1";
    tx.execute(sql, args![run_id, status, end_time, name]).await?;
    if let Some(name) = name {
        let sql = "INSERT INTO run_tags(run_id, key, value) VALUES ($1, $2, $3) \
                   ON CONFLICT (run_id, key) DO UPDATE SET value = excluded.value";
        tx.execute(sql, args![run_id, NAME_TAG, name]).await?;
    }
    Ok(())
}

/// Deletes or restores a run.
pub(crate) async fn set_deleted(tx: &mut Tx, run_id: &str, is_deleted: bool, now_ms: i64) -> Result<bool> {
    let stage = if is_deleted { DELETED } else { ACTIVE };
    let sql = "UPDATE runs SET lifecycle_stage = $2, deleted_time = $3 WHERE run_id = $1";
    Ok(tx.execute(sql, args![run_id, stage, is_deleted.then_some(now_ms)]).await? > 0)
}

/// Sets tags; the run's name follows its tag.
pub(crate) fn log_tags(batch: &mut Batch, run_id: &str, tags: &[Pair]) {
    let tags = last_of_each(tags);
    write_tags(batch, run_id, &tags);
    if let Some(name) = tags.iter().find(|tag| tag.key == NAME_TAG) {
        batch.execute("UPDATE runs SET name = $2 WHERE run_id = $1", args![run_id, &name.value]);
    }
}

/// The same in a transaction.
pub(crate) async fn set_tags(tx: &mut Tx, run_id: &str, tags: &[Pair]) -> Result<()> {
    let mut batch = Batch::new();
    log_tags(&mut batch, run_id, tags);
    tx.apply(batch).await.map(drop)
}

/// Deletes a tag; tells whether there was one.
pub(crate) async fn delete_tag(tx: &mut Tx, run_id: &str, key: &str) -> Result<bool> {
    Ok(tx.execute("DELETE FROM run_tags WHERE run_id = $1 AND key = $2", args![run_id, key]).await? > 0)
}

/// Logs parameters. They are written once: the same value again changes nothing, another one is an error.
pub(crate) async fn log_params(tx: &mut Tx, run_id: &str, params: &[Pair]) -> Result<()> {
    let rows = params.iter().map(|param| args![run_id, &param.key, &param.value]);
    let suffix = "ON CONFLICT DO NOTHING";
    let written = tx.bulk("INSERT INTO params(run_id, key, value)", suffix, rows).await?;
    if written == params.len() as u64 {
        return Ok(());
    }
    let mut sql = super::Sql::new("SELECT key, value FROM params WHERE run_id = ");
    let place = sql.arg(run_id);
    sql.push(&place);
    let list = sql.list(params.iter().map(|param| &param.key));
    sql.push(" AND key IN ");
    sql.push(&list);
    let known: Vec<Pair> = tx.query(&sql.text, sql.args).await?.iter().map(pair).collect::<Result<_>>()?;
    for Pair { key, value } in params {
        if let Some(before) = known.iter().find(|known| known.key == *key && known.value != *value) {
            return Err(Error::invalid(format!(
                "Changing param values is not allowed. Param with key='{key}' was already logged with value='{}' for run ID='{run_id}'. Attempted logging new value '{value}'.",
                before.value
            )));
        }
    }
    Ok(())
}
