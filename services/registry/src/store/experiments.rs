//! Experiments.

use fishy_core::{Error, ErrorCode, Result};
use fishy_db::{Engine, Row, Tx, args};

use super::{Read, last_of_each, pairs, rows_by_id};
use crate::domain::artifact;
use crate::domain::records::{ACTIVE, DELETED, Experiment, Pair};

const COLUMNS: &str = "id, name, artifact_location, lifecycle_stage, creation_time, last_update_time";

/// Makes sure that the experiment `0` exists: runs without an experiment belong to it.
pub(crate) async fn ensure_default(tx: &mut Tx, now_ms: i64) -> Result<()> {
    let sql = "INSERT INTO experiments(id, name, artifact_location, lifecycle_stage, creation_time, last_update_time) \
               VALUES (0, 'Default', $1, $2, $3, $3) ON CONFLICT DO NOTHING";
    tx.execute(sql, args![artifact::uri("0"), ACTIVE, now_ms]).await.map(drop)
}

/// Lets the numbers of new experiments begin after `base`, where they have not got that far.
pub(crate) async fn begin_at(tx: &mut Tx, engine: Engine, base: i64) -> Result<()> {
    match engine {
        Engine::Sqlite => {
            tx.execute("DELETE FROM sqlite_sequence WHERE name = 'experiments' AND seq < $1", args![base]).await?;
            let sql = "INSERT INTO sqlite_sequence(name, seq) SELECT 'experiments', $1 \
                       WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'experiments')";
            tx.execute(sql, args![base]).await.map(drop)
        }
        Engine::Postgres => {
            let sql = "SELECT setval(pg_get_serial_sequence('experiments', 'id'), \
                       GREATEST($1, nextval(pg_get_serial_sequence('experiments', 'id'))))";
            tx.query(sql, args![base]).await.map(drop)
        }
    }
}

/// Makes an experiment; its artifacts lie below its id unless a location is given.
pub(crate) async fn create(tx: &mut Tx, name: &str, location: Option<&str>, tags: &[Pair], now_ms: i64) -> Result<i64> {
    let sql = "INSERT INTO experiments(name, artifact_location, lifecycle_stage, creation_time, last_update_time) \
               VALUES ($1, $2, $3, $4, $4) RETURNING id";
    let row = tx.query_opt(sql, args![name, location.unwrap_or(""), ACTIVE, now_ms]).await;
    let row = row.map_err(|error| match error.code() {
        ErrorCode::AlreadyExists => Error::already_exists(format!("Experiment(name={name}) already exists.")),
        _ => error,
    })?;
    let id: i64 = row.ok_or_else(|| Error::internal("an insert gave no id"))?.get("id")?;
    if location.is_none() {
        let sql = "UPDATE experiments SET artifact_location = $2 WHERE id = $1";
        tx.execute(sql, args![id, artifact::uri(&id.to_string())]).await?;
    }
    set_tags(tx, id, tags).await?;
    Ok(id)
}

/// One experiment, deleted or not.
pub(crate) async fn get(read: &mut impl Read, id: i64) -> Result<Option<Experiment>> {
    let row = read.row(&format!("SELECT {COLUMNS} FROM experiments WHERE id = $1"), args![id]).await?;
    one(read, row).await
}

/// The experiment of a name, deleted or not.
pub(crate) async fn by_name(read: &mut impl Read, name: &str) -> Result<Option<Experiment>> {
    let row = read.row(&format!("SELECT {COLUMNS} FROM experiments WHERE name = $1"), args![name]).await?;
    one(read, row).await
}

async fn one(read: &mut impl Read, row: Option<Row>) -> Result<Option<Experiment>> {
    let Some(row) = row else { return Ok(None) };
    Ok(from_rows(read, vec![row]).await?.pop())
}

/// Experiments with their tags, in the order of the rows.
pub(crate) async fn from_rows(read: &mut impl Read, rows: Vec<Row>) -> Result<Vec<Experiment>> {
    let ids: Vec<i64> = rows.iter().map(|row| row.get("id")).collect::<Result<_>>()?;
    let texts: Vec<String> = ids.iter().map(ToString::to_string).collect();
    // The column is a number: its text is compared, as ids are texts everywhere else.
    let mut tags = if let [id] = ids[..] {
        let rows = read.rows("SELECT key, value FROM experiment_tags WHERE experiment_id = $1 ORDER BY key", args![id]);
        [(id.to_string(), rows.await?)].into()
    } else {
        let select = "SELECT CAST(experiment_id AS TEXT) AS id, key, value FROM experiment_tags \
                      WHERE CAST(experiment_id AS TEXT) IN ";
        rows_by_id(read, select, " ORDER BY key", "id", &texts).await?
    };
    rows.into_iter()
        .zip(texts)
        .map(|(row, id)| {
            Ok(Experiment {
                tags: pairs(tags.remove(&id))?,
                experiment_id: id,
                name: row.get("name")?,
                artifact_location: row.get("artifact_location")?,
                lifecycle_stage: row.get("lifecycle_stage")?,
                creation_time: row.get("creation_time")?,
                last_update_time: row.get("last_update_time")?,
                workspace: String::new(),
            })
        })
        .collect()
}

/// Deletes or restores an experiment together with its runs.
pub(crate) async fn set_deleted(tx: &mut Tx, id: i64, is_deleted: bool, now_ms: i64) -> Result<()> {
    let stage = if is_deleted { DELETED } else { ACTIVE };
    let sql = "UPDATE experiments SET lifecycle_stage = $2, last_update_time = $3 WHERE id = $1";
    tx.execute(sql, args![id, stage, now_ms]).await?;
    let deleted_time = is_deleted.then_some(now_ms);
    let sql =
        "UPDATE runs SET lifecycle_stage = $2, deleted_time = $3 WHERE experiment_id = $1 AND lifecycle_stage <> $2";
    tx.execute(sql, args![id, stage, deleted_time]).await.map(drop)
}

/// Gives an experiment another name.
pub(crate) async fn rename(tx: &mut Tx, id: i64, name: &str, now_ms: i64) -> Result<()> {
    let sql = "UPDATE experiments SET name = $2, last_update_time = $3 WHERE id = $1";
    tx.execute(sql, args![id, name, now_ms]).await.map(drop).map_err(|error| match error.code() {
        ErrorCode::AlreadyExists => Error::already_exists(format!("Experiment(name={name}) already exists.")),
        _ => error,
    })
}

/// Sets tags.
pub(crate) async fn set_tags(tx: &mut Tx, id: i64, tags: &[Pair]) -> Result<()> {
    let rows = last_of_each(tags).into_iter().map(|tag| args![id, &tag.key, &tag.value]);
    let suffix = "ON CONFLICT (experiment_id, key) DO UPDATE SET value = excluded.value";
    tx.bulk("INSERT INTO experiment_tags(experiment_id, key, value)", suffix, rows).await.map(drop)
}

/// Deletes a tag; tells whether there was one.
pub(crate) async fn delete_tag(tx: &mut Tx, id: i64, key: &str) -> Result<bool> {
    let sql = "DELETE FROM experiment_tags WHERE experiment_id = $1 AND key = $2";
    Ok(tx.execute(sql, args![id, key]).await? > 0)
}
