//! What was copied from other servers: written as it was there, with its ids, times and users.

use fishy_core::{Error, ErrorCode, Result};
use fishy_db::{Batch, Engine, Tx, args};

use super::{Read, inputs, last_of_each, logged_models, metrics, runs};
use crate::domain::metric::{MetricValue, Point};
use crate::domain::names;
use crate::domain::records::{DELETED, Experiment, LoggedModel, ModelVersion, Pair, RegisteredModel, Run, RunInfo};

/// What is known of one copy.
#[derive(Debug)]
pub(crate) struct Known {
    /// Its id here.
    pub target_id: String,
    /// The digest of what was copied last; empty until all of it is here.
    pub digest: String,
}

/// The copy of a thing of a server, if there is one.
pub(crate) async fn known(read: &mut impl Read, source: &str, kind: &str, source_id: &str) -> Result<Option<Known>> {
    let sql = "SELECT target_id, digest FROM imports WHERE source = $1 AND kind = $2 AND source_id = $3";
    let row = read.row(sql, args![source, kind, source_id]).await?;
    row.map(|row| Ok(Known { target_id: row.get("target_id")?, digest: row.get("digest")? })).transpose()
}

/// Notes a copy. With an empty digest it is one that is not whole yet.
pub(crate) async fn remember(
    tx: &mut Tx,
    (source, kind, source_id): (&str, &str, &str),
    target_id: &str,
    digest: &str,
    now_ms: i64,
) -> Result<()> {
    let sql = "INSERT INTO imports(source, kind, source_id, target_id, digest, time_ms) VALUES ($1, $2, $3, $4, $5, $6) \
               ON CONFLICT (source, kind, source_id) DO UPDATE SET target_id = excluded.target_id, \
               digest = excluded.digest, time_ms = excluded.time_ms";
    tx.execute(sql, args![source, kind, source_id, target_id, digest, now_ms]).await.map(drop)
}

/// Where things of each kind are.
const TABLES: [(&str, &str); 5] = [
    ("experiment", "experiments e ON CAST(e.id AS TEXT) = i.target_id"),
    ("logged_model", "logged_models e ON e.model_id = i.target_id"),
    ("run", "runs e ON e.run_id = i.target_id"),
    ("model", "registered_models e ON e.name = i.target_id"),
    ("version", "model_versions e ON e.name || '/' || CAST(e.version AS TEXT) = i.target_id"),
];

/// How many whole copies of each kind from a server are here.
pub(crate) async fn counts(read: &mut impl Read, source: &str) -> Result<Vec<(&'static str, i64)>> {
    let mut counts = Vec::new();
    for (kind, table) in TABLES {
        let sql = format!(
            "SELECT COUNT(*) AS n FROM imports i JOIN {table} WHERE i.source = $1 AND i.kind = $2 AND i.digest <> ''"
        );
        let row = read.row(&sql, args![source, kind]).await?;
        counts.push((kind, row.map(|row| row.get("n")).transpose()?.unwrap_or(0)));
    }
    Ok(counts)
}

/// Writes an experiment: over its copy where there is one, else under its own number if that is free, else under
/// another. Gives its number.
pub(crate) async fn experiment(tx: &mut Tx, engine: Engine, copy: Option<i64>, wanted: &Experiment) -> Result<i64> {
    let own = names::experiment_id(&wanted.experiment_id).ok();
    let before = match (copy, own) {
        // Every server has an experiment 0 from its start: they are one.
        (None, Some(0)) => Some(0),
        (copy, _) => copy,
    };
    let id = match (before, own) {
        (Some(id), _) => id,
        (None, Some(own)) if tx.query_opt("SELECT id FROM experiments WHERE id = $1", args![own]).await?.is_none() => {
            let sql = "INSERT INTO experiments(id, name, artifact_location, lifecycle_stage, creation_time, \
                       last_update_time) VALUES ($1, $2, $3, $4, 0, 0)";
            let location = crate::domain::artifact::uri(&own.to_string());
            tx.execute(sql, args![own, &wanted.name, location, DELETED]).await.map_err(|e| name_taken(e, wanted))?;
            if engine == Engine::Postgres {
                // Numbers that are given later must not be this one.
                let sql = "SELECT setval(pg_get_serial_sequence('experiments', 'id'), \
                           GREATEST($1, nextval(pg_get_serial_sequence('experiments', 'id'))))";
                tx.query(sql, args![own]).await?;
            }
            own
        }
        (None, _) => super::experiments::create(tx, &wanted.name, None, &[], 0)
            .await
            .map_err(|error| name_taken(error, wanted))?,
    };
    let sql = "UPDATE experiments SET name = $2, lifecycle_stage = $3, creation_time = $4, last_update_time = $5 \
               WHERE id = $1";
    let args = args![id, &wanted.name, &wanted.lifecycle_stage, wanted.creation_time, wanted.last_update_time];
    tx.execute(sql, args).await.map_err(|error| name_taken(error, wanted))?;
    tx.execute("DELETE FROM experiment_tags WHERE experiment_id = $1", args![id]).await?;
    super::experiments::set_tags(tx, id, &wanted.tags).await?;
    Ok(id)
}

fn name_taken(error: Error, experiment: &Experiment) -> Error {
    match error.code() {
        ErrorCode::AlreadyExists => Error::already_exists(format!(
            "an experiment named {:?} is here already, and does not come from that server: rename one of them",
            experiment.name
        )),
        _ => error,
    }
}

/// Writes a run without its history. Links to logged models that are not here are left out.
pub(crate) async fn run(tx: &mut Tx, run: &Run, experiment_id: i64, now_ms: i64) -> Result<()> {
    let RunInfo { run_id, run_name, user_id, status, start_time, end_time, artifact_uri, lifecycle_stage, .. } =
        &run.info;
    let deleted_time = (lifecycle_stage == DELETED).then_some(now_ms);
    let sql = "INSERT INTO runs(run_id, experiment_id, name, user_id, status, start_time, end_time, artifact_uri, \
               lifecycle_stage, deleted_time) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) \
               ON CONFLICT (run_id) DO UPDATE SET name = excluded.name, user_id = excluded.user_id, \
               status = excluded.status, start_time = excluded.start_time, end_time = excluded.end_time, \
               lifecycle_stage = excluded.lifecycle_stage, deleted_time = excluded.deleted_time";
    let start_time = start_time.unwrap_or(0);
    let args = args![
        run_id,
        experiment_id,
        run_name,
        user_id,
        status,
        start_time,
        *end_time,
        artifact_uri,
        lifecycle_stage,
        deleted_time
    ];
    tx.execute(sql, args).await?;
    for table in ["params", "run_tags", "run_dataset_tags", "run_datasets", "run_models"] {
        tx.execute(&format!("DELETE FROM {table} WHERE run_id = $1"), args![run_id]).await?;
    }
    runs::log_params(tx, run_id, &run.data.params).await?;
    runs::set_tags(tx, run_id, &run.data.tags).await?;
    inputs::log_datasets(tx, &experiment_id.to_string(), run_id, &run.inputs.dataset_inputs).await?;
    let models = run.inputs.model_inputs.iter().map(|input| (input.model_id.clone(), 0)).collect();
    log_known_models(tx, run_id, inputs::Role::Input, models).await?;
    let models = run.outputs.model_outputs.iter().map(|output| (output.model_id.clone(), output.step)).collect();
    log_known_models(tx, run_id, inputs::Role::Output, models).await
}

async fn log_known_models(tx: &mut Tx, run_id: &str, role: inputs::Role, models: Vec<(String, i64)>) -> Result<()> {
    let ids: Vec<&str> = models.iter().map(|(id, _)| id.as_str()).collect();
    let known = logged_models::existing(tx, &ids).await?;
    let models: Vec<_> = models.into_iter().filter(|(id, _)| known.contains(id)).collect();
    inputs::log_models(tx, run_id, role, &models).await
}

/// Writes a logged model with its measurements.
pub(crate) async fn logged_model(tx: &mut Tx, model: &LoggedModel, experiment_id: i64) -> Result<()> {
    let info = &model.info;
    let sql = "INSERT INTO logged_models(model_id, experiment_id, name, artifact_uri, status, model_type, \
               source_run_id, creation_time, last_updated_time, lifecycle_stage) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 'active') ON CONFLICT (model_id) DO UPDATE SET \
               name = excluded.name, status = excluded.status, model_type = excluded.model_type, \
               source_run_id = excluded.source_run_id, last_updated_time = excluded.last_updated_time, \
               lifecycle_stage = excluded.lifecycle_stage";
    let args = args![
        &info.model_id,
        experiment_id,
        &info.name,
        &info.artifact_uri,
        &info.status,
        info.model_type.as_ref(),
        info.source_run_id.as_ref(),
        info.creation_timestamp_ms,
        info.last_updated_timestamp_ms
    ];
    tx.execute(sql, args).await?;
    for table in ["logged_model_params", "logged_model_tags", "logged_model_metrics"] {
        tx.execute(&format!("DELETE FROM {table} WHERE model_id = $1"), args![&info.model_id]).await?;
    }
    logged_models::log_params(tx, &info.model_id, &model.data.params).await?;
    logged_models::set_tags(tx, &info.model_id, &info.tags).await?;
    let rows = model.data.metrics.iter().map(|metric| {
        let (value, is_nan) = MetricValue::stored(metric.value);
        let (name, digest) = (metric.dataset_name.as_ref(), metric.dataset_digest.as_ref());
        let run_id = metric.run_id.as_deref().unwrap_or("");
        args![&info.model_id, &metric.key, metric.timestamp, metric.step, run_id, value, is_nan, name, digest]
    });
    let insert = "INSERT INTO logged_model_metrics(model_id, key, timestamp, step, run_id, value, is_nan, \
                  dataset_name, dataset_digest)";
    tx.bulk(insert, "ON CONFLICT DO NOTHING", rows).await.map(drop)
}

/// Adds to the history of a run.
pub(crate) async fn points(tx: &mut Tx, run_id: &str, points: &[Point]) -> Result<()> {
    let mut batch = Batch::new();
    metrics::add_to_history(&mut batch, run_id, points);
    metrics::log_latest(&mut batch, run_id, points);
    tx.apply(batch).await.map(drop)
}

/// How long the history of a run is.
pub(crate) async fn point_count(read: &mut impl Read, run_id: &str) -> Result<i64> {
    let row = read.row("SELECT COUNT(*) AS n FROM metrics WHERE run_id = $1", args![run_id]).await?;
    Ok(row.map(|row| row.get("n")).transpose()?.unwrap_or(0))
}

/// Writes a registered model without versions and aliases.
pub(crate) async fn model(tx: &mut Tx, model: &RegisteredModel) -> Result<()> {
    let RegisteredModel { name, description, user_id, creation_timestamp, last_updated_timestamp, .. } = model;
    let sql = "INSERT INTO registered_models(name, description, user_id, creation_time, last_updated_time, last_version) \
               VALUES ($1, $2, $3, $4, $5, 0) ON CONFLICT (name) DO UPDATE SET description = excluded.description, \
               user_id = excluded.user_id, creation_time = excluded.creation_time, \
               last_updated_time = excluded.last_updated_time";
    tx.execute(sql, args![name, description.as_ref(), user_id, *creation_timestamp, *last_updated_timestamp]).await?;
    tx.execute("DELETE FROM registered_model_tags WHERE name = $1", args![name]).await?;
    let rows = rows_of(name, None, &model.tags);
    tx.bulk("INSERT INTO registered_model_tags(name, key, value)", "", rows).await.map(drop)
}

/// Writes a version under its own number. What it was made from does not change once it is here.
pub(crate) async fn version(tx: &mut Tx, version: &ModelVersion) -> Result<()> {
    let number = names::version_number(&version.version)?;
    let sql = "INSERT INTO model_versions(name, version, stage, description, user_id, source, artifact_path, run_id, \
               run_link, model_id, creation_time, last_updated_time) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT (name, version) DO UPDATE SET \
               stage = excluded.stage, description = excluded.description, user_id = excluded.user_id, \
               run_link = excluded.run_link, last_updated_time = excluded.last_updated_time";
    let args = args![
        &version.name,
        number,
        &version.current_stage,
        version.description.as_ref(),
        &version.user_id,
        &version.source,
        &version.artifact_path,
        version.run_id.as_ref(),
        version.run_link.as_ref(),
        version.model_id.as_ref(),
        version.creation_timestamp,
        version.last_updated_timestamp
    ];
    tx.execute(sql, args).await?;
    let sql = "UPDATE registered_models SET last_version = $2 WHERE name = $1 AND last_version < $2";
    tx.execute(sql, args![&version.name, number]).await?;
    let sql = "DELETE FROM model_version_tags WHERE name = $1 AND version = $2";
    tx.execute(sql, args![&version.name, number]).await?;
    let rows = rows_of(&version.name, Some(number), &version.tags);
    tx.bulk("INSERT INTO model_version_tags(name, version, key, value)", "", rows).await.map(drop)
}

fn rows_of(name: &str, version: Option<i64>, tags: &[Pair]) -> Vec<Vec<fishy_db::Value>> {
    let row = |tag: &Pair| match version {
        Some(version) => args![name, version, &tag.key, &tag.value],
        None => args![name, &tag.key, &tag.value],
    };
    last_of_each(tags).into_iter().map(row).collect()
}
