//! Versions of registered models.

use fishy_contracts::registry::ModelFile;
use fishy_core::{Error, Result};
use fishy_db::Tx;
use serde_json::json;

use super::aliases::protection;
use super::holds::check_model_not_held;
use super::models::{check_description, check_tags, not_found as model_not_found, tag_map};
use super::{Asker, Registry};
use crate::domain::artifact::{self, Source};
use crate::domain::records::{ModelVersion, Pair};
use crate::domain::webhook::Happening;
use crate::domain::{limits, names, stage};
use crate::events;
use crate::store::aliases::{self, Move};
use crate::store::history::{self, Change};
use crate::store::versions as store;
use crate::store::{artifacts, logged_models, models, purge, runs};

/// A version to be made.
#[derive(Debug)]
pub(crate) struct NewVersion {
    pub name: String,
    pub source: String,
    pub run_id: Option<String>,
    pub model_id: Option<String>,
    pub run_link: Option<String>,
    pub description: Option<String>,
    pub tags: Vec<Pair>,
}

/// Where the files of a version are, and what made them.
struct Origin {
    path: String,
    run_id: Option<String>,
    model_id: Option<String>,
}

fn not_found(name: &str, version: impl std::fmt::Display) -> Error {
    Error::not_found(format!("Model Version (name={name}, version={version}) not found"))
}

fn resource(name: &str, version: i64) -> String {
    format!("models/{name}/versions/{version}")
}

/// The list as Python writes JSON, since clients compare the text.
fn spaced(links: &[serde_json::Value]) -> String {
    let links: Vec<String> =
        links.iter().map(|link| format!(r#"{{"name": {}, "version": {}}}"#, link["name"], link["version"])).collect();
    format!("[{}]", links.join(", "))
}

/// Notes in a tag of a logged model that it was registered, as MLflow does for its web UI.
async fn link_to_logged_model(tx: &mut Tx, model_id: &str, name: &str, version: i64) -> Result<()> {
    const TAG: &str = "mlflow.modelVersions";
    let Some(model) = logged_models::get(tx, model_id).await? else { return Ok(()) };
    let before = model.info.tags.iter().find(|tag| tag.key == TAG);
    let mut links: Vec<serde_json::Value> =
        before.and_then(|tag| serde_json::from_str(&tag.value).ok()).unwrap_or_default();
    links.push(json!({"name": name, "version": version}));
    // Once it is full, older versions are told by the search for versions alone.
    let mut value = spaced(&links);
    while value.len() > limits::REGISTRY_TAG_VALUE_CHARS && links.len() > 1 {
        links.remove(0);
        value = spaced(&links);
    }
    logged_models::set_tags(tx, model_id, &[Pair { key: TAG.to_owned(), value }]).await
}

/// The source does not lie where the request says it does.
fn elsewhere(source: &str, parameter: &str) -> Error {
    Error::invalid(format!(
        "Invalid model version source: '{source}'. The {parameter} request parameter must identify the resource that contains the source."
    ))
}

/// The path of a URI, which must lie in our own store.
fn own_path(source: &str, uri: &str) -> Result<String> {
    artifact::path_of(uri).map(str::to_owned).ok_or_else(|| {
        Error::invalid(format!("Invalid model version source: '{source}'. Its files are at {uri}, which is not in the store of this registry."))
    })
}

impl Registry {
    /// Makes the next version of a model: it can be used at once.
    pub async fn create_version(&self, asker: &Asker, new: NewVersion) -> Result<ModelVersion> {
        names::check_model_name("name", &new.name)?;
        check_description(new.description.as_deref())?;
        check_tags(&new.tags)?;
        let origin = self.origin(&new).await?;
        let now_ms = self.env.now_ms();
        let mut tx = self.db.begin().await?;
        let number = models::next_version(&mut tx, &new.name, now_ms).await?;
        let number = number.ok_or_else(|| model_not_found(&new.name))?;
        let version = ModelVersion {
            name: new.name,
            version: number.to_string(),
            creation_timestamp: now_ms,
            last_updated_timestamp: now_ms,
            user_id: asker.who.id.clone(),
            current_stage: "None".to_owned(),
            description: new.description,
            source: new.source,
            run_id: origin.run_id,
            run_link: new.run_link,
            status: "READY".to_owned(),
            model_id: origin.model_id,
            tags: new.tags,
            aliases: Vec::new(),
            artifact_path: origin.path,
        };
        // It was there a moment ago, outside of this transaction.
        let (run, model) = match artifact::source(&version.source)? {
            Source::Run(run, _) => (Some(run), None),
            Source::LoggedModel(model) => (None, Some(model)),
            Source::Path(_) => (new.run_id.clone(), new.model_id.clone()),
            Source::Version(..) | Source::Alias(..) => (None, None),
        };
        if !purge::lock_origin(&mut tx, run.as_deref(), model.as_deref()).await? {
            return Err(Error::not_found(format!("what {} names was deleted for good", version.source)));
        }
        store::create(&mut tx, &version).await?;
        if let Some(model_id) = &new.model_id {
            link_to_logged_model(&mut tx, model_id, &version.name, number).await?;
        }
        for Pair { key, value } in &version.tags {
            let (name, version, to) = (version.name.as_str(), Some(number), Some(value.as_str()));
            let change = Change { name, version, kind: "tag", key, from: None, to };
            history::remember(&mut tx, change, asker.by(), now_ms).await?;
        }
        let details = json!({"source": version.source, "run_id": version.run_id, "model_id": version.model_id});
        let resource = resource(&version.name, number);
        events::audit(&mut tx, self, asker.by().actor, "model_version.create", &resource, details).await?;
        let data = json!({
            "name": version.name, "version": version.version, "source": version.source, "run_id": version.run_id,
            "tags": tag_map(&version.tags), "description": version.description,
        });
        self.tell(&mut tx, Happening::VersionCreated, &data).await?;
        self.commit_told(tx).await?;
        Ok(version)
    }

    /// Finds out where the files of a new version are, and checks that they belong to the run or model that is named.
    async fn origin(&self, new: &NewVersion) -> Result<Origin> {
        let source = new.source.as_str();
        let read = &mut &self.db;
        match artifact::source(source)? {
            Source::LoggedModel(id) => {
                if new.model_id.as_ref().is_some_and(|given| *given != id) {
                    return Err(elsewhere(source, "model_id"));
                }
                let model = logged_models::get(read, &id).await?.ok_or_else(|| elsewhere(source, "model_id"))?.info;
                let run_id = new.run_id.clone().or(model.source_run_id);
                Ok(Origin { path: own_path(source, &model.artifact_uri)?, run_id, model_id: Some(id) })
            }
            Source::Version(name, version) => {
                let from = self.version(&name, &version).await?;
                let run_id = new.run_id.clone().or(from.run_id);
                Ok(Origin { path: from.artifact_path, run_id, model_id: new.model_id.clone().or(from.model_id) })
            }
            Source::Alias(name, alias) => {
                let from = self.version_by_alias(&name, &alias).await?;
                let run_id = new.run_id.clone().or(from.run_id);
                Ok(Origin { path: from.artifact_path, run_id, model_id: new.model_id.clone().or(from.model_id) })
            }
            Source::Run(run_id, path) => {
                if new.run_id.as_ref().is_some_and(|given| *given != run_id) {
                    return Err(elsewhere(source, "run_id"));
                }
                let run = runs::info(read, &run_id).await?.ok_or_else(|| elsewhere(source, "run_id"))?;
                let at = artifact::join(&own_path(source, &run.artifact_uri)?, &path);
                let (files, folders) = artifacts::list(read, &at).await?;
                // Since MLflow 3 a run's model has a place of its own, and is a logged model of that name.
                if files.is_empty()
                    && folders.is_empty()
                    && let Some((model_id, uri)) = logged_models::of_run(read, &run_id, &path).await?
                {
                    let path = own_path(source, &uri)?;
                    return Ok(Origin { path, run_id: Some(run_id), model_id: Some(model_id) });
                }
                Ok(Origin { path: at, run_id: Some(run_id), model_id: new.model_id.clone() })
            }
            Source::Path(path) => {
                let is_of_run = match &new.run_id {
                    Some(id) => {
                        let run = runs::info(read, id).await?.ok_or_else(|| elsewhere(source, "run_id"))?;
                        artifact::path_of(&run.artifact_uri).is_some_and(|root| artifact::is_within(&path, root))
                    }
                    None => false,
                };
                let is_of_model = match &new.model_id {
                    Some(id) => {
                        let model = logged_models::get(read, id).await?.ok_or_else(|| elsewhere(source, "model_id"))?;
                        artifact::path_of(&model.info.artifact_uri).is_some_and(|root| artifact::is_within(&path, root))
                    }
                    None => false,
                };
                if !is_of_run && !is_of_model {
                    return Err(elsewhere(source, if new.model_id.is_some() { "model_id" } else { "run_id" }));
                }
                Ok(Origin { path, run_id: new.run_id.clone(), model_id: new.model_id.clone() })
            }
        }
    }

    pub async fn version(&self, name: &str, version: &str) -> Result<ModelVersion> {
        names::check_model_name("name", name)?;
        let number = names::version_number(version)?;
        store::get(&mut &self.db, name, number).await?.ok_or_else(|| not_found(name, version))
    }

    pub async fn update_version(&self, name: &str, version: &str, description: Option<&str>) -> Result<ModelVersion> {
        check_description(description)?;
        let number = names::version_number(version)?;
        let now_ms = self.env.now_ms();
        let mut tx = self.db.begin().await?;
        if !store::describe(&mut tx, name, number, description, now_ms).await? {
            return Err(not_found(name, version));
        }
        models::touch(&mut tx, name, now_ms).await?;
        let changed = store::get(&mut tx, name, number).await?.ok_or_else(|| not_found(name, version))?;
        tx.commit().await?;
        Ok(changed)
    }

    pub async fn transition_version(
        &self,
        asker: &Asker,
        name: &str,
        version: &str,
        stage: &str,
        archives_others: bool,
    ) -> Result<ModelVersion> {
        let stage = stage::canonical(stage)?;
        let number = names::version_number(version)?;
        if archives_others && !stage::is_active(stage) {
            return Err(Error::invalid(format!(
                "Model version transition cannot archive existing model versions because '{stage}' is not an Active stage. Valid stages are Staging, Production"
            )));
        }
        let now_ms = self.env.now_ms();
        let mut tx = self.db.begin().await?;
        let before = store::get(&mut tx, name, number).await?.ok_or_else(|| not_found(name, version))?;
        let moved = |version, from| Change {
            name,
            version: Some(version),
            kind: "stage",
            key: "stage",
            from: Some(from),
            to: Some(if version == number { stage } else { "Archived" }),
        };
        if archives_others {
            for other in store::others_in_stage(&mut tx, (name, number), stage).await? {
                history::remember(&mut tx, moved(other, stage), asker.by(), now_ms).await?;
            }
        }
        history::remember(&mut tx, moved(number, &before.current_stage), asker.by(), now_ms).await?;
        store::transition(&mut tx, (name, number), stage, archives_others, now_ms).await?;
        models::touch(&mut tx, name, now_ms).await?;
        let details = json!({"from": before.current_stage, "to": stage, "archive_existing_versions": archives_others});
        let resource = resource(name, number);
        events::audit(&mut tx, self, asker.by().actor, "model_version.transition", &resource, details).await?;
        let changed = store::get(&mut tx, name, number).await?.ok_or_else(|| not_found(name, version))?;
        tx.commit().await?;
        Ok(changed)
    }

    pub async fn delete_version(&self, asker: &Asker, name: &str, version: &str) -> Result<()> {
        names::check_model_name("name", name)?;
        let number = names::version_number(version)?;
        let mut tx = self.db.begin().await?;
        let before = store::get(&mut tx, name, number).await?.ok_or_else(|| not_found(name, version))?;
        check_model_not_held(&mut tx, name).await?;
        for alias in &before.aliases {
            if let Some(deployment) = aliases::protected_for(&mut tx, name, alias).await? {
                return Err(Error::denied(format!(
                    "cannot delete version {version} of model {name:?}: its alias {alias:?} {}",
                    protection(&deployment)
                )));
            }
        }
        store::delete(&mut tx, name, number).await?;
        models::touch(&mut tx, name, self.env.now_ms()).await?;
        let by = asker.by();
        for alias in &before.aliases {
            let left = Move { name, alias, from: Some(number), to: None, by, gate: None, promotion_id: None };
            events::alias_moved(&mut tx, self, left).await?;
        }
        let details = json!({"source": before.source, "aliases": before.aliases});
        events::audit(&mut tx, self, by.actor, "model_version.delete", &resource(name, number), details).await?;
        tx.commit().await
    }

    pub async fn set_version_tag(&self, asker: &Asker, name: &str, version: &str, tag: Pair) -> Result<()> {
        check_tags(std::slice::from_ref(&tag))?;
        let number = names::version_number(version)?;
        let mut tx = self.db.begin().await?;
        if store::get(&mut tx, name, number).await?.is_none() {
            return Err(not_found(name, version));
        }
        let before = store::tag(&mut tx, name, number, &tag.key).await?;
        let (from, to) = (before.as_deref(), Some(tag.value.as_str()));
        let change = Change { name, version: Some(number), kind: "tag", key: &tag.key, from, to };
        history::remember(&mut tx, change, asker.by(), self.env.now_ms()).await?;
        let data = json!({"name": name, "version": number.to_string(), "key": tag.key, "value": tag.value});
        store::set_tags(&mut tx, name, number, &[tag]).await?;
        self.tell(&mut tx, Happening::VersionTagSet, &data).await?;
        self.commit_told(tx).await
    }

    pub async fn delete_version_tag(&self, asker: &Asker, name: &str, version: &str, key: &str) -> Result<()> {
        let number = names::version_number(version)?;
        let mut tx = self.db.begin().await?;
        if store::get(&mut tx, name, number).await?.is_none() {
            return Err(not_found(name, version));
        }
        let before = store::tag(&mut tx, name, number, key).await?;
        let change = Change { name, version: Some(number), kind: "tag", key, from: before.as_deref(), to: None };
        history::remember(&mut tx, change, asker.by(), self.env.now_ms()).await?;
        store::delete_tag(&mut tx, name, number, key).await?;
        let data = json!({"name": name, "version": number.to_string(), "key": key});
        self.tell(&mut tx, Happening::VersionTagDeleted, &data).await?;
        self.commit_told(tx).await
    }

    /// The files of a version, each with its checksum.
    pub async fn version_files(&self, name: &str, version: &str) -> Result<Vec<ModelFile>> {
        let root = self.version(name, version).await?.artifact_path;
        let read = &mut &self.db;
        let (mut files, _) = artifacts::list_all(read, &root).await?;
        // A version may be one file.
        files.extend(artifacts::get(read, &root).await?);
        let below = |path: &str| path.strip_prefix(&format!("{root}/")).unwrap_or(artifact::split(path).1).to_owned();
        let file = |file: artifacts::Artifact| ModelFile {
            path: below(&file.path),
            size_bytes: file.size_bytes as u64,
            sha256: Some(file.sha256),
        };
        Ok(files.into_iter().map(file).collect())
    }
}
