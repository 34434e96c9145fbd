#![doc = include_str!("../README.md")]
#![expect(clippy::print_stdout, reason = "a command line prints")]

mod bench;
mod demo;
mod deploy;
mod docs;
mod layers;
mod process;
mod services;
mod setup;
mod test;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// The developer's commands.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Sets up what is missing, builds, and runs the closed loop to its end. Further arguments go to `fishy replay`.
    Demo {
        /// For example --example virtual-oxygen --data FILE, or --data FILE --time T --target Y --features A,B.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        replay: Vec<String>,
    },
    /// Everything that must pass.
    Test {
        /// Only these parts: format, lints, layers, docs, rust, python, clients, deploy.
        #[arg(long, value_delimiter = ',')]
        only: Vec<String>,
    },
    /// Checks the direction of dependencies.
    Layers,
    /// Runs a benchmark.
    Bench {
        /// Which one.
        name: String,
        /// Passed on to the benchmark.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Writes the generated references.
    Docs {
        /// Only checks that they are fresh.
        #[arg(long)]
        check: bool,
    },
}

fn main() -> Result<()> {
    std::env::set_current_dir(process::root())?;
    match Arguments::parse().command {
        Command::Demo { replay } => demo::run(&replay),
        Command::Test { only } => test::run_all(&only),
        Command::Layers => layers::run(),
        Command::Bench { name, arguments } => bench::run_named(&name, &arguments),
        Command::Docs { check } => docs::run(check),
    }
}
