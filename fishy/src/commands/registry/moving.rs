//! `fishy registry import`, `export` and `sync`: a whole MLflow server into this one, or this one into an MLflow server.

mod databricks;
mod door;
mod files;
mod out;
mod pages;
mod progress;
mod report;
mod walk;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use crate::commands::OutputArguments;
use crate::commands::client::Server;
use crate::output::{Output, json};
use door::{Door, SILENCE};
use out::{Options, Outgoing};
use report::Report;
use walk::Walk;

/// `fishy registry import`
#[derive(Debug, Args)]
pub struct Import {
    /// The MLflow server, as <https://mlflow.example.com>.
    #[arg(long, value_name = "URL")]
    from: String,
    #[command(flatten)]
    moving: Moving,
}

/// `fishy registry export`
#[derive(Debug, Args)]
pub struct Export {
    /// The MLflow server, as <https://mlflow.example.com>.
    #[arg(long, value_name = "URL")]
    to: String,
    /// Catalog and schema in Unity Catalog of registered models whose names have not three levels.
    #[arg(long, value_name = "CATALOG.SCHEMA", requires = "databricks")]
    schema: Option<String>,
    #[command(flatten)]
    moving: Moving,
}

/// `fishy registry sync`
#[derive(Debug, Args)]
pub struct Sync {
    /// The MLflow server that was imported.
    #[arg(long, value_name = "URL", required_unless_present = "to")]
    from: Option<String>,
    /// The MLflow server that was exported to.
    #[arg(long, value_name = "URL", conflicts_with = "from")]
    to: Option<String>,
    /// Catalog and schema in Unity Catalog of registered models whose names have not three levels.
    #[arg(long, value_name = "CATALOG.SCHEMA", requires = "databricks", conflicts_with = "from")]
    schema: Option<String>,
    #[command(flatten)]
    moving: Moving,
}

/// What all of them take.
#[derive(Debug, Args)]
struct Moving {
    /// The environment variable that has the bearer token of the other server.
    #[arg(long, value_name = "NAME", conflicts_with = "token_file")]
    token_env: Option<String>,
    /// The file that has the bearer token of the other server.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Compares the length of each metric's history too: finds what was logged later below the last step.
    #[arg(long)]
    thorough: bool,
    /// The other server is a Databricks workspace: its registered models are in Unity Catalog.
    #[arg(long)]
    databricks: bool,
    #[command(flatten)]
    server: Server,
    #[command(flatten)]
    output: OutputArguments,
}

impl Import {
    /// Copies everything that is not here yet.
    pub async fn run(self) -> Result<()> {
        let walk = self.moving.walk(&self.from)?;
        self.moving.told(&walk.run().await?)
    }
}

impl Export {
    /// Copies everything that is not there yet.
    pub async fn run(self) -> Result<()> {
        let outgoing = self.moving.outgoing(&self.to, self.schema.as_deref())?;
        self.moving.told(&outgoing.run().await?)
    }
}

impl Sync {
    /// Copies what is new or changed.
    pub async fn run(self) -> Result<()> {
        let Self { from, to, schema, moving } = self;
        if let Some(to) = &to {
            let outgoing = moving.outgoing(to, schema.as_deref())?;
            ensure!(
                outgoing.has_copies().await?,
                "nothing was exported from {} to {to} yet: use fishy registry export first",
                outgoing.source()
            );
            return moving.told(&outgoing.run().await?);
        }
        let walk = moving.walk(&from.context("--from or --to is needed")?)?;
        ensure!(
            walk.counts().await?.values().any(|count| *count > 0),
            "nothing was imported from {} yet: use fishy registry import first",
            walk.source()
        );
        moving.told(&walk.run().await?)
    }
}

impl Moving {
    /// The token, from where it is kept.
    fn token(&self) -> Result<Option<String>> {
        let token = match (&self.token_env, &self.token_file) {
            (Some(name), _) => env_value(name).with_context(|| format!("the environment has no variable {name}"))?,
            (None, Some(file)) => {
                std::fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))?
            }
            (None, None) => return Ok(None),
        };
        let token = token.trim().to_owned();
        ensure!(!token.is_empty(), "the token is empty");
        Ok(Some(token))
    }

    /// The other server; `silence` is how long it may be silent.
    fn other(&self, url: &str, silence: Option<Duration>) -> Result<Door> {
        let parsed = reqwest::Url::parse(url).with_context(|| format!("{url:?} is no URL"))?;
        if !parsed.username().is_empty() || parsed.password().is_some() {
            bail!("the URL must not hold a password: use --token-env or --token-file");
        }
        ensure!(matches!(parsed.scheme(), "http" | "https"), "{url} is neither http nor https");
        let door = Door::open("the other server", url, self.token()?.as_deref(), silence)?;
        Ok(door.databricks(self.databricks))
    }

    /// This server, or one workspace of it.
    fn own(&self, silence: Option<Duration>) -> Result<Door> {
        let door = Door::open("fishy", &self.server.url, self.server.token.as_deref(), silence)?;
        Ok(door.in_workspace(self.server.workspace_header()?))
    }

    fn walk(&self, from: &str) -> Result<Walk> {
        let source = self.other(from, Some(SILENCE))?;
        let target = self.own(None)?;
        Ok(Walk::new(source, target, bar()?, self.thorough))
    }

    fn outgoing(&self, to: &str, schema: Option<&str>) -> Result<Outgoing> {
        if let Some(schema) = schema {
            let is_schema =
                schema.split('.').filter(|level| !level.is_empty()).count() == 2 && schema.matches('.').count() == 1;
            ensure!(self.databricks && is_schema, "--schema is CATALOG.SCHEMA, and goes with --databricks");
        }
        let source = self.own(Some(SILENCE))?;
        let target = self.other(to, None)?;
        ensure!(source.base != target.base, "{to} is the server that is to be exported: a copy needs another one");
        let options = Options { is_thorough: self.thorough, schema: schema.map(str::to_owned) };
        Ok(Outgoing::new(source, target, bar()?, options))
    }

    fn told(&self, report: &Report) -> Result<()> {
        if self.output.output == Output::Json {
            json(report)?;
        } else {
            report.print();
        }
        let failed = report.failures();
        ensure!(failed == 0, "{failed} things could not be copied or are missing: see the report");
        Ok(())
    }
}

/// Drawn on a terminal only, and beside the answer.
fn bar() -> Result<ProgressBar> {
    let bar = ProgressBar::new(0);
    let template = "{elapsed_precise} {wide_bar} {human_pos}/{human_len} {msg}";
    bar.set_style(ProgressStyle::with_template(template).context("the progress bar")?);
    bar.enable_steady_tick(Duration::from_millis(200));
    Ok(bar)
}

#[expect(clippy::disallowed_methods, reason = "the user names the variable, so no setting can")]
fn env_value(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
