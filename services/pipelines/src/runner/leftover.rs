use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// How long to wait until killed processes are gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// Kills what an earlier life of this process has left of a run, so that a step never runs twice at once.
///
/// A step's processes are told by their environment (`FISHY_RUN_ID`), which every descendant inherits: unlike the number
/// in a file, that cannot mean another process by now, and it also finds one that was started just before the crash.
/// Where the system does not show it (`/proc` of Linux does), nothing is found. Blocks the thread.
///
/// Answers how many were found; an error when some do not go away.
pub fn kill_leftover(run_id: &str) -> fishy_core::Result<usize> {
    let found = processes_of(run_id);
    if found.is_empty() {
        return Ok(0);
    }
    tracing::warn!(run_id, count = found.len(), "killing processes that an earlier life of this process left");
    let count = found.len();
    let started = Instant::now();
    let mut alive = found;
    while !alive.is_empty() {
        for pid in &alive {
            // A leader takes its group with it; the others are killed one by one.
            let _ = kill_process_group(*pid, Signal::KILL);
            let _ = kill_process(*pid, Signal::KILL);
        }
        if started.elapsed() > PATIENCE {
            return Err(fishy_core::Error::unavailable(format!(
                "processes of an earlier try of run {run_id} do not end: {alive:?}"
            )));
        }
        std::thread::sleep(Duration::from_millis(5));
        alive = processes_of(run_id);
    }
    Ok(count)
}

fn processes_of(run_id: &str) -> Vec<Pid> {
    let wanted = format!("FISHY_RUN_ID={run_id}");
    let own = std::process::id() as i32;
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| *pid != own && has_environment(*pid, &wanted))
        .filter_map(Pid::from_raw)
        .collect()
}

/// A zombie has no environment any more, and so does not count.
fn has_environment(pid: i32, wanted: &str) -> bool {
    let path = format!("/proc/{pid}/environ");
    std::fs::read(Path::new(&path))
        .is_ok_and(|environ| environ.split(|byte| *byte == 0).any(|entry| entry == wanted.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    #[test]
    fn only_processes_of_the_run_are_killed() {
        let start = |run: &str| {
            let mut child = Command::new("sh")
                .args(["-c", "echo ready; exec sleep 600"])
                .env("FISHY_RUN_ID", run)
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut line = String::new();
            BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
            child
        };
        let (mut ours, mut other) = (start("run-left-over"), start("run-left-over-2"));
        assert_eq!(kill_leftover("run-left-over").unwrap(), 1);
        assert!(!ours.wait().unwrap().success());
        assert_eq!(other.try_wait().unwrap(), None, "another run's process was killed");
        other.kill().unwrap();
        other.wait().unwrap();
        assert_eq!(kill_leftover("run-left-over").unwrap(), 0);
    }
}
