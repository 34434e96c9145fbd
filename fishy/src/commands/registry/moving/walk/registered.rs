//! Registered models, with their versions and aliases.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use fishy_contracts::segment;
use reqwest::Method;
use serde_json::{Value, json};

use super::super::door::{Door, Refusal};
use super::super::pages;
use super::{API, Walk, below, digest, items, text, without};

/// Registered models with this tag are prompts.
const PROMPT_TAG: &str = "mlflow.prompt.is_prompt";

impl Walk {
    /// Registered models, by the pages of a GET.
    pub(super) async fn models(&self) -> Result<()> {
        let (door, query) = (self.source.models("registered-models/search"), [("max_results", "100")]);
        pages::got(&self.source, &door, &query, "registered_models", async |found| {
            self.progress.more(found.len());
            for model in found.iter().filter(|model| !is_prompt(model)) {
                let name = text(model, "/name");
                let copied = self.model(name).await;
                self.progress.done("model", name, copied)?;
            }
            Ok(())
        })
        .await
    }

    async fn model(&self, name: &str) -> Result<bool> {
        let there = self.source.get(&self.source.models("registered-models/get"), &[("name", name)]).await?;
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
        versions_of(&self.source, name, async |found| {
            self.progress.more(found.len());
            for version in &found {
                let id = format!("{name}/{}", text(version, "/version"));
                let copied = self.version(name, version).await;
                self.progress.done("version", &id, copied)?;
            }
            Ok(())
        })
        .await
    }

    async fn version(&self, name: &str, version: &Value) -> Result<bool> {
        let uri = uri_of(&self.source, name, version).await?;
        let path = self.path_here(version, &uri).await?;
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
        self.progress.report().aliases += moved;
        Ok(moved > 0)
    }
}

/// Page after page of the versions of a model, the first one first.
pub(in super::super) async fn versions_of(
    door: &Door,
    name: &str,
    mut each: impl AsyncFnMut(Vec<Value>) -> Result<()>,
) -> Result<()> {
    let route = door.models("model-versions/search");
    let quote = if name.contains('\'') { '"' } else { '\'' };
    let filter = format!("name = {quote}{name}{quote}");
    if !door.is_databricks {
        let query = [("filter", filter.as_str()), ("max_results", "100"), ("order_by", "version_number ASC")];
        return pages::got(door, &route, &query, "model_versions", each).await;
    }
    // Unity Catalog lists versions in any order, and without tags.
    let mut numbers = Vec::new();
    let query = [("filter", filter.as_str()), ("max_results", "1000")];
    pages::got(door, &route, &query, "model_versions", async |found| {
        numbers.extend(found.iter().filter_map(|version| text(version, "/version").parse::<u64>().ok()));
        Ok(())
    })
    .await?;
    numbers.sort_unstable();
    for number in numbers {
        let number = number.to_string();
        let query = [("name", name), ("version", number.as_str())];
        let mut got = door.get(&door.models("model-versions/get"), &query).await?;
        each(got.get_mut("model_version").map(Value::take).into_iter().collect()).await?;
    }
    Ok(())
}

/// Where the files of a version are. Unity Catalog tells where its own copy is: what that was made from is asked for.
pub(in super::super) async fn uri_of(door: &Door, name: &str, version: &Value) -> Result<String> {
    if door.is_databricks {
        return Ok(text(version, "/source").to_owned());
    }
    let query = [("name", name), ("version", text(version, "/version"))];
    let told = door.get(&door.models("model-versions/get-download-uri"), &query).await?;
    Ok(text(&told, "/artifact_uri").to_owned())
}

/// The logged model that a version was made from. Servers that do not tell it have it in the source or in the place of
/// the files.
pub(in super::super) fn logged_model_of<'a>(version: &'a Value, uri: &'a str) -> Option<&'a str> {
    let named = |text: &'a str| text.strip_prefix("models:/").filter(|id| id.starts_with("m-"));
    let told = Some(text(version, "/model_id")).filter(|id| !id.is_empty());
    let in_uri = || uri.split_once("/models/")?.1.split('/').next().filter(|id| id.starts_with("m-"));
    named(uri).or(told).or_else(|| named(text(version, "/source"))).or_else(in_uri)
}

pub(in super::super) fn is_prompt(model: &Value) -> bool {
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
