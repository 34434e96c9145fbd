//! `cargo xtask demo`

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process::cargo;
use crate::setup;

/// Sets up, builds, and runs the loop.
pub fn run(replay: &[String]) -> Result<()> {
    println!("1/3 set-up");
    setup::run_all()?;
    println!("2/3 build (the first time about ten minutes on two cores)");
    run_build()?;
    println!("3/3 the closed loop");
    let mut command = Command::new(binary()?);
    command.arg("replay").args(replay);
    let status = command.status().context("starting fishy")?;
    if !status.success() {
        bail!("the loop ended with {status}");
    }
    Ok(())
}

/// Builds the program alone, in the profile that tests and demo share.
pub fn run_build() -> Result<()> {
    crate::process::run(&mut cargo(&["build", "--package", "fishy"]))
}

/// The built program.
pub fn binary() -> Result<std::path::PathBuf> {
    Ok(target()?.join("debug/fishy"))
}

/// Where cargo puts what it builds.
pub fn target() -> Result<std::path::PathBuf> {
    let metadata = crate::process::output(&mut cargo(&["metadata", "--format-version", "1", "--no-deps"]))?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata)?;
    let target = metadata["target_directory"].as_str().context("cargo metadata names no target directory")?;
    Ok(std::path::PathBuf::from(target))
}
