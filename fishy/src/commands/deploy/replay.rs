//! `fishy deploy replay`: a candidate is asked what was asked live.

use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use comfy_table::Table;
use fishy_contracts::deployment::{ReplayFigures, ReplayReport, ReplayRequest, RowLatency, TruthErrors};
use fishy_core::Env;
use fishy_core::time::{parse_ms, rfc3339};
use indicatif::{ProgressBar, ProgressStyle};

use crate::commands::OutputArguments;
use crate::commands::client::Server;
use crate::commands::registry::length_ms;
use crate::output::{Output, json, table};

/// `fishy deploy replay NAME --version 4 --last 7d --by pen --threshold 5`
#[derive(Debug, Args)]
pub struct Replay {
    /// The deployment.
    name: String,
    /// The candidate: a version of the deployment's model, or an alias as @challenger.
    #[arg(long)]
    version: String,
    /// The predictions of the last so long, as 7d or 12h.
    #[arg(long, default_value = "7d", conflicts_with_all = ["from", "to"])]
    last: String,
    /// Predictions from this event time on.
    #[arg(long)]
    from: Option<String>,
    /// Predictions before this event time; now if not said.
    #[arg(long, requires = "from")]
    to: Option<String>,
    /// The label whose values are reported apart.
    #[arg(long, value_name = "LABEL")]
    by: Option<String>,
    /// Counts decisions that flip: an answer is below this, or not; may be given again.
    #[arg(long = "threshold", value_name = "X", allow_negative_numbers = true)]
    thresholds: Vec<f64>,
    /// Answers differ when they are apart by more than this, times the recorded answer's size where that is above 1.
    #[arg(long)]
    tolerance: Option<f64>,
    /// At most so many predictions, the oldest of the span.
    #[arg(long)]
    max_rows: Option<u64>,
    #[command(flatten)]
    server: Server,
    #[command(flatten)]
    output: OutputArguments,
}

fn time(text: &str) -> Result<i64> {
    parse_ms(text).with_context(|| format!("{text:?} is no time: use 2012-05-01 or 2012-05-01T12:00:00Z"))
}

impl Replay {
    /// Runs the command.
    pub async fn run(self) -> Result<()> {
        let request = self.request(Env::system().now_ms())?;
        // Drawn on a terminal only, and beside the answer.
        let progress = ProgressBar::new_spinner();
        progress.set_style(ProgressStyle::with_template("{spinner} {msg} {elapsed}").context("the progress bar")?);
        progress.set_message(format!("version {} answers what {} was asked", request.version, self.name));
        progress.enable_steady_tick(Duration::from_millis(100));
        let report = self.server.deployment()?.replay(&self.name, &request).await;
        progress.finish_and_clear();
        let report = report?;
        if self.output.output == Output::Json {
            return json(&report);
        }
        print(&report);
        Ok(())
    }

    fn request(&self, now_ms: i64) -> Result<ReplayRequest> {
        let to_ms = self.to.as_deref().map(time).transpose()?.unwrap_or(now_ms);
        let from_ms = match &self.from {
            Some(from) => time(from)?,
            None => now_ms.saturating_sub(length_ms(&self.last)?),
        };
        let mut request = ReplayRequest::new(&self.version, from_ms, to_ms);
        request.by = self.by.clone().unwrap_or_default();
        request.thresholds.clone_from(&self.thresholds);
        request.tolerance = self.tolerance.unwrap_or(request.tolerance);
        request.max_rows = self.max_rows.unwrap_or(request.max_rows);
        Ok(request)
    }
}

fn print(report: &ReplayReport) {
    let ReplayReport { deployment, version, request, output, .. } = report;
    println!(
        "version {version} asked what {deployment} was asked from {} to {}, output {output}",
        rfc3339(request.from_ms),
        rfc3339(request.to_ms)
    );
    let label = if request.by.is_empty() { "predictions" } else { &request.by };
    let mut rows = header(label, &request.thresholds);
    add(&mut rows, "all".to_owned(), &report.overall);
    for slice in &report.slices {
        add(&mut rows, slice.value.clone().unwrap_or_else(|| "(without)".to_owned()), &slice.figures);
    }
    println!("{rows}");
    let times = |latency: Option<RowLatency>| {
        latency.map_or_else(|| "-".to_owned(), |l| format!("{:.1} / {:.1} µs", l.p50_us, l.p99_us))
    };
    println!(
        "one row alone, p50 / p99: {} now, {} with the candidate",
        times(report.latency.serving),
        times(report.latency.candidate)
    );
    if report.unsliced > 0 {
        println!("{} predictions have a {} beyond those that are told apart", report.unsliced, request.by);
    }
    if !report.is_complete {
        let last = report.last_ms.map_or_else(|| "-".to_owned(), rfc3339);
        println!("the bound on predictions or time was reached: replayed up to {last} only");
    }
    for failure in &report.failures {
        println!("the candidate did not answer: {failure}");
    }
}

fn header(label: &str, thresholds: &[f64]) -> Table {
    let flips: Vec<String> = thresholds.iter().map(|threshold| format!("flips at {threshold}")).collect();
    let mut names = vec![label, "rows", "compared", "failed", "changed", "mean diff", "p05 / p50 / p95"];
    names.extend(flips.iter().map(String::as_str));
    names.extend(["true values", "error now", "error then"]);
    table(&names)
}

fn add(rows: &mut Table, name: String, figures: &ReplayFigures) {
    let share = figures.changed as f64 / figures.compared.max(1) as f64 * 100.0;
    let difference = figures.difference;
    let mut cells = vec![
        name,
        figures.rows.to_string(),
        figures.compared.to_string(),
        figures.failed.to_string(),
        format!("{} ({share:.1} %)", figures.changed),
        difference.map_or_else(|| "-".to_owned(), |d| format!("{:+.4}", d.mean)),
        difference.map_or_else(|| "-".to_owned(), |d| format!("{:+.4} / {:+.4} / {:+.4}", d.p05, d.p50, d.p95)),
    ];
    cells.extend(figures.flips.iter().map(|flips| format!("{} down, {} up", flips.to_below, flips.to_above)));
    cells.extend([figures.recorded.labels.to_string(), errors(&figures.recorded), errors(&figures.candidate)]);
    rows.add_row(cells);
}

/// MAE, RMSE and bias, or how many are wrong.
fn errors(errors: &TruthErrors) -> String {
    match (errors.mae, errors.rmse, errors.bias, errors.wrong) {
        (Some(mae), Some(rmse), Some(bias), _) => format!("MAE {mae:.4}, RMSE {rmse:.4}, bias {bias:+.4}"),
        (.., Some(wrong)) if errors.labels > 0 => format!("{wrong} wrong"),
        _ => "-".to_owned(),
    }
}
