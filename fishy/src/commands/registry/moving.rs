//! `fishy registry import` and `fishy registry sync`: a whole MLflow server into this one.

mod door;
mod files;
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
use report::Report;
use walk::Walk;

/// `fishy registry import` and `fishy registry sync`
#[derive(Debug, Args)]
pub struct Moving {
    /// The MLflow server, as <https://mlflow.example.com>.
    #[arg(long, value_name = "URL")]
    from: String,
    /// The environment variable that has the bearer token of the other server.
    #[arg(long, value_name = "NAME", conflicts_with = "token_file")]
    token_env: Option<String>,
    /// The file that has the bearer token of the other server.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    #[command(flatten)]
    server: Server,
    #[command(flatten)]
    output: OutputArguments,
}

impl Moving {
    /// Copies everything that is not here yet.
    pub async fn import(self) -> Result<()> {
        let walk = self.open()?;
        self.run(walk).await
    }

    /// Copies what is new or changed.
    pub async fn sync(self) -> Result<()> {
        let walk = self.open()?;
        ensure!(
            walk.counts().await?.values().any(|count| *count > 0),
            "nothing was imported from {} yet: use fishy registry import first",
            walk.source()
        );
        self.run(walk).await
    }

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

    fn open(&self) -> Result<Walk> {
        let url = reqwest::Url::parse(&self.from).with_context(|| format!("{:?} is no URL", self.from))?;
        if !url.username().is_empty() || url.password().is_some() {
            bail!("the URL must not hold a password: use --token-env or --token-file");
        }
        ensure!(matches!(url.scheme(), "http" | "https"), "{} is neither http nor https", self.from);
        let source = Door::open("the other server", &self.from, self.token()?.as_deref(), Some(SILENCE))?;
        let target = Door::open("fishy", &self.server.url, self.server.token.as_deref(), None)?;
        // Drawn on a terminal only, and beside the answer.
        let bar = ProgressBar::new(0);
        let template = "{elapsed_precise} {wide_bar} {human_pos}/{human_len} {msg}";
        bar.set_style(ProgressStyle::with_template(template).context("the progress bar")?);
        bar.enable_steady_tick(Duration::from_millis(200));
        Ok(Walk::new(source, target, bar))
    }

    async fn run(&self, walk: Walk) -> Result<()> {
        let report: Report = walk.run().await?;
        if self.output.output == Output::Json {
            json(&report)?;
        } else {
            report.print();
        }
        let failed = report.failures();
        ensure!(failed == 0, "{failed} things could not be copied or are missing: see the report");
        Ok(())
    }
}

#[expect(clippy::disallowed_methods, reason = "the user names the variable, so no setting can")]
fn env_value(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
