#![doc = include_str!("../README.md")]
#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]

mod engine;
mod fishy;
mod load;
mod messages;
mod peers;
// One file, two benchmarks.
#[path = "../../registry/src/process_tree.rs"]
mod process_tree;
mod report;
mod requests;
mod server;
mod suite;

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;

use peers::{Peer, Places};

/// The deployment service beside other servers of models: the same models and requests to all, in turn, on one machine.
#[derive(Debug, Parser)]
struct Arguments {
    /// The program that is measured.
    #[arg(long)]
    fishy: PathBuf,
    /// The interpreter that has MLflow.
    #[arg(long)]
    python: PathBuf,
    /// The Python scripts of this benchmark.
    #[arg(long)]
    scripts: PathBuf,
    /// Where the models are.
    #[arg(long)]
    models: PathBuf,
    /// The shared library of ONNX Runtime, for us and for the limit.
    #[arg(long)]
    onnxruntime: PathBuf,
    /// The interpreters of peers that have an environment of their own: NAME=PATH.
    #[arg(long = "environment", value_parser = environment)]
    environments: Vec<(String, PathBuf)>,
    /// Where the rows are written.
    #[arg(long, default_value = "target/bench/serving.json")]
    out: PathBuf,
    /// Shorter loads: to see that it works, and while something is made faster.
    #[arg(long)]
    quick: bool,
    /// Seconds of each load; 8, or 3 with --quick.
    #[arg(long)]
    seconds: Option<f64>,
    /// Which servers; all by default. Without `fishy` there are no rows.
    #[arg(long, value_delimiter = ',')]
    sides: Vec<Peer>,
    /// Only loads whose name contains one of these, for example `gbm`, `gRPC`, `1,000`.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// How many deployments the process holds in the loads that show what they cost; 1,000, or 100 with --quick.
    #[arg(long)]
    deployments: Option<usize>,
}

fn environment(text: &str) -> Result<(String, PathBuf)> {
    let (name, path) = text.split_once('=').context("NAME=PATH")?;
    Ok((name.to_owned(), PathBuf::from(path)))
}

/// All loads come out of one thread, as those of wrk do.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let absolute = |path: &Path| std::path::absolute(path).with_context(|| path.display().to_string());
    let places = Places {
        fishy: absolute(&arguments.fishy)?,
        python: absolute(&arguments.python)?,
        scripts: absolute(&arguments.scripts)?,
        models: absolute(&arguments.models)?,
        onnxruntime: absolute(&arguments.onnxruntime)?,
        environments: arguments.environments,
    };
    let seconds = arguments.seconds.unwrap_or(if arguments.quick { 3.0 } else { 8.0 });
    let mut suite = suite::Suite {
        places: Rc::new(places),
        duration: Duration::from_secs_f64(seconds),
        deployments: arguments.deployments.unwrap_or(if arguments.quick { 100 } else { 1_000 }),
        sides: arguments.sides,
        only: arguments.only,
        out: arguments.out,
        report: report::Report::default(),
    };
    suite.run().await?;
    suite.report.print();
    println!("\n{}", suite.out.display());
    Ok(())
}
