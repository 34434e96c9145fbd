//! Running the binary.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// The repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// Two years of an estuary, hourly; `None`, said loudly, where the reference data are missing.
pub fn estuary() -> Option<PathBuf> {
    let file = root().join("../shared/data/estuary_wq_hourly_apacp.csv");
    if !file.is_file() {
        eprintln!("SKIPPED: reference data {} are missing", file.display());
        return None;
    }
    Some(file)
}

/// The interpreter that the set-up made.
pub fn python() -> PathBuf {
    let python = root().join(".fishy/venv/bin/python");
    assert!(python.is_file(), "{} is missing: run cargo xtask test, or cargo xtask demo once", python.display());
    python
}

/// The binary, started in the repository and away from the caller's settings.
pub fn fishy() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fishy"));
    command.current_dir(root());
    command
}

/// Runs the binary to its end.
pub fn run(arguments: &[&str]) -> Output {
    fishy().args(arguments).output().unwrap()
}

/// Replays into a folder and answers the report; panics with everything that was printed when the replay failed.
pub fn replay(folder: &Path, arguments: &[&str]) -> Value {
    let report = folder.join("loop-report.json");
    let output = fishy()
        .arg("replay")
        .args(arguments)
        .arg("--report")
        .arg(&report)
        .arg("--chart")
        .arg(folder.join("chart.svg"))
        .arg("--data-dir")
        .arg(folder.join("data"))
        .arg("--python")
        .arg(python())
        .output()
        .unwrap();
    let printed = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let log = std::fs::read_to_string(folder.join("data/server.log")).unwrap_or_default();
    let report = std::fs::read_to_string(&report).unwrap_or_else(|_| panic!("no report\n{printed}\n{log}"));
    let report: Value = serde_json::from_str(&report).unwrap();
    assert!(output.status.success(), "{printed}\n{report:#}\n{log}");
    report
}
