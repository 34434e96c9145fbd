//! The server under the replay: a child process of our own that can be killed and started again, or somebody else's.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How long a server may take until it answers.
const START: Duration = Duration::from_mins(1);
/// How long it may take to end after a signal.
const STOP: Duration = Duration::from_secs(30);

/// A server.
pub struct Server {
    url: String,
    own: Option<Own>,
}

struct Own {
    data_dir: PathBuf,
    log: PathBuf,
    port: u16,
    environment: Vec<(&'static str, OsString)>,
    child: Mutex<Option<Child>>,
}

/// What the prediction log on disk holds after the server has ended.
#[derive(Debug, Clone, Copy)]
pub struct Logged {
    /// Records.
    pub records: u64,
    /// Distinct prediction ids among them.
    pub distinct: u64,
}

impl Server {
    /// Somebody else's server: it is neither killed nor stopped.
    pub fn foreign(url: &str) -> Self {
        Self { url: url.trim_end_matches('/').to_owned(), own: None }
    }

    /// Starts a server of our own in an empty folder, with these settings.
    pub async fn spawn(data_dir: &Path, environment: Vec<(&'static str, OsString)>) -> Result<Self> {
        if data_dir.join("db").exists() || data_dir.join("server.log").exists() {
            std::fs::remove_dir_all(data_dir).with_context(|| format!("emptying {}", data_dir.display()))?;
        }
        std::fs::create_dir_all(data_dir).with_context(|| format!("making {}", data_dir.display()))?;
        // A free port, given back at once: the server takes it, and takes it again after a kill.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let own = Own {
            data_dir: std::path::absolute(data_dir)?,
            log: data_dir.join("server.log"),
            port,
            environment,
            child: Mutex::new(None),
        };
        let server = Self { url: format!("http://127.0.0.1:{port}"), own: Some(own) };
        server.start().await?;
        Ok(server)
    }

    /// Its URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    async fn start(&self) -> Result<()> {
        let Some(own) = &self.own else { return Ok(()) };
        let log = OpenOptions::new().create(true).append(true).open(&own.log).context("the server's log")?;
        let program = std::env::current_exe().context("finding this program")?;
        let child = Command::new(program)
            .args(["up", "--listen", &format!("127.0.0.1:{}", own.port)])
            .arg("--data-dir")
            .arg(&own.data_dir)
            .envs(own.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .process_group(0)
            .spawn()
            .context("starting the server")?;
        *own.child.lock().unwrap_or_else(PoisonError::into_inner) = Some(child);
        let http = reqwest::Client::builder().timeout(Duration::from_secs(2)).build()?;
        let started = Instant::now();
        loop {
            if let Ok(answer) = http.get(format!("{}/health", self.url)).send().await
                && answer.status().is_success()
            {
                return Ok(());
            }
            let ended = {
                let mut child = own.child.lock().unwrap_or_else(PoisonError::into_inner);
                child.as_mut().and_then(|child| child.try_wait().ok().flatten())
            };
            if let Some(status) = ended {
                bail!("the server ended at once ({status}){}", self.log_tail());
            }
            if started.elapsed() > START {
                bail!("the server did not answer within {} s{}", START.as_secs(), self.log_tail());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// SIGKILL, and a new start on the same folder.
    pub async fn kill_and_restart(&self) -> Result<()> {
        let Some(own) = &self.own else { return Ok(()) };
        if let Some(mut child) = own.child.lock().unwrap_or_else(PoisonError::into_inner).take() {
            child.kill().context("killing the server")?;
            child.wait()?;
        }
        self.start().await
    }

    /// SIGTERM, and waits for the end.
    pub async fn stop(&self) {
        let Some(own) = &self.own else { return };
        let child = own.child.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut child) = child else { return };
        let _ = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
        let started = Instant::now();
        while started.elapsed() < STOP {
            if let Ok(Some(_)) = child.try_wait() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let _ = child.kill();
        let _ = child.wait();
    }

    /// Stops our own server and reads the prediction log it left; `None` for somebody else's.
    pub async fn stop_and_count(&self, deployment: &str) -> Result<Option<Logged>> {
        self.stop().await;
        let Some(own) = &self.own else { return Ok(None) };
        let folder = own.data_dir.join("artifacts").join("predictions").join(deployment);
        let mut ids = std::collections::HashSet::new();
        let mut records = 0;
        let mut folders = vec![folder];
        while let Some(folder) = folders.pop() {
            let Ok(entries) = std::fs::read_dir(&folder) else { continue };
            for entry in entries {
                let path = entry?.path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "parquet") {
                    records += read_ids(&path, &mut ids).with_context(|| format!("reading {}", path.display()))?;
                }
            }
        }
        Ok(Some(Logged { records, distinct: ids.len() as u64 }))
    }

    /// The last lines of the server's log, to be put behind a message.
    pub fn log_tail(&self) -> String {
        let Some(own) = &self.own else { return String::new() };
        let text = std::fs::read_to_string(&own.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let tail = &lines[lines.len().saturating_sub(15)..];
        format!("\nlast lines of {}:\n  {}", own.log.display(), tail.join("\n  "))
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn read_ids(path: &Path, ids: &mut std::collections::HashSet<String>) -> Result<u64> {
    use arrow::array::{Array, AsArray};
    let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(File::open(path)?)?.build()?;
    let mut records = 0;
    for batch in reader {
        let batch = batch?;
        let column = batch.column_by_name("id").context("no column id")?;
        let column = arrow::compute::cast(column, &arrow::datatypes::DataType::Utf8)?;
        let column = column.as_string::<i32>();
        records += column.len() as u64;
        ids.extend((0..column.len()).map(|place| column.value(place).to_owned()));
    }
    Ok(records)
}
