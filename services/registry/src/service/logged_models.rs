//! Logged models.

use fishy_core::{Error, Result};

use super::experiments::active_experiment;
use super::{Registry, invented_name};
use crate::domain::records::{LoggedModel, LoggedModelData, LoggedModelInfo, Pair};
use crate::domain::{limits, names};
use crate::store::logged_models as store;
use crate::store::runs;

/// A logged model to be made.
#[derive(Debug)]
pub(crate) struct NewLoggedModel {
    pub experiment_id: String,
    pub name: Option<String>,
    pub model_type: Option<String>,
    pub source_run_id: Option<String>,
    pub params: Vec<Pair>,
    pub tags: Vec<Pair>,
}

fn not_found(model_id: &str) -> Error {
    Error::not_found(format!("Logged model with ID '{model_id}' not found."))
}

fn check(pairs: &[Pair], what: &str, limit: usize) -> Result<()> {
    for pair in pairs {
        names::check_key(what, "key", &pair.key)?;
        names::check_chars("value", &pair.value, limit)?;
    }
    Ok(())
}

impl Registry {
    pub async fn create_logged_model(&self, new: NewLoggedModel) -> Result<LoggedModel> {
        if let Some(name) = &new.name {
            names::check_logged_model_name(name)?;
        }
        let number = names::experiment_id(&new.experiment_id)?;
        check(&new.params, "param", limits::PARAM_VALUE_CHARS)?;
        check(&new.tags, "tag", limits::REGISTRY_TAG_VALUE_CHARS)?;
        let id = self.env.new_id().replace('-', "");
        let model_id = format!("m-{id}");
        let now_ms = self.env.now_ms();
        let mut tx = self.db.begin().await?;
        let experiment = active_experiment(&mut tx, &new.experiment_id).await?;
        if let Some(run_id) = &new.source_run_id
            && runs::info(&mut tx, run_id).await?.is_none()
        {
            return Err(Error::not_found(format!("Run with id={run_id} not found")));
        }
        let info = LoggedModelInfo {
            artifact_uri: format!("{}/models/{model_id}/artifacts", experiment.artifact_location),
            model_id,
            experiment_id: experiment.experiment_id,
            name: new.name.unwrap_or_else(|| invented_name(&id)),
            creation_timestamp_ms: now_ms,
            last_updated_timestamp_ms: now_ms,
            status: "LOGGED_MODEL_PENDING".to_owned(),
            model_type: new.model_type,
            source_run_id: new.source_run_id,
            tags: new.tags,
        };
        store::create(&mut tx, &info, number, &new.params).await?;
        tx.commit().await?;
        Ok(LoggedModel { info, data: LoggedModelData { params: new.params, metrics: Vec::new() } })
    }

    pub async fn logged_model(&self, model_id: &str) -> Result<LoggedModel> {
        store::get(&mut &self.db, model_id).await?.ok_or_else(|| not_found(model_id))
    }

    pub async fn finalize_logged_model(&self, model_id: &str, status: &str) -> Result<LoggedModel> {
        if !matches!(status, "LOGGED_MODEL_PENDING" | "LOGGED_MODEL_READY" | "LOGGED_MODEL_UPLOAD_FAILED") {
            let why = "use LOGGED_MODEL_READY or LOGGED_MODEL_UPLOAD_FAILED";
            return Err(names::invalid_value("status", status, why));
        }
        let mut tx = self.db.begin().await?;
        if !store::set_status(&mut tx, model_id, status, self.env.now_ms()).await? {
            return Err(not_found(model_id));
        }
        let model = store::get(&mut tx, model_id).await?.ok_or_else(|| not_found(model_id))?;
        tx.commit().await?;
        Ok(model)
    }

    pub async fn delete_logged_model(&self, model_id: &str) -> Result<()> {
        let mut tx = self.db.begin().await?;
        if !store::delete(&mut tx, model_id, self.env.now_ms()).await? {
            return Err(not_found(model_id));
        }
        tx.commit().await
    }

    pub async fn log_logged_model_params(&self, model_id: &str, params: &[Pair]) -> Result<()> {
        check(params, "param", limits::PARAM_VALUE_CHARS)?;
        let mut tx = self.db.begin().await?;
        store::get(&mut tx, model_id).await?.ok_or_else(|| not_found(model_id))?;
        store::log_params(&mut tx, model_id, params).await?;
        tx.commit().await
    }

    pub async fn set_logged_model_tags(&self, model_id: &str, tags: &[Pair]) -> Result<LoggedModel> {
        check(tags, "tag", limits::REGISTRY_TAG_VALUE_CHARS)?;
        let mut tx = self.db.begin().await?;
        store::get(&mut tx, model_id).await?.ok_or_else(|| not_found(model_id))?;
        store::set_tags(&mut tx, model_id, tags).await?;
        let model = store::get(&mut tx, model_id).await?.ok_or_else(|| not_found(model_id))?;
        tx.commit().await?;
        Ok(model)
    }

    pub async fn delete_logged_model_tag(&self, model_id: &str, key: &str) -> Result<()> {
        let mut tx = self.db.begin().await?;
        store::get(&mut tx, model_id).await?.ok_or_else(|| not_found(model_id))?;
        if !store::delete_tag(&mut tx, model_id, key).await? {
            return Err(Error::not_found(format!("No tag with key '{key}' found for model with ID '{model_id}'.")));
        }
        tx.commit().await
    }
}
