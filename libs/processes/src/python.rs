mod channel;
mod environments;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fishy_core::{Error, Result};
use serde::Serialize;
use serde_json::{Map, Value, json};

pub use channel::{Channel, Frame};
pub use environments::Environments;

use crate::{Launch, Process, Scratch};

/// The worker program, file by file.
const WORKER: [(&str, &str); 6] = [
    ("__init__.py", include_str!("../../../python/src/fishy/worker/__init__.py")),
    ("__main__.py", include_str!("../../../python/src/fishy/worker/__main__.py")),
    ("channel.py", include_str!("../../../python/src/fishy/worker/channel.py")),
    ("model.py", include_str!("../../../python/src/fishy/worker/model.py")),
    ("program.py", include_str!("../../../python/src/fishy/worker/program.py")),
    ("sandbox.py", include_str!("../../../python/src/fishy/worker/sandbox.py")),
];
/// The package has another name here: `fishy` may be something that the model imports.
const ENTRY: &str = "from fishy_worker.__main__ import main\n\nmain()\n";
/// The largest first frame of a worker.
const MAX_HELLO_BYTES: u64 = 64 * 1024;
/// What a process that says why it cannot start is given to end.
const GRACE: Duration = Duration::from_secs(1);

/// What a worker may use.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Limits {
    /// Its address space, in bytes.
    pub memory_bytes: u64,
    /// Files and sockets that are open at once.
    pub files: u64,
    /// The size that a file may grow to, in bytes.
    pub file_bytes: u64,
}

/// Settings of [`Python`].
#[derive(Debug, Clone)]
pub struct PythonOptions {
    /// An interpreter that has what is needed; `None`: an environment is built from the requirements.
    pub interpreter: Option<PathBuf>,
    /// The interpreter that environments are made of, and that runs what needs none.
    pub base: PathBuf,
    /// The program `uv`.
    pub uv: PathBuf,
    /// The package index; empty: the tools' own.
    pub index_url: String,
    /// A folder of wheels in place of an index.
    pub wheels: Option<PathBuf>,
    /// How long the build of an environment may take.
    pub build_timeout: Duration,
}

/// Starts Python workers.
#[derive(Debug)]
pub struct Python {
    worker: PathBuf,
    scratch: PathBuf,
    environments: Environments,
}

impl Python {
    /// Keeps the worker program, environments and the folders of workers below `home`, which belongs to this process alone.
    pub fn open(home: &Path, mut options: PythonOptions) -> Result<Self> {
        let home = std::path::absolute(home)?;
        // Workers have folders of their own: what is relative would mean another place there.
        for path in [&mut options.interpreter, &mut options.wheels].into_iter().flatten() {
            *path = std::path::absolute(&path)?;
        }
        let (worker, scratch) = (home.join("worker"), home.join("scratch"));
        let write = || {
            let package = worker.join("fishy_worker");
            std::fs::create_dir_all(&package)?;
            for (name, content) in WORKER {
                std::fs::write(package.join(name), content)?;
            }
            std::fs::write(worker.join("__main__.py"), ENTRY)?;
            // What an earlier life of this process left.
            if scratch.exists() {
                std::fs::remove_dir_all(&scratch)?;
            }
            std::fs::create_dir_all(&scratch)
        };
        write().map_err(|error| Error::from(error).context(format_args!("Python workers below {}", home.display())))?;
        Ok(Self { environments: Environments::new(home.join("environments"), options), worker, scratch })
    }

    /// The interpreter for the files of a model or program; its environment is built when it is not there yet.
    pub async fn interpreter(&self, folder: &Path) -> Result<PathBuf> {
        self.environments.interpreter(folder).await
    }

    /// An empty folder for one worker.
    pub fn scratch(&self) -> Result<Scratch> {
        let folder = self.scratch.join(uuid::Uuid::new_v4().to_string());
        std::fs::create_dir(&folder)?;
        Ok(Scratch::new(folder))
    }

    /// Starts a worker, and waits until it has loaded what `settings` name. Its folder goes with it. What stands in the way
    /// is a `FailedPrecondition`.
    pub async fn start(
        &self,
        interpreter: &Path,
        scratch: Scratch,
        threads: usize,
        limits: Limits,
        mut settings: Map<String, Value>,
    ) -> Result<(Process, Channel)> {
        settings.insert("limits".to_owned(), json!(limits));
        let home = scratch.path();
        let launch = Launch {
            program: interpreter.to_path_buf(),
            // `-I`: neither variables nor the user's packages; `-B`: nothing is written beside the model's files.
            arguments: vec![
                "-I".into(),
                "-B".into(),
                (&self.worker).into(),
                Value::Object(settings).to_string().into(),
            ],
            environment: environment(interpreter, home, threads),
            folder: home.to_path_buf(),
        };
        let (mut process, socket) = Process::start(&launch)?;
        process.keep(scratch);
        let mut channel = Channel::new(socket);
        let Ok(Some(hello)) = channel.receive(MAX_HELLO_BYTES).await else {
            let how = process.end(GRACE).await;
            let words = process.last_words().await.map(|words| format!(": {words}")).unwrap_or_default();
            return Err(Error::precondition(format!("{how} before it was ready{words}")));
        };
        if let Some(error) = hello.header.get("error").and_then(Value::as_str) {
            return Err(Error::precondition(error));
        }
        let network = hello.header.get("network").and_then(Value::as_str);
        tracing::debug!(process = process.id(), network, "a worker is ready");
        Ok((process, channel))
    }
}

fn environment(interpreter: &Path, home: &Path, threads: usize) -> BTreeMap<String, OsString> {
    let mut path = interpreter.parent().unwrap_or(Path::new("/usr/bin")).as_os_str().to_owned();
    path.push(":/usr/local/bin:/usr/bin:/bin");
    let threads = threads.max(1).to_string();
    let mut variables = BTreeMap::from([
        ("PATH".to_owned(), path),
        ("HOME".to_owned(), home.into()),
        ("TMPDIR".to_owned(), home.into()),
        ("LANG".to_owned(), "C.UTF-8".into()),
        ("PYTHONDONTWRITEBYTECODE".to_owned(), "1".into()),
        // MLflow keeps to itself.
        ("MLFLOW_TRACKING_URI".to_owned(), format!("file://{}/mlruns", home.display()).into()),
        ("MLFLOW_DISABLE_TELEMETRY".to_owned(), "true".into()),
    ]);
    for name in ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"] {
        variables.insert(name.to_owned(), threads.clone().into());
    }
    variables
}
