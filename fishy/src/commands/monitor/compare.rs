//! `fishy monitor compare`, and the verification of its report.

mod report;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;
use fishy_audit::{Signer, Verifier};
use fishy_contracts::monitoring::ComparedPair;
use fishy_core::Env;
use fishy_core::time::rfc3339;
use fishy_drift::Interval;

use super::super::OutputArguments;
use super::super::client::Server;
use crate::output::{Output, json, table};
use report::{Comparison, Figures};

/// `fishy monitor compare`
#[derive(Debug, Args)]
pub struct Compare {
    /// The monitor whose answers are compared with the numbers that experts gave for them.
    #[arg(required_unless_present = "file", conflicts_with = "file")]
    name: Option<String>,
    /// A CSV file with the columns `automatic` and `manual`, and where there is one `id`, instead.
    #[arg(long)]
    file: Option<PathBuf>,
    /// Writes the signed report to this file.
    #[arg(long, requires = "key")]
    report: Option<PathBuf>,
    /// The key that signs the audit log: `governance/audit-key.pem` in the data folder of the server.
    #[arg(long)]
    key: Option<PathBuf>,
    /// The name of that key: `governance.origin` of the server.
    #[arg(long, default_value_t = fishy_config::Governance::default().origin)]
    origin: String,
    /// Seed of the bootstrap.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    server: Server,
    #[command(flatten)]
    output: OutputArguments,
}

impl Compare {
    /// Runs the command.
    pub async fn run(self) -> Result<()> {
        let (source, pairs) = match (&self.file, &self.name) {
            (Some(file), _) => {
                let text = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
                let pairs = read_pairs(&text).with_context(|| format!("in {}", file.display()))?;
                let name = file.file_name().unwrap_or(file.as_os_str());
                (format!("file {}", name.to_string_lossy()), pairs)
            }
            (None, Some(name)) => {
                (format!("monitor {name}"), self.server.monitoring()?.compared_pairs(name).await?.items)
            }
            (None, None) => bail!("name a monitor, or a --file"),
        };
        let made = rfc3339(Env::system().now_ms());
        let comparison = tokio::task::spawn_blocking(move || Comparison::of(source, made, self.seed, pairs)).await??;
        if let (Some(file), Some(key)) = (&self.report, &self.key) {
            let pem = std::fs::read_to_string(key).with_context(|| format!("reading the key {}", key.display()))?;
            let text = comparison.signed(&Signer::from_pem(&self.origin, &pem)?)?;
            std::fs::write(file, text).with_context(|| format!("writing {}", file.display()))?;
        }
        if self.output.output == Output::Json {
            return json(&comparison);
        }
        show(&comparison.figures);
        if let Some(file) = &self.report {
            println!("signed report of {} pairs in {}", comparison.pairs.len(), file.display());
        }
        Ok(())
    }
}

fn show(figures: &Figures) {
    let mut rows = table(&["figure", "value", "95 % from", "to"]);
    let mut row = |name: &str, value: f64, interval: Option<Interval>| {
        let end = |end: Option<f64>| end.map_or_else(|| "-".to_owned(), |end| format!("{end:.4}"));
        rows.add_row([
            name.to_owned(),
            format!("{value:.4}"),
            end(interval.map(|interval| interval.low)),
            end(interval.map(|interval| interval.high)),
        ]);
    };
    let agreement = &figures.bland_altman;
    row("bias (automatic - manual)", agreement.bias, Some(agreement.bias_interval));
    row("bias, bootstrap", agreement.bias, Some(figures.bias_bootstrap));
    row("lower limit of agreement", agreement.limits.low, Some(agreement.lower_limit_interval));
    row("upper limit of agreement", agreement.limits.high, Some(agreement.upper_limit_interval));
    row("mean absolute difference", figures.mean_absolute_difference, Some(figures.mean_absolute_difference_bootstrap));
    if let Some(proportional) = &agreement.proportional {
        row("difference for each unit of size", proportional.slope, Some(proportional.slope_interval));
        row("  p of proportional bias", proportional.p_value, None);
    }
    if let Some(line) = &figures.passing_bablok {
        row("Passing-Bablok slope", line.slope, Some(line.slope_interval));
        row("Passing-Bablok intercept", line.intercept, Some(line.intercept_interval));
        row("  p of linearity (cusum)", line.linearity.p_value, None);
    }
    println!("{rows}");
    if let Some(problem) = &figures.passing_bablok_problem {
        println!("no Passing-Bablok regression: {problem}");
    }
    println!("{} pairs", agreement.pairs);
}

/// Pairs of a CSV file without quotes.
fn read_pairs(text: &str) -> Result<Vec<ComparedPair>> {
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().unwrap_or_default().split(',').map(str::trim).collect();
    let place = |name: &str| header.iter().position(|column| *column == name);
    let column =
        |name: &str| place(name).with_context(|| format!("no column {name:?}; there are {}", header.join(", ")));
    let (automatic, manual, id) = (column("automatic")?, column("manual")?, place("id"));
    let mut pairs = Vec::new();
    for (at, line) in lines.enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let cells: Vec<&str> = line.split(',').map(str::trim).collect();
        let number = |place: usize| {
            let cell = cells.get(place).copied().unwrap_or_default();
            let number = cell.parse::<f64>().ok().filter(|number| number.is_finite());
            number.with_context(|| format!("line {}: {cell:?} is no number", at + 2))
        };
        let id = id.and_then(|id| cells.get(id)).map_or_else(|| (at + 1).to_string(), |id| (*id).to_owned());
        pairs.push(ComparedPair { id, automatic: number(automatic)?, manual: number(manual)? });
    }
    Ok(pairs)
}

/// `fishy monitor verify-comparison`
#[derive(Debug, Args)]
pub struct VerifyComparison {
    /// The report.
    file: PathBuf,
    /// The public key that it must be signed with; without it the key in the report is taken.
    #[arg(long)]
    key: Option<String>,
    #[command(flatten)]
    output: OutputArguments,
}

impl VerifyComparison {
    /// Runs the command.
    pub fn run(self) -> Result<ExitCode> {
        let text = std::fs::read_to_string(&self.file).with_context(|| format!("reading {}", self.file.display()))?;
        let trusted = self.key.as_deref().map(Verifier::parse).transpose()?;
        let verdict = report::verify(&text, trusted);
        if self.output.output == Output::Json {
            json(&verdict)?;
        } else if verdict.is_ok {
            println!(
                "intact: {} pairs of {}, made {}, signed by {}",
                verdict.pairs, verdict.source, verdict.made, verdict.key
            );
        } else {
            println!("DAMAGED: {}", verdict.problem);
        }
        Ok(if verdict.is_ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_by_the_names_of_their_columns() {
        let pairs = read_pairs("pen, manual,automatic\n7,10,11.5\n\n8,12,11\n").unwrap();
        assert_eq!(pairs.len(), 2);
        assert_eq!((pairs[0].id.as_str(), pairs[0].automatic, pairs[0].manual), ("1", 11.5, 10.0));
        assert_eq!(read_pairs("id,automatic,manual\nx,1,2\n").unwrap()[0].id, "x");
        assert!(read_pairs("automatic\n1\n").unwrap_err().to_string().contains("manual"));
        assert!(read_pairs("automatic,manual\n1,two\n").unwrap_err().to_string().contains("line 2"));
    }
}
