//! Registered models, with their versions and aliases.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use fishy_contracts::segment;
use reqwest::Method;
use serde_json::{Value, json};

use super::super::door::Refusal;
use super::{API, Walk, below, digest, items, text, without};

/// Registered models with this tag are prompts.
const PROMPT_TAG: &str = "mlflow.prompt.is_prompt";

impl Walk {
    /// Registered models, by the pages of a GET.
    pub(super) async fn models(&self) -> Result<()> {
        let mut token = String::new();
        loop {
            let mut query = vec![("max_results", "100")];
            if !token.is_empty() {
                query.push(("page_token", token.as_str()));
            }
            let page = self.source.get(&format!("{API}/registered-models/search"), &query).await?;
            let found = items(&page, "registered_models");
            self.bar.inc_length(found.len() as u64);
            for model in found.iter().filter(|model| !is_prompt(model)) {
                let name = text(model, "/name");
                let copied = self.model(name).await;
                self.done("model", name, copied)?;
            }
            match page["next_page_token"].as_str() {
                Some(next) if !next.is_empty() => token = next.to_owned(),
                _ => return Ok(()),
            }
        }
    }

    async fn model(&self, name: &str) -> Result<bool> {
        let there = self.source.get(&format!("{API}/registered-models/get"), &[("name", name)]).await?;
        let model = &there["registered_model"];
        let digest = digest(&without(model, &["latest_versions", "aliases"]), &[]);
        let is_new = self.put("model", json!({"digest": digest, "entity": model})).await?.1;
        self.versions(name).await?;
        let are_moved = self.aliases(name, model).await?;
        if is_new || are_moved {
            // Moving an alias has changed the time of the last change.
            self.put("model", json!({"digest": digest, "entity": model, "is_whole": true})).await?;
        }
        Ok(is_new || are_moved)
    }

    async fn versions(&self, name: &str) -> Result<()> {
        let quote = if name.contains('\'') { '"' } else { '\'' };
        let filter = format!("name = {quote}{name}{quote}");
        let mut token = String::new();
        loop {
            let mut query =
                vec![("filter", filter.as_str()), ("max_results", "100"), ("order_by", "version_number ASC")];
            if !token.is_empty() {
                query.push(("page_token", &token));
            }
            let page = self.source.get(&format!("{API}/model-versions/search"), &query).await?;
            let found = items(&page, "model_versions");
            self.bar.inc_length(found.len() as u64);
            for version in found {
                let id = format!("{name}/{}", text(version, "/version"));
                let copied = self.version(name, version).await;
                self.done("version", &id, copied)?;
            }
            match page["next_page_token"].as_str() {
                Some(next) if !next.is_empty() => token = next.to_owned(),
                _ => return Ok(()),
            }
        }
    }

    async fn version(&self, name: &str, version: &Value) -> Result<bool> {
        let query = [("name", name), ("version", text(version, "/version"))];
        let uri = self.source.get(&format!("{API}/model-versions/get-download-uri"), &query).await?;
        let path = self.path_here(version, text(&uri, "/artifact_uri")).await?;
        let message =
            json!({"digest": digest(&without(version, &["aliases"]), &[]), "entity": version, "artifact_path": path});
        Ok(self.put("version", message).await?.1)
    }

    /// Where the files of a version are in the target: with those of the logged model or run that it was made from.
    async fn path_here(&self, version: &Value, uri: &str) -> Result<String> {
        if let Some(id) = logged_model_of(version, uri) {
            let door = format!("{API}/logged-models/{}", segment(id));
            let (there, here) = (self.source.get(&door, &[]).await?, self.target.get(&door, &[]).await?);
            let pointer = "/model/info/artifact_uri";
            let rest = if uri.starts_with("models:/") { Some("") } else { below(uri, text(&there, pointer)) };
            if let Some(rest) = rest {
                return joined(text(&here, pointer), rest);
            }
        }
        let named = uri.strip_prefix("runs:/").and_then(|rest| rest.split_once('/'));
        let run_id = named.map_or_else(|| text(version, "/run_id"), |(run_id, _)| run_id);
        if !run_id.is_empty() {
            let (door, query) = (format!("{API}/runs/get"), [("run_id", run_id)]);
            let (there, here) = (self.source.get(&door, &query).await?, self.target.get(&door, &query).await?);
            let pointer = "/run/info/artifact_uri";
            if let Some(rest) = named.map(|(_, path)| path).or_else(|| below(uri, text(&there, pointer))) {
                return joined(text(&here, pointer), rest);
            }
        }
        Err(Refusal::new(format!(
            "its files at {uri} belong to no run and no logged model that is left, so they cannot be copied"
        ))
        .into())
    }

    /// Lets the aliases of a model name what they name there; tells whether one had to move.
    async fn aliases(&self, name: &str, model: &Value) -> Result<bool> {
        let here = self.target.get(&format!("{API}/registered-models/get"), &[("name", name)]).await?;
        let of = |model: &Value| -> BTreeMap<String, String> {
            let alias = |alias: &Value| (text(alias, "/alias").to_owned(), text(alias, "/version").to_owned());
            items(model, "aliases").iter().map(alias).collect()
        };
        let (theirs, ours) = (of(model), of(&here["registered_model"]));
        let door = format!("{API}/registered-models/alias");
        let mut moved = 0;
        for (alias, version) in theirs.iter().filter(|(alias, version)| ours.get(*alias) != Some(*version)) {
            let body = json!({"name": name, "alias": alias, "version": version});
            self.target.send(Method::POST, &door, &body).await?;
            moved += 1;
        }
        for alias in ours.keys().filter(|alias| !theirs.contains_key(*alias)) {
            self.target.send(Method::DELETE, &door, &json!({"name": name, "alias": alias})).await?;
            moved += 1;
        }
        self.report().aliases += moved;
        Ok(moved > 0)
    }
}

/// The logged model that a version was made from. Servers that do not tell it have it in the source or in the place of
/// the files.
fn logged_model_of<'a>(version: &'a Value, uri: &'a str) -> Option<&'a str> {
    let named = |text: &'a str| text.strip_prefix("models:/").filter(|id| id.starts_with("m-"));
    let told = Some(text(version, "/model_id")).filter(|id| !id.is_empty());
    let in_uri = || uri.split_once("/models/")?.1.split('/').next().filter(|id| id.starts_with("m-"));
    named(uri).or(told).or_else(|| named(text(version, "/source"))).or_else(in_uri)
}

fn is_prompt(model: &Value) -> bool {
    items(model, "tags").iter().any(|tag| tag["key"] == PROMPT_TAG && tag["value"] == "true")
}

fn joined(uri: &str, rest: &str) -> Result<String> {
    let Some(root) = uri.strip_prefix("mlflow-artifacts:/") else { bail!("{uri} is not in the store of fishy") };
    Ok(if rest.is_empty() { root.to_owned() } else { format!("{root}/{rest}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logged_model_of_a_version_is_found() {
        let uri = "mlflow-artifacts:/1/models/m-1/artifacts";
        assert_eq!(logged_model_of(&json!({"source": "models:/m-2"}), "s3://b/x"), Some("m-2"));
        assert_eq!(logged_model_of(&json!({"source": "models:/oxygen/1"}), uri), Some("m-1"));
        assert_eq!(logged_model_of(&json!({"model_id": "m-3"}), uri), Some("m-3"));
        assert_eq!(logged_model_of(&json!({"model_id": ""}), "models:/m-4"), Some("m-4"));
        assert_eq!(logged_model_of(&json!({"source": "runs:/r/models/x"}), "runs:/r/models/x"), None);
    }
}
