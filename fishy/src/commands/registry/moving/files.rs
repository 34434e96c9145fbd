//! The files of runs, logged models and versions: listed, and streamed from one server into the other.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Result, ensure};
use fishy_contracts::segment;
use futures::StreamExt;
use reqwest::header::CONTENT_LENGTH;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::databricks;
use super::door::{Door, FILE_ATTEMPTS, Passing, Refusal};
use super::pages::Tokens;

/// The longest time that a file may take.
const UPLOAD: Duration = Duration::from_hours(6);
/// The most files of one run or model.
const MAX_FILES: usize = 100_000;

/// What files belong to.
#[derive(Debug, Clone, Copy)]
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

/// Where a file is, or shall be.
#[derive(Debug, Clone)]
pub enum Place<'a> {
    /// With its owner, whose server says where that is. MLflow's server only hands it out so, and takes none.
    Owned(Owner<'a>, String),
    /// In the store of an MLflow server.
    Store(String),
    /// With a version in Unity Catalog: the name of its model, its number, the path.
    Catalog(&'a str, &'a str, String),
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
            let (mut token, mut tokens) = (String::new(), Tokens::default());
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
                match tokens.follow(&page)? {
                    Some(next) => token = next,
                    None => break,
                }
            }
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(files)
    }
}

impl Place<'_> {
    fn path(&self) -> &str {
        match self {
            Self::Owned(_, path) | Self::Store(path) | Self::Catalog(_, _, path) => path,
        }
    }

    /// A request that reads the file, or writes it.
    async fn request(&self, door: &Door, method: Method) -> Result<RequestBuilder> {
        Ok(match self {
            Self::Owned(owner, path) if door.is_databricks => databricks::signed(door, *owner, path, method).await?,
            Self::Owned(Owner::Run(id), path) => {
                door.request(method, "/get-artifact").query(&[("run_uuid", *id), ("path", path.as_str())])
            }
            Self::Owned(Owner::Model(id), path) => {
                let route = format!("/ajax-api/2.0/mlflow/logged-models/{}/artifacts/files", segment(id));
                door.request(method, &route).query(&[("artifact_file_path", path.as_str())])
            }
            Self::Store(path) => {
                door.request(method, &format!("/api/2.0/mlflow-artifacts/artifacts/{}", segments(path)))
            }
            Self::Catalog(name, version, path) => {
                let model = name.replace('.', "/");
                let route = format!("/api/2.0/fs/files/{}", segments(&format!("Models/{model}/{version}/{path}")));
                let request = door.request(method.clone(), &route);
                if method == Method::PUT { request.query(&[("overwrite", "true")]) } else { request }
            }
        })
    }
}

/// Streams a file of `size` bytes from one server to the other; gives its SHA-256.
pub async fn copy(source: &Door, from: &Place<'_>, target: &Door, to: &Place<'_>, size: u64) -> Result<String> {
    let mut attempt = 1;
    loop {
        match copy_once(source, from, target, to, size).await? {
            Ok(sha256) => return Ok(sha256),
            Err(passing) if attempt < FILE_ATTEMPTS => passing.wait(attempt).await,
            Err(passing) => return Err(passing.error.context(format!("the file {}", from.path()))),
        }
        attempt += 1;
    }
}

async fn copy_once(
    source: &Door,
    from: &Place<'_>,
    target: &Door,
    to: &Place<'_>,
    size: u64,
) -> Result<std::result::Result<String, Passing>> {
    let answer = match source.once(from.request(source, Method::GET).await?).await? {
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
    let mut request = to.request(target, Method::PUT).await?.timeout(UPLOAD);
    if target.is_databricks {
        // The stores of clouds take nothing whose size they are not told.
        request = request.header(CONTENT_LENGTH, size);
    }
    if let Err(passing) = target.once(request.body(reqwest::Body::wrap_stream(parts))).await? {
        return Ok(Err(passing));
    }
    let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    if seen.1 != size {
        let text = format!("{} of {size} bytes came of {}", seen.1, from.path());
        return Ok(Err(Passing::of(Refusal::new(text).into())));
    }
    Ok(Ok(hex::encode(seen.0.clone().finalize())))
}

/// The SHA-256 of a file as a server hands it out.
pub async fn sha256_at(server: &Door, place: &Place<'_>) -> Result<String> {
    let mut attempt = 1;
    loop {
        match read_back(server, place).await? {
            Ok(sha256) => return Ok(sha256),
            Err(passing) if attempt < FILE_ATTEMPTS => passing.wait(attempt).await,
            Err(passing) => return Err(passing.error.context(format!("reading {} back", place.path()))),
        }
        attempt += 1;
    }
}

async fn read_back(server: &Door, place: &Place<'_>) -> Result<std::result::Result<String, Passing>> {
    let answer = match server.once(place.request(server, Method::GET).await?.timeout(UPLOAD)).await? {
        Ok(answer) => answer,
        Err(passing) => return Ok(Err(passing)),
    };
    let (mut hash, mut parts) = (Sha256::new(), answer.bytes_stream());
    while let Some(part) = parts.next().await {
        match part {
            Ok(part) => hash.update(&part),
            Err(error) => return Ok(Err(Passing::of(error.without_url().into()))),
        }
    }
    Ok(Ok(hex::encode(hash.finalize())))
}

/// A path with each of its parts as it stands in a URL.
fn segments(path: &str) -> String {
    path.split('/').map(segment).collect::<Vec<_>>().join("/")
}

fn filled<'a>(query: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    query.iter().copied().filter(|(_, value)| !value.is_empty()).collect()
}

/// The files as a seal tells them.
pub fn told(files: &[(String, String)]) -> Value {
    files.iter().map(|(path, sha256)| json!({"path": path, "sha256": sha256})).collect()
}
