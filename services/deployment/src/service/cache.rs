use std::collections::HashSet;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use fishy_contracts::RegistryClient;
use fishy_contracts::deployment::{EngineSettings, GraphOptimization};
use fishy_contracts::registry::{ModelFile, ModelVersion};
use fishy_core::{Env, Error, Result, check_relative_path};
use fishy_inference::{Batcher, BatcherOptions, Engine, Model, ModelOptions, Optimization, Tensor};
use sha2::{Digest, Sha256};
use std::sync::Arc;

use crate::domain::{Golden, Layout, MlModel, loaded_bytes, parse_example};

/// No file of a served model is larger.
const MAX_FILE_BYTES: usize = 4 * 1024 * 1024 * 1024;
/// Files that nothing names are deleted when they are older than this; a younger one may be on its way in.
const KEEP_UNUSED_MS: i64 = 60 * 60 * 1000;

/// The model files that were fetched, by digest. What is loaded is always verified against the digest that names it.
pub(crate) struct ModelCache {
    root: PathBuf,
    env: Env,
}

/// A verified folder of a model's files.
#[derive(Debug, Clone)]
pub(crate) struct CachedModel {
    pub(crate) digest: String,
    dir: PathBuf,
}

/// A model that is ready to answer.
pub(crate) struct LoadedModel {
    pub(crate) batcher: Arc<Batcher>,
    pub(crate) layout: Layout,
    /// The inputs that came with it, in the order of the model's.
    pub(crate) example: Option<Vec<Tensor>>,
    /// What it is taken to cost in memory.
    pub(crate) size_bytes: u64,
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
        let files = registry.files(version).await?;
        if files.is_empty() {
            return Err(Error::precondition(format!(
                "version {} of model {} has no files",
                version.version, version.name
            )));
        }
        for file in &files {
            check_relative_path(&file.path)?;
        }
        let known: Option<Vec<(&str, &str)>> =
            files.iter().map(|file| Some((file.path.as_str(), file.sha256.as_deref()?))).collect();
        if let Some(known) = known
            && let Ok(cached) = self.find(&digest_of(known)).await
        {
            return Ok(cached);
        }
        let incoming = self.root.join(format!(".incoming-{}", self.env.new_id()));
        let fetched = self.download(registry, version, &files, &incoming).await;
        if fetched.is_err() {
            let _ = tokio::fs::remove_dir_all(&incoming).await;
        }
        fetched
    }

    async fn download(
        &self,
        registry: &RegistryClient,
        version: &ModelVersion,
        files: &[ModelFile],
        incoming: &Path,
    ) -> Result<CachedModel> {
        let mut hashes = Vec::with_capacity(files.len());
        for file in files {
            let content = registry.download_checked(version, file, MAX_FILE_BYTES).await?;
            let path = incoming.join(&file.path);
            let hash = blocking(move || write_file(&path, &content)).await?;
            hashes.push((file.path.as_str(), hash));
        }
        let digest = digest_of(hashes.iter().map(|(path, hash)| (*path, hash.as_str())));
        let dir = self.root.join(&digest);
        match tokio::fs::rename(incoming, &dir).await {
            Ok(()) => {}
            // Another rollout of the same files was faster.
            Err(_) if dir.is_dir() => tokio::fs::remove_dir_all(incoming).await?,
            Err(error) => return Err(error.into()),
        }
        Ok(CachedModel { digest, dir })
    }

    /// Deletes files that no revision of interest names.
    pub(crate) async fn clean(&self, used: HashSet<String>) -> Result<()> {
        let (root, before_ms) = (self.root.clone(), self.env.now_ms() - KEEP_UNUSED_MS);
        blocking(move || {
            for entry in std::fs::read_dir(root)? {
                let entry = entry?;
                let is_used = entry.file_name().to_str().is_some_and(|name| used.contains(name));
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
    /// Loads the model, warms it up, and lets it answer the example that came with it. `sessions` where the settings name
    /// no number.
    pub(crate) async fn load(
        &self,
        engine: &Arc<dyn Engine>,
        settings: &EngineSettings,
        sessions: usize,
    ) -> Result<LoadedModel> {
        let (dir, engine, settings) = (self.dir.clone(), Arc::clone(engine), settings.clone());
        blocking(move || load(&dir, &*engine, &settings, sessions)).await
    }
}

fn load(dir: &Path, engine: &dyn Engine, settings: &EngineSettings, sessions: usize) -> Result<LoadedModel> {
    let description = match std::fs::read_to_string(dir.join("MLmodel")) {
        Ok(text) => MlModel::parse(&text)?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => without_mlmodel(dir)?,
        Err(error) => return Err(error.into()),
    };
    let path = dir.join(&description.onnx_path);
    if !path.is_file() {
        return Err(Error::precondition(format!(
            "the model's MLmodel names the file {}, which it does not have",
            description.onnx_path
        )));
    }
    let options = ModelOptions {
        sessions: settings.sessions.unwrap_or(sessions).max(1),
        intra_threads: settings.intra_threads,
        optimization: match settings.optimization {
            GraphOptimization::Disabled => Optimization::Disabled,
            GraphOptimization::Basic => Optimization::Basic,
            GraphOptimization::Extended => Optimization::Extended,
            GraphOptimization::All => Optimization::All,
        },
        ..ModelOptions::default()
    };
    let model = engine.load(&path, &options)?;
    let layout = Layout::new(model.inputs(), model.outputs(), description.signature.as_ref())?;
    let layout = layout.with_params(description.params.clone());
    let example = try_example(dir, &description, &layout, &*model)?;
    let bounds =
        BatcherOptions { max_batch_rows: settings.max_batch_rows.max(1), max_queue_bytes: settings.max_queue_bytes };
    let batcher = Batcher::new(model, bounds, example.clone());
    let shared_bytes = batcher.model().shared_bytes() as u64;
    let size_bytes = loaded_bytes(folder_bytes(dir)?, shared_bytes, options.sessions as u64);
    Ok(LoadedModel { batcher, layout, example, size_bytes })
}

/// A model that cannot answer its own example, or answers it otherwise than it did when it was made, is not served.
fn try_example(dir: &Path, description: &MlModel, layout: &Layout, model: &dyn Model) -> Result<Option<Vec<Tensor>>> {
    let examples = [&description.serving_example, &description.example];
    let text = examples.into_iter().flatten().find_map(|path| std::fs::read_to_string(dir.join(path)).ok());
    let golden = match std::fs::read_to_string(dir.join(GOLDEN)) {
        Ok(text) => Some(Golden::parse(&text)?),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(error.into()),
    };
    let Some(text) = text else {
        return match golden {
            None => Ok(None),
            Some(_) => Err(Error::precondition(format!("the model has {GOLDEN}, and no input example they belong to"))),
        };
    };
    let unfit = |error: Error| error.context("the model does not take its own input example");
    let inputs = parse_example(layout, &text).map_err(unfit)?.tensors;
    model.warm_up(&inputs, WARM_UP_RUNS).map_err(|error| error.context("the model fails on its own input example"))?;
    if let Some(golden) = golden {
        let (rtol, atol) = (golden.rtol, golden.atol);
        let expected = golden.tensors(layout.outputs())?;
        model
            .reproduces(&inputs, &expected, rtol, atol)
            .map_err(|error| error.context("the model does not reproduce the outputs that came with it"))?;
    }
    Ok(Some(inputs))
}

/// The outputs that belong to the input example.
const GOLDEN: &str = "golden_outputs.json";
const WARM_UP_RUNS: usize = 20;

/// A folder without MLflow's description is served when it holds one ONNX file.
fn without_mlmodel(dir: &Path) -> Result<MlModel> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name();
        names.extend(
            name.to_str().filter(|name| Path::new(name).extension().is_some_and(|e| e == "onnx")).map(str::to_owned),
        );
    }
    match <[String; 1]>::try_from(names) {
        Ok([onnx_path]) => {
            Ok(MlModel { onnx_path, signature: None, params: Vec::new(), serving_example: None, example: None })
        }
        Err(names) => Err(Error::precondition(format!(
            "the model has no MLmodel file, and {} ONNX files where one could be served",
            names.len()
        ))),
    }
}

fn folder_bytes(dir: &Path) -> Result<u64> {
    let mut all = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        all += if entry.file_type()?.is_dir() { folder_bytes(&entry.path())? } else { entry.metadata()?.len() };
    }
    Ok(all)
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
