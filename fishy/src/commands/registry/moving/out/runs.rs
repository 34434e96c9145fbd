//! Runs: made first, since others link to them, and filled later.

use anyhow::{Context, Result};
use futures::{StreamExt, stream};
use reqwest::Method;
use serde_json::{Value, json};

use super::super::door::Refusal;
use super::super::files::Owner;
use super::super::pages;
use super::super::walk::{API, IN_FLIGHT, POINTS, digest, has_whole_histories, history_length, items, text};
use super::{Copied, DIGEST, Experiment, ID, Outgoing, SOURCE, is_deleted, links, locked, mapped, missing, tags_of};

/// The tag that names the run above a nested one.
const PARENT: &str = "mlflow.parentRunId";
/// Tags that MLflow's server gives a run itself.
const GIVEN: [&str; 2] = ["mlflow.runName", "mlflow.user"];
/// Tags or parameters of one message.
const PAIRS: usize = 100;

impl Outgoing {
    /// Reads which runs of an experiment are copies.
    pub(super) async fn known_runs(&self, experiment: &Experiment) -> Result<()> {
        let query = json!({"experiment_ids": [experiment.target], "run_view_type": "ALL", "max_results": 1000});
        pages::posted(&self.target, &format!("{API}/runs/search"), query, "runs", async |page| {
            for run in page {
                if let Some((id, digest)) = self.origin(&run["data"]["tags"]) {
                    let is_deleted = is_deleted(&run["info"]["lifecycle_stage"]);
                    let target = text(&run, "/info/run_id").to_owned();
                    let copy = Copied { id: target, digest, is_deleted, is_to_be_deleted: is_deleted };
                    locked(&self.runs).insert(id, copy);
                }
            }
            Ok(())
        })
        .await
    }

    /// Makes the runs of an experiment that are not there yet; adds those that must be filled.
    pub(super) async fn begin_runs(&self, experiment: &Experiment, unfinished: &mut Vec<String>) -> Result<()> {
        let query = json!({"experiment_ids": [experiment.id], "run_view_type": "ALL", "max_results": 100});
        pages::posted(&self.source, &format!("{API}/runs/search"), query, "runs", async |page| {
            self.progress.more(page.len());
            let mut begun = stream::iter(page)
                .map(|run| async move {
                    let id = text(&run, "/info/run_id").to_owned();
                    let begun = self.begin_run(experiment, &id).await;
                    (id, begun)
                })
                .buffer_unordered(IN_FLIGHT);
            while let Some((id, begun)) = begun.next().await {
                match begun {
                    Ok(true) => unfinished.push(id),
                    other => {
                        self.progress.done("run", &id, other)?;
                    }
                }
            }
            Ok(())
        })
        .await
    }

    /// Makes a run unless it is there; tells whether it must be filled.
    async fn begin_run(&self, experiment: &Experiment, id: &str) -> Result<bool> {
        let got = self.source.get(&format!("{API}/runs/get"), &[("run_id", id)]).await?;
        let run = &got["run"];
        let digest = digest(run, &Owner::Run(id).files(&self.source).await?);
        let is_to_be_deleted = is_deleted(&run["info"]["lifecycle_stage"]);
        let known = locked(&self.runs).get_mut(id).map(|copy| {
            copy.is_to_be_deleted = is_to_be_deleted;
            copy.clone()
        });
        if let Some(copy) = known {
            return Ok(copy.digest != digest
                || self.options.is_thorough
                    && !has_whole_histories(&self.source, &self.target, (id, &copy.id), run).await?);
        }
        let mut tags = self.tags_with_origin(&run["data"]["tags"], id);
        tags.retain(|tag| tag["key"] != PARENT && tag["key"] != "mlflow.runName");
        let info = &run["info"];
        let body = json!({
            "experiment_id": experiment.target, "user_id": info["user_id"], "run_name": info["run_name"],
            "start_time": info["start_time"], "tags": tags,
        });
        let made = self.target.send(Method::POST, &format!("{API}/runs/create"), &body).await?;
        let target = text(&made, "/run/info/run_id").to_owned();
        let copy = Copied { id: target, is_to_be_deleted, ..Copied::default() };
        locked(&self.runs).insert(id.to_owned(), copy);
        Ok(true)
    }

    /// The id of a run's copy, which can be written to.
    pub(super) async fn writable_run(&self, id: &str) -> Result<Option<String>> {
        let Some(copy) = locked(&self.runs).get(id).cloned() else { return Ok(None) };
        if copy.is_deleted {
            let body = json!({"run_id": copy.id});
            self.target.send(Method::POST, &format!("{API}/runs/restore"), &body).await?;
            if let Some(copy) = locked(&self.runs).get_mut(id) {
                copy.is_deleted = false;
            }
        }
        Ok(Some(copy.id))
    }

    /// Fills runs, some at once.
    pub(super) async fn fill_runs(&self, ids: Vec<String>) -> Result<()> {
        let mut filled = stream::iter(ids)
            .map(|id| async move {
                let filled = self.fill_run(&id).await;
                (id, filled)
            })
            .buffer_unordered(IN_FLIGHT);
        while let Some((id, filled)) = filled.next().await {
            self.progress.done("run", &id, filled.map(|()| true))?;
        }
        Ok(())
    }

    async fn fill_run(&self, id: &str) -> Result<()> {
        let (owner, door) = (Owner::Run(id), format!("{API}/runs/get"));
        let got = self.source.get(&door, &[("run_id", id)]).await?;
        let run = &got["run"];
        let files = owner.files(&self.source).await?;
        let target = self.writable_run(id).await?.context("a run that was not begun")?;
        let got = self.target.get(&door, &[("run_id", target.as_str())]).await?;
        let there = &got["run"];
        self.pairs(id, run, there, &target).await?;
        self.links(run, there, &target).await?;
        for metric in items(&run["data"], "metrics") {
            let key = text(metric, "/key");
            let has_some = items(&there["data"], "metrics").iter().any(|other| other["key"] == key);
            self.history(id, &target, key, has_some).await?;
        }
        self.copy_files(owner, &files, (Owner::Run(&target), text(there, "/info/artifact_uri"))).await?;
        let info = &run["info"];
        let mut update = json!({"run_id": target, "status": info["status"], "run_name": info["run_name"]});
        if !info["end_time"].is_null() {
            update["end_time"] = info["end_time"].clone();
        }
        self.post_run("update", &update).await?;
        self.post_run("set-tag", &json!({"run_id": target, "key": DIGEST, "value": digest(run, &files)})).await
    }

    async fn post_run(&self, route: &str, body: &Value) -> Result<()> {
        self.target.send(Method::POST, &format!("{API}/runs/{route}"), body).await.map(drop)
    }

    /// Tags and parameters.
    async fn pairs(&self, id: &str, run: &Value, there: &Value, target: &str) -> Result<()> {
        let (mut ours, theirs) = (tags_of(&run["data"]["tags"]), tags_of(&there["data"]["tags"]));
        let gone = |key: &&&str| !ours.contains_key(**key) && !GIVEN.contains(*key);
        for key in theirs.keys().filter(gone) {
            self.post_run("delete-tag", &json!({"run_id": target, "key": key})).await?;
        }
        let parent = ours.get(PARENT).and_then(|parent| locked(&self.runs).get(*parent).map(|copy| copy.id.clone()));
        if let Some(parent) = &parent {
            ours.insert(PARENT, parent);
        }
        ours.extend([(SOURCE, self.source()), (ID, id)]);
        let tags: Vec<Value> = (ours.iter())
            .filter(|(key, value)| theirs.get(*key) != Some(*value))
            .map(|(key, value)| json!({"key": key, "value": value}))
            .collect();
        for tags in tags.chunks(PAIRS) {
            self.post_run("log-batch", &json!({"run_id": target, "tags": tags})).await?;
        }
        let params = missing(items(&run["data"], "params"), items(&there["data"], "params"), "/key");
        for params in params.chunks(PAIRS) {
            self.post_run("log-batch", &json!({"run_id": target, "params": params})).await?;
        }
        Ok(())
    }

    /// Data sets, and the logged models that the run read or made.
    async fn links(&self, run: &Value, there: &Value, target: &str) -> Result<()> {
        let (inputs, outputs) = {
            let models = locked(&self.models);
            let of = |part, name| mapped(links(run, part, name), &models);
            (of("inputs", "model_inputs"), of("outputs", "model_outputs"))
        };
        let data_sets = links(run, "inputs", "dataset_inputs");
        let inputs = missing(&inputs, links(there, "inputs", "model_inputs"), "/model_id");
        if !data_sets.is_empty() || !inputs.is_empty() {
            let body = json!({"run_id": target, "datasets": data_sets, "models": inputs});
            self.post_run("log-inputs", &body).await?;
        }
        let outputs = missing(&outputs, links(there, "outputs", "model_outputs"), "/model_id");
        if !outputs.is_empty() {
            self.post_run("outputs", &json!({"run_id": target, "models": outputs})).await?;
        }
        Ok(())
    }

    /// The history of one metric, compared by its length.
    async fn history(&self, id: &str, target: &str, key: &str, has_some: bool) -> Result<()> {
        if has_some && history_length(&self.source, id, key).await? == history_length(&self.target, target, key).await?
        {
            return Ok(());
        }
        let mut length = 0;
        let query = [("run_id", id), ("metric_key", key), ("max_results", "5000")];
        pages::got(&self.source, &format!("{API}/metrics/get-history"), &query, "metrics", async |points| {
            for points in points.chunks(POINTS) {
                // A measurement that is there already stays the one it is.
                self.post_run("log-batch", &json!({"run_id": target, "metrics": points})).await?;
                length += points.len() as u64;
            }
            Ok(())
        })
        .await?;
        let there = history_length(&self.target, target, key).await?;
        if there != length {
            let text = format!("the metric {key:?} has {there} measurements there, and {length} here");
            return Err(Refusal::new(text).into());
        }
        self.progress.report().points += length;
        Ok(())
    }
}
