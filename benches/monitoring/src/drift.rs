//! `fishy drift` from Parquet to the report, beside the peers on the same files.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::report::Report;
use crate::table::{self, NUMBERS, TEXTS};
use crate::used::{Ran, own_cpu_s, run};
use crate::{Arguments, grouped};

/// Times that ours runs; the best counts, as it does for the libraries that run once: others use the machine too.
const TIMES: usize = 3;
const MB: f64 = 1e6;

struct Peer {
    name: &'static str,
    /// What the script calls it.
    script: &'static str,
    python: PathBuf,
    /// How many times as fast we must be.
    target: Option<f64>,
}

fn ours(arguments: &Arguments, sides: [&Path; 2], more: &[&str]) -> Result<Ran> {
    let mut best: Option<Ran> = None;
    for _ in 0..TIMES {
        let mut command = Command::new(&arguments.fishy);
        command.args(["drift", "--output", "json", "--reference"]).arg(sides[0]).arg("--current").arg(sides[1]);
        let ran = run(command.args(more))?;
        if best.as_ref().is_none_or(|best| ran.seconds < best.seconds) {
            best = Some(ran);
        }
    }
    best.context("nothing ran")
}

fn figure(report: &Value, column: &str, path: &str) -> Option<f64> {
    let features = report["features"].as_array()?;
    features.iter().find(|feature| feature["name"] == column)?.pointer(path)?.as_f64()
}

/// The four statistics exactly.
pub fn exact(arguments: &Arguments, report: &mut Report) -> Result<()> {
    let rows = arguments.rows();
    let folder = tempfile::tempdir()?;
    let sides = [folder.path().join("reference.parquet"), folder.path().join("current.parquet")];
    table::write(&sides[0], rows, 1, false)?;
    table::write(&sides[1], rows, 2, true)?;
    let [reference, current] = sides.each_ref().map(PathBuf::as_path);
    let load = format!("PSI, KS, Wasserstein, JS of {} x {}, exact", grouped(rows as u64), NUMBERS + TEXTS);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let reading = table::read(&[reference, current], threads)?;
    let found = ours(arguments, [reference, current], &[])?;
    report.less(&load, "peak MB", found.peak_bytes / MB, "target", 500.0);
    report.less(&load, "seconds, whole process", found.seconds, "reading", reading);
    report.limit(reading);
    let figures: Value = serde_json::from_str(&found.printed)?;

    let script = folder.path().join("peers.py");
    std::fs::write(&script, include_str!("peers.py"))?;
    let main = || arguments.python.clone();
    let peers = [
        Peer { name: "evidently", script: "evidently", python: arguments.evidently.clone(), target: Some(60.0) },
        Peer { name: "nannyml", script: "nannyml", python: arguments.nannyml.clone(), target: Some(10.0) },
        Peer { name: "alibi-detect", script: "alibi", python: arguments.alibi.clone(), target: Some(3.0) },
        Peer { name: "scipy", script: "scipy", python: main(), target: None },
        Peer { name: "numpy sort", script: "sorting", python: main(), target: None },
    ];
    for Peer { name, script: peer, python, target } in peers {
        if !arguments.wants_peer(name) {
            continue;
        }
        let ran = run(Command::new(python).arg(&script).arg(peer).args([reference, current]))?;
        let told: Value = serde_json::from_str(ran.printed.lines().last().unwrap_or_default())
            .with_context(|| format!("what {name} printed: {:?}", ran.printed))?;
        let number = |key: &str| told[key].as_f64().unwrap_or(f64::NAN);
        if peer == "sorting" {
            let sort_s = told["found"]["sort_s"].as_f64().unwrap_or(f64::NAN);
            report.less(&load, "seconds", found.seconds, "numpy sort", sort_s);
            continue;
        }
        report.less(&load, "seconds", found.seconds, name, number("seconds"));
        report.less(&load, "CPU seconds", found.cpu_s, name, number("cpu_s"));
        report.less(&load, "peak MB", found.peak_bytes / MB, name, number("peak_bytes") / MB);
        if let Some(target) = target {
            let times = number("seconds") / found.seconds;
            println!("  {name}: {times:.1} times as fast, {target} asked for");
            report.more(&format!("{load}, beside {name}"), "times as fast", times, "target", target);
        }
        if peer == "scipy" {
            let largest = (0..NUMBERS)
                .flat_map(|place| {
                    let column = format!("number_{place:02}");
                    [("psi", "/psi"), ("ks", "/ks/statistic"), ("wasserstein", "/wasserstein"), ("js", "/js_distance")]
                        .map(|(theirs, path)| {
                            let theirs = told["found"][&column][theirs].as_f64().unwrap_or(f64::NAN);
                            (figure(&figures, &column, path).unwrap_or(f64::NAN) - theirs).abs() / theirs.abs()
                        })
                })
                .fold(0.0, |largest: f64, off| if off.is_nan() { f64::INFINITY } else { largest.max(off) });
            report.less(&load, "largest difference, relative", largest.max(1e-16), "target", 1e-9);
        }
    }
    Ok(())
}

/// The same from sketches: of files of two lengths, so that it can be seen that memory does not grow.
pub fn sketched(arguments: &Arguments, report: &mut Report) -> Result<()> {
    let folder = tempfile::tempdir()?;
    for rows in [arguments.rows(), arguments.rows() * 5] {
        let sides = [folder.path().join("reference.parquet"), folder.path().join("current.parquet")];
        table::write(&sides[0], rows, 1, false)?;
        table::write(&sides[1], rows, 2, true)?;
        let [reference, current] = sides.each_ref().map(PathBuf::as_path);
        let load = format!("the same by sketches, {} x {}, one thread", grouped(rows as u64), NUMBERS + TEXTS);
        let values = (2 * rows * (NUMBERS + TEXTS)) as f64;
        let before = own_cpu_s()?;
        table::read(&[reference, current], 1)?;
        let reading_s = own_cpu_s()? - before;
        let ran = ours(arguments, [reference, current], &["--sketch", "--threads", "1"])?;
        report.less(&load, "peak MB", ran.peak_bytes / MB, "target", 50.0);
        report.more(&load, "values/s of CPU", values / ran.cpu_s, "target", 1e7);
        report.limit(values / reading_s);
    }
    Ok(())
}
