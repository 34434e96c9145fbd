//! `cargo xtask test`: everything that must pass.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Result, bail};

use crate::process::{cargo, has, root, run};
use crate::{demo, deploy, docs, layers, services, setup};

const PARTS: [&str; 8] = ["format", "lints", "layers", "docs", "rust", "python", "clients", "deploy"];

/// Runs all parts, or those that are named.
pub fn run_all(only: &[String]) -> Result<()> {
    let wanted = |part: &str| only.is_empty() || only.iter().any(|name| name == part);
    if let Some(unknown) = only.iter().find(|name| !PARTS.contains(&name.as_str())) {
        bail!("no part {unknown:?}; there are {}", PARTS.join(", "));
    }
    let started = Instant::now();
    reference_data()?;
    setup::run_all()?;
    if wanted("format") {
        run(&mut cargo(&["fmt", "--all", "--check"]))?;
    }
    if wanted("layers") {
        layers::run()?;
    }
    if wanted("lints") {
        let clippy = ["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"];
        run(&mut cargo(&clippy))?;
    }
    if ["rust", "clients", "docs", "deploy"].into_iter().any(wanted) {
        // The tests and, with them, the program: built alone it would have other features of its dependencies, so that
        // everything was built twice.
        run(&mut cargo(&["test", "--workspace", "--no-run", "--quiet"]))?;
    }
    if wanted("docs") {
        docs::run(true)?;
    }
    let has_clients = wanted("clients");
    if has_clients {
        services::chromium()?;
    }
    let servers = if wanted("rust") { Some(services::start()?) } else { None };
    // The slowest tests in Rust come one after the other and leave a core free: clients and Python run beside them.
    std::thread::scope(|scope| {
        let beside = scope.spawn(|| -> Result<()> {
            if wanted("python") {
                python()?;
            }
            if has_clients { clients() } else { Ok(()) }
        });
        let rust = servers.as_ref().map_or(Ok(()), rust);
        let beside = beside.join().unwrap_or_else(|_| bail!("the tests of Python and clients panicked"));
        rust.and(beside)
    })?;
    drop(servers);
    if wanted("deploy") {
        deploy::run_checks()?;
    }
    println!("all passed in {:.0} s", started.elapsed().as_secs_f64());
    Ok(())
}

/// Tests with real data read it from beside the repository; CI insists on it.
fn reference_data() -> Result<()> {
    let folder = root().join("../shared");
    let missing: Vec<_> = ["data", "golden"].into_iter().filter(|part| !folder.join(part).is_dir()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let message = format!("reference data is missing: {} of {}", missing.join(" and "), folder.display());
    #[expect(clippy::disallowed_methods, reason = "CI says so by environment")]
    let is_ci = std::env::var_os("CI").is_some();
    if is_ci {
        bail!("{message}");
    }
    println!("SKIPPED {} kinds of tests: {message}", missing.len());
    Ok(())
}

fn rust(servers: &services::Started) -> Result<()> {
    let mut command = if has("cargo-nextest") {
        cargo(&[
            "nextest",
            "run",
            "--workspace",
            "--no-fail-fast",
            "--status-level",
            "fail",
            "--final-status-level",
            "slow",
        ])
    } else {
        cargo(&["test", "--workspace", "--no-fail-fast"])
    };
    run(command.envs(servers.environment.clone()))?;
    run(&mut cargo(&["test", "--workspace", "--doc", "--quiet"]))
}

fn python() -> Result<()> {
    run(setup::module("ruff").args([
        "check",
        "--config",
        "python/pyproject.toml",
        "python",
        "examples",
        "compat",
        "deploy",
        "benches",
    ]))?;
    run(setup::module("ruff").args([
        "format",
        "--check",
        "--config",
        "python/pyproject.toml",
        "python",
        "examples",
        "compat",
        "deploy",
        "benches",
    ]))?;
    run(setup::module("mypy").args(["--config-file", "python/pyproject.toml", "python/src/fishy"]))?;
    run(setup::module("pytest").args(["--quiet", "-p", "no:cacheprovider", "python/tests"]))
}

/// Real clients against a running program.
fn clients() -> Result<()> {
    let stores = services::stores()?;
    let folder = setup::folder().join("clients");
    let _ = std::fs::remove_dir_all(&folder);
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let mut server = Command::new(demo::binary()?);
    server.args(["up", "--listen", &format!("127.0.0.1:{port}"), "--data-dir"]).arg(&folder);
    server.arg("--mlflow-ui").arg(setup::mlflow_ui()?);
    let _running = crate::process::Running::start(&mut server, Path::new(".fishy/log/clients.log"))?;
    services::wait_for("fishy", port, std::time::Duration::from_mins(1))?;
    let url = format!("http://127.0.0.1:{port}");
    run(setup::module("pytest")
        .args(["--quiet", "-p", "no:cacheprovider", "compat"])
        .env("FISHY_BINARY", demo::binary()?)
        .env("FISHY_PYTHON_MLFLOW2", setup::environment("mlflow2")?)
        .env("FISHY_PYTHON_LIGHTGBM", setup::environment("lightgbm")?)
        .env("FISHY_PYTHON_TRITON", setup::environment("triton")?)
        .env("FISHY_PYTHON_KSERVE", setup::environment("kserve")?)
        .envs(stores.environment)
        .env("FISHY_URL", &url)
        .env("MLFLOW_TRACKING_URI", &url))
}
