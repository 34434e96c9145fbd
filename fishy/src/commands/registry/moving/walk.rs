//! The way through the other server: experiments, logged models, runs, registered models with their versions and aliases.
//!
//! Everything goes by pages, and each thing is compared by the digest of what its server tells of it (with the list of
//! its files), which the target keeps. So a copy that was stopped goes on behind what is whole, and one that is made
//! again writes only what changed.

mod registered;

pub(super) use registered::{is_prompt, logged_model_of, uri_of, versions_of};

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use fishy_contracts::segment;
use futures::{StreamExt, stream};
use indicatif::ProgressBar;
use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::door::Door;
use super::files::{self, File, Owner, Place, told};
use super::pages;
use super::progress::Progress;
use super::report::Report;

/// The first part of MLflow's routes.
pub(super) const API: &str = "/api/2.0/mlflow";
const IMPORTS: &str = "/api/v1/registry/imports";
/// Things of a page that are under way at once.
pub(super) const IN_FLIGHT: usize = 4;
/// Measurements of one message.
pub(super) const POINTS: usize = 1_000;

/// A copy under way.
pub struct Walk {
    source: Door,
    target: Door,
    progress: Progress,
    is_thorough: bool,
}

/// A text of an answer, or an empty one.
pub(super) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

pub(super) fn items<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value[name].as_array().map_or(&[], Vec::as_slice)
}

/// One text for what is the same: lists of tags and the like come in any order.
fn canonical(value: &Value) -> String {
    match value {
        Value::Array(items) => {
            let mut items: Vec<String> = items.iter().map(canonical).collect();
            items.sort_unstable();
            format!("[{}]", items.join(","))
        }
        Value::Object(fields) => {
            let mut fields: Vec<String> =
                fields.iter().map(|(key, value)| format!("{}:{}", json!(key), canonical(value))).collect();
            fields.sort_unstable();
            format!("{{{}}}", fields.join(","))
        }
        other => other.to_string(),
    }
}

/// Without what has a place of its own.
pub(super) fn without(entity: &Value, names: &[&str]) -> Value {
    let mut entity = entity.clone();
    if let Value::Object(fields) = &mut entity {
        fields.retain(|name, _| !names.contains(&name.as_str()));
    }
    entity
}

pub(super) fn digest(entity: &Value, files: &[File]) -> String {
    let mut hash = Sha256::new();
    hash.update(canonical(entity));
    for file in files {
        hash.update(format!("\n{}\n{}", file.size, file.path));
    }
    hex::encode(hash.finalize())
}

/// What is below a folder; `None` for what is not in it.
pub(super) fn below<'a>(uri: &'a str, root: &str) -> Option<&'a str> {
    let rest = uri.trim_end_matches('/').strip_prefix(root.trim_end_matches('/'))?;
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix('/') }
}

/// How many measurements of a metric a server has.
pub(super) async fn history_length(door: &Door, run_id: &str, key: &str) -> Result<u64> {
    let mut length = 0;
    let query = [("run_id", run_id), ("metric_key", key), ("max_results", "5000")];
    pages::got(door, &format!("{API}/metrics/get-history"), &query, "metrics", async |points| {
        length += points.len() as u64;
        Ok(())
    })
    .await?;
    Ok(length)
}

/// Whether each history of a run is as long at the target as it is at the source; `ids` are those of the run.
pub(super) async fn has_whole_histories(source: &Door, target: &Door, ids: (&str, &str), run: &Value) -> Result<bool> {
    for metric in items(&run["data"], "metrics") {
        let key = text(metric, "/key");
        if history_length(source, ids.0, key).await? != history_length(target, ids.1, key).await? {
            return Ok(false);
        }
    }
    Ok(true)
}

impl Walk {
    /// From one server to the other; `is_thorough` where the length of each history is compared too.
    pub fn new(source: Door, target: Door, bar: ProgressBar, is_thorough: bool) -> Self {
        let report = Report { source: source.base.clone(), ..Report::default() };
        Self { source, target, progress: Progress::new(bar, report), is_thorough }
    }

    /// The other server, as copies are noted under it.
    pub fn source(&self) -> &str {
        &self.source.base
    }

    /// Whole copies that are here, by kind.
    pub async fn counts(&self) -> Result<BTreeMap<String, u64>> {
        let counts = self
            .target
            .get(IMPORTS, &[("source", self.source())])
            .await
            .context("the target must be a fishy server, and its caller an administrator")?;
        Ok(serde_json::from_value(counts)?)
    }

    /// Copies everything.
    pub async fn run(self) -> Result<Report> {
        self.counts().await?;
        let mut experiments = Vec::new();
        let query = json!({"max_results": 1000, "view_type": "ALL"});
        self.pages("experiments/search", query, "experiments", async |page| {
            for experiment in page {
                let id = text(&experiment, "/experiment_id").to_owned();
                if self.progress.done("experiment", &id, self.experiment(&id, &experiment).await)? {
                    experiments.push(id);
                }
            }
            Ok(())
        })
        .await?;
        for id in &experiments {
            let query = json!({"experiment_ids": [id], "max_results": 50});
            self.pages("logged-models/search", query, "models", async |page| self.logged_models(page).await).await?;
        }
        for id in &experiments {
            let query = json!({"experiment_ids": [id], "run_view_type": "ALL", "max_results": 100});
            self.pages("runs/search", query, "runs", async |page| self.runs(page).await).await?;
        }
        self.models().await?;
        let counts = self.counts().await?;
        let mut report = self.progress.end();
        for kind in ["experiment", "logged_model", "run", "model", "version"] {
            report.count(kind).here = counts.get(kind).copied().unwrap_or(0);
        }
        Ok(report)
    }

    /// Asks for page after page.
    async fn pages(
        &self,
        door: &str,
        query: Value,
        name: &str,
        mut each: impl AsyncFnMut(Vec<Value>) -> Result<()>,
    ) -> Result<()> {
        pages::posted(&self.source, &format!("{API}/{door}"), query, name, async |found| {
            self.progress.more(found.len());
            each(found).await
        })
        .await
    }

    /// Writes a thing; gives its id there, and whether it was written.
    async fn put(&self, kind: &str, mut message: Value) -> Result<(String, bool)> {
        message["source"] = self.source().into();
        let answer = self.target.send(Method::POST, &format!("{IMPORTS}/{kind}"), &message).await?;
        Ok((text(&answer, "/target_id").to_owned(), answer["is_unchanged"] != json!(true)))
    }

    async fn experiment(&self, id: &str, experiment: &Value) -> Result<bool> {
        let message = json!({"digest": digest(experiment, &[]), "entity": experiment});
        let (ours, is_new) = self.put("experiment", message).await?;
        if ours != id {
            self.progress.report().renumbered.insert(id.to_owned(), ours);
        }
        Ok(is_new)
    }

    async fn logged_models(&self, page: Vec<Value>) -> Result<()> {
        let mut copies = stream::iter(page)
            .map(|model| async move {
                let id = text(&model, "/info/model_id").to_owned();
                let copied = self.logged_model(&id, &model).await;
                self.progress.done("logged_model", &id, copied)
            })
            .buffer_unordered(IN_FLIGHT);
        while let Some(copied) = copies.next().await {
            copied?;
        }
        Ok(())
    }

    async fn logged_model(&self, id: &str, model: &Value) -> Result<bool> {
        let owner = Owner::Model(id);
        let files = owner.files(&self.source).await?;
        let digest = digest(model, &files);
        if !self.put("logged_model", json!({"digest": digest, "entity": model})).await?.1 {
            return Ok(false);
        }
        let here = self.target.get(&format!("{API}/logged-models/{}", segment(id)), &[]).await?;
        let files = self.copy_files(owner, &files, text(&here, "/model/info/artifact_uri")).await?;
        let seal = json!({"kind": "logged_model", "id": id, "digest": digest, "files": files});
        self.put("seal", seal).await?;
        Ok(true)
    }

    async fn runs(&self, page: Vec<Value>) -> Result<()> {
        let mut copies = stream::iter(page)
            .map(|run| async move {
                let id = text(&run, "/info/run_id").to_owned();
                let copied = self.run_of(&id).await;
                self.progress.done("run", &id, copied)
            })
            .buffer_unordered(IN_FLIGHT);
        while let Some(copied) = copies.next().await {
            copied?;
        }
        Ok(())
    }

    async fn run_of(&self, id: &str) -> Result<bool> {
        let owner = Owner::Run(id);
        let there = self.source.get(&format!("{API}/runs/get"), &[("run_id", id)]).await?;
        let run = &there["run"];
        let files = owner.files(&self.source).await?;
        let digest = digest(run, &files);
        if !self.put("run", json!({"digest": digest, "entity": run})).await?.1 {
            if !self.is_thorough || has_whole_histories(&self.source, &self.target, (id, id), run).await? {
                return Ok(false);
            }
            // Under another digest it is written anew.
            self.put("run", json!({"digest": format!("{digest} with other histories"), "entity": run})).await?;
        }
        let mut points = 0;
        for metric in items(&run["data"], "metrics") {
            points += self.history(id, text(metric, "/key")).await?;
        }
        let here = self.target.get(&format!("{API}/runs/get"), &[("run_id", id)]).await?;
        let files = self.copy_files(owner, &files, text(&here, "/run/info/artifact_uri")).await?;
        let seal = json!({"kind": "run", "id": id, "digest": digest, "files": files, "points": points});
        self.put("seal", seal).await?;
        Ok(true)
    }

    /// Copies the history of one metric; gives its length.
    async fn history(&self, run_id: &str, key: &str) -> Result<u64> {
        let mut length = 0;
        let query = [("run_id", run_id), ("metric_key", key), ("max_results", "5000")];
        pages::got(&self.source, &format!("{API}/metrics/get-history"), &query, "metrics", async |metrics| {
            for points in metrics.chunks(POINTS) {
                self.put("points", json!({"run_id": run_id, "points": points})).await?;
                length += points.len() as u64;
            }
            Ok(())
        })
        .await?;
        self.progress.report().points += length;
        Ok(length)
    }

    /// Copies files below a URI of the target; gives them as a seal tells them.
    async fn copy_files(&self, owner: Owner<'_>, files: &[File], uri: &str) -> Result<Value> {
        let Some(root) = uri.strip_prefix("mlflow-artifacts:/") else { bail!("{uri} is not in the store of fishy") };
        let mut copied = Vec::with_capacity(files.len());
        for file in files {
            let to = format!("{root}/{}", file.path);
            let (from, to) = (Place::Owned(owner, file.path.clone()), Place::Store(to));
            let sha256 = files::copy(&self.source, &from, &self.target, &to, file.size).await?;
            copied.push((file.path.clone(), sha256));
            let mut report = self.progress.report();
            report.files += 1;
            report.bytes += file.size;
        }
        Ok(told(&copied))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_does_not_depend_on_the_order_of_lists() {
        let one = json!({"tags": [{"key": "a", "value": "1"}, {"key": "b", "value": "2"}], "name": "x"});
        let two = json!({"name": "x", "tags": [{"value": "2", "key": "b"}, {"key": "a", "value": "1"}]});
        assert_eq!(digest(&one, &[]), digest(&two, &[]));
        let file = File { path: "a".to_owned(), size: 1 };
        assert_ne!(digest(&one, &[]), digest(&one, &[file]));
        assert_ne!(digest(&one, &[]), digest(&json!({"name": "x", "tags": [{"key": "a", "value": "1"}]}), &[]));
    }

    #[test]
    fn a_path_is_below_a_folder_or_not() {
        assert_eq!(below("mlflow-artifacts:/1/r/artifacts/model", "mlflow-artifacts:/1/r/artifacts/"), Some("model"));
        assert_eq!(below("mlflow-artifacts:/1/r/artifacts", "mlflow-artifacts:/1/r/artifacts"), Some(""));
        assert_eq!(below("mlflow-artifacts:/1/r/artifacts2", "mlflow-artifacts:/1/r/artifacts"), None);
    }
}
