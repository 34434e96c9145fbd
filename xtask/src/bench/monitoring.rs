//! `cargo xtask bench monitoring`: drift beside its peers, and the way of events and labels.

use std::process::Command;

use anyhow::Result;

use crate::process::run;
use crate::setup;

/// Builds the program and the benchmark, and runs it. `--profile NAME` chooses another build than the release; everything
/// else is for the benchmark, whose `--help` tells.
pub fn beside_peers(arguments: &[String]) -> Result<()> {
    setup::run_all()?;
    let (evidently, nannyml) = (setup::environment("evidently")?, setup::environment("nannyml")?);
    let alibi = setup::environment("alibi-detect")?;
    let (folder, rest) = super::build(arguments)?;
    run(Command::new(folder.join("fishy-bench-monitoring"))
        .arg("--fishy")
        .arg(folder.join("fishy"))
        .arg("--python")
        .arg(setup::python())
        .arg("--evidently")
        .arg(evidently)
        .arg("--nannyml")
        .arg(nannyml)
        .arg("--alibi")
        .arg(alibi)
        .arg("--out")
        .arg(super::folder()?.join("monitoring.json"))
        .args(rest))
}
