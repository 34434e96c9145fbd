//! What the project needs beside Rust: a Python environment with pinned versions, and ONNX Runtime's library out of it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process::{output, root, run};

const POSTGRES_DRIVER: &str = "psycopg2-binary==2.9.13";

/// The folder of everything that is set up; git ignores it. Where it is a link into a cache, this is the cache: an
/// environment must not carry the path of a clone that is gone tomorrow.
pub fn folder() -> PathBuf {
    let folder = root().join(".fishy");
    folder.canonicalize().unwrap_or(folder)
}

/// The interpreter of the environment.
pub fn python() -> PathBuf {
    folder().join("venv/bin/python")
}

/// The build of MLflow's web UI that the environment's mlflow has.
pub fn mlflow_ui() -> Result<PathBuf> {
    let code = "import importlib.util as u; print(u.find_spec('mlflow').submodule_search_locations[0])";
    let package =
        output(Command::new(python()).args(["-c", code])).context("finding mlflow in the Python environment")?;
    Ok(Path::new(package.trim()).join("server/js/build"))
}

/// A Python tool of the environment, run as a module: the script beside the interpreter names the place where it was
/// installed.
pub fn module(name: &str) -> Command {
    let mut command = Command::new(python());
    command.args(["-m", name]);
    command
}

/// Makes what is missing; quick when nothing is.
pub fn run_all() -> Result<()> {
    std::fs::create_dir_all(folder())?;
    install_python(None, "venv", "python/requirements.lock")?;
    link_package()?;
    onnx_runtime()
}

/// The interpreter of an environment beside the main one, for packages that cannot live together with it: those that
/// `python/environments/NAME.txt` pins. Made when it is asked for.
pub fn environment(name: &str) -> Result<PathBuf> {
    environment_on(name, None)
}

/// The same on another interpreter than the one that the others stand on.
pub fn environment_on(name: &str, base: Option<&str>) -> Result<PathBuf> {
    install_python(base, &format!("environments/{name}"), &format!("python/environments/{name}.txt"))
}

/// A folder with PostgreSQL's driver for Python, which only the benchmark's MLflow needs: beside the environment, so that
/// this stays what its lock file says.
pub fn postgres_driver() -> Result<PathBuf> {
    let driver = folder().join("postgres-driver");
    if !driver.join("psycopg2").is_dir() {
        run(module("uv").args(["pip", "install", "--quiet", POSTGRES_DRIVER, "--target"]).arg(&driver))?;
    }
    Ok(driver)
}

/// A virtual environment below [`folder`] with what a lock file names, and nothing else: a lock is complete. Quick when it
/// is there.
fn install_python(base: Option<&str>, venv: &str, lock: &str) -> Result<PathBuf> {
    let venv = folder().join(venv);
    let python = venv.join("bin/python");
    let wanted = std::fs::read_to_string(root().join(lock)).with_context(|| format!("reading {lock}"))?;
    let stamp = venv.join("requirements.lock");
    if std::fs::read_to_string(&stamp).is_ok_and(|present| present == wanted) {
        return Ok(python);
    }
    println!("setting up Python in {}: the packages of {lock}", venv.display());
    if !python.is_file() {
        let base = base.map_or_else(base_python, |base| Ok(base.to_owned()))?;
        run(Command::new(base).args(["-m", "venv"]).arg(&venv))?;
    }
    run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "uv"]))?;
    run(Command::new(&python)
        .args(["-m", "uv", "pip", "install", "--quiet", "--no-deps", "--compile-bytecode", "--python"])
        .arg(&python)
        .args(["--requirements", lock]))?;
    std::fs::write(stamp, wanted)?;
    Ok(python)
}

/// Python 3.11 or newer.
fn base_python() -> Result<String> {
    for candidate in ["python3.11", "python3", "python"] {
        let check = "import sys; print(sys.version_info >= (3, 11))";
        if output(Command::new(candidate).args(["-c", check])).is_ok_and(|answer| answer.trim() == "True") {
            return Ok(candidate.to_owned());
        }
    }
    bail!("Python 3.11 or newer is needed: install it (Debian: apt-get install python3 python3-venv)")
}

/// Makes `import fishy` find this working tree.
fn link_package() -> Result<()> {
    let site =
        output(Command::new(python()).args(["-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"]))?;
    let source = root().join("python/src");
    std::fs::write(Path::new(site.trim()).join("fishy.pth"), format!("{}\n", source.display()))?;
    Ok(())
}

fn onnx_runtime() -> Result<()> {
    let code = "import onnxruntime, pathlib; print(pathlib.Path(onnxruntime.__file__).parent / 'capi')";
    let link = folder().join("onnxruntime/libonnxruntime.so");
    if link.is_file() {
        return Ok(());
    }
    let capi =
        output(Command::new(python()).args(["-c", code])).context("finding ONNX Runtime in the Python environment")?;
    let library = std::fs::read_dir(capi.trim())?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("libonnxruntime.so.")))
        .context("the package onnxruntime has no libonnxruntime.so.*")?;
    std::fs::create_dir_all(folder().join("onnxruntime"))?;
    let _ = std::fs::remove_file(&link);
    std::os::unix::fs::symlink(&library, &link)?;
    println!("ONNX Runtime: {}", library.display());
    Ok(())
}
