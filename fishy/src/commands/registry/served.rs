use anyhow::{Context, Result};
use clap::Args;
use fishy_contracts::deployment::Revision;
use fishy_contracts::monitoring::ServedPrediction;
use fishy_core::ErrorCode;
use fishy_core::time::rfc3339;
use serde::Serialize;

use super::time;
use crate::commands::OutputArguments;
use crate::commands::client::Server;
use crate::output::{Output, json, table};

/// `fishy registry served`
#[derive(Debug, Args)]
pub struct Served {
    /// The deployment.
    deployment: String,
    /// The time, as 2024-05-12T14:03:00Z.
    #[arg(long)]
    at: String,
    /// Only what was predicted for this, as pen=7; may be given again.
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<String>,
    #[command(flatten)]
    server: Server,
    #[command(flatten)]
    output: OutputArguments,
}

/// What served at a time.
#[derive(Debug, Serialize)]
struct Answer {
    deployment: String,
    time_ms: i64,
    /// The last prediction up to then, in event time: what really answered, also where traffic was split.
    prediction: Option<ServedPrediction>,
    /// The revision that was active then, by the clock.
    revision: Option<Revision>,
}

impl Served {
    /// Runs the command.
    pub async fn run(self) -> Result<()> {
        let time_ms = time(&self.at)?;
        let labels = self
            .labels
            .iter()
            .map(|label| label.split_once('=').with_context(|| format!("{label:?} is no label: use KEY=VALUE")))
            .collect::<Result<Vec<_>>>()?;
        let prediction = self.server.monitoring()?.served(&self.deployment, time_ms, &labels).await?;
        let revision = match self.server.deployment()?.revisions(&self.deployment).await {
            Ok(revisions) => revisions.items.into_iter().find(|revision| revision.activated_ms <= time_ms),
            // It was deleted; what it predicted is still known.
            Err(error) if error.code() == ErrorCode::NotFound => None,
            Err(error) => return Err(error.into()),
        };
        let answer = Answer { deployment: self.deployment, time_ms, prediction, revision };
        if self.output.output == Output::Json {
            return json(&answer);
        }
        let mut rows = table(&["", "version", "time", "what"]);
        match &answer.prediction {
            Some(found) => {
                let labels: Vec<_> = found.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
                let what = format!("prediction {} {}", found.id, labels.join(" "));
                rows.add_row(["last answer", &found.version, &rfc3339(found.time_ms), &what]);
            }
            None => {
                rows.add_row(["last answer", "-", "-", "no such prediction is known"]);
            }
        }
        match &answer.revision {
            Some(revision) => {
                let what = format!("revision {} of {}", revision.number, revision.model);
                rows.add_row(["in force", &revision.version, &rfc3339(revision.activated_ms), &what]);
            }
            None => {
                rows.add_row(["in force", "-", "-", "no revision was active by the clock"]);
            }
        }
        println!("{rows}");
        Ok(())
    }
}
