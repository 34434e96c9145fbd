//! Model Registry: MLflow REST as the contract, so that a foreign MLflow server can stand in its place, and the
//! capabilities that only ours has.

mod deletion;
mod history;

use std::collections::BTreeMap;

use bytes::Bytes;
use fishy_core::{Error, ErrorCode, Result};
use fishy_http::{Call, ServiceClient};
use futures::{Stream, StreamExt};
use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::segment;

pub use deletion::{GcReport, GcRequest, Hold, HoldKind, Kept, Purged, Release};
pub use history::{AliasAt, PastChange, RolledBack};

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

/// One file of a model version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelFile {
    /// Path below the model's folder.
    pub path: String,
    /// Size in bytes.
    pub size_bytes: u64,
    /// SHA-256 of the content in hex, as kept when it was uploaded; `None` from a foreign server.
    pub sha256: Option<String>,
}

/// An alias that only moves with an approved promotion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProtectedAlias {
    /// Registered model.
    pub model: String,
    /// The alias.
    pub alias: String,
    /// The deployment that follows it.
    pub deployment: String,
}

/// Client of a registry: ours or any MLflow server.
#[derive(Clone)]
pub struct RegistryClient(pub ServiceClient);

#[derive(Deserialize)]
struct VersionReply {
    model_version: ModelVersion,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct FileList {
    files: Vec<FileEntry>,
}

#[derive(Deserialize)]
struct FileEntry {
    path: String,
    #[serde(default)]
    is_dir: bool,
    #[serde(default)]
    file_size: Option<u64>,
}

impl RegistryClient {
    /// The version an alias names; `None` when model or alias do not exist.
    pub async fn version_by_alias(&self, model: &str, alias: &str) -> Result<Option<ModelVersion>> {
        let path = format!("/api/2.0/mlflow/registered-models/alias?name={}&alias={}", segment(model), segment(alias));
        match self.0.get::<VersionReply>(&path).await {
            Ok(reply) => Ok(Some(reply.model_version)),
            // MLflow answers an alias that does not exist with INVALID_PARAMETER_VALUE.
            Err(error) if matches!(error.code(), ErrorCode::NotFound | ErrorCode::InvalidArgument) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// One version.
    pub async fn version(&self, model: &str, version: &str) -> Result<ModelVersion> {
        let path = format!("/api/2.0/mlflow/model-versions/get?name={}&version={}", segment(model), segment(version));
        Ok(self.0.get::<VersionReply>(&path).await?.model_version)
    }

    /// Makes the registered model unless it exists.
    pub async fn ensure_model(&self, name: &str) -> Result<()> {
        let body = json!({ "name": name });
        match self.0.post::<Value>("/api/2.0/mlflow/registered-models/create", &body).await {
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
        Ok(self.0.post::<VersionReply>("/api/2.0/mlflow/model-versions/create", &body).await?.model_version)
    }

    /// Versions of a model that carry a tag, newest first.
    pub async fn versions_with_tag(&self, model: &str, key: &str, value: &str) -> Result<Vec<ModelVersion>> {
        #[derive(Deserialize, Default)]
        #[serde(default)]
        struct Found {
            model_versions: Vec<ModelVersion>,
        }
        let filter = segment(&format!("name = '{model}' and tags.`{key}` = '{value}'"));
        let path = format!("/api/2.0/mlflow/model-versions/search?filter={filter}&max_results=100");
        Ok(self.0.get::<Found>(&path).await?.model_versions)
    }

    /// Moves an alias.
    pub async fn set_alias(&self, model: &str, alias: &str, version: &str) -> Result<()> {
        let body = json!({"name": model, "alias": alias, "version": version});
        self.0.post::<Value>("/api/2.0/mlflow/registered-models/alias", &body).await.map(drop)
    }

    /// Tags a version.
    pub async fn set_version_tag(&self, model: &str, version: &str, key: &str, value: &str) -> Result<()> {
        let body = json!({"name": model, "version": version, "key": key, "value": value});
        self.0.post::<Value>("/api/2.0/mlflow/model-versions/set-tag", &body).await.map(drop)
    }

    /// Makes an experiment unless it exists; answers its id.
    pub async fn ensure_experiment(&self, name: &str) -> Result<String> {
        let by_name = format!("/api/2.0/mlflow/experiments/get-by-name?experiment_name={}", segment(name));
        match self.0.get::<Value>(&by_name).await {
            Ok(found) => text_at(&found, "/experiment/experiment_id"),
            Err(error) if error.code() == ErrorCode::NotFound => {
                let made = self.0.post::<Value>("/api/2.0/mlflow/experiments/create", &json!({"name": name})).await?;
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
        let made = self.0.post::<Value>("/api/2.0/mlflow/runs/create", &body).await?;
        text_at(&made, "/run/info/run_id")
    }

    /// Ends a run: `FINISHED` or `FAILED`.
    pub async fn end_run(&self, run_id: &str, status: &str, end_ms: i64) -> Result<()> {
        let body = json!({"run_id": run_id, "status": status, "end_time": end_ms});
        self.0.post::<Value>("/api/2.0/mlflow/runs/update", &body).await.map(drop)
    }

    /// Logs metrics of a run.
    pub async fn log_metrics(&self, run_id: &str, time_ms: i64, metrics: &BTreeMap<String, f64>) -> Result<()> {
        let metrics: Vec<Value> = metrics
            .iter()
            .map(|(key, value)| json!({"key": key, "value": value, "timestamp": time_ms, "step": 0}))
            .collect();
        let body = json!({"run_id": run_id, "metrics": metrics});
        self.0.post::<Value>("/api/2.0/mlflow/runs/log-batch", &body).await.map(drop)
    }

    /// Files of a version, with checksums where the server keeps them.
    pub async fn files(&self, version: &ModelVersion) -> Result<Vec<ModelFile>> {
        let path =
            format!("/api/v1/registry/models/{}/versions/{}/files", segment(&version.name), segment(&version.version));
        match self.0.get::<crate::List<ModelFile>>(&path).await {
            Ok(list) => Ok(list.items),
            Err(error) if error.code() == ErrorCode::NotFound => self.files_of_foreign(version).await,
            Err(error) => Err(error),
        }
    }

    async fn files_of_foreign(&self, version: &ModelVersion) -> Result<Vec<ModelFile>> {
        let root = self.artifact_path(version).await?;
        let mut folders = vec![root.clone()];
        let mut files = Vec::new();
        while let Some(folder) = folders.pop() {
            let path = format!("/api/2.0/mlflow-artifacts/artifacts?path={}", segment(&folder));
            for entry in self.0.get::<FileList>(&path).await?.files {
                let full = format!("{folder}/{}", entry.path);
                if entry.is_dir {
                    folders.push(full);
                } else {
                    let path = full.strip_prefix(&format!("{root}/")).unwrap_or(&full).to_owned();
                    files.push(ModelFile { path, size_bytes: entry.file_size.unwrap_or(0), sha256: None });
                }
            }
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(files)
    }

    /// The folder of a version's files as the artifact door names it.
    async fn artifact_path(&self, version: &ModelVersion) -> Result<String> {
        let path = format!(
            "/api/2.0/mlflow/model-versions/get-download-uri?name={}&version={}",
            segment(&version.name),
            segment(&version.version)
        );
        let mut uri = text_at(&self.0.get::<Value>(&path).await?, "/artifact_uri")?;
        if let Some(model_id) = uri.strip_prefix("models:/m-") {
            let path = format!("/api/2.0/mlflow/logged-models/{}", segment(&format!("m-{model_id}")));
            uri = text_at(&self.0.get::<Value>(&path).await?, "/model/info/artifact_uri")?;
        }
        uri.strip_prefix("mlflow-artifacts:/").map(|path| path.trim_matches('/').to_owned()).ok_or_else(|| {
            Error::precondition(format!("model files at {uri} cannot be fetched: only mlflow-artifacts:/ is served"))
        })
    }

    /// Downloads one file of a version as it comes.
    pub async fn download(
        &self,
        version: &ModelVersion,
        path: &str,
    ) -> Result<impl Stream<Item = Result<Bytes>> + Send + use<>> {
        let root = self.artifact_path(version).await?;
        let encoded: Vec<String> = root.split('/').chain(path.split('/')).map(segment).collect();
        let call = Call::new(Method::GET, format!("/api/2.0/mlflow-artifacts/artifacts/{}", encoded.join("/")));
        Ok(self.0.expect(call).await?.into_stream())
    }

    /// Downloads one file whole, and checks it against the checksum that the registry keeps.
    pub async fn download_checked(&self, version: &ModelVersion, file: &ModelFile, limit: usize) -> Result<Bytes> {
        let mut stream = std::pin::pin!(self.download(version, &file.path).await?);
        let mut whole = Vec::with_capacity(file.size_bytes.min(limit as u64) as usize);
        while let Some(part) = stream.next().await {
            whole.extend_from_slice(&part?);
            if whole.len() > limit {
                return Err(Error::exhausted(format!("{} is larger than {limit} bytes", file.path)));
            }
        }
        let actual = hex::encode(Sha256::digest(&whole));
        match &file.sha256 {
            Some(expected) if *expected != actual => Err(Error::precondition(format!(
                "{} of {} version {} is damaged: its SHA-256 is {actual}, the registry has {expected}",
                file.path, version.name, version.version
            ))),
            _ => Ok(whole.into()),
        }
    }

    /// Binds an alias to the promotion gate. `Ok(false)` when the server cannot: then only the deployment checks.
    pub async fn protect_alias(&self, alias: &ProtectedAlias) -> Result<bool> {
        match self.0.put::<Value>("/api/v1/registry/protected-aliases", alias).await {
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
