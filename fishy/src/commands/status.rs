use anyhow::Result;
use clap::Args;
use fishy_contracts::deployment::SinkStatus;
use fishy_contracts::monitoring::MonitorStatus;
use fishy_core::time::rfc3339;
use serde_json::json;

use super::OutputArguments;
use super::client::Server;
use super::deploy::{deployments, graphs};
use crate::output::{self, Output, table};

/// `fishy status`
#[derive(Debug, Args)]
pub struct Status {
    #[command(flatten)]
    server: Server,
    #[command(flatten)]
    output: OutputArguments,
}

impl Status {
    /// Runs the command.
    pub async fn run(self) -> Result<()> {
        let problems = self.server.problems().await?;
        let deployed = self.server.deployment()?.list().await.map(|list| list.items).unwrap_or_default();
        let composed = self.server.deployment()?.graphs().await.map(|list| list.items).unwrap_or_default();
        let sinks = self.server.deployment()?.sinks().await.map(|list| list.items).unwrap_or_default();
        let monitors = self.server.monitoring()?.list().await.map(|list| list.items).unwrap_or_default();
        if self.output.output == Output::Json {
            let problems: Vec<_> =
                problems.iter().map(|(part, problem)| json!({"part": part, "problem": problem})).collect();
            return output::json(&json!({"problems": problems, "deployments": deployed, "graphs": composed,
                "sinks": sinks, "monitors": monitors}));
        }
        if problems.is_empty() {
            println!("ready");
        }
        for (part, problem) in &problems {
            println!("{part}: {problem}");
        }
        println!("\n{}", deployments(&deployed));
        if !composed.is_empty() {
            println!("\n{}", graphs(&composed));
        }
        if !sinks.is_empty() {
            println!("\n{}", sinks_table(&sinks));
        }
        println!("\n{}", monitors_table(&monitors));
        Ok(())
    }
}

/// Sinks of the prediction log as a table.
fn sinks_table(sinks: &[SinkStatus]) -> comfy_table::Table {
    let mut rows = table(&["sink", "kind", "sent", "waiting", "dropped", "too large", "last sent", "problem"]);
    for one in sinks {
        rows.add_row([
            one.name.clone(),
            one.kind.clone(),
            one.sent.to_string(),
            one.waiting_records.to_string(),
            one.dropped.to_string(),
            one.refused.to_string(),
            one.last_sent_ms.map_or_else(|| "-".to_owned(), rfc3339),
            one.problem.clone().unwrap_or_default(),
        ]);
    }
    rows
}

/// Monitors as a table.
pub fn monitors_table(monitors: &[MonitorStatus]) -> comfy_table::Table {
    let mut rows = table(&[
        "monitor",
        "seen up to",
        "predictions",
        "labels",
        "champion",
        "error",
        "baseline",
        "faults",
        "triggers",
    ]);
    let figure = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.3}"));
    for one in monitors {
        rows.add_row([
            one.spec.name.clone(),
            rfc3339(one.watermark_ms),
            one.predictions.to_string(),
            one.labels.to_string(),
            one.champion_version.clone().unwrap_or_else(|| "-".to_owned()),
            figure(one.rolling_error),
            figure(one.baseline_error),
            one.open_faults.len().to_string(),
            one.triggers.to_string(),
        ]);
    }
    rows
}
