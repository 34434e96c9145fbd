//! `fishy replay`: drives a data set through the closed loop in event time.
//!
//! A client like any other: it sends readings as prediction requests through the deployment's HTTP door, true values
//! when they became known, and tells the monitor when a day is complete. Training, gate and promotion happen in the
//! server. At every midnight it waits for what the server has begun, so that a training that takes seconds happens at
//! one moment of event time.

mod baselines;
mod chart;
mod drive;
mod plan;
mod report;
mod server;
mod table;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::commands::Server as Url;
use crate::commands::serve::interrupted;

/// Drives a data set through the closed loop.
#[derive(Debug, Args)]
pub struct Replay {
    /// An example with features, learner and pipeline of its own: a name below examples/, or a folder.
    #[arg(long)]
    pub example: Option<String>,
    /// A CSV or Parquet file; a simulated farm if not said.
    #[arg(long)]
    pub data: Option<PathBuf>,
    /// The column of the time.
    #[arg(long)]
    pub time: Option<String>,
    /// The column that is predicted.
    #[arg(long)]
    pub target: Option<String>,
    /// The columns it is predicted from.
    #[arg(long, value_delimiter = ',')]
    pub features: Vec<String>,
    /// Only rows where a column has a value: station=apadb
    #[arg(long = "where", value_name = "COLUMN=VALUE")]
    pub filter: Option<String>,
    /// Means over so long instead of single rows: 1h
    #[arg(long)]
    pub every: Option<String>,
    /// A number that stands for a missing value.
    #[arg(long, allow_hyphen_values = true)]
    pub missing: Option<f64>,
    /// The first model learns from what came before this time; if not said, the first
    /// 17 % of the span, and of a simulated farm two months or half of it.
    #[arg(long)]
    pub train_until: Option<String>,
    /// Nothing after this time is used.
    #[arg(long)]
    pub end: Option<String>,
    /// After how many days a true value becomes known.
    #[arg(long)]
    pub label_delay_days: Option<f64>,
    /// The simulated scenario.
    #[arg(long, default_value = "demo")]
    pub scenario: String,
    /// The seed of the learner and of the simulation.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// How often the server is killed (SIGKILL) and started again on the way.
    #[arg(long, default_value_t = 0)]
    pub kills: u32,
    /// A running server instead of one of its own.
    #[arg(long)]
    pub url: Option<String>,
    /// A service token for that server.
    #[arg(long, env = "FISHY_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// An MLflow server as the registry of the server it starts, as <https://mlflow.example.com>.
    #[arg(long, value_name = "URL", conflicts_with = "url")]
    pub registry: Option<String>,
    /// The file that has the bearer token of that MLflow server.
    #[arg(long, value_name = "FILE", requires = "registry")]
    pub registry_token_file: Option<PathBuf>,
    /// That server is a Databricks workspace; then --model has three levels and --experiment is a path.
    #[arg(long, requires = "registry")]
    pub registry_is_databricks: bool,
    /// The registered model, where it has another name than the example.
    #[arg(long)]
    pub model: Option<String>,
    /// The experiment of the trainings, where it has another name than the example's.
    #[arg(long)]
    pub experiment: Option<String>,
    /// The folder of the server it starts; made anew.
    #[arg(long, default_value = ".fishy/replay")]
    pub data_dir: PathBuf,
    /// The Python interpreter of the training and of the baselines.
    #[arg(long, default_value = ".fishy/venv/bin/python")]
    pub python: PathBuf,
    /// Leaves out the baselines.
    #[arg(long)]
    pub no_baselines: bool,
    /// Where the figures go.
    #[arg(long, default_value = "loop-report.json")]
    pub report: PathBuf,
    /// Where the chart goes.
    #[arg(long, default_value = "loop-chart.svg")]
    pub chart: PathBuf,
}

impl Replay {
    /// The settings of the server it starts.
    fn environment(&self) -> Result<Vec<(&'static str, OsString)>> {
        let mut environment = vec![("FISHY__PIPELINES__PYTHON", std::path::absolute(&self.python)?.into_os_string())];
        if let Some(url) = &self.registry {
            environment.push(("FISHY__FOREIGN_REGISTRY__URL", url.into()));
        }
        if let Some(file) = &self.registry_token_file {
            environment.push(("FISHY__FOREIGN_REGISTRY__TOKEN_FILE", std::path::absolute(file)?.into_os_string()));
        }
        if self.registry_is_databricks {
            environment.push(("FISHY__FOREIGN_REGISTRY__KIND", "databricks".into()));
        }
        Ok(environment)
    }

    /// Runs the command; exit code 1 when something was lost. A server of its own ends with it, also when it is interrupted.
    pub async fn run(self) -> Result<ExitCode> {
        tokio::select! {
            result = self.drive() => result,
            signal = interrupted() => {
                signal?;
                bail!("interrupted")
            }
        }
    }

    async fn drive(&self) -> Result<ExitCode> {
        let started = Instant::now();
        let plan = plan::Plan::make(self)?;
        eprintln!(
            "{}: {} rows, {} features, first model from {} rows before {}",
            plan.name,
            plan.rows.len(),
            plan.features.len(),
            plan.first_replayed(),
            fishy_core::time::rfc3339(plan.train_until_ms)
        );
        let server = match &self.url {
            Some(url) => server::Server::foreign(url),
            None => server::Server::spawn(&self.data_dir, self.environment()?).await?,
        };
        let url = Url { url: server.url().to_owned(), token: self.token.clone(), workspace: None };
        let outcome = drive::Driver::new(&plan, url, &server, self.kills, self.seed)?.run().await;
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(error) => {
                let log = server.log_tail();
                server.stop().await;
                return Err(error.context(format!("the replay did not end{log}")));
            }
        };
        let logged = server.stop_and_count(&plan.name).await?;
        let baselines = if self.no_baselines {
            None
        } else {
            eprintln!("baselines: the same learner never retrained, and retrained every month");
            let folder = self.report.parent().map_or_else(PathBuf::new, PathBuf::from);
            Some(baselines::run(&plan, &self.python, &folder, self.seed).context("computing the baselines")?)
        };
        let report = report::Report::new(&plan, &outcome, baselines.as_ref(), logged, started.elapsed());
        report.write(&self.report)?;
        chart::draw(&self.chart, &plan, &outcome, baselines.as_ref())?;
        println!("{}", report.table());
        println!("report  {}\nchart   {}", self.report.display(), self.chart.display());
        let is_whole = report.is_whole();
        if !is_whole {
            eprintln!("something failed or was lost: see failed_requests and lost in the report");
        }
        Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
