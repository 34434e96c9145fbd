use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use fishy_contracts::RegistryClient;
use fishy_contracts::registry::{ModelFile, ModelVersion};
use fishy_core::{Env, Error, Result, check_relative_path};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// No file of a served model is larger.
const MAX_FILE_BYTES: usize = 4 * 1024 * 1024 * 1024;
/// Files that nothing names are deleted when they are older than this; a younger one may be on its way in.
const KEEP_UNUSED_MS: i64 = 60 * 60 * 1000;
/// The folder of the checksums of files whose registry keeps none.
const CHECKSUMS: &str = ".checksums";

/// The model files that were fetched, by digest. What is loaded is always verified against the digest that names it.
pub(crate) struct ModelCache {
    root: PathBuf,
    env: Env,
}

/// The checksums of a version's files as they were when they were fetched first.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    model: String,
    version: String,
    sha256: BTreeMap<String, String>,
}

/// A verified folder of a model's files.
#[derive(Debug, Clone)]
pub(crate) struct CachedModel {
    pub(crate) digest: String,
    dir: PathBuf,
}

/// SHA-256 over path and content hash of every file, in the order of the paths.
fn digest_of<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut files: Vec<_> = files.into_iter().collect();
    files.sort_unstable();
    let mut hasher = Sha256::new();
    for (path, sha256) in files {
        hasher.update(path.as_bytes());
        hasher.update([0]);
        hasher.update(sha256.as_bytes());
        hasher.update(b"\n");
    }
    hex::encode(hasher.finalize())
}

impl ModelCache {
    pub(crate) fn open(root: PathBuf, env: Env) -> Result<Self> {
        std::fs::create_dir_all(&root)
            .map_err(|error| Error::from(error).context(format_args!("model cache {}", root.display())))?;
        Ok(Self { root, env })
    }

    /// The files of a digest, when they are here and undamaged.
    pub(crate) async fn find(&self, digest: &str) -> Result<CachedModel> {
        let dir = self.root.join(digest);
        let expected = digest.to_owned();
        blocking(move || {
            if !dir.is_dir() {
                return Err(Error::not_found(format!("the files of model {expected} are not in the local cache")));
            }
            let mut hashes = Vec::new();
            hash_files(&dir, "", &mut hashes)?;
            let actual = digest_of(hashes.iter().map(|(path, hash)| (path.as_str(), hash.as_str())));
            if actual != expected {
                std::fs::remove_dir_all(&dir)?;
                return Err(Error::precondition(format!(
                    "the cached files of model {expected} are damaged: their digest is {actual}"
                )));
            }
            Ok(CachedModel { digest: expected, dir })
        })
        .await
    }

    /// The files of a version: out of the cache when the registry's checksums name what is there, else fetched and checked.
    pub(crate) async fn fetch(&self, registry: &RegistryClient, version: &ModelVersion) -> Result<CachedModel> {
        let mut files = registry.files(version).await?;
        if files.is_empty() {
            return Err(Error::precondition(format!(
                "version {} of model {} has no files",
                version.version, version.name
            )));
        }
        for file in &files {
            check_relative_path(&file.path)?;
        }
        let keeps_none = files.iter().all(|file| file.sha256.is_none());
        if keeps_none {
            self.recall(version, &mut files).await?;
        }
        let known: Option<Vec<(&str, &str)>> =
            files.iter().map(|file| Some((file.path.as_str(), file.sha256.as_deref()?))).collect();
        if let Some(known) = known
            && let Ok(cached) = self.find(&digest_of(known)).await
        {
            return Ok(cached);
        }
        let incoming = self.root.join(format!(".incoming-{}", self.env.new_id()));
        match self.download(registry, version, &files, &incoming).await {
            Ok((cached, hashes)) => {
                if keeps_none {
                    self.keep(version, hashes).await?;
                }
                Ok(cached)
            }
            Err(error) => {
                let _ = tokio::fs::remove_dir_all(&incoming).await;
                Err(error)
            }
        }
    }

    fn kept_path(&self, version: &ModelVersion) -> PathBuf {
        let name = hex::encode(Sha256::digest(format!("{}\0{}", version.name, version.version)));
        self.root.join(CHECKSUMS).join(format!("{name}.json"))
    }

    /// Adds the checksums that were kept when the files were fetched first. Files that came or went since are an error.
    async fn recall(&self, version: &ModelVersion, files: &mut [ModelFile]) -> Result<()> {
        let path = self.kept_path(version);
        let kept: Kept = match tokio::fs::read(&path).await {
            Ok(text) => serde_json::from_slice(&text)
                .map_err(|error| Error::internal(format!("{} cannot be read", path.display())).with_source(error))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let changed = |path: &str| {
            Error::precondition(format!(
                "the files of version {} of model {} have changed since they were fetched first: {path} is new or missing",
                version.version, version.name
            ))
        };
        if let Some(gone) = kept.sha256.keys().find(|path| !files.iter().any(|file| file.path == **path)) {
            return Err(changed(gone));
        }
        for file in files {
            let sha256 = kept.sha256.get(&file.path).ok_or_else(|| changed(&file.path))?;
            file.sha256 = Some(sha256.clone());
        }
        Ok(())
    }

    /// Keeps the checksums of files whose registry keeps none, unless that was done before.
    async fn keep(&self, version: &ModelVersion, hashes: Vec<(String, String)>) -> Result<()> {
        let path = self.kept_path(version);
        let kept = Kept {
            model: version.name.clone(),
            version: version.version.clone(),
            sha256: hashes.into_iter().collect(),
        };
        let text = serde_json::to_vec(&kept)
            .map_err(|error| Error::internal("checksums cannot be written").with_source(error))?;
        let new = path.with_extension(self.env.new_id());
        blocking(move || {
            if path.is_file() {
                return Ok(());
            }
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder)?;
            }
            std::fs::write(&new, text)?;
            Ok(std::fs::rename(&new, &path)?)
        })
        .await
    }

    async fn download(
        &self,
        registry: &RegistryClient,
        version: &ModelVersion,
        files: &[ModelFile],
        incoming: &Path,
    ) -> Result<(CachedModel, Vec<(String, String)>)> {
        let mut hashes = Vec::with_capacity(files.len());
        for file in files {
            let content = registry.download_checked(version, file, MAX_FILE_BYTES).await?;
            let path = incoming.join(&file.path);
            let hash = blocking(move || write_file(&path, &content)).await?;
            hashes.push((file.path.clone(), hash));
        }
        let digest = digest_of(hashes.iter().map(|(path, hash)| (path.as_str(), hash.as_str())));
        let dir = self.root.join(&digest);
        match tokio::fs::rename(incoming, &dir).await {
            Ok(()) => {}
            // Another rollout of the same files was faster.
            Err(_) if dir.is_dir() => tokio::fs::remove_dir_all(incoming).await?,
            Err(error) => return Err(error.into()),
        }
        Ok((CachedModel { digest, dir }, hashes))
    }

    /// Forgets the checksums of a version that turned out not to be the first.
    pub(crate) async fn forget(&self, version: &ModelVersion) -> Result<()> {
        match tokio::fs::remove_file(self.kept_path(version)).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Deletes files that no revision of interest names.
    pub(crate) async fn clean(&self, used: HashSet<String>) -> Result<()> {
        let (root, before_ms) = (self.root.clone(), self.env.now_ms() - KEEP_UNUSED_MS);
        blocking(move || {
            for entry in std::fs::read_dir(root)? {
                let entry = entry?;
                let is_used = entry.file_name().to_str().is_some_and(|name| name == CHECKSUMS || used.contains(name));
                let modified = entry.metadata()?.modified()?.duration_since(std::time::UNIX_EPOCH);
                let modified_ms = modified.map_or(0, |since| since.as_millis() as i64);
                if !is_used && modified_ms < before_ms {
                    std::fs::remove_dir_all(entry.path())?;
                }
            }
            Ok(())
        })
        .await
    }
}

impl CachedModel {
    /// Where its files are.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }
}

fn write_file(path: &Path, content: &Bytes) -> Result<String> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::write(path, content)?;
    Ok(hex::encode(Sha256::digest(content)))
}

fn hash_files(dir: &Path, prefix: &str, hashes: &mut Vec<(String, String)>) -> Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_str().ok_or_else(|| Error::precondition("a cached file has a name that is not UTF-8"))?;
        let path = format!("{prefix}{name}");
        if entry.file_type()?.is_dir() {
            hash_files(&entry.path(), &format!("{path}/"), hashes)?;
        } else {
            let mut hasher = Sha256::new();
            let mut file = std::fs::File::open(entry.path())?;
            let mut buffer = vec![0; 256 * 1024];
            loop {
                match std::io::Read::read(&mut file, &mut buffer)? {
                    0 => break,
                    len => hasher.update(&buffer[..len]),
                }
            }
            hashes.push((path, hex::encode(hasher.finalize())));
        }
    }
    Ok(())
}

/// Runs what blocks where it may.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Error::internal("a background computation failed").with_source(error))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_depends_on_paths_and_contents_and_not_on_their_order() {
        let (a, b) = (("MLmodel", "aa"), ("model.onnx", "bb"));
        assert_eq!(digest_of([a, b]), digest_of([b, a]));
        assert_ne!(digest_of([a, b]), digest_of([("MLmodel", "bb"), ("model.onnx", "aa")]));
        assert_ne!(digest_of([a, b]), digest_of([a]));
    }

    #[tokio::test]
    async fn damaged_files_are_found_and_thrown_away() {
        let root = tempfile::tempdir().unwrap();
        let cache = ModelCache::open(root.path().into(), Env::system()).unwrap();
        let hash = write_file(&root.path().join("x/sub/model.onnx"), &Bytes::from_static(b"model")).unwrap();
        let digest = digest_of([("sub/model.onnx", hash.as_str())]);
        std::fs::rename(root.path().join("x"), root.path().join(&digest)).unwrap();
        assert_eq!(cache.find(&digest).await.unwrap().digest, digest);
        std::fs::write(root.path().join(&digest).join("sub/model.onnx"), b"m0del").unwrap();
        assert!(cache.find(&digest).await.unwrap_err().message().contains("damaged"));
        assert_eq!(cache.find(&digest).await.unwrap_err().code(), fishy_core::ErrorCode::NotFound);
    }
}
