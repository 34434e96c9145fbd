use std::fs::File;
use std::io::{BufReader, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Subcommand;
use fishy_audit::{Verifier, VerifyOptions, verify_export};
use fishy_http::Call;
use futures::StreamExt;

use super::OutputArguments;
use super::client::Server;
use crate::output::{Output, json, table};

/// `fishy audit …`
#[derive(Debug, Subcommand)]
pub enum What {
    /// Verifies an export without a server; exit code 1 when an entry was edited, removed, reordered or cut off.
    Verify {
        /// The export.
        file: PathBuf,
        /// The public key that the log is known to be signed with; without it the key in the export is taken.
        #[arg(long)]
        key: Option<String>,
        /// Signed heads that were kept outside (files); they show a log that was cut off.
        #[arg(long = "head")]
        heads: Vec<PathBuf>,
        #[command(flatten)]
        output: OutputArguments,
    },
    /// Writes the whole log to a file.
    Export {
        /// The file.
        file: PathBuf,
        #[command(flatten)]
        server: Server,
    },
    /// How many entries the log has, by service and action.
    Summary {
        #[command(flatten)]
        server: Server,
    },
}

/// Writes the whole log to a file; answers its size in bytes.
pub async fn export(server: &Server, file: &std::path::Path) -> Result<u64> {
    let client = server.client("governance")?;
    let reply = client.expect(Call::new(http::Method::GET, "/api/v1/audit/export")).await?;
    let mut stream = std::pin::pin!(reply.into_stream());
    let mut out = File::create(file).with_context(|| format!("writing {}", file.display()))?;
    let mut size = 0;
    while let Some(part) = stream.next().await {
        let part = part?;
        size += part.len() as u64;
        out.write_all(&part)?;
    }
    out.sync_all()?;
    Ok(size)
}

impl What {
    /// Runs the command.
    pub async fn run(self) -> Result<ExitCode> {
        match self {
            Self::Export { file, server } => {
                let size = export(&server, &file).await?;
                println!("{size} bytes written to {}", file.display());
            }
            Self::Summary { server } => json(&server.governance()?.audit_summary().await?)?,
            Self::Verify { file, key, heads, output } => {
                let heads =
                    heads.iter().map(std::fs::read_to_string).collect::<Result<_, _>>().context("reading a head")?;
                let trusted_key = key.as_deref().map(Verifier::parse).transpose()?;
                let open = File::open(&file).with_context(|| format!("reading {}", file.display()))?;
                let report = verify_export(BufReader::new(open), &VerifyOptions { trusted_key, heads })?;
                match output.output {
                    Output::Json => json(&report)?,
                    Output::Table => {
                        let mut rows = table(&["entries", "what", "found"]);
                        for problem in &report.problems {
                            let span = format!("{}–{}", problem.index, problem.last_index);
                            rows.add_row([span, format!("{:?}", problem.kind).to_lowercase(), problem.message.clone()]);
                        }
                        if !report.problems.is_empty() {
                            println!("{rows}");
                        }
                        let verdict = if report.is_ok() { "intact" } else { "DAMAGED" };
                        println!(
                            "{verdict}: {} entries, {} of {} checkpoints fit, log {}",
                            report.entries, report.checkpoints_ok, report.checkpoints, report.origin
                        );
                    }
                }
                return Ok(if report.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
