use anyhow::{Context, Result};
use clap::Args;
use fishy_contracts::registry::{ProtectedAlias, Unprotect};

use crate::commands::OutputArguments;
use crate::commands::client::Server;
use crate::output::{Output, json, table};

/// `fishy registry protect`
#[derive(Debug, Args)]
pub struct Protect {
    /// The alias. Neither the model nor the alias need exist yet.
    #[arg(value_name = "MODEL@ALIAS")]
    alias: String,
    #[command(flatten)]
    server: Server,
}

/// `fishy registry unprotect`
#[derive(Debug, Args)]
pub struct Release {
    /// The alias.
    #[arg(value_name = "MODEL@ALIAS")]
    alias: String,
    /// The deployment that it was protected for, where one did that by itself.
    #[arg(long, default_value = "")]
    deployment: String,
    /// Why; it goes into the audit log.
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    server: Server,
}

/// `fishy registry protected`
#[derive(Debug, Args)]
pub struct Protected {
    #[command(flatten)]
    server: Server,
    #[command(flatten)]
    output: OutputArguments,
}

fn parts(alias: &str) -> Result<(String, String)> {
    let (model, alias) = alias.rsplit_once('@').context("name the alias as MODEL@ALIAS")?;
    Ok((model.to_owned(), alias.to_owned()))
}

impl Protect {
    /// Runs the command.
    pub async fn run(self) -> Result<()> {
        let (model, alias) = parts(&self.alias)?;
        let alias = ProtectedAlias { model, alias, deployment: String::new() };
        self.server.registry()?.put_behind_gate(&alias).await?;
        println!("{} moves with an approved promotion alone", self.alias);
        Ok(())
    }
}

impl Release {
    /// Runs the command.
    pub async fn run(self) -> Result<()> {
        let (model, alias) = parts(&self.alias)?;
        let Self { deployment, reason, .. } = self;
        self.server.registry()?.unprotect_alias(&Unprotect { model, alias, deployment, reason }).await?;
        println!("{} is no longer protected", self.alias);
        Ok(())
    }
}

impl Protected {
    /// Runs the command.
    pub async fn run(self) -> Result<()> {
        let protected = self.server.registry()?.protected_aliases().await?.items;
        if self.output.output == Output::Json {
            return json(&protected);
        }
        let mut rows = table(&["model", "alias", "for"]);
        for ProtectedAlias { model, alias, deployment } in protected {
            let of = if deployment.is_empty() { "everybody".to_owned() } else { format!("deployment {deployment}") };
            rows.add_row([model, alias, of]);
        }
        println!("{rows}");
        Ok(())
    }
}
