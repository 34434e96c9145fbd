//! The command line: one file a command.

pub(crate) mod audit;
pub(crate) mod client;
mod config;
mod deploy;
mod drift;
mod feedback;
mod monitor;
pub(crate) mod pipeline;
mod predict;
mod registry;
pub mod serve;
pub(crate) mod simulate;
mod status;
mod token;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use fishy_config::{Config, LogFormat, Overrides};

use crate::output::Output;
pub use client::Server;

use crate::services::Service;
use crate::{compose, replay};

/// ML Ops for fish farms: model registry, deployment, monitoring, pipelines and governance in one program.
#[derive(Debug, Parser)]
#[command(name = "fishy", version, arg_required_else_help = true)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs all services in this process; all but the registry where the configuration names a foreign one.
    Up(ServerArguments),
    /// Runs some services in this process.
    Serve {
        /// Which: registry, deployment, monitoring, pipelines, governance.
        #[arg(long = "service", value_delimiter = ',', required = true)]
        services: Vec<Service>,
        #[command(flatten)]
        server: ServerArguments,
    },
    /// Shows or checks the configuration.
    Config {
        #[command(subcommand)]
        what: config::What,
    },
    /// Brings the databases up to date.
    Migrate(config::Migrate),
    /// Exit code 0 when a server is ready; says what is wrong otherwise.
    Healthcheck(client::Server),
    /// How the whole system stands.
    Status(status::Status),
    /// Service tokens.
    Token {
        #[command(subcommand)]
        what: token::What,
    },
    /// The model registry: history, rollback, what served when, deletion for good.
    Registry {
        #[command(subcommand)]
        what: registry::What,
    },
    /// Deploys a registered model.
    Deploy(Box<deploy::Deploy>),
    /// Asks a deployment for predictions.
    Predict(Box<predict::Predict>),
    /// How far the columns of a Parquet file have moved from those of another; needs no server.
    Drift(drift::Drift),
    /// Monitors: how they stand, their windows, faults and triggers.
    Monitor {
        #[command(subcommand)]
        what: monitor::What,
    },
    /// Sends true values and opinions of answers.
    Feedback {
        #[command(subcommand)]
        what: feedback::What,
    },
    /// Pipelines and their runs.
    Pipeline {
        #[command(subcommand)]
        what: pipeline::What,
    },
    /// The audit log.
    Audit {
        #[command(subcommand)]
        what: audit::What,
    },
    /// Simulates the sensors of a fish farm.
    Simulate(simulate::Simulate),
    /// Drives a data set through the closed loop in event time, and compares it with a calendar.
    Replay(Box<replay::Replay>),
}

/// What every command that reads the configuration takes.
#[derive(Debug, Clone, Args)]
pub struct ConfigArguments {
    /// The configuration file; fishy.toml in this folder when there is one.
    #[arg(long)]
    config: Option<PathBuf>,
    /// The folder of everything that is kept locally.
    #[arg(long)]
    data_dir: Option<String>,
}

#[derive(Debug, Args)]
struct ServerArguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// Address and port; port 0 takes a free one.
    #[arg(long)]
    listen: Option<String>,
    /// The folder of MLflow's own web UI, served below /mlflow: mlflow/server/js/build of an installed mlflow package.
    #[arg(long, value_name = "DIR")]
    mlflow_ui: Option<String>,
}

impl ConfigArguments {
    fn load(&self) -> Result<Config> {
        self.load_with(Overrides::default())
    }

    fn load_with(&self, overrides: Overrides) -> Result<Config> {
        let overrides = Overrides { data_dir: self.data_dir.clone(), ..overrides };
        Ok(fishy_config::load(self.config.as_deref(), &overrides)?)
    }
}

/// Runs a command.
pub async fn run(arguments: Arguments) -> Result<ExitCode> {
    match arguments.command {
        Command::Up(server) => {
            let config = server.load()?;
            serve::run(&config, &compose::everything(&config)).await?;
        }
        Command::Serve { services, server } => serve::run(&server.load()?, &services).await?,
        Command::Config { what } => what.run()?,
        Command::Migrate(migrate) => return migrate.run().await,
        Command::Healthcheck(server) => return client::healthcheck(&server).await,
        Command::Status(status) => status.run().await?,
        Command::Token { what } => what.run().await?,
        Command::Registry { what } => what.run().await?,
        Command::Deploy(deploy) => deploy.run().await?,
        Command::Predict(predict) => return predict.run().await,
        Command::Drift(drift) => return drift.run(),
        Command::Monitor { what } => return what.run().await,
        Command::Feedback { what } => what.run().await?,
        Command::Pipeline { what } => return what.run().await,
        Command::Audit { what } => return what.run().await,
        Command::Simulate(simulate) => simulate.run().await?,
        Command::Replay(replay) => return replay.run().await,
    }
    Ok(ExitCode::SUCCESS)
}

impl ServerArguments {
    fn load(&self) -> Result<Config> {
        let overrides =
            Overrides { listen: self.listen.clone(), mlflow_ui: self.mlflow_ui.clone(), ..Overrides::default() };
        let config = self.config.load_with(overrides)?;
        let is_json = config.telemetry.log_format == LogFormat::Json;
        fishy_telemetry::start_logging(is_json, &config.telemetry.log_filter).context("telemetry.log_filter")?;
        if config.telemetry.metrics {
            fishy_telemetry::start_metrics()?;
        }
        Ok(config)
    }
}

/// The form of the answer.
#[derive(Debug, Clone, Args)]
pub struct OutputArguments {
    /// A table for a person, JSON for a script.
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
}
