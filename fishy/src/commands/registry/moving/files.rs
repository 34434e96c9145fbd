//! The files of runs and logged models: listed, and streamed from one server into the other.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Result, ensure};
use fishy_contracts::segment;
use futures::StreamExt;
use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::door::{Door, FILE_ATTEMPTS, Passing, Refusal};

/// The longest time that a file may take.
const UPLOAD: Duration = Duration::from_hours(6);
/// The most files of one run or model.
const MAX_FILES: usize = 100_000;

/// What files belong to.
#[derive(Clone, Copy)]
pub enum Owner<'a> {
    /// A run.
    Run(&'a str),
    /// A logged model.
    Model(&'a str),
}

/// A file at the other server.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct File {
    /// Below the folder of its owner.
    pub path: String,
    /// In bytes.
    pub size: u64,
}

impl Owner<'_> {
    async fn folder(&self, source: &Door, path: &str, token: &str) -> Result<Value> {
        match self {
            Self::Run(id) => {
                let query = [("run_id", *id), ("path", path), ("page_token", token)];
                source.get("/api/2.0/mlflow/artifacts/list", filled(&query).as_slice()).await
            }
            Self::Model(id) => {
                let door = format!("/api/2.0/mlflow/logged-models/{}/artifacts/directories", segment(id));
                let query = [("artifact_directory_path", path), ("page_token", token)];
                source.get(&door, filled(&query).as_slice()).await
            }
        }
    }

    /// All its files, in the order of their paths.
    pub async fn files(&self, source: &Door) -> Result<Vec<File>> {
        let (mut files, mut folders) = (Vec::new(), vec![String::new()]);
        while let Some(folder) = folders.pop() {
            let mut token = String::new();
            loop {
                let page = self.folder(source, &folder, &token).await?;
                for entry in page["files"].as_array().into_iter().flatten() {
                    let path = entry["path"].as_str().unwrap_or_default().to_owned();
                    ensure!(fishy_core::check_relative_path(&path).is_ok(), "the file {path:?} leaves its folder");
                    let size = &entry["file_size"];
                    let size = size.as_u64().or_else(|| size.as_str()?.parse().ok()).unwrap_or(0);
                    if entry["is_dir"].as_bool() == Some(true) {
                        folders.push(path);
                    } else {
                        files.push(File { path, size });
                    }
                }
                ensure!(files.len() + folders.len() <= MAX_FILES, "more than {MAX_FILES} files");
                match page["next_page_token"].as_str() {
                    Some(next) if !next.is_empty() => next.clone_into(&mut token),
                    _ => break,
                }
            }
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(files)
    }

    /// Streams a file to a path of the target's store; gives its SHA-256.
    pub async fn copy(&self, source: &Door, target: &Door, file: &File, to: &str) -> Result<String> {
        let mut attempt = 1;
        loop {
            match self.copy_once(source, target, file, to).await? {
                Ok(sha256) => return Ok(sha256),
                Err(passing) if attempt < FILE_ATTEMPTS => passing.wait(attempt).await,
                Err(passing) => return Err(passing.error.context(format!("the file {}", file.path))),
            }
            attempt += 1;
        }
    }

    async fn copy_once(
        &self,
        source: &Door,
        target: &Door,
        file: &File,
        to: &str,
    ) -> Result<std::result::Result<String, Passing>> {
        let request = match self {
            Self::Run(id) => {
                source.request(Method::GET, "/get-artifact").query(&[("run_uuid", *id), ("path", file.path.as_str())])
            }
            Self::Model(id) => {
                let door = format!("/ajax-api/2.0/mlflow/logged-models/{}/artifacts/files", segment(id));
                source.request(Method::GET, &door).query(&[("artifact_file_path", file.path.as_str())])
            }
        };
        let answer = match source.once(request).await? {
            Ok(answer) => answer,
            Err(passing) => return Ok(Err(passing)),
        };
        let seen = Arc::new(Mutex::new((Sha256::new(), 0_u64)));
        let hashing = Arc::clone(&seen);
        let parts = answer.bytes_stream().map(move |part| {
            if let Ok(part) = &part {
                let mut seen = hashing.lock().unwrap_or_else(PoisonError::into_inner);
                seen.0.update(part);
                seen.1 += part.len() as u64;
            }
            part
        });
        let path: Vec<String> = to.split('/').map(segment).collect();
        let door = format!("/api/2.0/mlflow-artifacts/artifacts/{}", path.join("/"));
        let request = target.request(Method::PUT, &door).timeout(UPLOAD).body(reqwest::Body::wrap_stream(parts));
        if let Err(passing) = target.once(request).await? {
            return Ok(Err(passing));
        }
        let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.1 != file.size {
            let text = format!("{} of {} bytes came of {}", seen.1, file.size, file.path);
            return Ok(Err(Passing::of(Refusal::new(text).into())));
        }
        Ok(Ok(hex::encode(seen.0.clone().finalize())))
    }
}

fn filled<'a>(query: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    query.iter().copied().filter(|(_, value)| !value.is_empty()).collect()
}

/// The files as a seal tells them.
pub fn told(files: &[(String, String)]) -> Value {
    files.iter().map(|(path, sha256)| json!({"path": path, "sha256": sha256})).collect()
}
