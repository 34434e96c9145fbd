use anyhow::{Context, Result};
use clap::Subcommand;
use fishy_contracts::governance::TokenRequest;
use fishy_core::Env;
use fishy_core::time::DAY_MS;

use super::client::Server;
use super::{ConfigArguments, OutputArguments};
use crate::compose;
use crate::output::{Output, json};
use crate::services::Service;

/// `fishy token …`
#[derive(Debug, Subcommand)]
pub enum What {
    /// Makes a service token. Its text is shown once.
    Create {
        /// For whom or what.
        name: String,
        /// Its roles: admin, data_scientist, ml_engineer, expert, compliance, operator, sensor, viewer.
        #[arg(long = "role", value_delimiter = ',', required = true)]
        roles: Vec<String>,
        /// After how many days it ends; never if not said.
        #[arg(long)]
        days: Option<i64>,
        /// Writes into the database of this configuration, without a server: for the first token of an installation.
        #[arg(long)]
        offline: bool,
        #[command(flatten)]
        config: ConfigArguments,
        #[command(flatten)]
        server: Server,
        #[command(flatten)]
        output: OutputArguments,
    },
}

impl What {
    /// Runs the command.
    pub async fn run(self) -> Result<()> {
        let Self::Create { name, roles, days, offline, config, server, output } = self;
        let request = TokenRequest { name, roles, ttl_ms: days.map(|days| days * DAY_MS) };
        let made = if offline {
            let config = config.load()?;
            let env = Env::system();
            let db = compose::connect(&config, Service::Governance, &env).await?;
            db.migrate(&compose::migrations(Service::Governance)).await?;
            fishy_governance::create_token_offline(&db, &env, &request).await?
        } else {
            server.governance()?.create_token(&request).await.context("making a token")?
        };
        match output.output {
            Output::Json => json(&made),
            Output::Table => {
                println!("{}", made.token);
                eprintln!("keep it: this is the only time it is shown (id {})", made.id);
                Ok(())
            }
        }
    }
}
