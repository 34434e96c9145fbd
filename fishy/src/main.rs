#![doc = include_str!("../README.md")]
#![expect(clippy::print_stdout, reason = "a command line prints")]

mod commands;
mod compose;
mod output;
mod replay;
mod services;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    // One provider, chosen before any TLS: with none chosen, rustls panics where two are compiled in.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let arguments = commands::Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start: {error}");
            return ExitCode::from(2);
        }
    };
    match runtime.block_on(commands::run(arguments)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(1)
        }
    }
}
