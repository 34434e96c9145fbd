mod alerts;
mod checks;
mod compare;
mod experts;
mod looking_back;
pub(super) mod report;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Subcommand;
use fishy_contracts::monitoring::MonitorSpec;
use fishy_core::time::{parse_ms, rfc3339};

use super::OutputArguments;
use super::client::Server;
use super::status::monitors_table;
use crate::output::{Output, json, table};

/// `fishy monitor …`
#[derive(Debug, Subcommand)]
pub enum What {
    /// Makes or changes a monitor from a TOML file.
    Apply {
        /// The file.
        file: PathBuf,
        #[command(flatten)]
        server: Server,
    },
    /// How monitors stand.
    List {
        #[command(flatten)]
        server: Server,
        #[command(flatten)]
        output: OutputArguments,
    },
    /// The figures of its windows.
    Windows {
        /// The monitor.
        name: String,
        /// `hour` or `day`.
        #[arg(long, default_value = "day")]
        length: String,
        /// From this time on.
        #[arg(long)]
        from: String,
        /// Up to this time.
        #[arg(long)]
        to: String,
        #[command(flatten)]
        server: Server,
        #[command(flatten)]
        output: OutputArguments,
    },
    /// Data faults, newest first.
    Faults {
        /// The monitor.
        name: String,
        /// Only those that are open.
        #[arg(long)]
        open: bool,
        #[command(flatten)]
        server: Server,
        #[command(flatten)]
        output: OutputArguments,
    },
    /// The figures of its checks.
    Checks(checks::Checks),
    /// Alarms of its checks, newest first.
    Alarms(checks::Alarms),
    /// Which features and slices move the alarms of the newest windows, and how drift went with error.
    Explain(looking_back::Explain),
    /// Computes past windows once more from their rows, and says whether the figures are those of then.
    Replay(looking_back::ReplaySpan),
    /// One self-contained HTML file: distributions, drift, error, slices, data quality, labels and decisions.
    Report(report::Report),
    /// Alerts of all monitors, newest first.
    Alerts(alerts::Alerts),
    /// Keeps alerts from being sent for a while.
    Silence(alerts::Silence),
    /// Silences that have not ended.
    Silences(alerts::Silences),
    /// Ends a silence.
    Unsilence {
        /// Its id.
        id: String,
        #[command(flatten)]
        server: Server,
    },
    /// The expert queue: which answers an expert should look at next.
    #[command(subcommand)]
    Queue(experts::Queue),
    /// How far experts agree on what was shown to them more than once.
    Agreement(experts::AgreementOfExperts),
    /// Compares automatic with manual values: bias, limits of agreement, and the line between them.
    Compare(compare::Compare),
    /// Verifies a signed comparison without a server; exit code 1 when it was changed.
    VerifyComparison(compare::VerifyComparison),
    /// Decisions of the trigger, newest first.
    Triggers {
        /// The monitor.
        name: String,
        #[command(flatten)]
        server: Server,
    },
}

fn time(text: &str) -> Result<i64> {
    parse_ms(text).with_context(|| format!("{text:?} is no time: use 2012-05-01 or 2012-05-01T12:00:00Z"))
}

impl What {
    /// Runs the command.
    pub async fn run(self) -> Result<ExitCode> {
        if let Self::Replay(replay) = self {
            return replay.run().await;
        }
        if let Self::VerifyComparison(verify) = self {
            return verify.run();
        }
        self.show().await?;
        Ok(ExitCode::SUCCESS)
    }

    async fn show(self) -> Result<()> {
        match self {
            Self::Apply { file, server } => {
                let text = std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
                let spec: MonitorSpec = toml::from_str(&text).with_context(|| format!("in {}", file.display()))?;
                let status = server.monitoring()?.apply(&spec).await?;
                println!("{}", monitors_table(&[status]));
                Ok(())
            }
            Self::List { server, output } => {
                let monitors = server.monitoring()?.list().await?.items;
                match output.output {
                    Output::Json => json(&monitors),
                    Output::Table => {
                        println!("{}", monitors_table(&monitors));
                        Ok(())
                    }
                }
            }
            Self::Windows { name, length, from, to, server, output } => {
                let windows = server.monitoring()?.windows(&name, &length, time(&from)?, time(&to)?).await?.items;
                if output.output == Output::Json {
                    return json(&windows);
                }
                let mut rows = table(&["from", "predictions", "labels", "MAE", "RMSE", "largest PSI", "missing"]);
                let figure = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.3}"));
                for window in windows {
                    let largest = window.psi.iter().max_by(|a, b| a.1.total_cmp(b.1));
                    let missing = window.missing.values().copied().fold(0.0, f64::max);
                    rows.add_row([
                        rfc3339(window.start_ms),
                        window.predictions.to_string(),
                        window.labels.to_string(),
                        figure(window.mae),
                        figure(window.rmse),
                        largest.map_or_else(|| "-".to_owned(), |(feature, psi)| format!("{psi:.2} {feature}")),
                        format!("{:.0} %", missing * 100.0),
                    ]);
                }
                println!("{rows}");
                Ok(())
            }
            Self::Faults { name, open, server, output } => {
                let faults = server.monitoring()?.faults(&name, open).await?.items;
                if output.output == Output::Json {
                    return json(&faults);
                }
                let mut rows = table(&["since", "until", "series", "feature", "kind", "what was seen"]);
                for fault in faults {
                    rows.add_row([
                        rfc3339(fault.since_ms),
                        fault.until_ms.map_or_else(|| "open".to_owned(), rfc3339),
                        fault.series,
                        fault.feature,
                        fault.kind,
                        fault.message,
                    ]);
                }
                println!("{rows}");
                Ok(())
            }
            Self::Explain(explain) => explain.run().await,
            Self::Replay(replay) => replay.run().await.map(drop),
            Self::Report(report) => report.run().await,
            Self::Queue(queue) => queue.run().await,
            Self::Agreement(agreement) => agreement.run().await,
            Self::Compare(compare) => compare.run().await,
            Self::VerifyComparison(verify) => verify.run().map(drop),
            Self::Checks(checks) => checks.run().await,
            Self::Alarms(alarms) => alarms.run().await,
            Self::Alerts(alerts) => alerts.run().await,
            Self::Silence(silence) => silence.run().await,
            Self::Silences(silences) => silences.run().await,
            Self::Unsilence { id, server } => {
                let ended = server.monitoring()?.end_silence(&id).await?;
                println!("silence {} ended at {}", ended.id, rfc3339(ended.ends_ms));
                Ok(())
            }
            Self::Triggers { name, server } => json(&server.monitoring()?.triggers(&name).await?.items),
        }
    }
}
