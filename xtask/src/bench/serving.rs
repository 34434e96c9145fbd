//! `cargo xtask bench serving`: the deployment service beside other servers of models.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::process::{root, run};
use crate::setup;

/// The peers with an environment of their own (`python/environments/serving-NAME.txt`).
const PEERS: [&str; 5] = ["fastapi", "mlserver", "litserve", "bentoml", "pytriton"];
/// Triton's Python front end loads the system's libpython, and needs the interpreter that belongs to it.
const SYSTEM_PYTHON: &str = "/usr/bin/python3";

/// Makes environments and models, builds the program and the load generator, and runs it. `--profile NAME` chooses another
/// build than the release; everything else is for the load generator, whose `--help` tells.
pub fn beside_peers(arguments: &[String]) -> Result<()> {
    setup::run_all()?;
    let scripts = root().join("benches/serving/python");
    let models = setup::folder().join("bench/serving");
    run(Command::new(setup::python()).arg(scripts.join("models.py")).arg(&models))?;
    let (folder, rest) = super::build(arguments)?;
    let mut command = Command::new(folder.join("fishy-bench-serving"));
    for name in PEERS.into_iter().filter(|name| is_asked_for(name, &rest)) {
        match environment(name) {
            Ok(python) => {
                command.arg("--environment").arg(format!("{name}={}", python.display()));
            }
            Err(error) => println!("SKIPPED {name}: it does not install: {error:#}"),
        }
    }
    run(command
        .arg("--fishy")
        .arg(folder.join("fishy"))
        .arg("--python")
        .arg(setup::python())
        .arg("--scripts")
        .arg(scripts)
        .arg("--models")
        .arg(models)
        .arg("--onnxruntime")
        .arg(setup::folder().join("onnxruntime/libonnxruntime.so"))
        .arg("--out")
        .arg(super::folder()?.join("serving.json"))
        .args(rest))
}

/// Whether a peer is among the sides that were named; without any, all are.
fn is_asked_for(name: &str, arguments: &[String]) -> bool {
    let at = arguments.iter().position(|argument| argument == "--sides");
    at.and_then(|at| arguments.get(at + 1)).is_none_or(|sides| sides.contains(name))
}

fn environment(name: &str) -> Result<PathBuf> {
    let environment = format!("serving-{name}");
    if name != "pytriton" {
        return setup::environment(&environment);
    }
    if !Path::new(SYSTEM_PYTHON).is_file() {
        bail!("there is no {SYSTEM_PYTHON}");
    }
    setup::environment_on(&environment, Some(SYSTEM_PYTHON))
}
