//! What processes have used, from `/proc`.

use std::fs;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Ticks of `/proc/*/stat` in a second: the same on every Linux that we run on.
const TICKS: f64 = 100.0;
/// How often the memory of a process is looked at; its peak is kept by the kernel, but is gone with the process.
const LOOK: Duration = Duration::from_millis(1);

/// A process that ran to its end.
#[derive(Debug)]
pub struct Ran {
    pub seconds: f64,
    pub cpu_s: f64,
    pub peak_bytes: f64,
    pub printed: String,
}

fn ticks(fields: [usize; 2]) -> Result<f64> {
    let text = fs::read_to_string("/proc/self/stat").context("this benchmark needs /proc")?;
    // The name in parentheses may hold anything.
    let rest = text.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default();
    let numbers: Vec<f64> = rest.split_whitespace().map(|field| field.parse().unwrap_or(0.0)).collect();
    Ok(fields.iter().filter_map(|place| numbers.get(*place)).sum::<f64>() / TICKS)
}

/// User and system time of this process so far, in seconds.
pub fn own_cpu_s() -> Result<f64> {
    ticks([11, 12])
}

/// The same of its children that have ended.
fn children_cpu_s() -> Result<f64> {
    ticks([13, 14])
}

/// Runs a program to its end; fails when it fails.
pub fn run(command: &mut Command) -> Result<Ran> {
    let before = children_cpu_s()?;
    let started = Instant::now();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn()?;
    let mut output = child.stdout.take().context("no output")?;
    // What it prints is read meanwhile: a full pipe would stop it.
    let reader = std::thread::spawn(move || std::io::read_to_string(&mut output));
    let status_file = format!("/proc/{}/status", child.id());
    let mut peak_bytes = 0.0_f64;
    let status: ExitStatus = loop {
        let text = fs::read_to_string(&status_file).unwrap_or_default();
        let peak = text.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
        peak_bytes = peak_bytes.max(peak.and_then(|kilobytes| kilobytes.parse().ok()).unwrap_or(0.0) * 1024.0);
        if let Some(status) = child.try_wait()? {
            break status;
        }
        std::thread::sleep(LOOK);
    };
    let seconds = started.elapsed().as_secs_f64();
    let printed = reader.join().ok().context("reading what a program printed")??;
    if !status.success() {
        bail!("{command:?} ended with {status}");
    }
    Ok(Ran { seconds, cpu_s: children_cpu_s()? - before, peak_bytes, printed })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_measured_and_its_failure_told() {
        let ran = run(Command::new("sh").args(["-c", "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; echo done"]));
        let ran = ran.unwrap();
        assert_eq!(ran.printed, "done\n");
        assert!(ran.seconds > 0.0 && ran.cpu_s >= 0.0 && ran.peak_bytes > 0.0, "{ran:?}");
        assert!(run(Command::new("false").arg("now")).is_err());
    }
}
