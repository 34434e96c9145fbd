use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fishy_core::{Error, Result};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

/// So much of what a process wrote is kept.
const KEPT_BYTES: usize = 4096;
/// So much of it is told.
const TOLD_CHARS: usize = 300;
/// What a process wrote last may come a little after its end.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// How a process is started.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The file that is run.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// All of its environment: nothing is inherited.
    pub environment: BTreeMap<String, OsString>,
    /// Where it works.
    pub folder: PathBuf,
}

/// A folder that is deleted with this.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    pub(crate) const fn new(folder: PathBuf) -> Self {
        Self(folder)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A running child in a process group of its own; the group is killed when this is dropped.
pub struct Process {
    child: Child,
    group: Option<Pid>,
    written: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
    /// Its folder, which is deleted when it has ended.
    scratch: Option<Scratch>,
}

impl Process {
    /// Starts it. What comes back beside it is the other end of its standard input: a socket, which tells it by its end
    /// that it should end. Must be called on a Tokio runtime.
    pub fn start(launch: &Launch) -> Result<(Self, UnixStream)> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let mut child = Command::new(&launch.program)
            .args(&launch.arguments)
            .current_dir(&launch.folder)
            .env_clear()
            .envs(&launch.environment)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| {
                Error::precondition(format!("cannot start {}: {error}", launch.program.display())).with_source(error)
            })?;
        let group = child.id().and_then(|id| Pid::from_raw(id as i32));
        let written = Arc::<Mutex<Vec<u8>>>::default();
        let reader = tokio::spawn(keep_last(child.stderr.take(), Arc::clone(&written)));
        Ok((Self { child, group, written, reader, scratch: None }, UnixStream::from_std(ours)?))
    }

    /// A folder that goes with it.
    pub fn keep(&mut self, scratch: Scratch) {
        self.scratch = Some(scratch);
    }

    /// Its number; `None` when it has ended.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Waits for its end, and tells how that was.
    pub async fn wait(&mut self) -> String {
        match self.child.wait().await {
            Ok(status) => told(status),
            Err(error) => format!("it cannot be waited for: {error}"),
        }
    }

    /// Gives it a while to end by itself, and then kills it with all that it has started. Tells how it ended.
    pub async fn end(&mut self, grace: Duration) -> String {
        if tokio::time::timeout(grace, self.child.wait()).await.is_err() {
            self.kill_group();
        }
        let how = self.wait().await;
        // Also when it has ended by itself: what it started may not have.
        self.kill_group();
        self.group = None;
        how
    }

    /// The last line that it wrote, if any.
    pub async fn last_words(&mut self) -> Option<String> {
        if !self.reader.is_finished() {
            let _ = tokio::time::timeout(LAST_WORDS, &mut self.reader).await;
        }
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&written);
        let line = text.lines().map(str::trim).rfind(|line| !line.is_empty())?;
        Some(line.chars().take(TOLD_CHARS).collect())
    }

    fn kill_group(&self) {
        if let Some(group) = self.group {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill_group();
        self.reader.abort();
    }
}

fn told(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("it ended with exit code {code}"),
        (None, Some(signal)) => format!("it was ended by signal {signal}"),
        (None, None) => "it ended".to_owned(),
    }
}

async fn keep_last(source: Option<impl AsyncRead + Unpin>, written: Arc<Mutex<Vec<u8>>>) {
    let Some(mut source) = source else { return };
    let mut buffer = vec![0; KEPT_BYTES];
    while let Ok(read @ 1..) = source.read(&mut buffer).await {
        let mut written = written.lock().unwrap_or_else(PoisonError::into_inner);
        written.extend_from_slice(&buffer[..read]);
        let surplus = written.len().saturating_sub(KEPT_BYTES);
        written.drain(..surplus);
    }
}
