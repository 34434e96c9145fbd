use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use fishy_core::{Error, Result};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokio::process::Command;
use tokio::sync::{Mutex, OnceCell};

use super::PythonOptions;

/// The largest file of requirements.
const MAX_REQUIREMENTS_BYTES: usize = 256 * 1024;
/// So much of what a tool says is told.
const TOLD_CHARS: usize = 500;
/// Written last: an environment without it was not finished.
const STAMP: &str = "requirements.lock";

/// Virtual environments by the content of what they were built from.
#[derive(Debug)]
pub struct Environments {
    root: PathBuf,
    options: PythonOptions,
    /// Where the interpreter is that environments are made of.
    base: OnceCell<PathBuf>,
    /// One build at a time: tools share caches, and two of them would take twice as long.
    building: Mutex<()>,
}

/// What a model asks for.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    /// Major and minor version; `None` for any.
    python: Option<String>,
    requirements: String,
}

#[derive(Deserialize)]
struct PythonEnv {
    python: Option<String>,
    #[serde(default)]
    dependencies: Vec<String>,
}

impl Environments {
    /// They are kept below `root`.
    pub fn new(root: PathBuf, options: PythonOptions) -> Self {
        Self { root, options, base: OnceCell::new(), building: Mutex::new(()) }
    }

    /// The interpreter for a folder with `requirements.txt` or `python_env.yaml`: the configured one, or that of an
    /// environment, which is built when it is not there yet. Without either file, the one that environments are made of.
    ///
    /// `FailedPrecondition` for what cannot be installed, with what the tool said.
    pub async fn interpreter(&self, folder: &Path) -> Result<PathBuf> {
        if let Some(interpreter) = &self.options.interpreter {
            return Ok(interpreter.clone());
        }
        let Some(wanted) = Wanted::read(folder)? else { return Ok(self.base().await?.to_path_buf()) };
        let environment = self.root.join(wanted.digest());
        let python = environment.join("bin/python");
        let _one = self.building.lock().await;
        if environment.join(STAMP).is_file() {
            return Ok(python);
        }
        tracing::info!(environment = %environment.display(), "building a Python environment");
        let begun = std::time::Instant::now();
        let build = self.build(&wanted, &environment, &python);
        let built = tokio::time::timeout(self.options.build_timeout, build).await.unwrap_or_else(|_| {
            let ms = self.options.build_timeout.as_millis();
            Err(Error::precondition(format!("it took longer than {ms} ms (deployment.python.build_timeout_ms)")))
        });
        built.map_err(|error| error.context("its Python environment cannot be built"))?;
        let took_ms = begun.elapsed().as_millis() as u64;
        tracing::info!(environment = %environment.display(), took_ms, "built a Python environment");
        Ok(python)
    }

    async fn base(&self) -> Result<&Path> {
        let look = || async {
            let told = run(&self.options.base, ["-I", "-c", "import sys; print(sys.executable)"]).await?;
            Ok(PathBuf::from(told.trim()))
        };
        self.base.get_or_try_init(look).await.map(PathBuf::as_path)
    }

    async fn build(&self, wanted: &Wanted, environment: &Path, python: &Path) -> Result<()> {
        if environment.exists() {
            std::fs::remove_dir_all(environment)?;
        }
        std::fs::create_dir_all(&self.root)?;
        let (asked, lock) = (environment.with_extension("txt"), environment.with_extension("lock"));
        std::fs::write(&asked, &wanted.requirements)?;
        if run(&self.options.uv, ["--version"]).await.is_ok() {
            self.build_with_uv(wanted, environment, python, &asked, &lock).await?;
        } else {
            self.build_with_pip(wanted, environment, python, &asked, &lock).await?;
        }
        std::fs::copy(&lock, environment.join(STAMP))?;
        Ok(())
    }

    async fn build_with_uv(
        &self,
        wanted: &Wanted,
        environment: &Path,
        python: &Path,
        asked: &Path,
        lock: &Path,
    ) -> Result<()> {
        let uv = &self.options.uv;
        let base = match &wanted.python {
            Some(version) => OsStr::new(version),
            None => self.base().await?.as_os_str(),
        };
        let quiet = [OsStr::new("--quiet"), OsStr::new("--no-config"), OsStr::new("--no-python-downloads")];
        let mut venv = quiet.to_vec();
        venv.extend([OsStr::new("venv"), OsStr::new("--no-project"), OsStr::new("--python"), base]);
        venv.push(environment.as_os_str());
        run(uv, venv).await?;
        let wheels = [OsStr::new("--only-binary"), OsStr::new(":all:"), OsStr::new("--python"), python.as_os_str()];
        if !lock.is_file() {
            let fresh = lock.with_extension("new");
            let mut compile = quiet.to_vec();
            compile.extend(["pip", "compile", "--generate-hashes", "--no-header", "--output-file"].map(OsStr::new));
            compile.push(fresh.as_os_str());
            compile.extend(wheels);
            compile.extend(self.sources());
            compile.push(asked.as_os_str());
            run(uv, compile).await?;
            std::fs::rename(fresh, lock)?;
        }
        let mut sync = quiet.to_vec();
        sync.extend(
            ["pip", "sync", "--require-hashes", "--compile-bytecode", "--allow-empty-requirements"].map(OsStr::new),
        );
        sync.extend(wheels);
        sync.extend(self.sources());
        sync.push(lock.as_os_str());
        run(uv, sync).await.map(drop)
    }

    async fn build_with_pip(
        &self,
        wanted: &Wanted,
        environment: &Path,
        python: &Path,
        asked: &Path,
        lock: &Path,
    ) -> Result<()> {
        let base = self.base().await?;
        if let Some(version) = &wanted.python {
            let tell = "import sys; print('%d.%d' % sys.version_info[:2])";
            let has = run(base, ["-I", "-c", tell]).await?;
            if has.trim() != version {
                return Err(Error::precondition(format!(
                    "it asks for Python {version}, and {} is {}: install uv and that Python, or name it in \
                     deployment.python.base",
                    base.display(),
                    has.trim()
                )));
            }
        }
        run(base, [OsStr::new("-I"), OsStr::new("-m"), OsStr::new("venv"), environment.as_os_str()]).await?;
        let pip = ["-I", "-m", "pip", "--quiet", "--disable-pip-version-check"].map(OsStr::new);
        let is_locked = lock.is_file();
        let mut install = pip.to_vec();
        install.extend(["install", "--only-binary", ":all:", "--requirement"].map(OsStr::new));
        install.push(if is_locked { lock.as_os_str() } else { asked.as_os_str() });
        if is_locked {
            install.push(OsStr::new("--no-deps"));
        }
        install.extend(self.sources());
        run(python, install).await?;
        if !is_locked {
            let mut freeze = pip.to_vec();
            freeze.push(OsStr::new("freeze"));
            std::fs::write(lock, run(python, freeze).await?)?;
        }
        Ok(())
    }

    /// Where packages come from.
    fn sources(&self) -> Vec<&OsStr> {
        if let Some(wheels) = &self.options.wheels {
            return vec![OsStr::new("--no-index"), OsStr::new("--find-links"), wheels.as_os_str()];
        }
        match self.options.index_url.as_str() {
            "" => Vec::new(),
            url => vec![OsStr::new("--index-url"), OsStr::new(url)],
        }
    }
}

impl Wanted {
    fn read(folder: &Path) -> Result<Option<Self>> {
        let read = |name: &str| match std::fs::read_to_string(folder.join(name)) {
            Ok(text) if text.len() > MAX_REQUIREMENTS_BYTES => {
                Err(Error::precondition(format!("{name} has more than {MAX_REQUIREMENTS_BYTES} bytes")))
            }
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::from(error).context(name)),
        };
        let (requirements, python_env) = (read("requirements.txt")?, read("python_env.yaml")?);
        let env = python_env.map(|text| {
            serde_yaml_ng::from_str::<PythonEnv>(&text)
                .map_err(|error| Error::precondition(format!("python_env.yaml cannot be read: {error}")))
        });
        let env = env.transpose()?;
        let listed = env.as_ref().map(|env| {
            let own = env.dependencies.iter().filter(|line| line.trim() != "-r requirements.txt");
            own.map(String::as_str).collect::<Vec<_>>().join("\n")
        });
        if requirements.is_none() && listed.is_none() {
            return Ok(None);
        }
        let text = requirements.unwrap_or_default() + "\n" + &listed.unwrap_or_default();
        let requirements = checked(&text)?;
        let python = env.and_then(|env| env.python).map(|version| minor_of(&version)).transpose()?;
        Ok(Some(Self { python, requirements }))
    }

    fn digest(&self) -> String {
        let mut hasher = Sha256::new();
        hasher.update(self.python.as_deref().unwrap_or_default());
        hasher.update([0]);
        hasher.update(&self.requirements);
        hex::encode(hasher.finalize())
    }
}

/// The lines that name packages, sorted; an error for any that does something else.
fn checked(text: &str) -> Result<String> {
    let mut lines: Vec<&str> = text
        .lines()
        .map(|line| line.split(" #").next().unwrap_or_default().trim())
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect();
    for line in &lines {
        let is_name = line.starts_with(|first: char| first.is_ascii_alphanumeric());
        if !is_name || line.contains('@') || line.contains("://") || line.contains(['/', '\\', '\0']) {
            return Err(Error::precondition(format!(
                "the requirement {line:?} is no name of a package with versions: options, addresses and paths are not taken"
            )));
        }
    }
    lines.sort_unstable();
    lines.dedup();
    Ok(lines.join("\n") + "\n")
}

/// `3.11` of `3.11.7`.
fn minor_of(version: &str) -> Result<String> {
    let parts: Vec<&str> = version.trim().split('.').collect();
    let is_version =
        parts.len() >= 2 && parts.iter().all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()));
    if !is_version {
        return Err(Error::precondition(format!("python_env.yaml asks for Python {version:?}, which is no version")));
    }
    Ok(parts[..2].join("."))
}

/// Runs a tool to its end; it is killed when this is dropped. Answers what it printed.
async fn run(program: &Path, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<String> {
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| Error::precondition(format!("cannot start {}: {error}", program.display())))?;
    let output = child.wait_with_output().await?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said: Vec<&str> = said.split_whitespace().collect();
    let said = said.join(" ");
    let begin = said.char_indices().rev().nth(TOLD_CHARS).map_or(0, |(index, _)| index);
    Err(Error::precondition(format!("{} says: {}", program.display(), &said[begin..])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requirements_are_names_with_versions() {
        let text =
            "mlflow==3.17.2  # the client\n\n# scikit\nscikit-learn>=1.4,<2\nuvicorn[standard]==0.30\nmlflow==3.17.2\n";
        assert_eq!(checked(text).unwrap(), "mlflow==3.17.2\nscikit-learn>=1.4,<2\nuvicorn[standard]==0.30\n");
        for line in [
            "--index-url https://example.org/simple",
            "-e .",
            "git+https://example.org/x.git",
            "x @ https://example.org/x.whl",
            "./x.whl",
            "x/y",
        ] {
            assert!(checked(line).unwrap_err().message().contains("are not taken"), "{line}");
        }
    }

    #[test]
    fn what_a_model_wants_is_read_from_its_files() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Wanted::read(folder.path()).unwrap(), None);
        let env = "python: 3.11.7\nbuild_dependencies:\n- pip==23\ndependencies:\n- -r requirements.txt\n- extra==1\n";
        std::fs::write(folder.path().join("python_env.yaml"), env).unwrap();
        std::fs::write(folder.path().join("requirements.txt"), "six==1.17.0").unwrap();
        let wanted = Wanted::read(folder.path()).unwrap().unwrap();
        assert_eq!(wanted, Wanted { python: Some("3.11".into()), requirements: "extra==1\nsix==1.17.0\n".into() });
        let again = Wanted { python: Some("3.12".into()), requirements: wanted.requirements.clone() };
        assert_ne!(wanted.digest(), again.digest());
        assert!(minor_of("3; rm").is_err() && minor_of("3").is_err());
    }

    /// A wheel of one module, made by hand: a package that no index is needed for.
    fn wheel(folder: &Path) {
        let script = r#"
import sys, zipfile
with zipfile.ZipFile(sys.argv[1] + "/pens-2.5-py3-none-any.whl", "w") as wheel:
    info = "pens-2.5.dist-info"
    wheel.writestr("pens.py", "COUNT = 12\n")
    wheel.writestr(info + "/METADATA", "Metadata-Version: 2.1\nName: pens\nVersion: 2.5\n")
    wheel.writestr(info + "/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    wheel.writestr(info + "/RECORD", "pens.py,,\n" + info + "/METADATA,,\n" + info + "/WHEEL,,\n" + info + "/RECORD,,\n")
"#;
        let made = std::process::Command::new(base()).args(["-c", script]).arg(folder).status().unwrap();
        assert!(made.success());
    }

    fn base() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.fishy/venv/bin/python")
    }

    fn options(folder: &Path, uv: PathBuf) -> PythonOptions {
        PythonOptions {
            interpreter: None,
            base: base(),
            uv,
            index_url: String::new(),
            wheels: Some(folder.to_path_buf()),
            build_timeout: std::time::Duration::from_mins(2),
        }
    }

    async fn builds(uv: PathBuf, is_hashed: bool) {
        let home = tempfile::tempdir().unwrap();
        let (wheels, model) = (home.path().join("wheels"), home.path().join("model"));
        std::fs::create_dir(&wheels).unwrap();
        std::fs::create_dir(&model).unwrap();
        wheel(&wheels);
        std::fs::write(model.join("requirements.txt"), "pens>=2\n").unwrap();
        let environments = Environments::new(home.path().join("environments"), options(&wheels, uv.clone()));
        let python = environments.interpreter(&model).await.unwrap();
        let count = run(&python, ["-I", "-c", "import pens; print(pens.COUNT)"]).await.unwrap();
        assert_eq!(count.trim(), "12");
        assert!(run(&python, ["-I", "-c", "import mlflow"]).await.is_err(), "it has what was asked for, and no more");
        let folder = python.parent().unwrap().parent().unwrap();
        let lock = std::fs::read_to_string(folder.join(STAMP)).unwrap();
        assert!(lock.contains("pens==2.5") && lock.contains("--hash=sha256:") == is_hashed, "{lock}");
        // The second time it is there, also when the wheels are gone.
        std::fs::remove_dir_all(&wheels).unwrap();
        std::fs::create_dir(&wheels).unwrap();
        assert_eq!(environments.interpreter(&model).await.unwrap(), python);
        std::fs::write(model.join("requirements.txt"), "pens>=3\n").unwrap();
        let error = environments.interpreter(&model).await.unwrap_err();
        assert!(error.message().contains("cannot be built") && error.message().contains("pens"), "{error}");
    }

    #[tokio::test]
    async fn an_environment_is_built_and_locked_by_uv() {
        builds(base().with_file_name("uv"), true).await;
    }

    #[tokio::test]
    async fn without_uv_it_is_built_by_pip() {
        builds(PathBuf::from("no-such-uv"), false).await;
    }
}
