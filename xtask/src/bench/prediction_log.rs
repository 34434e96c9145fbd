//! `cargo xtask bench prediction-log`: the prediction log while its sink is away.

use std::process::Command;

use anyhow::Result;

use crate::process::run;

/// Builds the benchmark and runs it; what is left of the arguments is for the benchmark, whose `--help` tells.
pub fn sink_away(arguments: &[String]) -> Result<()> {
    let (folder, rest) = super::build(arguments)?;
    run(Command::new(folder.join("fishy-bench-prediction-log"))
        .arg("--out")
        .arg(super::folder()?.join("prediction-log.json"))
        .args(rest))
}
