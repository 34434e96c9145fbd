//! Experiments.

use fishy_core::{Error, Result};

use super::{Registry, check_active};
use crate::domain::records::{Experiment, Pair};
use crate::domain::{artifact, limits, names};
use crate::store::{Read, experiments as store};

/// The longest URI of a place for artifacts.
const MAX_LOCATION_CHARS: usize = 2_048;

fn none_with_id(id: impl std::fmt::Display) -> Error {
    Error::not_found(format!("No Experiment with id={id} exists"))
}

fn check_tags(tags: &[Pair]) -> Result<()> {
    for tag in tags {
        names::check_key("tag", "key", &tag.key)?;
        names::check_chars("value", &tag.value, limits::EXPERIMENT_TAG_VALUE_CHARS)?;
    }
    Ok(())
}

impl Registry {
    pub async fn create_experiment(&self, name: &str, location: Option<&str>, tags: &[Pair]) -> Result<i64> {
        names::check_experiment_name(name)?;
        check_tags(tags)?;
        if let Some(location) = location {
            names::check_chars("artifact_location", location, MAX_LOCATION_CHARS)?;
            if location.starts_with(artifact::SCHEME) && artifact::path_of(location).is_none() {
                return Err(Error::invalid(format!(
                    "Invalid artifact_location '{location}': use mlflow-artifacts:/<path>"
                )));
            }
        }
        let location = location.map(|location| location.trim_end_matches('/'));
        let mut tx = self.db.begin().await?;
        let id = store::create(&mut tx, name, location, tags, self.env.now_ms()).await?;
        tx.commit().await?;
        Ok(id)
    }

    pub async fn experiment(&self, id: &str) -> Result<Experiment> {
        let number = names::experiment_id(id)?;
        let found = store::get(&mut &self.db, number).await?.ok_or_else(|| none_with_id(id))?;
        Ok(self.with_workspace(found))
    }

    /// As it is told: with the workspace.
    pub(super) fn with_workspace(&self, experiment: Experiment) -> Experiment {
        Experiment { workspace: self.workspace.clone(), ..experiment }
    }

    pub async fn experiment_by_name(&self, name: &str) -> Result<Experiment> {
        let found = store::by_name(&mut &self.db, name).await?;
        let found = found.ok_or_else(|| Error::not_found(format!("Could not find experiment with name '{name}'")))?;
        Ok(self.with_workspace(found))
    }

    pub async fn set_experiment_deleted(&self, id: &str, is_deleted: bool) -> Result<()> {
        let number = names::experiment_id(id)?;
        let mut tx = self.db.begin().await?;
        let experiment = store::get(&mut tx, number).await?.ok_or_else(|| none_with_id(id))?;
        if experiment.is_active() != is_deleted {
            let state = if is_deleted { "active" } else { "deleted" };
            return Err(Error::not_found(format!("No {state} Experiment with id={id} exists")));
        }
        store::set_deleted(&mut tx, number, is_deleted, self.env.now_ms()).await?;
        tx.commit().await
    }

    pub async fn rename_experiment(&self, id: &str, name: &str) -> Result<()> {
        let number = names::experiment_id(id)?;
        names::check_experiment_name(name)?;
        let mut tx = self.db.begin().await?;
        active_experiment(&mut tx, id).await?;
        store::rename(&mut tx, number, name, self.env.now_ms()).await?;
        tx.commit().await
    }

    pub async fn set_experiment_tag(&self, id: &str, tag: Pair) -> Result<()> {
        let number = names::experiment_id(id)?;
        check_tags(std::slice::from_ref(&tag))?;
        let mut tx = self.db.begin().await?;
        active_experiment(&mut tx, id).await?;
        store::set_tags(&mut tx, number, &[tag]).await?;
        tx.commit().await
    }

    pub async fn delete_experiment_tag(&self, id: &str, key: &str) -> Result<()> {
        let number = names::experiment_id(id)?;
        let mut tx = self.db.begin().await?;
        active_experiment(&mut tx, id).await?;
        if !store::delete_tag(&mut tx, number, key).await? {
            return Err(Error::not_found(format!("No tag with key: {key} in experiment with ID {id}")));
        }
        tx.commit().await
    }
}

/// The experiment, which must not be deleted.
pub(super) async fn active_experiment(read: &mut impl Read, id: &str) -> Result<Experiment> {
    let experiment = store::get(read, names::experiment_id(id)?).await?.ok_or_else(|| none_with_id(id))?;
    check_active("experiment", id, &experiment.lifecycle_stage)?;
    Ok(experiment)
}
