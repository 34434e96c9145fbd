//! The two servers, each started as its user would.

use std::fmt;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use sqlx::{Connection, Executor};

use crate::process_tree::{self, Usage};

/// How long a server may take to start: on a busy machine MLflow's fifteen processes need minutes.
const START: Duration = Duration::from_mins(10);

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Side {
    /// `mlflow server` with its defaults.
    Mlflow,
    /// `mlflow server --workers 1`.
    MlflowOneWorker,
    /// `fishy up`.
    Fishy,
}

impl Side {
    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mlflow => "mlflow",
            Self::MlflowOneWorker => "mlflow, one worker",
            Self::Fishy => "fishy",
        }
    }
}

/// Where it keeps its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Database {
    /// Files.
    Sqlite,
    /// A database of its own in a PostgreSQL server.
    Postgres,
}

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sqlite => "SQLite",
            Self::Postgres => "PostgreSQL",
        })
    }
}

/// How a server is started.
#[derive(Debug, Clone, Copy)]
pub struct Setting<'a> {
    /// Who.
    pub side: Side,
    /// With which database.
    pub database: Database,
    /// Our program.
    pub fishy: &'a Path,
    /// The interpreter with MLflow.
    pub python: &'a Path,
    /// Where that finds PostgreSQL's driver.
    pub python_path: Option<&'a Path>,
    /// The PostgreSQL server.
    pub postgres: &'a str,
}

/// Where a server's data is, and what starts a server on it.
pub struct Place<'a> {
    /// How it is started.
    pub setting: Setting<'a>,
    folder: tempfile::TempDir,
    postgres_name: Option<String>,
}

/// A server that runs; dropping it ends it.
pub struct Server {
    /// Where it listens.
    pub url: String,
    /// From the start of the process to the first good answer.
    pub start_s: f64,
    child: Child,
}

impl<'a> Place<'a> {
    /// An empty folder, and an empty database where that is in PostgreSQL.
    pub async fn new(setting: Setting<'a>) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("fishy-bench-").tempdir()?;
        let postgres_name = match setting.database {
            Database::Sqlite => None,
            Database::Postgres => {
                let random: String =
                    folder.path().to_string_lossy().chars().filter(char::is_ascii_alphanumeric).collect();
                let name = format!("bench_{}", random.to_lowercase());
                administer(setting.postgres, &format!("create database {name}")).await?;
                Some(name)
            }
        };
        Ok(Self { setting, folder, postgres_name })
    }

    /// The URL of the database in PostgreSQL.
    pub fn postgres_url(&self) -> Option<String> {
        let name = self.postgres_name.as_deref()?;
        Some(format!("{}/{name}", self.setting.postgres.trim_end_matches('/')))
    }

    /// The file of the tracking data in SQLite.
    pub fn sqlite_file(&self) -> PathBuf {
        match self.setting.side {
            Side::Fishy => self.folder.path().join("db/registry.db"),
            Side::Mlflow | Side::MlflowOneWorker => self.folder.path().join("mlflow.db"),
        }
    }

    fn command(&self, port: u16) -> Command {
        let folder = self.folder.path();
        let mut command = match self.setting.side {
            Side::Fishy => {
                let mut command = Command::new(self.setting.fishy);
                command.args(["up", "--listen", &format!("127.0.0.1:{port}"), "--data-dir"]).arg(folder);
                if let Some(url) = self.postgres_url() {
                    command.env("FISHY__STORAGE__DATABASE", url);
                }
                command
            }
            Side::Mlflow | Side::MlflowOneWorker => {
                let mut command = Command::new(self.setting.python);
                let store = match self.postgres_url().as_deref().and_then(|url| url.split_once("://")) {
                    // Without a name, SQLAlchemy takes a driver that MLflow does not come with either.
                    Some((_, rest)) => format!("postgresql+psycopg2://{rest}"),
                    None => format!("sqlite:///{}", self.sqlite_file().display()),
                };
                command.args(["-m", "mlflow", "server", "--port", &port.to_string(), "--backend-store-uri", &store]);
                command.arg("--artifacts-destination").arg(folder.join("artifacts"));
                if self.setting.side == Side::MlflowOneWorker {
                    command.args(["--workers", "1"]);
                }
                if let Some(path) = self.setting.python_path {
                    command.env("PYTHONPATH", path);
                }
                command.env("MLFLOW_DISABLE_TELEMETRY", "true").current_dir(folder);
                command
            }
        };
        command.stdin(Stdio::null());
        command
    }

    /// Starts the server and waits until it is healthy.
    pub async fn start(&self) -> Result<Server> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let log = self.folder.path().join("server.log");
        let file = std::fs::File::create(&log)?;
        let mut command = self.command(port);
        command.stdout(file.try_clone()?).stderr(file);
        let url = format!("http://127.0.0.1:{port}");
        let client = reqwest::Client::builder().no_proxy().build()?;
        let started = Instant::now();
        let child = command.spawn().with_context(|| format!("starting {command:?}"))?;
        let mut server = Server { url, start_s: 0.0, child };
        loop {
            if let Ok(answer) = client.get(format!("{}/health", server.url)).send().await
                && answer.status().is_success()
            {
                server.start_s = started.elapsed().as_secs_f64();
                return Ok(server);
            }
            if server.child.try_wait()?.is_some() || started.elapsed() > START {
                let text = std::fs::read_to_string(&log).unwrap_or_default();
                let end = text.len().saturating_sub(2_000);
                bail!("{} did not start: {}", self.setting.side.name(), text.get(end..).unwrap_or_default());
            }
            // Looked for often, since our own start is measured in milliseconds.
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Removes the database in PostgreSQL; the folder goes by itself.
    pub async fn remove(self) -> Result<()> {
        match &self.postgres_name {
            Some(name) => administer(self.setting.postgres, &format!("drop database {name} with (force)")).await,
            None => Ok(()),
        }
    }
}

async fn administer(server: &str, sql: &str) -> Result<()> {
    let url = format!("{}/postgres", server.trim_end_matches('/'));
    let mut connection = sqlx::PgConnection::connect(&url).await.context("connecting to PostgreSQL")?;
    connection.execute(sqlx::AssertSqlSafe(sql.to_owned())).await.with_context(|| sql.to_owned())?;
    Ok(connection.close().await?)
}

impl Server {
    /// What its processes have used.
    pub fn usage(&self) -> Result<Usage> {
        process_tree::usage(self.child.id())
    }

    /// Ends it and waits for that.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        let asked = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if asked.elapsed() > Duration::from_secs(20) {
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}
