use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Subcommand;
use fishy_contracts::pipelines::{PipelineSpec, Run, RunStatus, StartRun};
use fishy_core::time::{parse_ms, rfc3339};

use super::OutputArguments;
use super::client::Server;
use crate::output::{Output, json, table};

/// `fishy pipeline …`
#[derive(Debug, Subcommand)]
pub enum What {
    /// Makes or changes a pipeline from its TOML file.
    Apply {
        /// The file; its folder is where relative paths of its commands start from.
        file: PathBuf,
        #[command(flatten)]
        server: Server,
    },
    /// All pipelines.
    List {
        #[command(flatten)]
        server: Server,
        #[command(flatten)]
        output: OutputArguments,
    },
    /// Starts a run and waits for its end; exit code 0 when it promoted, 3 when the gate said no.
    Run {
        /// The pipeline.
        name: String,
        /// Event time: nothing that arrived later is used. Now, if not said.
        #[arg(long)]
        as_of: Option<String>,
        #[command(flatten)]
        server: Server,
        #[command(flatten)]
        output: OutputArguments,
    },
    /// Runs, newest first.
    Runs {
        /// The pipeline.
        name: String,
        #[command(flatten)]
        server: Server,
        #[command(flatten)]
        output: OutputArguments,
    },
    /// Stops a run.
    Cancel {
        /// The run.
        id: String,
        #[command(flatten)]
        server: Server,
    },
}

/// A pipeline as its file says.
pub fn read_spec(file: &std::path::Path) -> Result<PipelineSpec> {
    let definition = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    let parsed: toml::Table = definition.parse().with_context(|| format!("in {}", file.display()))?;
    let name = parsed.get("name").and_then(toml::Value::as_str).context("the file has no name = \"…\"")?.to_owned();
    let folder = std::path::absolute(file)?.parent().map(|folder| folder.display().to_string()).unwrap_or_default();
    Ok(PipelineSpec { name, definition, folder })
}

impl What {
    /// Runs the command.
    pub async fn run(self) -> Result<ExitCode> {
        match self {
            Self::Apply { file, server } => {
                let spec = server.pipelines()?.apply(&read_spec(&file)?).await?;
                println!("pipeline {} is in place", spec.name);
            }
            Self::List { server, output } => {
                let pipelines = server.pipelines()?.list().await?.items;
                match output.output {
                    Output::Json => json(&pipelines)?,
                    Output::Table => pipelines.iter().for_each(|pipeline| println!("{}", pipeline.name)),
                }
            }
            Self::Run { name, as_of, server, output } => {
                let as_of_ms = as_of.map(|text| parse_ms(&text).context("--as-of is no time")).transpose()?;
                let start = StartRun { as_of_ms, reason: "by hand".to_owned(), ..StartRun::default() };
                let pipelines = server.pipelines()?;
                let mut run = pipelines.start(&name, &start).await?;
                while !run.status.is_final() {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    run = pipelines.run(&run.id).await?;
                }
                match output.output {
                    Output::Json => json(&run)?,
                    Output::Table => println!("{}", steps(&run)),
                }
                return Ok(match run.status {
                    RunStatus::Succeeded => ExitCode::SUCCESS,
                    RunStatus::Rejected => ExitCode::from(3),
                    _ => ExitCode::FAILURE,
                });
            }
            Self::Runs { name, server, output } => {
                let runs = server.pipelines()?.runs(&name).await?.items;
                if output.output == Output::Json {
                    json(&runs)?;
                    return Ok(ExitCode::SUCCESS);
                }
                let mut rows = table(&["run", "as of", "status", "why", "error"]);
                for run in runs {
                    let status = format!("{:?}", run.status).to_lowercase();
                    rows.add_row([run.id, rfc3339(run.as_of_ms), status, run.reason, run.error.unwrap_or_default()]);
                }
                println!("{rows}");
            }
            Self::Cancel { id, server } => {
                let run = server.pipelines()?.cancel(&id).await?;
                println!("{}", steps(&run));
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn steps(run: &Run) -> comfy_table::Table {
    let mut rows = table(&["step", "kind", "status", "tries", "seconds", "error"]);
    for step in &run.steps {
        let seconds =
            step.started_ms.zip(step.finished_ms).map(|(from, to)| format!("{:.1}", (to - from) as f64 / 1e3));
        rows.add_row([
            step.name.clone(),
            step.kind.clone(),
            format!("{:?}", step.status).to_lowercase(),
            step.attempts.to_string(),
            seconds.unwrap_or_default(),
            step.error.clone().unwrap_or_default(),
        ]);
    }
    rows
}
