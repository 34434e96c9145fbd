#![doc = include_str!("../README.md")]
#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]

mod drift;
mod events;
mod farm;
mod labels;
mod report;
mod service;
mod table;
mod used;

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;

/// Monitoring beside Evidently, NannyML, alibi-detect and SciPy, and against what must be reached.
#[derive(Debug, Parser)]
struct Arguments {
    /// The program that is measured.
    #[arg(long)]
    fishy: PathBuf,
    /// The interpreter that has SciPy, pandas and pyarrow.
    #[arg(long)]
    python: PathBuf,
    /// The interpreter that has Evidently.
    #[arg(long)]
    evidently: PathBuf,
    /// The interpreter that has NannyML.
    #[arg(long)]
    nannyml: PathBuf,
    /// The interpreter that has alibi-detect.
    #[arg(long)]
    alibi: PathBuf,
    /// Where the rows are written.
    #[arg(long, default_value = "target/bench/monitoring.json")]
    out: PathBuf,
    /// Smaller sizes: to see that it works, and while something is made faster.
    #[arg(long)]
    quick: bool,
    /// Only loads whose name contains one of these: exact, sketch, events, lag, labels.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Only these peers: evidently, nannyml, alibi-detect, scipy, numpy sort.
    #[arg(long, value_delimiter = ',')]
    peers: Vec<String>,
}

impl Arguments {
    /// Rows of each of the tables that are compared.
    fn rows(&self) -> usize {
        if self.quick { 100_000 } else { 1_000_000 }
    }

    fn wants(&self, load: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| load.contains(part.as_str()))
    }

    fn wants_peer(&self, name: &str) -> bool {
        self.peers.is_empty() || self.peers.iter().any(|peer| peer == name)
    }
}

/// 10000 as `10,000`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let mut found = report::Report::default();
    if arguments.wants("exact") {
        drift::exact(&arguments, &mut found)?;
        found.write(&arguments.out)?;
    }
    if arguments.wants("sketch") {
        drift::sketched(&arguments, &mut found)?;
        found.write(&arguments.out)?;
    }
    if arguments.wants("events") {
        events::throughput(&arguments, &mut found).await?;
        found.write(&arguments.out)?;
    }
    if arguments.wants("lag") {
        events::lag(&arguments, &mut found).await?;
        found.write(&arguments.out)?;
    }
    if arguments.wants("labels") {
        labels::run(&arguments, &mut found).await?;
        found.write(&arguments.out)?;
    }
    found.print();
    println!("\n{}", arguments.out.display());
    Ok(())
}
