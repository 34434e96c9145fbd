//! Custom predictors: programs that answer in place of a model.

mod answer;
mod endpoint;

pub(crate) use answer::{ProgramRequest, is_a_program};

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use fishy_config::Programs;
use fishy_core::{Error, Result};
use fishy_processes::{Channel, Fleet, FleetOptions, Limits, Process, Python, Staff};
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Method, Request, Response, request};
use serde_json::{Map, json};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::endpoint::{Endpoint, Sent};
use super::blocking;
use crate::domain::ProgramSpec;

/// How often a process that was started is asked whether it is ready.
const LOOK: Duration = Duration::from_millis(50);
/// One check takes at most so long.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);
/// So many processes are tried for one request; only those that did not even take it.
const ATTEMPTS: usize = 3;

/// Bounds of all programs.
#[derive(Debug, Clone)]
pub(crate) struct ProgramSettings {
    limits: Limits,
    is_network_open: bool,
    start_timeout: Duration,
    timeout: Duration,
    check_every: Duration,
    max_waiting: usize,
    max_answer_bytes: usize,
    max_recorded_bytes: usize,
}

impl ProgramSettings {
    pub(crate) fn new(config: &Programs) -> Self {
        Self {
            limits: Limits {
                memory_bytes: config.max_memory_bytes,
                files: config.max_files,
                file_bytes: config.max_file_bytes,
            },
            is_network_open: config.allow_network,
            start_timeout: Duration::from_millis(config.start_timeout_ms),
            timeout: Duration::from_millis(config.timeout_ms.max(1)),
            check_every: Duration::from_millis(config.check_every_ms.max(10)),
            max_waiting: config.max_waiting,
            max_answer_bytes: config.max_answer_bytes,
            max_recorded_bytes: config.max_recorded_bytes,
        }
    }
}

/// A program of one version, in its processes; they end when this is dropped.
pub(crate) struct Program {
    fleet: Fleet<Processes>,
}

/// What a program is started from.
pub(crate) struct ProgramParts {
    pub(crate) spec: ProgramSpec,
    pub(crate) folder: PathBuf,
    pub(crate) python: Arc<Python>,
    pub(crate) interpreter: PathBuf,
    pub(crate) settings: ProgramSettings,
}

/// An answer of a program.
struct Answered {
    response: Response<Bytes>,
    /// How long the request waited for a process.
    queued: Duration,
    computed: Duration,
}

impl Program {
    /// Starts the processes; answers when the first of them can be asked.
    pub(crate) async fn start(
        deployment: &str,
        parts: ProgramParts,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Result<Self> {
        let ProgramParts { spec, settings, .. } = &parts;
        if spec.app.is_none() && !settings.is_network_open {
            return Err(Error::precondition(
                "the program is a command, which listens on a port and so needs the network: \
                 deployment.programs.allow_network = true allows it (an app needs none)",
            ));
        }
        let options = FleetOptions {
            name: deployment.to_owned(),
            processes: spec.processes,
            lanes: spec.threads,
            max_waiting: settings.max_waiting,
            start_timeout: settings.start_timeout,
            check_every: settings.check_every,
        };
        let staff = Processes { parts, sockets: SocketFolder::make()?, starts: AtomicU64::new(0) };
        let fleet = Fleet::start(staff, options, tasks, stop);
        fleet.ready().await.map_err(|error| error.context("the program cannot be started"))?;
        Ok(Self { fleet })
    }

    fn parts(&self) -> &ProgramParts {
        &self.fleet.staff().parts
    }

    /// Asks one process. A request that a process has taken is not sent a second time: nobody knows what it did.
    async fn ask(&self, head: &request::Parts, body: &Bytes, deadline: Instant) -> Result<Answered> {
        let settings = &self.parts().settings;
        let since = Instant::now();
        for _ in 0..ATTEMPTS {
            let lease = self.fleet.acquire(deadline).await?;
            let begun = Instant::now();
            let patience = settings.timeout.min(deadline.saturating_duration_since(begun));
            let sent = lease.up().endpoint.send(head, body.clone(), settings.max_answer_bytes);
            match tokio::time::timeout(patience, sent).await {
                Ok(Sent::Answered(response)) => {
                    return Ok(Answered { response, queued: begun - since, computed: begun.elapsed() });
                }
                Ok(Sent::NotTaken) => lease.condemn(),
                Ok(Sent::Broken(why)) => {
                    return Err(Error::unavailable(format!(
                        "the program did not answer, and whether it did what was asked is not known: {why}"
                    )));
                }
                Err(_) => {
                    lease.give_up();
                    return Err(Error::unavailable(format!(
                        "the program gave no answer within {} ms",
                        patience.as_millis()
                    )));
                }
            }
        }
        Err(Error::unavailable("no process of the program takes requests: send it again later"))
    }
}

/// How the processes are started.
struct Processes {
    parts: ProgramParts,
    sockets: SocketFolder,
    starts: AtomicU64,
}

/// A process that can be asked.
struct Up {
    endpoint: Endpoint,
    /// Its end tells the process to end.
    _channel: Channel,
}

impl Processes {
    /// An error unless the process answers well, or takes a connection where nothing is said about its health.
    async fn probe(&self, endpoint: &Endpoint) -> Result<()> {
        let Some(health) = &self.parts.spec.health else { return endpoint.connect().await };
        let request = Request::builder().method(Method::GET).uri(health.as_str()).body(());
        let (head, ()) = request.map_err(|error| Error::internal("a health check").with_source(error))?.into_parts();
        match endpoint.send(&head, Bytes::new(), self.parts.settings.max_answer_bytes).await {
            Sent::Answered(answer) if answer.status().is_success() || answer.status().is_redirection() => Ok(()),
            Sent::Answered(answer) => Err(Error::unavailable(format!("{health} answers {}", answer.status().as_u16()))),
            Sent::NotTaken => Err(Error::unavailable("it takes no connection")),
            Sent::Broken(why) => Err(Error::unavailable(why)),
        }
    }

    async fn start_one(&self, index: usize) -> Result<(Process, Up)> {
        let ProgramParts { spec, folder, python, interpreter, settings } = &self.parts;
        let scratch = python.scratch()?;
        // A copy of its own: what a program writes beside its files changes neither them nor another process.
        let (from, copy) = (folder.clone(), scratch.path().join("program"));
        let to = copy.clone();
        blocking(move || copy_folder(&from, &to)).await?;
        let mut told = Map::from_iter([
            ("folder".to_owned(), json!(copy)),
            ("is_network_open".to_owned(), json!(settings.is_network_open)),
        ]);
        let endpoint = if let Some(app) = &spec.app {
            let start = self.starts.fetch_add(1, Ordering::Relaxed);
            let socket = self.sockets.0.join(format!("{index}-{start}"));
            told.insert("kind".to_owned(), json!("wsgi"));
            told.insert("app".to_owned(), json!(app));
            told.insert("socket".to_owned(), json!(socket));
            Endpoint::Socket(socket)
        } else {
            let port = free_port()?;
            told.insert("kind".to_owned(), json!("command"));
            told.insert("command".to_owned(), json!(spec.command));
            told.insert("port".to_owned(), json!(port));
            Endpoint::Port(port)
        };
        let (mut process, channel) = python.start(interpreter, scratch, 1, settings.limits, told).await?;
        loop {
            let probe = tokio::time::timeout(CHECK_TIMEOUT, self.probe(&endpoint));
            if matches!(probe.await, Ok(Ok(()))) {
                return Ok((process, Up { endpoint, _channel: channel }));
            }
            tokio::select! {
                how = process.wait() => {
                    let words = process.last_words().await.map(|words| format!(": {words}")).unwrap_or_default();
                    return Err(Error::precondition(format!("{how} before it took requests{words}")));
                }
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }
}

impl Staff for Processes {
    type Up = Up;

    fn start(&self, index: usize) -> BoxFuture<'_, Result<(Process, Up)>> {
        self.start_one(index).boxed()
    }

    fn check<'a>(&'a self, up: &'a Up) -> BoxFuture<'a, Result<()>> {
        self.probe(&up.endpoint).boxed()
    }
}

/// A folder that only this user can look into; the paths of sockets have to be short.
struct SocketFolder(PathBuf);

impl SocketFolder {
    fn make() -> Result<Self> {
        let name = uuid::Uuid::new_v4().simple().to_string();
        let folder = std::env::temp_dir().join(format!("fishy-{}", &name[..16]));
        std::fs::DirBuilder::new().mode(0o700).create(&folder)?;
        Ok(Self(folder))
    }
}

impl Drop for SocketFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A port that nobody has at the moment. Who takes it in between makes the start fail, and the next one takes another.
fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
