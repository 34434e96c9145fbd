//! What a process and all its descendants have used, from `/proc`.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result};

/// Ticks of `/proc/*/stat` in a second: the same on every Linux that we run on.
const TICKS: f64 = 100.0;

/// What a tree of processes uses.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// User and system time so far, of those that ended as well, in seconds.
    pub cpu_s: f64,
    /// Resident memory now, in bytes.
    pub resident_bytes: f64,
    /// The sum of the largest resident memory of each, in bytes.
    pub peak_bytes: f64,
    /// How many processes.
    pub processes: usize,
}

struct Stat {
    parent: u32,
    ticks: u64,
}

fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    // utime, stime, and those of children that ended and were waited for.
    Some(Stat { parent: u32::try_from(number(1)?).ok()?, ticks: number(11)? + number(12)? + number(13)? + number(14)? })
}

fn memory_bytes(pid: u32, line: &str) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let found =
        text.lines().find_map(|each| each.strip_prefix(line)?.trim_start_matches(':').trim().strip_suffix(" kB"));
    found.and_then(|kilobytes| kilobytes.trim().parse::<f64>().ok()).unwrap_or(0.0) * 1024.0
}

/// What `root` and everything below it have used.
pub fn usage(root: u32) -> Result<Usage> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir("/proc").context("this benchmark needs /proc")? {
        if let Ok(pid) = entry?.file_name().to_string_lossy().parse::<u32>()
            && let Some(stat) = stat(pid)
        {
            all.insert(pid, stat);
        }
    }
    let mut tree = vec![root];
    let mut at = 0;
    while at < tree.len() {
        let parent = tree[at];
        tree.extend(all.iter().filter(|(_, stat)| stat.parent == parent).map(|(pid, _)| *pid));
        at += 1;
    }
    let ticks: u64 = tree.iter().filter_map(|pid| all.get(pid)).map(|stat| stat.ticks).sum();
    Ok(Usage {
        cpu_s: ticks as f64 / TICKS,
        resident_bytes: tree.iter().map(|pid| memory_bytes(*pid, "VmRSS")).sum(),
        peak_bytes: tree.iter().map(|pid| memory_bytes(*pid, "VmHWM")).sum(),
        processes: tree.len(),
    })
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn children_and_what_they_used_are_counted() -> Result<()> {
        // Works for a while in a child, says so, and waits in another until its input ends.
        let script = "sh -c 'i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done'; echo done; cat";
        let mut child = Command::new("sh").args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let output = child.stdout.take().context("no output")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        let used = usage(child.id())?;
        drop(child.stdin.take());
        child.wait()?;
        assert!(used.processes >= 1 && used.resident_bytes > 0.0 && used.peak_bytes >= used.resident_bytes, "{used:?}");
        assert!(used.cpu_s > 0.0, "the work of a child that ended counts: {used:?}");
        assert_eq!(usage(u32::MAX)?.processes, 1, "a process that is not there has no children");
        Ok(())
    }
}
