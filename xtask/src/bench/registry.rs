//! `cargo xtask bench registry`: the registry beside a real MLflow server.

use std::process::Command;

use anyhow::Result;

use crate::process::run;
use crate::{services, setup};

/// Builds the program and the load generator, and runs it. `--profile NAME` chooses another build than the release;
/// everything else is for the load generator, whose `--help` tells.
pub fn beside_mlflow(arguments: &[String]) -> Result<()> {
    setup::run_all()?;
    services::postgres()?;
    let driver = setup::postgres_driver()?;
    let (folder, rest) = super::build(arguments)?;
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
