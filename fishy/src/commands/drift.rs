//! `fishy drift`: how far a table has moved from another, from two Parquet files to a report.

mod compare;
mod page;
mod source;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;
use fishy_core::Env;
use serde::Serialize;

use super::OutputArguments;
use crate::output::{Output, json, table};
use compare::{Feature, Figures, Settings};
use source::{Kind, Source};

/// PSI from which a feature is said to have moved, and to have drifted.
const MOVED: f64 = 0.1;
const DRIFTED: f64 = 0.25;
/// Columns that one comparison takes.
const MAX_COLUMNS: usize = 10_000;

/// `fishy drift`
#[derive(Debug, Args)]
pub struct Drift {
    /// What is usual, for example the training data: a Parquet file.
    #[arg(long, value_name = "FILE")]
    reference: PathBuf,
    /// What is compared with it: a Parquet file.
    #[arg(long, value_name = "FILE")]
    current: PathBuf,
    /// Only these columns; all that both files have by default.
    #[arg(long, value_delimiter = ',')]
    features: Vec<String>,
    /// Columns of numbers that are categories, such as codes.
    #[arg(long, value_delimiter = ',')]
    categories: Vec<String>,
    /// Estimates from sketches, in less than 50 MB however long the files are, instead of exact figures.
    #[arg(long)]
    sketch: bool,
    /// Columns that are looked at at once; as many as there are processors by default. Exact figures hold both sides of each
    /// of these in memory.
    #[arg(long)]
    threads: Option<usize>,
    /// Also writes a page with charts to this file.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Ends with exit code 3 where the PSI of a feature is at least this.
    #[arg(long, value_name = "PSI")]
    fail_at: Option<f64>,
    #[command(flatten)]
    output: OutputArguments,
}

/// What was found.
#[derive(Debug, Serialize)]
struct Report {
    reference: Side,
    current: Side,
    /// `exact` or `sketch`.
    method: &'static str,
    /// Those that drifted most come first.
    features: Vec<Feature>,
    /// Columns that could not be compared, and why.
    skipped: BTreeMap<String, String>,
}

#[derive(Debug, Serialize)]
struct Side {
    file: String,
    rows: u64,
}

impl Drift {
    /// Runs the command.
    pub fn run(&self) -> Result<ExitCode> {
        if self.threads == Some(0) || self.fail_at.is_some_and(|psi| psi.is_nan() || psi < 0.0) {
            bail!("--threads is at least 1, and --fail-at is not negative");
        }
        let (reference, current) = (Source::open(&self.reference)?, Source::open(&self.current)?);
        let mut skipped = BTreeMap::new();
        let columns = self.columns(&reference, &current, &mut skipped)?;
        let threads = self.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
        let settings = Settings { is_sketched: self.sketch, threads };
        let mut features = Vec::with_capacity(columns.len());
        for (name, found) in compare::all(&reference, &current, &columns, settings)? {
            match found {
                Ok(figures) => features.push(Feature { name, figures }),
                Err(reason) => drop(skipped.insert(name, reason)),
            }
        }
        features.sort_by(|a, b| b.figures.psi().total_cmp(&a.figures.psi()).then_with(|| a.name.cmp(&b.name)));
        let side = |source: &Source| Side { file: source.path().display().to_string(), rows: source.rows() };
        let report = Report {
            reference: side(&reference),
            current: side(&current),
            method: if self.sketch { "sketch" } else { "exact" },
            features,
            skipped,
        };
        match self.output.output {
            Output::Json => json(&report)?,
            Output::Table => print(&report),
        }
        if let Some(file) = &self.html {
            let page = page::page(&report, Env::system().now_ms());
            std::fs::write(file, page).with_context(|| format!("writing {}", file.display()))?;
        }
        let worst = report.features.first().map_or(0.0, |feature| feature.figures.psi());
        let has_failed = self.fail_at.is_some_and(|psi| worst >= psi);
        Ok(if has_failed { ExitCode::from(3) } else { ExitCode::SUCCESS })
    }

    /// The columns to compare, those that cost most first.
    fn columns(
        &self,
        reference: &Source,
        current: &Source,
        skipped: &mut BTreeMap<String, String>,
    ) -> Result<Vec<(String, Kind)>> {
        let (before, now) = (reference.columns(), current.columns());
        for name in self.features.iter().chain(&self.categories) {
            for (source, columns) in [(reference, &before), (current, &now)] {
                if !columns.iter().any(|(column, _)| column == name) {
                    let names: Vec<&str> = columns.iter().map(|(column, _)| column.as_str()).collect();
                    bail!("{} has no column {name:?}; there are {}", source.path().display(), names.join(", "));
                }
            }
        }
        let is_asked = |name: &String| self.features.is_empty() || self.features.contains(name);
        let mut columns = Vec::new();
        for (name, kind) in before.iter().filter(|(name, _)| is_asked(name)) {
            let Some((_, other)) = now.iter().find(|(column, _)| column == name) else {
                skipped.insert(name.clone(), "only the reference has it".to_owned());
                continue;
            };
            match (kind, other) {
                (Err(reason), _) | (_, Err(reason)) => drop(skipped.insert(name.clone(), reason.clone())),
                _ if self.categories.contains(name) => columns.push((name.clone(), Kind::Category)),
                (Ok(kind), Ok(other)) if kind == other => columns.push((name.clone(), *kind)),
                _ => drop(skipped.insert(name.clone(), "a number in one file and a text in the other".to_owned())),
            }
        }
        for (name, _) in now.iter().filter(|(name, _)| is_asked(name)) {
            if !before.iter().any(|(column, _)| column == name) {
                skipped.insert(name.clone(), "only the current file has it".to_owned());
            }
        }
        if columns.is_empty() {
            bail!("the files have no column that can be compared");
        }
        if columns.len() > MAX_COLUMNS {
            bail!("{} columns: at most {MAX_COLUMNS} at once; choose with --features", columns.len());
        }
        columns.sort_by_key(|(_, kind)| *kind == Kind::Category);
        Ok(columns)
    }
}

/// What a PSI means, in a word.
fn verdict(psi: f64) -> &'static str {
    match psi {
        drifted if drifted >= DRIFTED => "drifted",
        moved if moved >= MOVED => "moved",
        _ => "stable",
    }
}

fn print(report: &Report) {
    let head = ["feature", "PSI", "", "KS", "p", "Wasserstein", "JS", "missing before", "now", "new categories"];
    let mut rows = table(&head);
    let short = |value: f64| format!("{value:.4}");
    let share = |missing: u64, count: u64| format!("{:.2} %", missing as f64 * 100.0 / (missing + count).max(1) as f64);
    for Feature { name, figures } in &report.features {
        let (before, now) = figures.counts();
        let (ks, p_value, wasserstein, js, new) = match figures {
            Figures::Number(found) => (
                short(found.drift.ks.statistic),
                format!("{:.3}", found.drift.ks.p_value),
                format!("{:.4} sd", found.normed_wasserstein),
                found.drift.js_distance,
                String::new(),
            ),
            Figures::Category(found) => {
                let (dash, p_value) = ("–".to_owned(), format!("{:.3}", found.chi_square.p_value));
                (dash.clone(), p_value, dash, found.js_distance, found.unseen.len().to_string())
            }
        };
        rows.add_row([
            name.clone(),
            short(figures.psi()),
            verdict(figures.psi()).to_owned(),
            ks,
            p_value,
            wasserstein,
            short(js),
            share(before.1, before.0),
            share(now.1, now.0),
            new,
        ]);
    }
    println!("{rows}");
    println!("{} rows before, {} now; figures are {}", report.reference.rows, report.current.rows, report.method);
    for (name, reason) in &report.skipped {
        println!("not compared: {name}: {reason}");
    }
}
