//! Model Registry: MLflow REST as the contract, so that a foreign MLflow server can stand in its place, and the
//! capabilities that only ours has.

mod deletion;
mod files;
mod history;
mod protection;

use std::collections::BTreeMap;

use fishy_core::{Error, ErrorCode, Result};
use fishy_http::ServiceClient;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::segment;

pub use deletion::{GcReport, GcRequest, Hold, HoldKind, Kept, Purged, Release};
pub use files::{ModelFile, artifact_path_of};
pub use history::{AliasAt, PastChange, RolledBack};
pub use protection::Unprotect;

/// A version of a registered model.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ModelVersion {
    /// Registered model.
    pub name: String,
    /// `1`, `2` …
    pub version: String,
    /// Where its files are: `models:/m-…`, `runs:/…` or `mlflow-artifacts:/…`.
    pub source: String,
    /// The run that made it.
    pub run_id: String,
    /// The user that made it, where the server tells.
    pub user_id: String,
    /// MLflow 3's logged model.
    pub model_id: String,
    /// `READY` when it can be used.
    pub status: String,
    /// Tags.
    pub tags: Vec<Tag>,
}

impl ModelVersion {
    /// Tags by key.
    pub fn tag_map(&self) -> BTreeMap<String, String> {
        self.tags.iter().map(|tag| (tag.key.clone(), tag.value.clone())).collect()
    }
}

/// A key and its value.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Tag {
    /// The key.
    pub key: String,
    /// The value.
    pub value: String,
}

/// An alias that only moves with an approved promotion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProtectedAlias {
    /// Registered model.
    pub model: String,
    /// The alias.
    pub alias: String,
    /// The gated deployment that follows it; empty for an alias that somebody put behind the gate.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub deployment: String,
}

/// Client of a registry: ours, any MLflow server, or a Databricks workspace.
#[derive(Clone)]
pub struct RegistryClient {
    client: ServiceClient,
    dialect: Dialect,
}

/// What a registry speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    /// MLflow REST, and what only ours has.
    Fishy,
    /// MLflow REST.
    Mlflow,
    /// MLflow REST, with registered models in Unity Catalog.
    UnityCatalog,
}

/// The most versions of a model that are listed.
const MAX_VERSIONS: usize = 100_000;
/// How many versions of a model are looked at for a tag where the server cannot search for one.
const TAGS_LOOKED_AT: usize = 100;

#[derive(Deserialize)]
struct VersionReply {
    model_version: ModelVersion,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Found {
    model_versions: Vec<ModelVersion>,
    next_page_token: String,
}

impl RegistryClient {
    /// A client of our own registry.
    pub const fn new(client: ServiceClient) -> Self {
        Self { client, dialect: Dialect::Fishy }
    }

    /// A client of an MLflow server.
    pub const fn mlflow(client: ServiceClient) -> Self {
        Self { client, dialect: Dialect::Mlflow }
    }

    /// A client of a Databricks workspace.
    pub const fn databricks(client: ServiceClient) -> Self {
        Self { client, dialect: Dialect::UnityCatalog }
    }

    /// Whether it is somebody else's: it sends no events, keeps no checksums, and cannot protect an alias.
    pub fn is_foreign(&self) -> bool {
        self.dialect != Dialect::Fishy
    }

    /// Whether a version can be made of files only by the program that has them, as in Unity Catalog.
    pub fn takes_uploads_only(&self) -> bool {
        self.dialect == Dialect::UnityCatalog
    }

    /// A route of registered models and their versions.
    fn models(&self, route: &str) -> String {
        let catalog = if self.dialect == Dialect::UnityCatalog { "unity-catalog/" } else { "" };
        format!("/api/2.0/mlflow/{catalog}{route}")
    }

    /// The version an alias names; `None` when model or alias do not exist.
    pub async fn version_by_alias(&self, model: &str, alias: &str) -> Result<Option<ModelVersion>> {
        let path = self.models(&format!("registered-models/alias?name={}&alias={}", segment(model), segment(alias)));
        match self.client.get::<VersionReply>(&path).await {
            Ok(reply) => Ok(Some(reply.model_version)),
            // MLflow answers an alias that does not exist with INVALID_PARAMETER_VALUE.
            Err(error) if matches!(error.code(), ErrorCode::NotFound | ErrorCode::InvalidArgument) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// One version.
    pub async fn version(&self, model: &str, version: &str) -> Result<ModelVersion> {
        let path = self.models(&format!("model-versions/get?name={}&version={}", segment(model), segment(version)));
        Ok(self.client.get::<VersionReply>(&path).await?.model_version)
    }

    /// Makes the registered model unless it exists.
    pub async fn ensure_model(&self, name: &str) -> Result<()> {
        let body = json!({ "name": name });
        match self.client.post::<Value>(&self.models("registered-models/create"), &body).await {
            Err(error) if error.code() != ErrorCode::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    }

    /// Makes a version out of a run's or logged model's files.
    pub async fn create_version(
        &self,
        model: &str,
        source: &str,
        run_id: &str,
        model_id: Option<&str>,
        tags: &BTreeMap<String, String>,
    ) -> Result<ModelVersion> {
        let tags: Vec<Value> = tags.iter().map(|(key, value)| json!({"key": key, "value": value})).collect();
        let mut body = json!({"name": model, "source": source, "run_id": run_id, "tags": tags});
        if let Some(model_id) = model_id {
            body["model_id"] = json!(model_id);
        }
        let made = self.client.post::<VersionReply>(&self.models("model-versions/create"), &body).await?;
        Ok(made.model_version)
    }

    /// Versions of a model that carry a tag, newest first.
    pub async fn versions_with_tag(&self, model: &str, key: &str, value: &str) -> Result<Vec<ModelVersion>> {
        if self.dialect == Dialect::UnityCatalog {
            return self.catalog_versions_with_tag(model, key, value).await;
        }
        let filter = segment(&format!("name = '{model}' and tags.`{key}` = '{value}'"));
        let path = format!("/api/2.0/mlflow/model-versions/search?filter={filter}&max_results=100");
        Ok(self.client.get::<Found>(&path).await?.model_versions)
    }

    /// Unity Catalog searches by name only, and tells no tags of what it finds.
    async fn catalog_versions_with_tag(&self, model: &str, key: &str, value: &str) -> Result<Vec<ModelVersion>> {
        let filter = segment(&format!("name='{model}'"));
        let mut found = Vec::new();
        let mut token = String::new();
        loop {
            let route =
                format!("model-versions/search?filter={filter}&max_results=1000&page_token={}", segment(&token));
            let page = self.client.get::<Found>(&self.models(&route)).await?;
            found.extend(page.model_versions);
            if page.next_page_token.is_empty() {
                break;
            }
            if page.next_page_token == token || found.len() > MAX_VERSIONS {
                return Err(Error::internal(format!("the registry's list of versions of {model} does not end")));
            }
            token = page.next_page_token;
        }
        found.sort_by_key(|version| std::cmp::Reverse(version.version.parse::<u64>().unwrap_or(0)));
        let mut tagged = Vec::new();
        for version in found.iter().take(TAGS_LOOKED_AT) {
            let version = self.version(model, &version.version).await?;
            if version.tags.iter().any(|tag| tag.key == key && tag.value == value) {
                tagged.push(version);
            }
        }
        Ok(tagged)
    }

    /// Moves an alias.
    pub async fn set_alias(&self, model: &str, alias: &str, version: &str) -> Result<()> {
        let body = json!({"name": model, "alias": alias, "version": version});
        self.client.post::<Value>(&self.models("registered-models/alias"), &body).await.map(drop)
    }

    /// Tags a version.
    pub async fn set_version_tag(&self, model: &str, version: &str, key: &str, value: &str) -> Result<()> {
        let body = json!({"name": model, "version": version, "key": key, "value": value});
        self.client.post::<Value>(&self.models("model-versions/set-tag"), &body).await.map(drop)
    }

    /// Makes an experiment unless it exists; answers its id.
    pub async fn ensure_experiment(&self, name: &str) -> Result<String> {
        let by_name = format!("/api/2.0/mlflow/experiments/get-by-name?experiment_name={}", segment(name));
        match self.client.get::<Value>(&by_name).await {
            Ok(found) => text_at(&found, "/experiment/experiment_id"),
            Err(error) if error.code() == ErrorCode::NotFound => {
                let made =
                    self.client.post::<Value>("/api/2.0/mlflow/experiments/create", &json!({"name": name})).await?;
                text_at(&made, "/experiment_id")
            }
            Err(error) => Err(error),
        }
    }

    /// Starts a run; answers its id.
    pub async fn create_run(
        &self,
        experiment_id: &str,
        run_name: &str,
        start_ms: i64,
        tags: &BTreeMap<String, String>,
    ) -> Result<String> {
        let tags: Vec<Value> = tags.iter().map(|(key, value)| json!({"key": key, "value": value})).collect();
        let body = json!({"experiment_id": experiment_id, "run_name": run_name, "start_time": start_ms, "tags": tags});
        let made = self.client.post::<Value>("/api/2.0/mlflow/runs/create", &body).await?;
        text_at(&made, "/run/info/run_id")
    }

    /// Ends a run: `FINISHED` or `FAILED`.
    pub async fn end_run(&self, run_id: &str, status: &str, end_ms: i64) -> Result<()> {
        let body = json!({"run_id": run_id, "status": status, "end_time": end_ms});
        self.client.post::<Value>("/api/2.0/mlflow/runs/update", &body).await.map(drop)
    }

    /// Logs metrics of a run.
    pub async fn log_metrics(&self, run_id: &str, time_ms: i64, metrics: &BTreeMap<String, f64>) -> Result<()> {
        let metrics: Vec<Value> = metrics
            .iter()
            .map(|(key, value)| json!({"key": key, "value": value, "timestamp": time_ms, "step": 0}))
            .collect();
        let body = json!({"run_id": run_id, "metrics": metrics});
        self.client.post::<Value>("/api/2.0/mlflow/runs/log-batch", &body).await.map(drop)
    }

    /// Binds an alias to the promotion gate. `Ok(false)` when the server cannot: then only the deployment checks.
    pub async fn protect_alias(&self, alias: &ProtectedAlias) -> Result<bool> {
        if self.is_foreign() {
            return Ok(false);
        }
        match self.client.put::<Value>("/api/v1/registry/protected-aliases", alias).await {
            Ok(_) => Ok(true),
            Err(error) if matches!(error.code(), ErrorCode::NotFound | ErrorCode::InvalidArgument) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn text_at(value: &Value, pointer: &str) -> Result<String> {
    let text = value.pointer(pointer).and_then(Value::as_str);
    text.map(str::to_owned).ok_or_else(|| Error::internal(format!("the registry's answer has no {pointer}")))
}
