//! Runs and what they log.

use std::collections::{BTreeMap, BTreeSet};

use fishy_core::{Error, Result};

use super::experiments::active_experiment;
use super::{Registry, check_active, invented_name};
use crate::domain::metric::{self, Point};
use crate::domain::page::{Page, PageStart};
use crate::domain::records::{ACTIVE, DatasetInput, Metric, Pair, Run, RunData, RunInfo, RunInputs, RunOutputs};
use crate::domain::{limits, names};
use crate::store::chart::{self, Span};
use crate::store::inputs::{self, Role};
use crate::store::{Read, arrivals, logged_models, metrics, runs as store};

/// A run to be made.
#[derive(Debug)]
pub(crate) struct NewRun {
    pub experiment_id: String,
    pub name: Option<String>,
    pub user_id: String,
    pub start_time: Option<i64>,
    pub tags: Vec<Pair>,
}

/// A change of a run.
#[derive(Debug)]
pub(crate) struct RunChange {
    pub status: Option<String>,
    pub end_time: Option<i64>,
    pub name: Option<String>,
}

/// What is logged at once.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub metrics: Vec<Point>,
    pub params: Vec<Pair>,
    pub tags: Vec<Pair>,
}

fn not_found(run_id: &str) -> Error {
    Error::not_found(format!("Run with id={run_id} not found"))
}

/// Checks run tags and cuts their values.
fn run_tags(tags: Vec<Pair>, path: &str) -> Result<Vec<Pair>> {
    tags.into_iter()
        .map(|tag| {
            names::check_key("tag", &format!("{path}key"), &tag.key)?;
            Ok(Pair { value: names::truncated(tag.value, limits::RUN_TAG_VALUE_CHARS), key: tag.key })
        })
        .collect()
}

fn check_count(what: &str, count: usize, limit: usize) -> Result<()> {
    if count <= limit {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "A batch logging request can contain at most {limit} {what}. Got {count} {what}. Please split up {what} across multiple requests and try again."
    )))
}

impl Registry {
    pub async fn create_run(&self, new: NewRun) -> Result<Run> {
        let number = names::experiment_id(&new.experiment_id)?;
        let mut tags = run_tags(new.tags, "tags.")?;
        let tagged_name = tags.iter().find(|tag| tag.key == store::NAME_TAG).map(|tag| tag.value.clone());
        let given_name = new.name.filter(|name| !name.is_empty());
        if let (Some(name), Some(tagged)) = (&given_name, &tagged_name)
            && name != tagged
        {
            return Err(Error::invalid(format!(
                "Both 'run_name' argument and 'mlflow.runName' tag are specified, but with different values (run_name='{name}', mlflow.runName='{tagged}')."
            )));
        }
        let run_id = self.env.new_id().replace('-', "");
        let run_name = given_name.or(tagged_name).unwrap_or_else(|| invented_name(&run_id));
        let run_name = names::truncated(run_name, limits::RUN_TAG_VALUE_CHARS);
        tags.retain(|tag| tag.key != store::NAME_TAG);
        tags.push(Pair { key: store::NAME_TAG.to_owned(), value: run_name.clone() });

        let experiment = active_experiment(&mut &self.db, &new.experiment_id).await?;
        let info = RunInfo {
            artifact_uri: format!("{}/{run_id}/artifacts", experiment.artifact_location),
            run_uuid: run_id.clone(),
            run_id,
            run_name,
            experiment_id: experiment.experiment_id,
            user_id: new.user_id,
            status: "RUNNING".to_owned(),
            start_time: Some(new.start_time.unwrap_or_else(|| self.env.now_ms())),
            end_time: None,
            lifecycle_stage: ACTIVE.to_owned(),
        };
        let mut batch = fishy_db::Batch::new();
        store::create(&mut batch, &info, number, &tags);
        if let Err(error) = self.db.write(batch).await {
            // It may have been deleted a moment ago.
            active_experiment(&mut &self.db, &info.experiment_id).await?;
            return Err(error);
        }
        let tags: BTreeMap<String, Pair> = tags.into_iter().map(|tag| (tag.key.clone(), tag)).collect();
        let data = RunData { tags: tags.into_values().collect(), ..RunData::default() };
        Ok(Run { info, data, inputs: RunInputs::default(), outputs: RunOutputs::default() })
    }

    pub async fn run(&self, run_id: &str) -> Result<Run> {
        store::get(&mut &self.db, run_id).await?.ok_or_else(|| not_found(run_id))
    }

    pub async fn run_info(&self, run_id: &str) -> Result<RunInfo> {
        store::info(&mut &self.db, run_id).await?.ok_or_else(|| not_found(run_id))
    }

    /// What a run is, which must not be deleted.
    pub async fn active_run_info(&self, run_id: &str) -> Result<RunInfo> {
        let run = self.run_info(run_id).await?;
        check_active("run", run_id, &run.lifecycle_stage)?;
        Ok(run)
    }

    pub async fn update_run(&self, run_id: &str, change: RunChange) -> Result<RunInfo> {
        const STATUSES: [&str; 5] = ["RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED"];
        if let Some(status) = &change.status
            && !STATUSES.contains(&status.as_str())
        {
            return Err(names::invalid_value("status", status, &format!("use one of {}", STATUSES.join(", "))));
        }
        let name = change.name.filter(|name| !name.is_empty());
        let name = name.map(|name| names::truncated(name, limits::RUN_TAG_VALUE_CHARS));
        let mut tx = self.db.begin().await?;
        active_run(&mut tx, run_id).await?;
        store::update(&mut tx, run_id, change.status.as_deref(), change.end_time, name.as_deref()).await?;
        let info = store::info(&mut tx, run_id).await?.ok_or_else(|| not_found(run_id))?;
        tx.commit().await?;
        Ok(info)
    }

    pub async fn set_run_deleted(&self, run_id: &str, is_deleted: bool) -> Result<()> {
        let mut tx = self.db.begin().await?;
        if !store::set_deleted(&mut tx, run_id, is_deleted, self.env.now_ms()).await? {
            return Err(not_found(run_id));
        }
        tx.commit().await
    }

    pub async fn delete_run_tag(&self, run_id: &str, key: &str) -> Result<()> {
        let mut tx = self.db.begin().await?;
        active_run(&mut tx, run_id).await?;
        if !store::delete_tag(&mut tx, run_id, key).await? {
            return Err(Error::not_found(format!("No tag with name: {key} in run with id {run_id}")));
        }
        tx.commit().await
    }

    /// Logs everything of a batch, or nothing.
    pub async fn log_batch(&self, run_id: &str, batch: Batch) -> Result<()> {
        check_count("metrics", batch.metrics.len(), limits::BATCH_METRICS)?;
        check_count("params", batch.params.len(), limits::BATCH_PARAMS_OR_TAGS)?;
        check_count("tags", batch.tags.len(), limits::BATCH_PARAMS_OR_TAGS)?;
        let total = batch.metrics.len() + batch.params.len() + batch.tags.len();
        check_count("metrics, params, and tags", total, limits::BATCH_ENTITIES)?;
        for (number, point) in batch.metrics.iter().enumerate() {
            metric::check(point, &format!("metrics[{number}]."))?;
        }
        let mut keys = BTreeSet::new();
        let mut params = Vec::with_capacity(batch.params.len());
        for (number, param) in batch.params.into_iter().enumerate() {
            names::check_key("param", &format!("params[{number}].key"), &param.key)?;
            if !keys.insert(param.key.clone()) {
                return Err(Error::invalid(format!(
                    "Duplicate parameter keys have been submitted: '{}'. Please ensure the request contains only one param value per param key.",
                    param.key
                )));
            }
            params.push(Pair { value: names::truncated(param.value, limits::PARAM_VALUE_CHARS), key: param.key });
        }
        // Always in one order, so that two batches of one run do not wait for each other in a circle.
        params.sort_by(|a, b| a.key.cmp(&b.key));
        let tags = run_tags(batch.tags, "tags.")?;

        let models = batch.metrics.iter().filter_map(|point| point.model_id.as_deref());
        let mut writes = fishy_db::Batch::new();
        if self.has_arrivals() {
            arrivals::add(&mut writes, run_id, &batch.metrics)?;
        } else {
            metrics::add_to_history(&mut writes, run_id, &batch.metrics);
        }
        metrics::log_latest(&mut writes, run_id, &batch.metrics);
        store::log_tags(&mut writes, run_id, &tags);
        if params.is_empty() {
            // A run that is deleted a moment after it was looked at keeps what comes then, as if that had come before.
            let read = &mut &self.db;
            active_run(read, run_id).await?;
            check_models(read, models).await?;
            if let Err(error) = self.db.write(writes).await {
                // It may be gone for good by now.
                active_run(read, run_id).await?;
                return Err(error);
            }
            return Ok(());
        }
        let mut tx = self.db.begin().await?;
        active_run(&mut tx, run_id).await?;
        check_models(&mut tx, models).await?;
        store::log_params(&mut tx, run_id, &params).await?;
        tx.apply(writes).await?;
        tx.commit().await
    }

    /// Notes what a run read.
    pub async fn log_inputs(&self, run_id: &str, datasets: &[DatasetInput], models: &[(String, i64)]) -> Result<()> {
        check_count("datasets", datasets.len(), limits::BATCH_DATASETS)?;
        check_count("models", models.len(), limits::BATCH_MODELS)?;
        for input in datasets {
            let dataset = &input.dataset;
            names::check_chars("name", &dataset.name, limits::DATASET_NAME_CHARS)?;
            names::check_chars("digest", &dataset.digest, limits::DATASET_DIGEST_CHARS)?;
            names::check_chars("source", &dataset.source, limits::DATASET_SOURCE_CHARS)?;
            names::check_chars("schema", dataset.schema.as_deref().unwrap_or(""), limits::DATASET_SCHEMA_CHARS)?;
            names::check_chars("profile", dataset.profile.as_deref().unwrap_or(""), limits::DATASET_PROFILE_CHARS)?;
            for tag in &input.tags {
                names::check_chars("key", &tag.key, limits::INPUT_TAG_KEY_CHARS)?;
                names::check_chars("value", &tag.value, limits::INPUT_TAG_VALUE_CHARS)?;
            }
        }
        let mut tx = self.db.begin().await?;
        let run = active_run(&mut tx, run_id).await?;
        check_models(&mut tx, models.iter().map(|(id, _)| id.as_str())).await?;
        inputs::log_datasets(&mut tx, &run.experiment_id, run_id, datasets).await?;
        inputs::log_models(&mut tx, run_id, Role::Input, models).await?;
        tx.commit().await
    }

    /// Notes what a run wrote.
    pub async fn log_outputs(&self, run_id: &str, models: &[(String, i64)]) -> Result<()> {
        check_count("models", models.len(), limits::BATCH_MODELS)?;
        let mut tx = self.db.begin().await?;
        active_run(&mut tx, run_id).await?;
        check_models(&mut tx, models.iter().map(|(id, _)| id.as_str())).await?;
        inputs::log_models(&mut tx, run_id, Role::Output, models).await?;
        tx.commit().await
    }

    /// Notes the description of a model in a tag of its run: what clients before MLflow 3 do.
    pub async fn record_model(&self, run_id: &str, model_json: &str) -> Result<()> {
        const TAG: &str = "mlflow.log-model.history";
        let model: serde_json::Value = serde_json::from_str(model_json)
            .map_err(|_| Error::invalid(format!("Malformed model info. \n {model_json} \n is not a valid JSON.")))?;
        for field in ["artifact_path", "flavors", "utc_time_created", "run_id"] {
            if model.get(field).is_none() {
                return Err(Error::invalid(format!("Model json is missing mandatory fields: {field}")));
            }
        }
        let mut tx = self.db.begin().await?;
        active_run(&mut tx, run_id).await?;
        let run = store::get(&mut tx, run_id).await?.ok_or_else(|| not_found(run_id))?;
        let before = run.data.tags.iter().find(|tag| tag.key == TAG);
        let mut models: Vec<serde_json::Value> =
            before.and_then(|tag| serde_json::from_str(&tag.value).ok()).unwrap_or_default();
        models.push(model);
        let value = serde_json::to_string(&models).unwrap_or_default();
        names::check_chars("model_json", &value, limits::REGISTRY_TAG_VALUE_CHARS)?;
        store::set_tags(&mut tx, run_id, &[Pair { key: TAG.to_owned(), value }]).await?;
        tx.commit().await
    }

    /// The history of a metric; all of it without a limit.
    pub async fn metric_history(
        &self,
        run_id: &str,
        key: &str,
        limit: Option<i64>,
        start: &PageStart,
    ) -> Result<Page<Metric>> {
        self.settle(&[self.run_info(run_id).await?.run_id]).await?;
        let offset = start.offset();
        let more = limit.map(|limit| limit.saturating_add(1));
        let rows = metrics::history(&mut &self.db, run_id, key, more, offset as i64).await?;
        Ok(match limit {
            Some(limit) => Page::at_offset(rows, limit as u64, offset),
            None => Page { rows, next: None },
        })
    }

    /// The histories of a metric of many runs.
    pub async fn metric_histories(&self, run_ids: &[String], key: &str, limit: i64) -> Result<Vec<Metric>> {
        self.settle(run_ids).await?;
        metrics::history_of_runs(&mut &self.db, run_ids, key, limit).await
    }

    /// The histories of a metric of many runs, thinned to so many points of each.
    pub async fn sampled_metric_histories(
        &self,
        run_ids: &[String],
        key: &str,
        bounds: (i64, i64),
        count: i64,
    ) -> Result<Vec<Metric>> {
        self.settle(run_ids).await?;
        let mut found = Vec::new();
        for run_id in run_ids {
            let (first_step, last_step) = bounds;
            let span = Span { run_id, key, first_step, last_step };
            found.extend(chart::thinned(&self.db, span, count).await?);
        }
        Ok(found)
    }
}

/// The run, which must not be deleted.
async fn active_run(read: &mut impl Read, run_id: &str) -> Result<RunInfo> {
    let run = store::info(read, run_id).await?.ok_or_else(|| not_found(run_id))?;
    check_active("run", run_id, &run.lifecycle_stage)?;
    Ok(run)
}

/// Refuses logged models that do not exist.
async fn check_models(read: &mut impl Read, ids: impl Iterator<Item = &str>) -> Result<()> {
    let ids: Vec<&str> = ids.collect::<BTreeSet<_>>().into_iter().collect();
    let found = logged_models::existing(read, &ids).await?;
    match ids.iter().find(|id| !found.iter().any(|found| found == *id)) {
        Some(id) => Err(Error::not_found(format!("Logged model with ID '{id}' not found."))),
        None => Ok(()),
    }
}
