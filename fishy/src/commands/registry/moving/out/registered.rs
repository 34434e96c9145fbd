//! Registered models with their versions and aliases.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use anyhow::{Context, Result};
use fishy_contracts::segment;
use reqwest::Method;
use serde_json::{Value, json};

use super::super::databricks;
use super::super::door::{Refusal, is_status};
use super::super::files::{Owner, Place};
use super::super::pages;
use super::super::walk::{API, below, digest, is_prompt, items, logged_model_of, text, uri_of, versions_of, without};
use super::{Copied, DIGEST, Outgoing, SOURCE, locked, tag, tags_of};

/// The most numbers in a row that a model may have no version of.
const MAX_GAP: u64 = 1_000;
/// Tags of a version for what MLflow lets nobody set.
const CREATED: &str = "fishy.export.created_ms";
const USER: &str = "fishy.export.user";

/// The aliases of a registered model.
fn aliases_of(model: &Value) -> BTreeMap<String, String> {
    let alias = |alias: &Value| (text(alias, "/alias").to_owned(), text(alias, "/version").to_owned());
    items(model, "aliases").iter().map(alias).collect()
}

/// A registered model by its name here and by that there.
#[derive(Clone, Copy)]
struct Names<'a> {
    here: &'a str,
    there: &'a str,
}

/// Where the files of a version are here, and what it is made from there.
struct Origin<'a> {
    source: String,
    model_id: Option<String>,
    owner: Owner<'a>,
    /// The folder below the owner's; empty for all of it.
    folder: String,
}

impl Outgoing {
    pub(super) async fn registered_models(&self) -> Result<()> {
        let (door, query) = (format!("{API}/registered-models/search"), [("max_results", "100")]);
        pages::got(&self.source, &door, &query, "registered_models", async |page| {
            self.progress.more(page.len());
            for model in page.iter().filter(|model| !is_prompt(model)) {
                let here = text(model, "/name");
                let copied = match self.name_there(here) {
                    Ok(there) => self.registered_model(Names { here, there: &there }).await,
                    Err(error) => Err(error),
                };
                self.progress.done("model", here, copied)?;
            }
            Ok(())
        })
        .await
    }

    async fn models(&self, method: Method, route: &str, body: &Value) -> Result<Value> {
        self.target.send(method, &self.target.models(route), body).await
    }

    fn name_there(&self, name: &str) -> Result<String> {
        if self.target.is_databricks {
            databricks::model_name(name, self.options.schema.as_deref())
        } else {
            Ok(name.to_owned())
        }
    }

    async fn registered_there(&self, name: &str) -> Result<Option<Value>> {
        match self.target.get(&self.target.models("registered-models/get"), &[("name", name)]).await {
            Ok(mut found) => Ok(found.get_mut("registered_model").map(Value::take)),
            Err(error) if is_status(&error, reqwest::StatusCode::NOT_FOUND) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn registered_model(&self, names: Names<'_>) -> Result<bool> {
        let name = names.there;
        self.names.lock().unwrap_or_else(PoisonError::into_inner).push(name.to_owned());
        let got = self.source.get(&format!("{API}/registered-models/get"), &[("name", names.here)]).await?;
        let here = &got["registered_model"];
        let digest = digest(&without(here, &["latest_versions", "aliases"]), &[]);
        let there = if let Some(there) = self.registered_there(name).await? {
            if tag(&there["tags"], SOURCE) != Some(self.source()) {
                let text = format!(
                    "a registered model {name:?} is there already, and was not exported from {}: nothing of it was changed",
                    self.source()
                );
                return Err(Refusal::new(text).into());
            }
            there
        } else {
            let tags = self.tags_with_origin(&here["tags"], names.here);
            let body = json!({"name": name, "tags": tags, "description": text(here, "/description")});
            self.models(Method::POST, "registered-models/create", &body).await?;
            self.registered_there(name).await?.context("a registered model that was just made is not there")?
        };
        let is_changed = tag(&there["tags"], DIGEST) != Some(digest.as_str());
        if is_changed {
            self.describe_model(name, here, &there).await?;
        }
        let copies = self.versions(names).await?;
        let are_moved = self.aliases(name, here, &there, &copies).await?;
        if is_changed {
            self.tag_model(name, DIGEST, &digest).await?;
        }
        Ok(is_changed || are_moved)
    }

    async fn tag_model(&self, name: &str, key: &str, value: &str) -> Result<()> {
        let body = json!({"name": name, "key": key, "value": value});
        self.models(Method::POST, "registered-models/set-tag", &body).await.map(drop)
    }

    async fn describe_model(&self, name: &str, here: &Value, there: &Value) -> Result<()> {
        let description = text(here, "/description");
        if text(there, "/description") != description {
            let body = json!({"name": name, "description": description});
            self.models(Method::PATCH, "registered-models/update", &body).await?;
        }
        let (ours, theirs) = (tags_of(&here["tags"]), tags_of(&there["tags"]));
        for (key, value) in ours.iter().filter(|(key, value)| theirs.get(*key) != Some(*value)) {
            self.tag_model(name, key, value).await?;
        }
        for key in theirs.keys().filter(|key| !ours.contains_key(*key)) {
            let body = json!({"name": name, "key": key});
            self.models(Method::DELETE, "registered-models/delete-tag", &body).await?;
        }
        Ok(())
    }

    /// Copies versions in the order of their numbers; gives the number that each has there.
    async fn versions(&self, names: Names<'_>) -> Result<BTreeMap<String, String>> {
        let name = names.there;
        let mut known: BTreeMap<String, (Copied, Value)> = BTreeMap::new();
        let mut unfinished = Vec::new();
        versions_of(&self.target, name, async |page| {
            for version in page {
                let number = text(&version, "/version").to_owned();
                match self.origin(&version["tags"]) {
                    // Made on the way to a higher number by a copy that was stopped.
                    Some((id, _)) if id != number && !self.is_whole(&version) => unfinished.push(number),
                    Some((id, digest)) => {
                        known.insert(id, (Copied { id: number, digest, ..Copied::default() }, version));
                    }
                    None => {}
                }
            }
            Ok(())
        })
        .await?;
        for number in unfinished {
            self.models(Method::DELETE, "model-versions/delete", &json!({"name": name, "version": number})).await?;
        }
        let mut numbers = BTreeMap::new();
        versions_of(&self.source, names.here, async |page| {
            self.progress.more(page.len());
            for version in page {
                let number = text(&version, "/version").to_owned();
                let id = format!("{}/{number}", names.here);
                let copied = self.version(names, &number, &version, known.get(&number)).await;
                let copied = copied.map(|(there, is_new)| {
                    if there != number {
                        self.progress.report().renumbered.insert(id.clone(), there.clone());
                    }
                    numbers.insert(number.clone(), there);
                    is_new
                });
                self.progress.done("version", &id, copied)?;
            }
            Ok(())
        })
        .await?;
        Ok(numbers)
    }

    /// Whether a version is a whole copy; one that is may have another number than here for good.
    fn is_whole(&self, version: &Value) -> bool {
        self.origin(&version["tags"]).is_some_and(|(_, digest)| !digest.is_empty())
    }

    async fn version(
        &self,
        names: Names<'_>,
        number: &str,
        here: &Value,
        known: Option<&(Copied, Value)>,
    ) -> Result<(String, bool)> {
        let (name, digest) = (names.there, digest(&without(here, &["aliases"]), &[]));
        if let Some((copy, _)) = known.filter(|(copy, _)| copy.digest == digest) {
            return Ok((copy.id.clone(), false));
        }
        let there = match known {
            Some((_, there)) => there.clone(),
            None => self.new_version(names, number, here).await?,
        };
        let target = text(&there, "/version").to_owned();
        if databricks::is_pending(&there) {
            self.upload_version(names, &target, here).await?;
        }
        let description = text(here, "/description");
        if text(&there, "/description") != description {
            let body = json!({"name": name, "version": target, "description": description});
            self.models(Method::PATCH, "model-versions/update", &body).await?;
        }
        let (mut ours, mut theirs) = (tags_of(&here["tags"]), tags_of(&there["tags"]));
        for key in [CREATED, USER] {
            ours.remove(key);
            theirs.remove(key);
        }
        for (key, value) in ours.iter().filter(|(key, value)| theirs.get(*key) != Some(*value)) {
            self.tag_version(name, &target, key, value).await?;
        }
        for key in theirs.keys().filter(|key| !ours.contains_key(*key)) {
            let body = json!({"name": name, "version": target, "key": key});
            self.models(Method::DELETE, "model-versions/delete-tag", &body).await?;
        }
        // Unity Catalog has no stages.
        let stage = Some(text(here, "/current_stage")).filter(|stage| !stage.is_empty()).unwrap_or("None");
        if Some(text(&there, "/current_stage")).filter(|stage| !stage.is_empty()).unwrap_or("None") != stage
            && !self.target.is_databricks
        {
            let body = json!({"name": name, "version": target, "stage": stage, "archive_existing_versions": false});
            self.models(Method::POST, "model-versions/transition-stage", &body).await?;
        }
        self.tag_version(name, &target, DIGEST, &digest).await?;
        Ok((target, true))
    }

    async fn tag_version(&self, name: &str, version: &str, key: &str, value: &str) -> Result<()> {
        let body = json!({"name": name, "version": version, "key": key, "value": value});
        self.models(Method::POST, "model-versions/set-tag", &body).await.map(drop)
    }

    /// Makes a version. The target numbers versions itself: what is made below the number that it has here is deleted
    /// again, so that the numbers stay the same where versions were deleted here.
    async fn new_version(&self, names: Names<'_>, number: &str, here: &Value) -> Result<Value> {
        let name = names.there;
        let uri = uri_of(&self.source, names.here, here).await?;
        let Origin { source, model_id, .. } = self.origin_of(here, &uri).await?;
        let mut tags = self.tags_with_origin(&here["tags"], number);
        tags.push(json!({"key": CREATED, "value": here["creation_timestamp"].to_string()}));
        if !text(here, "/user_id").is_empty() {
            tags.push(json!({"key": USER, "value": here["user_id"]}));
        }
        let mut body = json!({"name": name, "source": source, "tags": tags, "description": text(here, "/description")});
        if let Some(run) = locked(&self.runs).get(text(here, "/run_id")) {
            body["run_id"] = run.id.clone().into();
        }
        if let Some(model_id) = model_id {
            body["model_id"] = model_id.into();
        }
        if !text(here, "/run_link").is_empty() {
            body["run_link"] = here["run_link"].clone();
        }
        let wanted: u64 = number.parse().with_context(|| format!("version {number:?} is no number"))?;
        for _ in 0..=MAX_GAP {
            let mut made = self.models(Method::POST, "model-versions/create", &body).await?;
            let made = made.get_mut("model_version").map(Value::take).unwrap_or_default();
            let given: u64 = text(&made, "/version").parse().unwrap_or(u64::MAX);
            if given >= wanted {
                return Ok(made);
            }
            let below = json!({"name": name, "version": text(&made, "/version")});
            self.models(Method::DELETE, "model-versions/delete", &below).await?;
        }
        Err(Refusal::new(format!("more than {MAX_GAP} versions before it were deleted")).into())
    }

    /// Gives a version in Unity Catalog its files, and ends it.
    async fn upload_version(&self, names: Names<'_>, number: &str, here: &Value) -> Result<()> {
        let uri = uri_of(&self.source, names.here, here).await?;
        let Origin { owner, folder, .. } = self.origin_of(here, &uri).await?;
        for file in owner.files(&self.source).await? {
            let path = if folder.is_empty() { Some(file.path.as_str()) } else { below(&file.path, &folder) };
            let Some(path) = path.filter(|path| !path.is_empty()) else { continue };
            let to = Place::Catalog(names.there, number, path.to_owned());
            let from = Place::Owned(owner, file.path.clone());
            self.copy_file(&from, &to, file.size).await?;
        }
        let body = json!({"name": names.there, "version": number});
        self.models(Method::POST, "model-versions/finalize", &body).await.map(drop)
    }

    /// What a version was made from: a logged model or a run, here and there.
    async fn origin_of<'a>(&self, version: &'a Value, uri: &'a str) -> Result<Origin<'a>> {
        let not_there = || {
            Refusal::new(format!(
                "its files at {uri} belong to no run and no logged model that was exported, so they are not there"
            ))
        };
        if let Some(id) = logged_model_of(version, uri) {
            let copy = locked(&self.models).get(id).cloned().ok_or_else(not_there)?;
            let (door, pointer) =
                (|id: &str| format!("{API}/logged-models/{}", segment(id)), "/model/info/artifact_uri");
            let here = self.source.get(&door(id), &[]).await?;
            let folder = if uri.starts_with("models:/") { Some("") } else { below(uri, text(&here, pointer)) };
            let folder = folder.ok_or_else(not_there)?.to_owned();
            let source = if folder.is_empty() {
                format!("models:/{}", copy.id)
            } else {
                let there = self.target.get(&door(&copy.id), &[]).await?;
                format!("{}/{folder}", text(&there, pointer).trim_end_matches('/'))
            };
            return Ok(Origin { source, model_id: Some(copy.id), owner: Owner::Model(id), folder });
        }
        let named = uri.strip_prefix("runs:/").and_then(|rest| rest.split_once('/'));
        let run_id = named.map_or_else(|| text(version, "/run_id"), |(run_id, _)| run_id);
        let copy = locked(&self.runs).get(run_id).cloned().ok_or_else(not_there)?;
        let (door, pointer) = (format!("{API}/runs/get"), "/run/info/artifact_uri");
        let here = self.source.get(&door, &[("run_id", run_id)]).await?;
        let folder = named.map(|(_, path)| path).or_else(|| below(uri, text(&here, pointer))).ok_or_else(not_there)?;
        let there = self.target.get(&door, &[("run_id", copy.id.as_str())]).await?;
        let source = format!("{}/{folder}", text(&there, pointer).trim_end_matches('/'));
        Ok(Origin { source, model_id: None, owner: Owner::Run(run_id), folder: folder.to_owned() })
    }

    /// Lets the aliases of a model name there what they name here; tells whether one had to move.
    async fn aliases(
        &self,
        name: &str,
        here: &Value,
        there: &Value,
        numbers: &BTreeMap<String, String>,
    ) -> Result<bool> {
        let (mut ours, theirs) = (aliases_of(here), aliases_of(there));
        for version in ours.values_mut() {
            let number = numbers
                .get(version.as_str())
                .ok_or_else(|| Refusal::new(format!("an alias names version {version}, which could not be copied")))?;
            version.clone_from(number);
        }
        let mut moved = 0;
        for (alias, version) in ours.iter().filter(|(alias, version)| theirs.get(*alias) != Some(*version)) {
            let body = json!({"name": name, "alias": alias, "version": version});
            self.models(Method::POST, "registered-models/alias", &body).await?;
            moved += 1;
        }
        for alias in theirs.keys().filter(|alias| !ours.contains_key(*alias)) {
            self.models(Method::DELETE, "registered-models/alias", &json!({"name": name, "alias": alias})).await?;
            moved += 1;
        }
        self.progress.report().aliases += moved;
        Ok(moved > 0)
    }

    /// How many registered models and versions of the target are whole copies.
    pub(super) async fn registered_counts(&self) -> Result<(u64, u64)> {
        let names = std::mem::take(&mut *self.names.lock().unwrap_or_else(PoisonError::into_inner));
        let (mut models, mut versions) = (0, 0);
        for name in names {
            let Some(model) = self.registered_there(&name).await? else { continue };
            models += u64::from(self.is_whole(&model));
            versions_of(&self.target, &name, async |page| {
                versions += page.iter().filter(|version| self.is_whole(version)).count() as u64;
                Ok(())
            })
            .await?;
        }
        Ok((models, versions))
    }
}
