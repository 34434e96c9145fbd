//! Copies from other servers, written by an administrator: a thing comes with its ids, times and users, and is noted with
//! a digest of what it was, so that copying once more writes only what changed.

use fishy_core::{Error, Result};
use fishy_db::Tx;
use serde_json::json;

use super::{Asker, Registry};
use crate::domain::metric::{self, Point};
use crate::domain::records::{Experiment, LoggedModel, ModelVersion, Pair, RegisteredModel, Run};
use crate::domain::{artifact, limits, names, stage};
use crate::events;
use crate::store::imports as store;
use crate::store::{artifacts, experiments, logged_models, models, runs, versions};

/// Where a thing comes from.
#[derive(Debug)]
pub(crate) struct Origin {
    /// The URL of its server.
    pub source: String,
    /// `experiment`, `logged_model`, `run`, `model` or `version`.
    pub kind: &'static str,
    /// Its id there.
    pub id: String,
    /// The digest of what that server tells of it.
    pub digest: String,
}

impl Origin {
    fn key(&self) -> (&str, &str, &str) {
        (&self.source, self.kind, &self.id)
    }
}

/// What became of a copy.
#[derive(Debug)]
pub(crate) struct Copied {
    /// Its id here.
    pub target_id: String,
    /// Whether it was here already as it is there: then nothing was written.
    pub is_unchanged: bool,
}

/// What a run or a logged model must have when all of it is here.
#[derive(Debug)]
pub(crate) struct Seal {
    /// How many measurements its history has.
    pub points: i64,
    /// Its files, below the folder of its artifacts, each with its SHA-256.
    pub files: Vec<(String, String)>,
}

fn not_its_copy(what: &str, id: &str, source: &str) -> Error {
    Error::already_exists(format!(
        "{what} {id:?} is here already, and does not come from {source}: nothing of it was changed"
    ))
}

fn not_copied(kind: &str, id: &str) -> Error {
    Error::precondition(format!("{kind} {id:?} has not been copied yet: copy it first"))
}

/// The copy that is there. `None` when it has to be written.
async fn whole_copy(tx: &mut Tx, origin: &Origin, is_there: bool) -> Result<Option<Copied>> {
    let known = store::known(tx, &origin.source, origin.kind, &origin.id).await?;
    let is_whole = |known: &store::Known| is_there && known.digest == origin.digest;
    Ok(known.filter(is_whole).map(|known| Copied { target_id: known.target_id, is_unchanged: true }))
}

impl Registry {
    async fn finish(
        &self,
        mut tx: Tx,
        asker: &Asker,
        origin: &Origin,
        target_id: String,
        is_whole: bool,
    ) -> Result<Copied> {
        let digest = if is_whole { origin.digest.as_str() } else { "" };
        store::remember(&mut tx, origin.key(), &target_id, digest, self.env.now_ms()).await?;
        let details = json!({"source": origin.source, "id": origin.id, "digest": origin.digest});
        let resource = format!("{}s/{target_id}", origin.kind);
        events::audit(&mut tx, self, asker.by().actor, "registry.import", &resource, details).await?;
        tx.commit().await?;
        Ok(Copied { target_id, is_unchanged: false })
    }

    /// Writes an experiment.
    pub async fn import_experiment(&self, asker: &Asker, origin: &Origin, experiment: &Experiment) -> Result<Copied> {
        names::check_experiment_name(&experiment.name)?;
        let mut tx = self.db.begin().await?;
        let known = store::known(&mut tx, &origin.source, origin.kind, &origin.id).await?;
        let mut copy = known.map(|known| names::experiment_id(&known.target_id)).transpose()?;
        if let Some(id) = copy
            && experiments::get(&mut tx, id).await?.is_none()
        {
            copy = None;
        }
        if let Some(copied) = whole_copy(&mut tx, origin, copy.is_some()).await? {
            return Ok(copied);
        }
        let id = store::experiment(&mut tx, self.db.engine(), copy, experiment).await?;
        self.finish(tx, asker, origin, id.to_string(), true).await
    }

    /// The number here of an experiment of another server.
    async fn copied_experiment(&self, tx: &mut Tx, source: &str, id: &str) -> Result<i64> {
        let known = store::known(tx, source, "experiment", id).await?;
        names::experiment_id(&known.ok_or_else(|| not_copied("experiment", id))?.target_id)
    }

    /// Writes a run without its history and files; [`Self::seal_import`] ends it.
    pub async fn import_run(&self, asker: &Asker, origin: &Origin, run: &mut Run) -> Result<Copied> {
        for Pair { key, value } in run.data.params.iter().chain(&run.data.tags) {
            names::check_key("key", "key", key)?;
            names::check_chars("value", value, limits::RUN_TAG_VALUE_CHARS)?;
        }
        let mut tx = self.db.begin().await?;
        let is_there = runs::info(&mut tx, &origin.id).await?.is_some();
        if let Some(copied) = whole_copy(&mut tx, origin, is_there).await? {
            return Ok(copied);
        }
        if is_there && store::known(&mut tx, &origin.source, origin.kind, &origin.id).await?.is_none() {
            return Err(not_its_copy("run", &origin.id, &origin.source));
        }
        let experiment = self.copied_experiment(&mut tx, &origin.source, &run.info.experiment_id).await?;
        artifact::check_path(&origin.id)?;
        run.info.artifact_uri = artifact::uri(&format!("{experiment}/{}/artifacts", origin.id));
        store::run(&mut tx, run, experiment, self.env.now_ms()).await?;
        self.finish(tx, asker, origin, origin.id.clone(), false).await
    }

    /// Adds to the history of a run that was copied.
    pub async fn import_points(&self, source: &str, run_id: &str, points: &[Point]) -> Result<()> {
        for (at, point) in points.iter().enumerate() {
            metric::check(point, &format!("points[{at}]."))?;
        }
        let mut tx = self.db.begin().await?;
        if store::known(&mut tx, source, "run", run_id).await?.is_none() {
            return Err(not_copied("run", run_id));
        }
        store::points(&mut tx, run_id, points).await?;
        tx.commit().await
    }

    /// Writes a logged model without its files; [`Self::seal_import`] ends it.
    pub async fn import_logged_model(&self, asker: &Asker, origin: &Origin, model: &mut LoggedModel) -> Result<Copied> {
        let mut tx = self.db.begin().await?;
        let is_there = !logged_models::existing(&mut tx, &[&origin.id]).await?.is_empty();
        if let Some(copied) = whole_copy(&mut tx, origin, is_there).await? {
            return Ok(copied);
        }
        if is_there && store::known(&mut tx, &origin.source, origin.kind, &origin.id).await?.is_none() {
            return Err(not_its_copy("logged model", &origin.id, &origin.source));
        }
        let experiment = self.copied_experiment(&mut tx, &origin.source, &model.info.experiment_id).await?;
        artifact::check_path(&origin.id)?;
        model.info.artifact_uri = artifact::uri(&format!("{experiment}/models/{}/artifacts", origin.id));
        store::logged_model(&mut tx, model, experiment).await?;
        self.finish(tx, asker, origin, origin.id.clone(), false).await
    }

    /// Writes a registered model without versions and aliases. It is noted as whole only where that is said: at the
    /// end, when its aliases were set.
    pub async fn import_model(
        &self,
        asker: &Asker,
        origin: &Origin,
        model: &RegisteredModel,
        is_whole: bool,
    ) -> Result<Copied> {
        names::check_model_name("name", &model.name)?;
        let mut tx = self.db.begin().await?;
        let is_there = models::exists(&mut tx, &model.name).await?;
        if let Some(copied) = whole_copy(&mut tx, origin, is_there).await?
            && !is_whole
        {
            return Ok(copied);
        }
        if is_there && store::known(&mut tx, &origin.source, origin.kind, &origin.id).await?.is_none() {
            return Err(not_its_copy("the registered model", &model.name, &origin.source));
        }
        store::model(&mut tx, model).await?;
        self.finish(tx, asker, origin, model.name.clone(), is_whole).await
    }

    /// Writes a version under its own number.
    pub async fn import_version(&self, asker: &Asker, origin: &Origin, version: &ModelVersion) -> Result<Copied> {
        let number = names::version_number(&version.version)?;
        artifact::check_path(&version.artifact_path)?;
        stage::canonical(&version.current_stage)?;
        let mut tx = self.db.begin().await?;
        if store::known(&mut tx, &origin.source, "model", &version.name).await?.is_none() {
            return Err(not_copied("model", &version.name));
        }
        let is_there = versions::get(&mut tx, &version.name, number).await?.is_some();
        if let Some(copied) = whole_copy(&mut tx, origin, is_there).await? {
            return Ok(copied);
        }
        if is_there && store::known(&mut tx, &origin.source, origin.kind, &origin.id).await?.is_none() {
            return Err(not_its_copy("version", &origin.id, &origin.source));
        }
        store::version(&mut tx, version).await?;
        self.finish(tx, asker, origin, format!("{}/{number}", version.name), true).await
    }

    /// Notes that all of a run or logged model is here, once its history has the length and its files the checksums that
    /// they have there.
    pub async fn seal_import(&self, origin: &Origin, seal: &Seal) -> Result<()> {
        self.settle(std::slice::from_ref(&origin.id)).await?;
        let mut tx = self.db.begin().await?;
        let root = match origin.kind {
            "run" => {
                let has = store::point_count(&mut tx, &origin.id).await?;
                if has != seal.points {
                    let wanted = seal.points;
                    let text = format!("run {:?} has {has} measurements here, and {wanted} there", origin.id);
                    return Err(Error::precondition(text));
                }
                runs::info(&mut tx, &origin.id).await?.map(|run| run.artifact_uri)
            }
            _ => logged_models::get(&mut tx, &origin.id).await?.map(|model| model.info.artifact_uri),
        };
        let root = root.ok_or_else(|| not_copied(origin.kind, &origin.id))?;
        for (path, sha256) in &seal.files {
            let path = artifact::join(artifact::path_of(&root).unwrap_or_default(), path);
            let here = artifacts::get(&mut tx, &path).await?.map(|file| file.sha256);
            if here.as_ref() != Some(sha256) {
                let here = here.unwrap_or_else(|| "none".to_owned());
                return Err(Error::precondition(format!(
                    "the file {path:?} has the SHA-256 {here} here, and {sha256} there"
                )));
            }
        }
        store::remember(&mut tx, origin.key(), &origin.id, &origin.digest, self.env.now_ms()).await?;
        tx.commit().await
    }

    /// How many whole copies of each kind from a server are here.
    pub async fn import_counts(&self, source: &str) -> Result<Vec<(&'static str, i64)>> {
        store::counts(&mut &self.db, source).await
    }
}
