//! The way out: everything of this registry into an MLflow server.
//!
//! That server gives ids of its own, so each copy is tagged with the id it has here and, when it is whole, with the digest
//! of what it was. So a copy that was stopped goes on behind what is whole, and one that is made again writes only what
//! changed. What links to a run or a logged model comes after all of these are there: first the runs without what belongs
//! to them, then logged models, then what the runs hold, then registered models.

mod logged;
mod registered;
mod runs;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, bail};
use fishy_contracts::registry::artifact_path_of;
use indicatif::ProgressBar;
use reqwest::Method;
use serde_json::{Value, json};

use super::databricks;
use super::door::{Door, Refusal};
use super::files::{self, File, Owner, Place};
use super::pages;
use super::progress::Progress;
use super::report::Report;
use super::walk::{API, digest, items, text};

/// The tag of the server that a copy was made of.
const SOURCE: &str = "fishy.export.source";
/// The tag of the id it has there.
const ID: &str = "fishy.export.id";
/// The tag of the digest of what it was; only whole copies have it.
const DIGEST: &str = "fishy.export.digest";

/// A copy at the other server.
#[derive(Debug, Clone, Default)]
struct Copied {
    id: String,
    digest: String,
    is_deleted: bool,
    /// Whether it shall be deleted there in the end.
    is_to_be_deleted: bool,
}

/// An experiment of this registry and its copy.
struct Experiment {
    id: String,
    target: String,
    is_deleted: bool,
}

type Copies = HashMap<String, Copied>;

/// An export under way.
pub struct Outgoing {
    source: Door,
    target: Door,
    progress: Progress,
    runs: Mutex<Copies>,
    models: Mutex<Copies>,
    /// Registered models by the names that they have there.
    names: Mutex<Vec<String>>,
    options: Options,
}

/// How a copy is made.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Whether the length of each history is compared too.
    pub is_thorough: bool,
    /// Catalog and schema of registered models in Unity Catalog.
    pub schema: Option<String>,
}

/// The value of a tag in a list of them.
fn tag<'a>(tags: &'a Value, key: &str) -> Option<&'a str> {
    tags.as_array()?.iter().find(|tag| tag["key"] == key)?["value"].as_str()
}

fn is_ours(key: &str) -> bool {
    [SOURCE, ID, DIGEST].contains(&key)
}

/// Tags by key; those of an export aside.
fn tags_of(tags: &Value) -> BTreeMap<&str, &str> {
    let pairs = tags.as_array().into_iter().flatten();
    pairs.map(|tag| (text(tag, "/key"), text(tag, "/value"))).filter(|(key, _)| !is_ours(key)).collect()
}

fn is_deleted(stage: &Value) -> bool {
    stage == "deleted"
}

fn locked(copies: &Mutex<Copies>) -> MutexGuard<'_, Copies> {
    copies.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Outgoing {
    /// From this registry to the other server.
    pub fn new(source: Door, target: Door, bar: ProgressBar, options: Options) -> Self {
        let report = Report { source: source.base.clone(), target: Some(target.base.clone()), ..Report::default() };
        let (runs, models) = Default::default();
        Self { source, target, progress: Progress::new(bar, report), runs, models, names: Mutex::default(), options }
    }

    /// What copies are noted under.
    pub fn source(&self) -> &str {
        &self.source.base
    }

    /// Copies everything.
    pub async fn run(self) -> Result<Report> {
        let experiments = self.experiments().await?;
        for experiment in &experiments {
            self.known_runs(experiment).await?;
            self.known_models(experiment).await?;
        }
        let mut unfinished = Vec::new();
        for experiment in &experiments {
            self.begin_runs(experiment, &mut unfinished).await?;
        }
        for experiment in &experiments {
            self.logged_models(experiment).await?;
        }
        self.fill_runs(unfinished).await?;
        self.registered_models().await?;
        self.delete_as_here(&experiments).await?;
        let whole = self.counts().await?;
        let mut report = self.progress.end();
        for (kind, count) in whole {
            report.count(kind).here = count;
        }
        Ok(report)
    }

    /// Whether a thing of the target was made of one here: its id and the digest of what it was.
    fn origin(&self, tags: &Value) -> Option<(String, String)> {
        let id = tag(tags, ID).filter(|_| tag(tags, SOURCE) == Some(self.source()))?;
        Some((id.to_owned(), tag(tags, DIGEST).unwrap_or_default().to_owned()))
    }

    /// The tags of a new copy.
    fn tags_with_origin(&self, tags: &Value, id: &str) -> Vec<Value> {
        let pair = |(key, value): (&str, &str)| json!({"key": key, "value": value});
        tags_of(tags).into_iter().chain([(SOURCE, self.source()), (ID, id)]).map(pair).collect()
    }

    /// The experiments of the target: those that are copies by the id here, and all by name.
    async fn experiments_there(&self) -> Result<(Copies, BTreeMap<String, Value>)> {
        let (mut copies, mut names) = (Copies::new(), BTreeMap::new());
        let query = json!({"max_results": 1000, "view_type": "ALL"});
        pages::posted(&self.target, &format!("{API}/experiments/search"), query, "experiments", async |page| {
            for experiment in page {
                if let Some((id, digest)) = self.origin(&experiment["tags"]) {
                    let is_deleted = is_deleted(&experiment["lifecycle_stage"]);
                    let target = text(&experiment, "/experiment_id").to_owned();
                    copies.insert(id, Copied { id: target, digest, is_deleted, is_to_be_deleted: is_deleted });
                }
                names.insert(text(&experiment, "/name").to_owned(), experiment);
            }
            Ok(())
        })
        .await
        .context("reading the experiments of the other server")?;
        Ok((copies, names))
    }

    /// Whether something was exported to the target before.
    pub async fn has_copies(&self) -> Result<bool> {
        Ok(!self.experiments_there().await?.0.is_empty())
    }

    async fn experiments(&self) -> Result<Vec<Experiment>> {
        let (copies, names) = self.experiments_there().await?;
        let mut experiments = Vec::new();
        let query = json!({"max_results": 1000, "view_type": "ALL"});
        pages::posted(&self.source, &format!("{API}/experiments/search"), query, "experiments", async |page| {
            self.progress.more(page.len());
            for here in page {
                let id = text(&here, "/experiment_id").to_owned();
                let copied = self.experiment(&id, &here, copies.get(&id), &names).await;
                let (copied, target) = match copied {
                    Ok((target, is_new)) => (Ok(is_new), Some(target)),
                    Err(error) => (Err(error), None),
                };
                self.progress.done("experiment", &id, copied)?;
                if let Some(target) = target {
                    if target != id {
                        self.progress.report().renumbered.insert(id.clone(), target.clone());
                    }
                    experiments.push(Experiment { id, target, is_deleted: is_deleted(&here["lifecycle_stage"]) });
                }
            }
            Ok(())
        })
        .await
        .context("reading the experiments of this registry")?;
        Ok(experiments)
    }

    /// Writes an experiment; gives its id there, and whether something was written. It can be written to afterwards: what
    /// is deleted here is deleted there in the end.
    async fn experiment(
        &self,
        id: &str,
        here: &Value,
        known: Option<&Copied>,
        names: &BTreeMap<String, Value>,
    ) -> Result<(String, bool)> {
        let (name, digest) = (text(here, "/name"), digest(here, &[]));
        let name_there = self.target.is_databricks.then(|| databricks::experiment_name(name));
        let name = name_there.as_deref().unwrap_or(name);
        let post = async |route: &str, body: Value| {
            self.target.send(Method::POST, &format!("{API}/experiments/{route}"), &body).await
        };
        let target = match known {
            Some(copy) => {
                if copy.is_deleted {
                    post("restore", json!({"experiment_id": copy.id})).await?;
                }
                if copy.digest == digest {
                    return Ok((copy.id.clone(), false));
                }
                copy.id.clone()
            }
            // Every server has it from its start.
            None if name == "Default" && names.contains_key(name) => text(&names[name], "/experiment_id").to_owned(),
            None if names.contains_key(name) => {
                let text = format!(
                    "an experiment {name:?} is there already, and was not exported from {}: rename one of them",
                    self.source()
                );
                return Err(Refusal::new(text).into());
            }
            None => {
                let tags = self.tags_with_origin(&here["tags"], id);
                let made = post("create", json!({"name": name, "tags": tags})).await?;
                text(&made, "/experiment_id").to_owned()
            }
        };
        let found = self.target.get(&format!("{API}/experiments/get"), &[("experiment_id", target.as_str())]).await?;
        let there = &found["experiment"];
        if text(there, "/name") != name {
            post("update", json!({"experiment_id": target, "new_name": name})).await?;
        }
        let (ours, theirs) = (tags_of(&here["tags"]), tags_of(&there["tags"]));
        for (key, value) in ours.iter().filter(|(key, value)| theirs.get(*key) != Some(*value)) {
            post("set-experiment-tag", json!({"experiment_id": target, "key": key, "value": value})).await?;
        }
        for key in theirs.keys().filter(|key| known.is_some() && !ours.contains_key(*key)) {
            post("delete-experiment-tag", json!({"experiment_id": target, "key": key})).await?;
        }
        for (key, value) in [(SOURCE, self.source()), (ID, id), (DIGEST, digest.as_str())] {
            if tag(&there["tags"], key) != Some(value) {
                post("set-experiment-tag", json!({"experiment_id": target, "key": key, "value": value})).await?;
            }
        }
        Ok((target, true))
    }

    /// Copies files to their new owner, below a URI of the target, and reads each back.
    async fn copy_files(&self, owner: Owner<'_>, files: &[File], (copy, uri): (Owner<'_>, &str)) -> Result<()> {
        if self.target.is_databricks {
            for file in files {
                let [from, to] = [owner, copy].map(|owner| Place::Owned(owner, file.path.clone()));
                self.copy_file(&from, &to, file.size).await?;
            }
            return Ok(());
        }
        if files.is_empty() {
            return Ok(());
        }
        let Some(root) = artifact_path_of(uri) else {
            bail!(Refusal::new(format!(
                "the other server keeps files at {uri} and does not take them itself: start it with --serve-artifacts, \
                 which is its default"
            )));
        };
        for file in files {
            let from = Place::Owned(owner, file.path.clone());
            let to = Place::Store(format!("{root}/{}", file.path));
            self.copy_file(&from, &to, file.size).await?;
        }
        Ok(())
    }

    /// Copies a file, and reads it back.
    async fn copy_file(&self, from: &Place<'_>, to: &Place<'_>, size: u64) -> Result<()> {
        let sent = files::copy(&self.source, from, &self.target, to, size).await?;
        let kept = files::sha256_at(&self.target, to).await?;
        if sent != kept {
            let text = format!("{from:?} has the SHA-256 {kept} there, and {sent} here");
            return Err(Refusal::new(text).into());
        }
        let mut report = self.progress.report();
        report.files += 1;
        report.bytes += size;
        Ok(())
    }

    /// Deletes there what is deleted here.
    async fn delete_as_here(&self, experiments: &[Experiment]) -> Result<()> {
        let runs: Vec<(String, bool)> = (locked(&self.runs).values())
            .filter(|run| run.is_deleted != run.is_to_be_deleted)
            .map(|run| (run.id.clone(), run.is_to_be_deleted))
            .collect();
        for (run_id, is_to_be_deleted) in runs {
            let route = if is_to_be_deleted { "delete" } else { "restore" };
            self.target.send(Method::POST, &format!("{API}/runs/{route}"), &json!({"run_id": run_id})).await?;
        }
        for experiment in experiments.iter().filter(|experiment| experiment.is_deleted) {
            let body = json!({"experiment_id": experiment.target});
            self.target.send(Method::POST, &format!("{API}/experiments/delete"), &body).await?;
        }
        Ok(())
    }

    /// Whole copies that the target has, counted there.
    async fn counts(&self) -> Result<BTreeMap<&'static str, u64>> {
        let mut counts = BTreeMap::new();
        let whole = |copies: &Copies| copies.values().filter(|copy| !copy.digest.is_empty()).count() as u64;
        let (experiments, _) = self.experiments_there().await?;
        counts.insert("experiment", whole(&experiments));
        locked(&self.runs).clear();
        locked(&self.models).clear();
        for (id, copy) in experiments {
            let experiment = Experiment { id, target: copy.id, is_deleted: copy.is_deleted };
            self.known_runs(&experiment).await?;
            self.known_models(&experiment).await?;
        }
        counts.insert("run", whole(&locked(&self.runs)));
        counts.insert("logged_model", whole(&locked(&self.models)));
        let (models, versions) = self.registered_counts().await?;
        counts.insert("model", models);
        counts.insert("version", versions);
        Ok(counts)
    }
}

/// What is in a list of objects with an id and not in another.
fn missing<'a>(wanted: &'a [Value], there: &[Value], pointer: &str) -> Vec<&'a Value> {
    let is_there = |one: &Value| there.iter().any(|other| text(other, pointer) == text(one, pointer));
    wanted.iter().filter(|one| !is_there(one)).collect()
}

/// Model links of a run, with the ids that the models have at the target.
fn mapped(links: &[Value], copies: &Copies) -> Vec<Value> {
    let one = |link: &Value| {
        let copy = copies.get(text(link, "/model_id"))?;
        let mut link = link.clone();
        link["model_id"] = copy.id.clone().into();
        Some(link)
    };
    links.iter().filter_map(one).collect()
}

/// The links of a run below a part of it.
fn links<'a>(run: &'a Value, part: &str, name: &str) -> &'a [Value] {
    items(&run[part], name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_of_an_export_are_told_from_others() {
        let tags = json!([
            {"key": "a", "value": "b"}, {"key": SOURCE, "value": "http://here"}, {"key": ID, "value": "7"},
        ]);
        assert_eq!(tags_of(&tags), BTreeMap::from([("a", "b")]));
        assert_eq!((tag(&tags, ID), tag(&tags, DIGEST), tag(&Value::Null, ID)), (Some("7"), None, None));
    }

    #[test]
    fn links_are_mapped_and_what_is_there_is_left_out() {
        let copies = Copies::from([("m-1".to_owned(), Copied { id: "m-9".to_owned(), ..Copied::default() })]);
        let links = [json!({"model_id": "m-1", "step": 4}), json!({"model_id": "m-2", "step": 4})];
        let mapped = mapped(&links, &copies);
        assert_eq!(mapped, [json!({"model_id": "m-9", "step": 4})]);
        assert_eq!(missing(&mapped, &[json!({"model_id": "m-9"})], "/model_id").len(), 0);
        assert_eq!(missing(&mapped, &[], "/model_id").len(), 1);
    }
}
