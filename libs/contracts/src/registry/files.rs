//! The files of a model version: by our registry's list with checksums, by the artifact door of any MLflow server, or by
//! the file door of a Databricks workspace.

use bytes::Bytes;
use fishy_core::{Error, ErrorCode, Result, check_relative_path};
use fishy_http::Call;
use futures::{Stream, StreamExt};
use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{Dialect, ModelVersion, RegistryClient, text_at};
use crate::segment;

/// The most files and folders that a model version may have.
const MAX_ENTRIES: usize = 10_000;

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

/// What a folder holds, in MLflow's words and in those of Databricks.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Folder {
    #[serde(alias = "contents")]
    files: Vec<Entry>,
    next_page_token: String,
}

#[derive(Deserialize)]
struct Entry {
    path: String,
    #[serde(default, alias = "is_directory")]
    is_dir: bool,
    #[serde(default)]
    file_size: Option<Size>,
}

/// MLflow writes 64-bit numbers as text here and there.
#[derive(Deserialize)]
#[serde(untagged)]
enum Size {
    Number(u64),
    Text(String),
}

impl Entry {
    fn size_bytes(&self) -> u64 {
        match &self.file_size {
            Some(Size::Number(bytes)) => *bytes,
            Some(Size::Text(text)) => text.parse().unwrap_or(0),
            None => 0,
        }
    }
}

impl RegistryClient {
    /// Puts a file among the artifacts of a run, in the store of our own registry.
    pub async fn log_file(&self, experiment_id: &str, run_id: &str, path: &str, content: Bytes) -> Result<()> {
        let parts = [experiment_id, run_id, "artifacts"].into_iter().chain(path.split('/'));
        let parts: Vec<String> = parts.map(segment).collect();
        let call = Call::new(Method::PUT, format!("/api/2.0/mlflow-artifacts/artifacts/{}", parts.join("/")));
        self.client.expect(call.stream(futures::stream::once(async move { Ok(content) }))).await.map(drop)
    }

    /// Files of a version, with checksums where the server keeps them.
    pub async fn files(&self, version: &ModelVersion) -> Result<Vec<ModelFile>> {
        if self.is_foreign() {
            return self.files_of_foreign(version).await;
        }
        let path =
            format!("/api/v1/registry/models/{}/versions/{}/files", segment(&version.name), segment(&version.version));
        match self.client.get::<crate::List<ModelFile>>(&path).await {
            Ok(list) => Ok(list.items),
            Err(error) if error.code() == ErrorCode::NotFound => self.files_of_foreign(version).await,
            Err(error) => Err(error),
        }
    }

    async fn files_of_foreign(&self, version: &ModelVersion) -> Result<Vec<ModelFile>> {
        let root = self.artifact_path(version).await?;
        let mut folders = vec![String::new()];
        let (mut files, mut seen) = (Vec::new(), 0);
        while let Some(folder) = folders.pop() {
            let mut token = String::new();
            loop {
                let page = self.folder(&root, &folder, &token).await?;
                seen += page.files.len();
                if seen > MAX_ENTRIES {
                    return Err(Error::exhausted(format!(
                        "version {} of {} has more than {MAX_ENTRIES} files and folders",
                        version.version, version.name
                    )));
                }
                for entry in page.files {
                    // Told with the folder or without it: the name is what comes last.
                    let name = entry.path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
                    let path = if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
                    check_relative_path(&path)?;
                    if entry.is_dir {
                        folders.push(path);
                    } else {
                        files.push(ModelFile { path, size_bytes: entry.size_bytes(), sha256: None });
                    }
                }
                if page.next_page_token.is_empty() {
                    break;
                }
                if page.next_page_token == token {
                    return Err(Error::internal(format!("the registry's list of {folder:?} does not end")));
                }
                token = page.next_page_token;
            }
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(files)
    }

    /// What is in a folder below the root of a version's files.
    async fn folder(&self, root: &str, folder: &str, token: &str) -> Result<Folder> {
        let full = if folder.is_empty() { root.to_owned() } else { format!("{root}/{folder}") };
        let path = if self.dialect == Dialect::UnityCatalog {
            let page = if token.is_empty() { String::new() } else { format!("?page_token={}", segment(token)) };
            format!("/api/2.0/fs/directories/{}{page}", segments(&full))
        } else {
            format!("/api/2.0/mlflow-artifacts/artifacts?path={}", segment(&full))
        };
        self.client.get(&path).await
    }

    /// The folder of a version's files as the door of files names it.
    async fn artifact_path(&self, version: &ModelVersion) -> Result<String> {
        if self.dialect == Dialect::UnityCatalog {
            return Ok(format!("Models/{}/{}", version.name.replace('.', "/"), version.version));
        }
        let path = format!(
            "/api/2.0/mlflow/model-versions/get-download-uri?name={}&version={}",
            segment(&version.name),
            segment(&version.version)
        );
        let mut uri = text_at(&self.client.get::<Value>(&path).await?, "/artifact_uri")?;
        if let Some(model_id) = uri.strip_prefix("models:/m-") {
            let path = format!("/api/2.0/mlflow/logged-models/{}", segment(&format!("m-{model_id}")));
            uri = text_at(&self.client.get::<Value>(&path).await?, "/model/info/artifact_uri")?;
        }
        let mut below = String::new();
        if let Some((run_id, path)) = uri.strip_prefix("runs:/").and_then(|rest| rest.split_once('/')) {
            below = format!("/{}", path.trim_matches('/'));
            let path = format!("/api/2.0/mlflow/runs/get?run_id={}", segment(run_id));
            uri = text_at(&self.client.get::<Value>(&path).await?, "/run/info/artifact_uri")?;
        }
        artifact_path_of(&uri).map(|path| format!("{path}{below}")).ok_or_else(|| {
            Error::precondition(format!(
                "model files at {uri} cannot be fetched: the MLflow server must hand them out itself (mlflow-artifacts:/, \
                 which is its default)"
            ))
        })
    }

    /// Downloads one file of a version as it comes.
    pub async fn download(
        &self,
        version: &ModelVersion,
        path: &str,
    ) -> Result<impl Stream<Item = Result<Bytes>> + Send + use<>> {
        let full = segments(&format!("{}/{path}", self.artifact_path(version).await?));
        let door = if self.dialect == Dialect::UnityCatalog { "fs/files" } else { "mlflow-artifacts/artifacts" };
        let call = Call::new(Method::GET, format!("/api/2.0/{door}/{full}"));
        Ok(self.client.expect(call).await?.into_stream())
    }

    /// Downloads one file whole, and checks it against the checksum that is known of it.
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
                "{} of {} version {} is damaged: its SHA-256 is {actual}, and {expected} was kept of it",
                file.path, version.name, version.version
            ))),
            _ => Ok(whole.into()),
        }
    }
}

/// A path with each of its parts as it stands in a URL.
fn segments(path: &str) -> String {
    path.split('/').map(segment).collect::<Vec<_>>().join("/")
}

/// What an `mlflow-artifacts` URI names, whether it says the server or not; `None` for any other URI.
pub fn artifact_path_of(uri: &str) -> Option<&str> {
    let rest = uri.strip_prefix("mlflow-artifacts:")?;
    let path = match rest.strip_prefix("//") {
        Some(with_server) => with_server.split_once('/')?.1,
        None => rest,
    };
    Some(path.trim_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_artifact_uri_names_a_path_with_a_server_or_without() {
        assert_eq!(artifact_path_of("mlflow-artifacts:/1/models/m-1/artifacts"), Some("1/models/m-1/artifacts"));
        assert_eq!(artifact_path_of("mlflow-artifacts://host:5000/1/r/artifacts/"), Some("1/r/artifacts"));
        assert_eq!(artifact_path_of("mlflow-artifacts:///1/r"), Some("1/r"));
        assert_eq!(artifact_path_of("s3://bucket/1/r"), None);
        assert_eq!(segments("a b/c"), "a%20b/c");
    }

    #[test]
    fn both_forms_of_a_folder_are_read() {
        let mlflow: Folder = serde_json::from_str(
            r#"{"files": [{"path": "MLmodel", "is_dir": false, "file_size": 7}, {"path": "data", "is_dir": true}]}"#,
        )
        .unwrap();
        assert_eq!((mlflow.files[0].size_bytes(), mlflow.files[1].is_dir), (7, true));
        let databricks: Folder = serde_json::from_str(
            r#"{"contents": [{"path": "/Models/a/b/c/1/x", "is_directory": false, "file_size": "9"}],
                "next_page_token": "t"}"#,
        )
        .unwrap();
        assert_eq!((databricks.files[0].size_bytes(), databricks.next_page_token.as_str()), (9, "t"));
    }
}
