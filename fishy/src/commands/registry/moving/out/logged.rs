//! Logged models.

use std::collections::BTreeMap;

use anyhow::Result;
use fishy_contracts::segment;
use reqwest::Method;
use serde_json::{Value, json};

use super::super::door::Refusal;
use super::super::files::Owner;
use super::super::pages;
use super::super::walk::{API, POINTS, digest, items, text, without};
use super::{Copied, DIGEST, Experiment, Outgoing, locked, tags_of};

/// The states in which a model is whole.
const FINAL: [&str; 2] = ["LOGGED_MODEL_READY", "LOGGED_MODEL_UPLOAD_FAILED"];

impl Outgoing {
    /// Reads which logged models of an experiment are copies.
    pub(super) async fn known_models(&self, experiment: &Experiment) -> Result<()> {
        let query = json!({"experiment_ids": [experiment.target], "max_results": 50});
        pages::posted(&self.target, &format!("{API}/logged-models/search"), query, "models", async |page| {
            for model in page {
                if let Some((id, digest)) = self.origin(&model["info"]["tags"]) {
                    let copy = Copied { id: text(&model, "/info/model_id").to_owned(), digest, ..Copied::default() };
                    locked(&self.models).insert(id, copy);
                }
            }
            Ok(())
        })
        .await
    }

    pub(super) async fn logged_models(&self, experiment: &Experiment) -> Result<()> {
        let query = json!({"experiment_ids": [experiment.id], "max_results": 50});
        pages::posted(&self.source, &format!("{API}/logged-models/search"), query, "models", async |page| {
            self.progress.more(page.len());
            for model in page {
                let id = text(&model, "/info/model_id").to_owned();
                let copied = self.logged_model(experiment, &id, &model).await;
                self.progress.done("logged_model", &id, copied)?;
            }
            Ok(())
        })
        .await
    }

    async fn logged_model(&self, experiment: &Experiment, id: &str, model: &Value) -> Result<bool> {
        let (owner, info) = (Owner::Model(id), &model["info"]);
        let files = owner.files(&self.source).await?;
        let digest = digest(model, &files);
        let known = locked(&self.models).get(id).cloned();
        if known.as_ref().is_some_and(|copy| copy.digest == digest) {
            return Ok(false);
        }
        let target = match known {
            Some(copy) => copy.id,
            None => self.new_logged_model(experiment, id, model).await?,
        };
        let door = format!("{API}/logged-models/{}", segment(&target));
        let got = self.target.get(&door, &[]).await?;
        let there = &got["model"];
        let (ours, theirs) = (tags_of(&info["tags"]), tags_of(&there["info"]["tags"]));
        for key in theirs.keys().filter(|key| !ours.contains_key(*key)) {
            self.target.send(Method::DELETE, &format!("{door}/tags/{}", segment(key)), &json!({})).await?;
        }
        let tags: Vec<Value> = (ours.iter())
            .filter(|(key, value)| theirs.get(*key) != Some(*value))
            .map(|(key, value)| json!({"key": key, "value": value}))
            .collect();
        self.tag_logged_model(&target, &tags).await?;
        self.copy_files(owner, &files, (Owner::Model(&target), text(there, "/info/artifact_uri"))).await?;
        self.measurements(id, model, &target).await?;
        let status = text(model, "/info/status");
        if FINAL.contains(&status) && text(there, "/info/status") != status {
            let body = json!({"model_id": target, "status": status});
            self.target.send(Method::PATCH, &door, &body).await?;
        }
        self.tag_logged_model(&target, &[json!({"key": DIGEST, "value": digest})]).await?;
        Ok(true)
    }

    async fn new_logged_model(&self, experiment: &Experiment, id: &str, model: &Value) -> Result<String> {
        let info = &model["info"];
        let mut body = json!({
            "experiment_id": experiment.target, "name": info["name"], "params": items(&model["data"], "params"),
            "tags": self.tags_with_origin(&info["tags"], id),
        });
        if !text(model, "/info/model_type").is_empty() {
            body["model_type"] = info["model_type"].clone();
        }
        if let Some(run) = locked(&self.runs).get(text(model, "/info/source_run_id")) {
            body["source_run_id"] = run.id.clone().into();
        }
        let made = self.target.send(Method::POST, &format!("{API}/logged-models"), &body).await?;
        let target = text(&made, "/model/info/model_id").to_owned();
        locked(&self.models).insert(id.to_owned(), Copied { id: target.clone(), ..Copied::default() });
        Ok(target)
    }

    async fn tag_logged_model(&self, target: &str, tags: &[Value]) -> Result<()> {
        if tags.is_empty() {
            return Ok(());
        }
        let door = format!("{API}/logged-models/{}/tags", segment(target));
        self.target.send(Method::PATCH, &door, &json!({"model_id": target, "tags": tags})).await.map(drop)
    }

    /// What was measured of the model: MLflow takes it with the run that measured.
    async fn measurements(&self, id: &str, model: &Value, target: &str) -> Result<()> {
        let mut by_run: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
        for metric in items(&model["data"], "metrics") {
            let told = Some(text(metric, "/run_id")).filter(|run| !run.is_empty());
            let run = told.unwrap_or_else(|| text(model, "/info/source_run_id"));
            let mut metric = without(metric, &["run_id"]);
            metric["model_id"] = target.into();
            by_run.entry(run).or_default().push(metric);
        }
        for (run, metrics) in by_run {
            let Some(run_id) = self.writable_run(run).await? else {
                let text = format!("logged model {id} was measured by the run {run:?}, which is not there");
                return Err(Refusal::new(text).into());
            };
            for metrics in metrics.chunks(POINTS) {
                let body = json!({"run_id": run_id, "metrics": metrics});
                self.target.send(Method::POST, &format!("{API}/runs/log-batch"), &body).await?;
            }
        }
        Ok(())
    }
}
