use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use fishy_core::Env;

use super::ConfigArguments;
use crate::compose;
use crate::output::table;
use crate::services::Service;

/// `fishy config …`
#[derive(Debug, Subcommand)]
pub enum What {
    /// Prints the configuration in force, secrets left out.
    Print(ConfigArguments),
    /// Exit code 0 when the configuration is valid.
    Check(ConfigArguments),
}

impl What {
    /// Runs the command.
    pub fn run(self) -> Result<()> {
        match self {
            Self::Print(arguments) => print!("{}", toml::to_string(&arguments.load()?).context("printing")?),
            Self::Check(arguments) => {
                arguments.load()?;
                println!("the configuration is valid");
            }
        }
        Ok(())
    }
}

/// `fishy migrate`
#[derive(Debug, Args)]
pub struct Migrate {
    #[command(flatten)]
    config: ConfigArguments,
    /// Only says what would be done; exit code 1 when something would.
    #[arg(long)]
    check: bool,
    /// Which services; all if none is named.
    #[arg(long = "service", value_delimiter = ',')]
    services: Vec<Service>,
}

impl Migrate {
    /// Runs the command.
    pub async fn run(self) -> Result<ExitCode> {
        let config = self.config.load()?;
        let services = if self.services.is_empty() { Service::ALL.to_vec() } else { self.services };
        let mut rows = table(&["service", if self.check { "would apply" } else { "applied" }]);
        let mut is_behind = false;
        for service in services {
            let db = compose::connect(&config, service, &Env::system()).await?;
            let migrations = compose::migrations(service);
            let versions = if self.check { db.pending(&migrations).await? } else { db.migrate(&migrations).await? };
            is_behind |= !versions.is_empty();
            let names: Vec<_> = migrations
                .iter()
                .filter(|migration| versions.contains(&migration.version))
                .map(|migration| format!("{} {}", migration.version, migration.name))
                .collect();
            rows.add_row([service.to_string(), if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }]);
            db.close().await;
        }
        println!("{rows}");
        Ok(if self.check && is_behind { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}
