//! `fishy deploy NAME --program PATH`: a custom predictor becomes a version of the model NAME, and a deployment of it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::Path;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use fishy_contracts::RegistryClient;
use fishy_core::Env;

/// The file that makes a version a program.
const PROGRAM_FILE: &str = "program.toml";
/// The runs that uploads belong to.
const EXPERIMENT: &str = "programs";
/// What a deployment of a program follows.
const ALIAS: &str = "champion";
/// Where its files are among those of its run.
const FOLDER: &str = "program";
const MAX_FILES: usize = 1000;
const MAX_BYTES: usize = 256 * 1024 * 1024;

/// Files by path.
type Files = BTreeMap<String, Vec<u8>>;

/// Uploads a program as a new version of the model `name`, and moves its alias there. Answers what a deployment follows.
pub async fn register(registry: &RegistryClient, name: &str, path: &Path, app: Option<&str>) -> Result<String> {
    let files = read(path, app)?;
    let now_ms = Env::system().now_ms();
    registry.ensure_model(name).await?;
    let experiment = registry.ensure_experiment(EXPERIMENT).await?;
    let run = registry.create_run(&experiment, name, now_ms, &BTreeMap::new()).await?;
    for (file, content) in files {
        registry
            .log_file(&experiment, &run, &format!("{FOLDER}/{file}"), Bytes::from(content))
            .await
            .with_context(|| format!("uploading {file}"))?;
    }
    registry.end_run(&run, "FINISHED", Env::system().now_ms()).await?;
    let tags = BTreeMap::from([("fishy.kind".to_owned(), "program".to_owned())]);
    let version = registry.create_version(name, &format!("runs:/{run}/{FOLDER}"), &run, None, &tags).await?;
    registry.set_alias(name, ALIAS, &version.version).await?;
    Ok(format!("models:/{name}@{ALIAS}"))
}

/// The files of a program: those of a folder, or one Python file. Where no `program.toml` is among them, one that names the
/// WSGI application is added.
fn read(path: &Path, app: Option<&str>) -> Result<Files> {
    let mut files = Files::new();
    let metadata = std::fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
    if metadata.is_dir() {
        add_folder(path, "", &mut files)?;
    } else {
        let name = path.file_name().and_then(OsStr::to_str).context("the file's name is not UTF-8")?;
        files.insert(name.to_owned(), std::fs::read(path)?);
    }
    let stem = path.extension().filter(|extension| *extension == "py").and(path.file_stem()).and_then(OsStr::to_str);
    let app = match (app, files.contains_key(PROGRAM_FILE)) {
        (Some(_), true) => {
            bail!("{} has a {PROGRAM_FILE}, which names the application: leave --app out", path.display())
        }
        (None, true) => return Ok(files),
        (Some(app), false) => app.to_owned(),
        (None, false) => match stem {
            Some(stem) => format!("{stem}:app"),
            None => bail!("{} has no {PROGRAM_FILE}: add one, or name the application by --app", path.display()),
        },
    };
    let text = format!("app = {}\n", toml::Value::String(app));
    files.insert(PROGRAM_FILE.to_owned(), text.into_bytes());
    Ok(files)
}

/// Hidden files and Python's caches are no part of a program.
fn add_folder(folder: &Path, prefix: &str, files: &mut Files) -> Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { bail!("{} has a name that is not UTF-8", entry.path().display()) };
        if name.starts_with('.') || name == "__pycache__" {
            continue;
        }
        let path = format!("{prefix}{name}");
        let kind = entry.file_type()?;
        if kind.is_dir() {
            add_folder(&entry.path(), &format!("{path}/"), files)?;
        } else if kind.is_file() {
            files.insert(path, std::fs::read(entry.path())?);
        } else {
            bail!("{} is neither a file nor a folder", entry.path().display());
        }
        let bytes: usize = files.values().map(Vec::len).sum();
        if files.len() > MAX_FILES || bytes > MAX_BYTES {
            bail!("a program has at most {MAX_FILES} files and {MAX_BYTES} bytes");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_becomes_an_application_and_a_folder_is_taken_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("advice.py");
        std::fs::write(&file, "app = None").unwrap();
        let files = read(&file, None).unwrap();
        assert_eq!(files["program.toml"], b"app = \"advice:app\"\n");
        assert_eq!(read(&file, Some("advice:web")).unwrap()["program.toml"], b"app = \"advice:web\"\n");
        assert!(read(folder.path(), None).unwrap_err().to_string().contains("--app"));
        for hidden in [".git", "__pycache__", "pages"] {
            std::fs::create_dir(folder.path().join(hidden)).unwrap();
            std::fs::write(folder.path().join(hidden).join("x"), "x").unwrap();
        }
        std::fs::write(folder.path().join("program.toml"), "app = \"advice:app\"").unwrap();
        let files = read(folder.path(), None).unwrap();
        assert_eq!(files.keys().collect::<Vec<_>>(), ["advice.py", "pages/x", "program.toml"]);
        assert!(read(folder.path(), Some("x:y")).is_err());
        assert!(read(&folder.path().join("nothing"), None).is_err());
    }
}
