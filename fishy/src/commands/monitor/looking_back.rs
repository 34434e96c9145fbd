//! `fishy monitor explain` and `fishy monitor replay`.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use fishy_contracts::monitoring::Replay;
use fishy_core::time::{DAY_MS, rfc3339};

use super::super::OutputArguments;
use super::super::client::Server;
use super::time;
use crate::output::{Output, json, table};

/// Days that one request replays.
const DAYS: i64 = 14;
/// Correlations that are shown.
const SHOWN: usize = 10;

/// `fishy monitor explain`
#[derive(Debug, Args)]
pub struct Explain {
    /// The monitor.
    name: String,
    #[command(flatten)]
    server: Server,
    #[command(flatten)]
    output: OutputArguments,
}

impl Explain {
    /// Runs the command.
    pub async fn run(self) -> Result<()> {
        let explanation = self.server.monitoring()?.explain(&self.name).await?;
        if self.output.output == Output::Json {
            return json(&explanation);
        }
        if explanation.tests.is_empty() {
            println!("no check has an alarm in its newest window");
        } else {
            let mut rows = table(&["check", "test", "window to", "share", "feature", "slice", "value", "usual"]);
            for test in &explanation.tests {
                for part in &test.parts {
                    rows.add_row([
                        test.check.clone(),
                        test.test.as_str().to_owned(),
                        rfc3339(test.end_ms),
                        format!("{:.0} %", part.share * 100.0),
                        part.feature.clone(),
                        part.slice.clone(),
                        format!("{:.4}", part.value),
                        format!("{:.4}", part.usual),
                    ]);
                }
            }
            println!("{rows}");
        }
        if !explanation.correlations.is_empty() {
            println!("how drift went with the realised error (Spearman):");
            let mut rows = table(&["check", "test", "feature", "correlation", "windows"]);
            for found in explanation.correlations.iter().take(SHOWN) {
                rows.add_row([
                    found.check.clone(),
                    found.test.as_str().to_owned(),
                    found.feature.clone(),
                    format!("{:+.2}", found.correlation),
                    found.windows.to_string(),
                ]);
            }
            println!("{rows}");
        }
        Ok(())
    }
}

/// `fishy monitor replay`
#[derive(Debug, Args)]
pub struct ReplaySpan {
    /// The monitor.
    name: String,
    /// Windows that end after this time.
    #[arg(long)]
    from: String,
    /// Windows that end up to this time.
    #[arg(long)]
    to: String,
    #[command(flatten)]
    server: Server,
    #[command(flatten)]
    output: OutputArguments,
}

impl ReplaySpan {
    /// Runs the command; exit code 1 where figures differ.
    pub async fn run(self) -> Result<ExitCode> {
        let (mut from_ms, to_ms) = (time(&self.from)?, time(&self.to)?);
        let monitoring = self.server.monitoring()?;
        let mut all = Replay::default();
        loop {
            let until_ms = (from_ms + DAYS * DAY_MS).min(to_ms);
            let part = monitoring.replay(&self.name, from_ms, until_ms).await?;
            all.windows += part.windows;
            all.equal += part.equal;
            all.without_rows += part.without_rows;
            all.differences.extend(part.differences);
            if until_ms >= to_ms {
                break;
            }
            from_ms = until_ms;
        }
        if self.output.output == Output::Json {
            json(&all)?;
        } else {
            show(&all);
        }
        Ok(if all.equal == all.windows { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn show(replay: &Replay) {
    println!("{} of {} windows are equal, every figure to the last bit", replay.equal, replay.windows);
    if replay.without_rows > 0 {
        println!("{} windows cannot be computed again: their rows are no longer kept", replay.without_rows);
    }
    if replay.differences.is_empty() {
        return;
    }
    let mut rows = table(&["window", "to", "figure", "live", "again"]);
    for found in &replay.differences {
        let (window, figure) = (found.window.clone(), found.figure.clone());
        rows.add_row([window, rfc3339(found.end_ms), figure, found.live.clone(), found.again.clone()]);
    }
    println!("{rows}");
}
