mod batch;
mod explain;

use std::convert::Infallible;
use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;

use anyhow::{Context, Result};
use clap::Args;
use fishy_contracts::segment;
use fishy_http::Call;
use http::Method;
use serde_json::Value;

use super::client::Server;
use crate::output::{Output, json, table};
use batch::Batch;

/// `fishy predict`
#[derive(Debug, Args)]
pub struct Predict {
    /// The deployment.
    #[arg(long)]
    deployment: String,
    /// A JSON file in one of MLflow's forms, for example {"dataframe_records": [{"temp": 12.5}]}; `-` for standard input. With
    /// a file as output: a Parquet or CSV file of any size.
    #[arg(long, default_value = "-")]
    input: PathBuf,
    /// Tells what each feature did to the prediction (Shapley values), against the example that came with the model or the
    /// request's own `background`.
    #[arg(long)]
    explain: bool,
    #[command(flatten)]
    server: Server,
    /// `table` or `json` to print the answer; the name of a file (.parquet, .csv, .jsonl) to predict a whole file into it.
    /// Stopped in the middle, the same command goes on where it was. Exit code 75: the server is away or busy, try again.
    #[arg(long, default_value = "table")]
    output: Destination,
    #[command(flatten)]
    batch: Batch,
}

/// Where the answer goes.
#[derive(Debug, Clone)]
enum Destination {
    Print(Output),
    File(PathBuf),
}

impl FromStr for Destination {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text {
            "table" => Self::Print(Output::Table),
            "json" => Self::Print(Output::Json),
            file => Self::File(file.into()),
        })
    }
}

impl Predict {
    /// Runs the command.
    pub async fn run(self) -> Result<ExitCode> {
        let output = match &self.output {
            Destination::Print(output) => *output,
            Destination::File(file) => {
                return self.batch.run(&self.server, &self.deployment, &self.input, file).await;
            }
        };
        self.print(output).await?;
        Ok(ExitCode::SUCCESS)
    }

    async fn print(self, output: Output) -> Result<()> {
        let mut text = String::new();
        if self.input.as_os_str() == "-" {
            std::io::stdin().read_to_string(&mut text)?;
        } else {
            text = std::fs::read_to_string(&self.input).with_context(|| format!("reading {}", self.input.display()))?;
        }
        let body: Value = serde_json::from_str(&text).context("the input is no JSON")?;
        if self.explain {
            return explain::run(&self.server.client("deployment")?, &self.deployment, &body, output).await;
        }
        let path = format!("/deployments/{}/invocations", segment(&self.deployment));
        let answer: Value = self.server.client("deployment")?.json(Call::new(Method::POST, path).json(&body)?).await?;
        if output == Output::Json {
            return json(&answer);
        }
        let mut rows = table(&["row", "prediction"]);
        for (place, prediction) in answer["predictions"].as_array().into_iter().flatten().enumerate() {
            rows.add_row([place.to_string(), prediction.to_string()]);
        }
        println!("{rows}");
        Ok(())
    }
}
