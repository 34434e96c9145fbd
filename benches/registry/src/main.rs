#![doc = include_str!("../README.md")]
#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]

mod limit;
mod loads;
mod measure;
mod process_tree;
mod report;
mod seed;
mod server;
mod suite;

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;

/// The registry beside a real MLflow server: the same requests to both, in turn, on one machine.
#[derive(Debug, Parser)]
struct Arguments {
    /// The program that is measured.
    #[arg(long)]
    fishy: PathBuf,
    /// The interpreter that has MLflow.
    #[arg(long)]
    python: PathBuf,
    /// A folder with PostgreSQL's driver for Python, for MLflow.
    #[arg(long)]
    python_path: Option<PathBuf>,
    /// A PostgreSQL server in which databases can be made.
    #[arg(long, default_value = "postgresql://postgres@127.0.0.1:5432")]
    postgres: String,
    /// Where the rows are written.
    #[arg(long, default_value = "target/bench/registry.json")]
    out: PathBuf,
    /// Smaller sizes and shorter loads: to see that it works, and while something is made faster.
    #[arg(long)]
    quick: bool,
    /// Seconds of each load; 8, or 3 with --quick.
    #[arg(long)]
    seconds: Option<f64>,
    /// Which databases.
    #[arg(long, value_delimiter = ',', default_value = "sqlite,postgres")]
    databases: Vec<server::Database>,
    /// Which sides: mlflow (its defaults), mlflow-one-worker, fishy.
    #[arg(long, value_delimiter = ',', default_value = "mlflow,mlflow-one-worker,fishy")]
    sides: Vec<server::Side>,
    /// Only loads whose name contains one of these.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// The most runs that the registry holds in the loads that show what stored runs cost; 1,000,000, or 30,000 with
    /// --quick.
    #[arg(long)]
    most_runs: Option<u64>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let sizes = suite::Sizes::of(&arguments);
    // MLflow is started in a folder of its own.
    let (fishy, python) = (std::path::absolute(&arguments.fishy)?, std::path::absolute(&arguments.python)?);
    let python_path = arguments.python_path.as_deref().map(std::path::absolute).transpose()?;
    let mut found = report::Report::default();
    for database in &arguments.databases {
        for side in &arguments.sides {
            println!("\n{} with {database}", side.name());
            let setting = server::Setting {
                side: *side,
                database: *database,
                fishy: &fishy,
                python: &python,
                python_path: python_path.as_deref(),
                postgres: &arguments.postgres,
            };
            suite::run(&setting, &sizes, &arguments.only, &mut found).await?;
            // What was measured so far is kept, also when a later load fails.
            found.write(&arguments.out)?;
        }
    }
    found.print();
    println!("\n{}", arguments.out.display());
    Ok(())
}
