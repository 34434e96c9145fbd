//! `fishy monitor checks` and `fishy monitor alarms`.

use anyhow::Result;
use clap::Args;
use fishy_contracts::monitoring::{CheckWindow, Figure};
use fishy_core::time::rfc3339;

use super::super::OutputArguments;
use super::super::client::Server;
use super::time;
use crate::output::{Output, json, table};

/// `fishy monitor checks`
#[derive(Debug, Args)]
pub struct Checks {
    /// The monitor.
    name: String,
    /// Only this check.
    #[arg(long, default_value = "")]
    check: String,
    /// Windows that end from this time on.
    #[arg(long)]
    from: String,
    /// Windows that end up to this time.
    #[arg(long)]
    to: String,
    /// All figures; otherwise of each window and test the worst.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    server: Server,
    #[command(flatten)]
    output: OutputArguments,
}

impl Checks {
    /// Runs the command.
    pub async fn run(self) -> Result<()> {
        let (from_ms, to_ms) = (time(&self.from)?, time(&self.to)?);
        let windows = self.server.monitoring()?.checks(&self.name, &self.check, from_ms, to_ms).await?.items;
        if self.output.output == Output::Json {
            return json(&windows);
        }
        let mut rows = table(&["to", "check", "test", "feature", "slice", "rows", "value", "p", "limit", "alarm"]);
        for window in &windows {
            for figure in shown(window, self.all) {
                rows.add_row([
                    rfc3339(window.end_ms),
                    window.check.clone(),
                    figure.test.as_str().to_owned(),
                    figure.feature.clone(),
                    figure.slice.clone(),
                    figure.rows.to_string(),
                    format!("{:.4}", figure.value),
                    figure.p_corrected.or(figure.p_value).map_or_else(String::new, |p| format!("{p:.1e}")),
                    figure.alert_limit.or(figure.warning_limit).map_or_else(String::new, |limit| format!("{limit:.4}")),
                    figure.severity.map_or("", |severity| severity.as_str()).to_owned(),
                ]);
            }
        }
        println!("{rows}");
        Ok(())
    }
}

/// All figures, or of each test the one with the worst severity, first among those with the same.
fn shown(window: &CheckWindow, all: bool) -> Vec<&Figure> {
    if all {
        return window.figures.iter().collect();
    }
    let mut worst: Vec<&Figure> = Vec::new();
    for figure in &window.figures {
        match worst.iter_mut().find(|other| other.test == figure.test) {
            Some(other) if figure.severity > other.severity => *other = figure,
            Some(_) => {}
            None => worst.push(figure),
        }
    }
    worst
}

/// `fishy monitor alarms`
#[derive(Debug, Args)]
pub struct Alarms {
    /// The monitor.
    name: String,
    /// Only those that last.
    #[arg(long)]
    open: bool,
    #[command(flatten)]
    server: Server,
    #[command(flatten)]
    output: OutputArguments,
}

impl Alarms {
    /// Runs the command.
    pub async fn run(self) -> Result<()> {
        let alarms = self.server.monitoring()?.alarms(&self.name, self.open).await?.items;
        if self.output.output == Output::Json {
            return json(&alarms);
        }
        let mut rows = table(&["since", "until", "severity", "check", "what was seen"]);
        for alarm in alarms {
            rows.add_row([
                rfc3339(alarm.since_ms),
                alarm.until_ms.map_or_else(|| "open".to_owned(), rfc3339),
                alarm.severity.as_str().to_owned(),
                alarm.check,
                alarm.message,
            ]);
        }
        println!("{rows}");
        Ok(())
    }
}
