//! Child processes: started with a clean environment, bounded in time and in what they write.

mod environment;
mod leftover;
mod log;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use fishy_core::{Error, Result};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub use environment::kept_environment;
pub use leftover::kill_leftover;
pub use log::{Log, read_log};

/// How long a group of processes gets between TERM and KILL.
const GRACE: Duration = Duration::from_secs(3);
/// How long output is still read after the end: something that left the group may hold the pipe open for ever.
const DRAIN: Duration = Duration::from_secs(1);

/// One child process.
#[derive(Debug)]
pub struct Program {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Where it runs.
    pub folder: PathBuf,
    /// Its whole environment.
    pub environment: BTreeMap<String, String>,
    /// How long it may take.
    pub timeout: Duration,
}

/// How a child process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// With exit code 0.
    Well,
    /// Otherwise; why, in words.
    Badly(String),
    /// It was told to stop from outside.
    Stopped,
}

/// Runs a program to its end. It leads a process group of its own, which is killed when its time is over or `stop` is
/// cancelled; what it writes goes to `log`.
///
/// When the future is dropped instead, the child goes on, as it does when this process is killed: [`kill_leftover`].
pub async fn run(program: &Program, log: &mut Log, stop: &CancellationToken) -> Result<Ended> {
    let (name, arguments) = program.command.split_first().ok_or_else(|| Error::invalid("the command is empty"))?;
    let mut child = Command::new(name)
        .args(arguments)
        .current_dir(&program.folder)
        .env_clear()
        .envs(&program.environment)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(|error| {
            Error::precondition(format!("cannot start {name:?} in {}: {error}", program.folder.display()))
                .with_source(error)
        })?;
    let group = child.id().and_then(|id| Pid::from_raw(id as i32));
    // A slow disk slows the child down: the channel holds a few pieces, then the pipe fills.
    let (pieces, mut written) = mpsc::channel::<Vec<u8>>(16);
    let readers = [
        tokio::spawn(read_all(child.stdout.take(), pieces.clone())),
        tokio::spawn(read_all(child.stderr.take(), pieces)),
    ];
    let deadline = tokio::time::sleep(program.timeout);
    tokio::pin!(deadline);
    let ended = loop {
        tokio::select! {
            Some(piece) = written.recv() => log.write(&piece).await?,
            status = child.wait() => break told(status?),
            () = &mut deadline => {
                kill_group(&mut child, group).await;
                break Ended::Badly(format!("was stopped after its time limit of {} s", program.timeout.as_secs_f64()));
            }
            () = stop.cancelled() => {
                kill_group(&mut child, group).await;
                break Ended::Stopped;
            }
        }
    };
    let drained = tokio::time::timeout(DRAIN, async {
        while let Some(piece) = written.recv().await {
            log.write(&piece).await?;
        }
        Ok::<_, Error>(())
    });
    if let Ok(result) = drained.await {
        result?;
    }
    for reader in readers {
        reader.abort();
    }
    log.flush().await?;
    Ok(ended)
}

fn told(status: ExitStatus) -> Ended {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(0), _) => Ended::Well,
        (Some(code), _) => Ended::Badly(format!("ended with exit code {code}")),
        (None, Some(signal)) => Ended::Badly(format!("was ended by signal {signal}")),
        (None, None) => Ended::Badly("ended".to_owned()),
    }
}

/// Asks the whole group to end, and makes it end.
async fn kill_group(child: &mut Child, group: Option<Pid>) {
    let Some(group) = group else { return };
    let _ = kill_process_group(group, Signal::TERM);
    let _ = tokio::time::timeout(GRACE, child.wait()).await;
    // Also when the leader has ended: its children may not have.
    let _ = kill_process_group(group, Signal::KILL);
    let _ = child.wait().await;
}

async fn read_all(source: Option<impl AsyncRead + Unpin>, pieces: mpsc::Sender<Vec<u8>>) {
    let Some(mut source) = source else { return };
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(read) = source.read(&mut buffer).await {
        if read == 0 || pieces.send(buffer[..read].to_vec()).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, folder: &std::path::Path, timeout: Duration) -> Program {
        Program {
            command: vec!["sh".to_owned(), "-c".to_owned(), script.to_owned()],
            folder: folder.to_owned(),
            environment: kept_environment([("PATH".to_owned(), "/usr/bin:/bin".to_owned())]),
            timeout,
        }
    }

    async fn run_sh(script: &str, timeout: Duration) -> (Ended, String, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("step.log");
        let mut log = Log::open(&path).await.unwrap();
        let ended = run(&sh(script, folder.path(), timeout), &mut log, &CancellationToken::new()).await.unwrap();
        let text = String::from_utf8(read_log(&path).await.unwrap().unwrap()).unwrap();
        (ended, text, folder)
    }

    const LONG: Duration = Duration::from_mins(1);

    #[tokio::test]
    async fn output_and_exit_code_are_told() {
        let (ended, log, _) = run_sh("echo out; echo err >&2; exit 3", LONG).await;
        assert_eq!(ended, Ended::Badly("ended with exit code 3".to_owned()));
        assert!(log.contains("out\n") && log.contains("err\n"), "{log}");
        assert_eq!(run_sh("exit 0", LONG).await.0, Ended::Well);
        let (ended, ..) = run_sh("kill -9 $$", LONG).await;
        assert_eq!(ended, Ended::Badly("was ended by signal 9".to_owned()));
    }

    #[tokio::test]
    async fn the_whole_group_ends_with_its_time() {
        // A child that ignores TERM, so that only the group's KILL ends it.
        let script = "trap '' TERM; sh -c 'trap \"\" TERM; echo $$ > child; sleep 600' & wait; wait";
        let (ended, _, folder) = run_sh(script, Duration::from_millis(500)).await;
        assert!(matches!(&ended, Ended::Badly(why) if why.contains("time limit of 0.5 s")), "{ended:?}");
        let child: i32 = std::fs::read_to_string(folder.path().join("child")).unwrap().trim().parse().unwrap();
        // A killed orphan may be a zombie until init reaps it.
        let state = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        assert!(state.is_empty() || state.contains(") Z"), "{state}");
    }

    #[tokio::test]
    async fn stopping_ends_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = Log::open(&folder.path().join("step.log")).await.unwrap();
        let stop = CancellationToken::new();
        stop.cancel();
        let ended = run(&sh("sleep 600", folder.path(), LONG), &mut log, &stop).await.unwrap();
        assert_eq!(ended, Ended::Stopped);
    }

    #[tokio::test]
    async fn a_program_that_does_not_exist_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = Log::open(&folder.path().join("step.log")).await.unwrap();
        let program = Program { command: vec!["no-such-program".to_owned()], ..sh("", folder.path(), LONG) };
        let error = run(&program, &mut log, &CancellationToken::new()).await.unwrap_err();
        assert!(error.message().contains("\"no-such-program\""), "{error}");
    }
}
