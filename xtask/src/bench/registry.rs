//! `cargo xtask bench registry`: the registry beside a real MLflow server.

use std::process::Command;

use anyhow::{Context, Result};

use crate::process::{cargo, run};
use crate::{demo, services, setup};

/// Builds the program and the load generator, and runs it. `--profile NAME` chooses another build than the release;
/// everything else is for the load generator, whose `--help` tells.
pub fn beside_mlflow(arguments: &[String]) -> Result<()> {
    let mut rest = arguments.to_vec();
    let mut profile = "release".to_owned();
    if let Some(at) = rest.iter().position(|argument| argument == "--profile") {
        profile.clone_from(rest.get(at + 1).context("--profile needs a name")?);
        rest.drain(at..=at + 1);
    }
    setup::run_all()?;
    services::postgres()?;
    let driver = setup::postgres_driver()?;
    run(cargo(&["build", "--profile", &profile]).args(["--package", "fishy", "--package", "fishy-bench-registry"]))?;
    let folder = demo::target()?.join(if profile == "dev" { "debug" } else { &profile });
    run(Command::new(folder.join("fishy-bench-registry"))
        .arg("--fishy")
        .arg(folder.join("fishy"))
        .arg("--python")
        .arg(setup::python())
        .arg("--python-path")
        .arg(driver)
        .arg("--out")
        .arg(super::folder()?.join("registry.json"))
        .args(rest))
}
