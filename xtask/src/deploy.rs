//! The checks of `deploy/`: image, chart, rules, dashboards, pipeline of GitLab.

use std::process::Command;

use anyhow::Result;

use crate::process::{has, run};
use crate::{demo, services, setup};

/// Programs that the checks run, and the Debian packages that have them.
const PROGRAMS: [(&str, &str); 7] = [
    ("buildah", "buildah"),
    ("podman", "podman"),
    ("runc", "runc"),
    ("strip", "binutils"),
    ("promtool", "prometheus"),
    ("nginx", "nginx-light"),
    ("curl", "curl"),
];

/// Runs them against the built program.
pub fn run_checks() -> Result<()> {
    let missing: Vec<&str> =
        PROGRAMS.iter().filter(|(program, _)| !has(program)).map(|(_, package)| *package).collect();
    if !missing.is_empty() {
        services::install(&missing)?;
    }
    let python = setup::environment("deploy")?;
    run(Command::new(python)
        .args(["-m", "pytest", "--quiet", "-p", "no:cacheprovider", "deploy/tests"])
        .env("FISHY_BINARY", demo::binary()?)
        .env("FISHY_PYTHON", setup::python()))
}
