//! `fishy predict --output FILE`: a table in, a table out.
//!
//! The input is read, asked for and written in parts of a fixed number of rows, so memory does not grow with it. A part is
//! a file of its own until all are there; a run that was stopped finds those that are done and goes on behind them.

mod ask;
mod input;
mod parts;
mod table;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use fishy_core::{Error, ErrorCode};
use futures::{StreamExt, TryStreamExt, stream};
use indicatif::{ProgressBar, ProgressStyle};

use ask::Asker;
use input::Rows;
use parts::{Job, Parts};

/// The server cannot answer now; the same command goes on later.
const TRY_AGAIN: u8 = 75;
/// Parts that are under way at once.
const IN_FLIGHT: usize = 2;

/// What a batch takes beside its files and the deployment.
#[derive(Debug, Args)]
#[expect(clippy::struct_field_names, reason = "fields are the names of options")]
pub struct Batch {
    /// The form of the output file; by its name where it is not said.
    #[arg(long, value_enum)]
    output_format: Option<Format>,
    /// Columns of the input that the output has as well, before the predictions.
    #[arg(long, value_delimiter = ',')]
    keep: Vec<String>,
    /// Rows of a request.
    #[arg(long, default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    batch_rows: u32,
    /// Writes the predictions into the prediction log, which monitoring reads.
    #[arg(long, overrides_with = "no_record")]
    record: bool,
    /// Leaves the prediction log alone, as it is without this.
    #[arg(long, overrides_with = "record")]
    no_record: bool,
    /// Begins anew, whatever an earlier run has left.
    #[arg(long)]
    restart: bool,
}

/// The form of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Apache Parquet.
    Parquet,
    /// Comma-separated values with a header.
    Csv,
    /// A JSON object a line.
    Jsonl,
}

impl Format {
    /// By the ending of a file's name.
    fn of(path: &std::path::Path) -> Result<Self> {
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("parquet") => Ok(Self::Parquet),
            Some("csv") => Ok(Self::Csv),
            Some("jsonl" | "ndjson") => Ok(Self::Jsonl),
            _ => bail!("{}: the name ends in none of .parquet, .csv, .jsonl", path.display()),
        }
    }
}

impl Batch {
    /// Runs the whole input through the deployment.
    pub async fn run(
        &self,
        server: &super::Server,
        deployment: &str,
        input: &std::path::Path,
        file: &std::path::Path,
    ) -> Result<ExitCode> {
        match self.predict(server, deployment, input, file).await {
            Ok(()) => Ok(ExitCode::SUCCESS),
            Err(error) if error.chain().any(|cause| cause.downcast_ref::<Error>().is_some_and(is_passing)) => {
                eprintln!("error: {error:#}\nthe parts that are done are kept: the same command goes on there");
                Ok(ExitCode::from(TRY_AGAIN))
            }
            Err(error) => Err(error),
        }
    }

    async fn predict(
        &self,
        server: &super::Server,
        deployment: &str,
        input: &std::path::Path,
        file: &std::path::Path,
    ) -> Result<()> {
        let format = self.output_format.map_or_else(|| Format::of(file), Ok)?;
        let asker = Asker::find(server, deployment, self.record).await?;
        let rows = Rows::open(input, Format::of(input)?, self.batch_rows as usize)?;
        asker.check_columns(rows.schema(), &self.keep)?;
        let job = Job::of(input, &asker, format, self.batch_rows, &self.keep)?;
        let parts = Parts::open(file, &job, self.restart)?;
        let bar = bar(rows.total());
        let done = parts.done()?;
        if done > 0 {
            bar.println(format!("{done} parts are done already: going on behind them"));
        }
        let (asker, parts, keep, bar) = (&asker, &parts, &self.keep, &bar);
        stream::iter(rows.enumerate())
            .map(|(number, rows)| async move {
                let rows = rows?;
                if !parts.has(number) {
                    let predicted = asker.ask(&job_part(parts.id(), number), &rows).await?;
                    parts.write(number, &table::beside(&rows, keep, predicted)?)?;
                }
                bar.inc(rows.num_rows() as u64);
                anyhow::Ok(number + 1)
            })
            .buffered(IN_FLIGHT)
            .try_fold(0, |_, count| async move { Ok(count) })
            .await
            .and_then(|count| parts.finish(count))
            .with_context(|| format!("predicting {}", input.display()))?;
        bar.finish();
        println!("{} rows predicted by {deployment}, version {}: {}", bar.position(), asker.version(), file.display());
        Ok(())
    }
}

/// The id of a part's request. A part that is asked for again is recorded once.
fn job_part(job: &str, number: usize) -> String {
    format!("batch-{job}-{number}")
}

/// Whether the same request may be answered later.
fn is_passing(error: &Error) -> bool {
    matches!(error.code(), ErrorCode::Unavailable | ErrorCode::ResourceExhausted)
}

fn bar(total: Option<u64>) -> ProgressBar {
    let bar = match total {
        Some(total) => ProgressBar::new(total),
        None => ProgressBar::new_spinner(),
    };
    let template = match total {
        Some(_) => "{elapsed_precise} {wide_bar} {human_pos}/{human_len} rows, {per_sec}, {eta} left",
        None => "{elapsed_precise} {spinner} {human_pos} rows, {per_sec}",
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
