//! Deletion for good: what can go, what keeps it, and its going.

use fishy_core::Result;
use fishy_db::{Tx, args};

use super::{IDS_IN_ONE_LIST, Read, artifacts, models};
use crate::domain::artifact;
use crate::domain::records::DELETED;

/// Something that was deleted.
#[derive(Debug, Clone)]
pub(crate) struct Candidate {
    pub id: String,
    pub experiment_id: i64,
    pub artifact_uri: String,
    /// The run that made a logged model.
    pub source_run_id: Option<String>,
}

/// Logged models that were deleted before a time, alone or with their experiment, after an id.
pub(crate) async fn logged_models(
    read: &mut impl Read,
    before_ms: i64,
    after: &str,
    limit: i64,
) -> Result<Vec<Candidate>> {
    let sql = "SELECT m.model_id AS id, m.experiment_id, m.artifact_uri, m.source_run_id FROM logged_models m \
               JOIN experiments e ON e.id = m.experiment_id WHERE m.model_id > $3 \
               AND ((m.lifecycle_stage = $1 AND m.last_updated_time <= $2) \
               OR (e.lifecycle_stage = $1 AND e.last_update_time <= $2)) ORDER BY m.model_id LIMIT $4";
    candidates(read, sql, before_ms, after, limit).await
}

/// Runs that were deleted before a time, after an id.
pub(crate) async fn runs(read: &mut impl Read, before_ms: i64, after: &str, limit: i64) -> Result<Vec<Candidate>> {
    let sql = "SELECT run_id AS id, experiment_id, artifact_uri, CAST(NULL AS TEXT) AS source_run_id FROM runs \
               WHERE run_id > $3 AND lifecycle_stage = $1 AND COALESCE(deleted_time, 0) <= $2 \
               ORDER BY run_id LIMIT $4";
    candidates(read, sql, before_ms, after, limit).await
}

/// Experiments that were deleted before a time, after an id.
pub(crate) async fn experiments(
    read: &mut impl Read,
    before_ms: i64,
    after: i64,
    limit: i64,
) -> Result<Vec<Candidate>> {
    let sql = "SELECT CAST(id AS TEXT) AS id, id AS experiment_id, artifact_location AS artifact_uri, \
               CAST(NULL AS TEXT) AS source_run_id FROM experiments \
               WHERE id > $3 AND lifecycle_stage = $1 AND last_update_time <= $2 ORDER BY experiments.id LIMIT $4";
    collect(read, sql, args![DELETED, before_ms, after, limit]).await
}

/// All logged models of an experiment.
pub(crate) async fn logged_models_of(read: &mut impl Read, experiment_id: i64) -> Result<Vec<Candidate>> {
    let sql = "SELECT model_id AS id, experiment_id, artifact_uri, source_run_id FROM logged_models \
               WHERE experiment_id = $1";
    collect(read, sql, args![experiment_id]).await
}

/// All runs of an experiment.
pub(crate) async fn runs_of(read: &mut impl Read, experiment_id: i64) -> Result<Vec<Candidate>> {
    let sql = "SELECT run_id AS id, experiment_id, artifact_uri, CAST(NULL AS TEXT) AS source_run_id FROM runs \
               WHERE experiment_id = $1";
    collect(read, sql, args![experiment_id]).await
}

async fn candidates(
    read: &mut impl Read,
    sql: &str,
    before_ms: i64,
    after: &str,
    limit: i64,
) -> Result<Vec<Candidate>> {
    collect(read, sql, args![DELETED, before_ms, after, limit]).await
}

async fn collect(read: &mut impl Read, sql: &str, args: Vec<fishy_db::Value>) -> Result<Vec<Candidate>> {
    let rows = read.rows(sql, args).await?;
    rows.iter()
        .map(|row| {
            Ok(Candidate {
                id: row.get("id")?,
                experiment_id: row.get("experiment_id")?,
                artifact_uri: row.get("artifact_uri")?,
                source_run_id: row.get("source_run_id")?,
            })
        })
        .collect()
}

/// Locks a run that is deleted; nobody can restore or register it before the transaction ends. False when it is not
/// deleted any more.
pub(crate) async fn lock_run(tx: &mut Tx, id: &str) -> Result<bool> {
    let sql = "UPDATE runs SET lifecycle_stage = lifecycle_stage WHERE run_id = $1 AND lifecycle_stage = $2";
    Ok(tx.execute(sql, args![id, DELETED]).await? > 0)
}

/// The same for a logged model that is deleted, alone or with its experiment.
pub(crate) async fn lock_logged_model(tx: &mut Tx, id: &str) -> Result<bool> {
    let sql = "UPDATE logged_models SET lifecycle_stage = $2 WHERE model_id = $1 AND (lifecycle_stage = $2 \
               OR experiment_id IN (SELECT id FROM experiments WHERE lifecycle_stage = $2))";
    Ok(tx.execute(sql, args![id, DELETED]).await? > 0)
}

/// The same for an experiment.
pub(crate) async fn lock_experiment(tx: &mut Tx, id: i64) -> Result<bool> {
    let sql = "UPDATE experiments SET lifecycle_stage = lifecycle_stage WHERE id = $1 AND lifecycle_stage = $2";
    Ok(tx.execute(sql, args![id, DELETED]).await? > 0)
}

/// Locks the run or logged model that a version is made of, so that it cannot be deleted for good in between; false when
/// it is gone.
pub(crate) async fn lock_origin(tx: &mut Tx, run_id: Option<&str>, model_id: Option<&str>) -> Result<bool> {
    let mut is_there = true;
    if let Some(id) = run_id {
        let sql = "UPDATE runs SET lifecycle_stage = lifecycle_stage WHERE run_id = $1";
        is_there &= tx.execute(sql, args![id]).await? > 0;
    }
    if let Some(id) = model_id {
        let sql = "UPDATE logged_models SET lifecycle_stage = lifecycle_stage WHERE model_id = $1";
        is_there &= tx.execute(sql, args![id]).await? > 0;
    }
    Ok(is_there)
}

/// A version that was made of this run or logged model, or whose files are in its folder.
pub(crate) async fn version_of(read: &mut impl Read, id: &str, root: Option<&str>) -> Result<Option<(String, i64)>> {
    let sql =
        "SELECT name, version FROM model_versions WHERE run_id = $1 OR model_id = $1 ORDER BY name, version LIMIT 1";
    if let Some(row) = read.row(sql, args![id]).await? {
        return Ok(Some((row.get("name")?, row.get("version")?)));
    }
    let Some(root) = root else { return Ok(None) };
    let (files, folders) = artifacts::list_all(read, root).await?;
    let below = folders.iter().map(String::as_str).chain(files.iter().map(|file| file.path.as_str()));
    let paths: Vec<&str> = std::iter::once(root).chain(below).collect();
    for paths in paths.chunks(IDS_IN_ONE_LIST) {
        if let Some(found) = models::version_at(read, paths).await? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// A logged model that a run made or measured, and that is not deleted.
pub(crate) async fn model_of_run(read: &mut impl Read, run_id: &str) -> Result<Option<String>> {
    // The two ways have an index each; together they would have none.
    let made = "SELECT m.model_id FROM logged_models m JOIN experiments e ON e.id = m.experiment_id \
                WHERE m.source_run_id = $1 AND m.lifecycle_stage <> $2 AND e.lifecycle_stage <> $2 LIMIT 1";
    let measured = "SELECT m.model_id FROM logged_model_metrics x JOIN logged_models m ON m.model_id = x.model_id \
                    JOIN experiments e ON e.id = m.experiment_id \
                    WHERE x.run_id = $1 AND m.lifecycle_stage <> $2 AND e.lifecycle_stage <> $2 LIMIT 1";
    for sql in [made, measured] {
        if let Some(row) = read.row(sql, args![run_id, DELETED]).await? {
            return row.get("model_id").map(Some);
        }
    }
    Ok(None)
}

/// A logged model of a run that is held.
pub(crate) async fn held_model_of_run(read: &mut impl Read, run_id: &str) -> Result<Option<String>> {
    let sql = "SELECT m.model_id FROM logged_models m JOIN holds h ON h.kind = 'logged_model' AND h.id = m.model_id \
               WHERE m.source_run_id = $1 LIMIT 1";
    read.row(sql, args![run_id]).await?.map(|row| row.get("model_id")).transpose()
}

/// The rows of a logged model.
pub(crate) async fn logged_model(tx: &mut Tx, id: &str) -> Result<()> {
    for table in ["run_models", "logged_model_metrics", "logged_model_params", "logged_model_tags", "logged_models"] {
        tx.execute(&format!("DELETE FROM {table} WHERE model_id = $1"), args![id]).await?;
    }
    Ok(())
}

/// The rows of a run, and the data sets that no other run used.
pub(crate) async fn run(tx: &mut Tx, id: &str) -> Result<()> {
    let used = tx.query("SELECT dataset_id FROM run_datasets WHERE run_id = $1", args![id]).await?;
    for table in
        ["run_models", "run_dataset_tags", "run_datasets", "latest_metrics", "metrics", "params", "run_tags", "runs"]
    {
        tx.execute(&format!("DELETE FROM {table} WHERE run_id = $1"), args![id]).await?;
    }
    for row in used {
        let sql = "DELETE FROM datasets WHERE dataset_id = $1 \
                   AND NOT EXISTS (SELECT 1 FROM run_datasets u WHERE u.dataset_id = $1)";
        tx.execute(sql, args![row.get::<String>("dataset_id")?]).await?;
    }
    Ok(())
}

/// The rows of an experiment without runs and logged models.
pub(crate) async fn experiment(tx: &mut Tx, id: i64) -> Result<()> {
    for sql in [
        "DELETE FROM experiment_tags WHERE experiment_id = $1",
        "DELETE FROM datasets WHERE experiment_id = $1",
        "DELETE FROM experiments WHERE id = $1",
    ] {
        tx.execute(sql, args![id]).await?;
    }
    Ok(())
}

/// How many runs and logged models an experiment has.
pub(crate) async fn inhabitants(read: &mut impl Read, id: i64) -> Result<i64> {
    let sql = "SELECT (SELECT COUNT(*) FROM runs WHERE experiment_id = $1) + \
               (SELECT COUNT(*) FROM logged_models WHERE experiment_id = $1) AS n";
    read.row(sql, args![id]).await?.map_or(Ok(0), |row| row.get("n"))
}

/// The files in a folder: how many, and how large together.
pub(crate) async fn size(read: &mut impl Read, root: &str) -> Result<(u64, u64)> {
    let (mut files, _) = artifacts::list_all(read, root).await?;
    files.extend(artifacts::get(read, root).await?);
    Ok((files.len() as u64, files.iter().map(|file| file.size_bytes as u64).sum()))
}

/// Deletes all files in a folder and the folder; their blobs become garbage. Answers how many bytes, and the blobs.
pub(crate) async fn files(tx: &mut Tx, root: &str) -> Result<(u64, Vec<String>)> {
    let (mut files, mut folders) = artifacts::list_all(tx, root).await?;
    files.extend(artifacts::get(tx, root).await?);
    folders.push(root.to_owned());
    artifacts::delete(tx, &files, &folders).await?;
    // What lies above is gone too when nothing else was in it.
    let (mut above, _) = artifact::split(root);
    while !above.is_empty() {
        let (files, folders) = artifacts::list(tx, above).await?;
        if !files.is_empty() || !folders.is_empty() {
            break;
        }
        artifacts::delete(tx, &[], &[above.to_owned()]).await?;
        above = artifact::split(above).0;
    }
    let bytes = files.iter().map(|file| file.size_bytes as u64).sum();
    Ok((bytes, files.into_iter().map(|file| file.blob).collect()))
}

/// Whether a blob has a row: that of its artifact, or one that says it is to go.
pub(crate) async fn is_known(read: &mut impl Read, blob: &str) -> Result<bool> {
    let sql =
        "SELECT 1 AS one FROM artifacts WHERE blob = $1 UNION ALL SELECT 1 FROM blob_garbage WHERE blob = $1 LIMIT 1";
    Ok(read.row(sql, args![blob]).await?.is_some())
}

/// Notes that a blob is to go.
pub(crate) async fn forsake(tx: &mut Tx, blob: &str) -> Result<()> {
    tx.execute("INSERT INTO blob_garbage(blob) VALUES ($1) ON CONFLICT DO NOTHING", args![blob]).await.map(drop)
}

/// How many blobs wait for their going.
pub(crate) async fn garbage_count(read: &mut impl Read) -> Result<u64> {
    let row = read.row("SELECT COUNT(*) AS n FROM blob_garbage", args![]).await?;
    row.map_or(Ok(0), |row| row.get::<i64>("n").map(|n| n as u64))
}
