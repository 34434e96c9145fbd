//! A server as its user starts it.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;

use crate::load::ask_once;
use crate::process_tree::{self, Usage};

/// How long a server may take to start on a busy machine.
const START: Duration = Duration::from_mins(3);
/// How long it may go on working after a load.
const REST: Duration = Duration::from_mins(2);

/// A server that runs; dropping it ends it.
pub struct Server {
    /// Where it takes HTTP.
    pub http: SocketAddr,
    /// Where it takes gRPC.
    pub grpc: SocketAddr,
    /// From the start of the process to the first good answer.
    pub start_s: f64,
    child: Child,
}

/// An address of this machine that nobody uses now.
pub fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

impl Server {
    /// Starts it and waits until it answers `probe` with success. What it prints goes to the file `log`.
    pub async fn start(
        mut command: Command,
        (http, grpc): (SocketAddr, SocketAddr),
        probe: &Bytes,
        log: &Path,
    ) -> Result<Self> {
        let file = std::fs::File::create(log)?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let started = Instant::now();
        let child = command.spawn().with_context(|| format!("starting {command:?}"))?;
        let mut server = Self { http, grpc, start_s: 0.0, child };
        loop {
            let asked = ask_once(http, probe).await;
            if asked.is_ok() {
                server.start_s = started.elapsed().as_secs_f64();
                return Ok(server);
            }
            if server.child.try_wait()?.is_some() || started.elapsed() > START {
                let text = std::fs::read_to_string(log).unwrap_or_default();
                let end: Vec<&str> = text.lines().rev().take(12).collect();
                let end: Vec<&str> = end.into_iter().rev().collect();
                bail!("did not start ({asked:?}):\n{}", end.join("\n"));
            }
            // Looked for often, since our own start is measured in milliseconds.
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// What its processes have used.
    pub fn usage(&self) -> Result<Usage> {
        process_tree::usage(self.child.id())
    }

    /// Waits until it does next to nothing: what it still does for earlier requests is done then.
    pub async fn rest(&self) -> Result<()> {
        const LOOK: Duration = Duration::from_millis(500);
        let begun = Instant::now();
        let mut before = self.usage()?.cpu_s;
        while begun.elapsed() < REST {
            tokio::time::sleep(LOOK).await;
            let now = self.usage()?.cpu_s;
            if now - before < 0.1 * LOOK.as_secs_f64() {
                break;
            }
            before = now;
        }
        Ok(())
    }

    fn end(&mut self) {
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        let asked = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if asked.elapsed() > Duration::from_secs(20) {
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}
