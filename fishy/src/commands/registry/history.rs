use anyhow::{Context, Result, bail};
use clap::Args;
use fishy_core::time::rfc3339;

use super::time;
use crate::commands::OutputArguments;
use crate::commands::client::Server;
use crate::output::{Output, json, table};

/// `fishy registry history`
#[derive(Debug, Args)]
pub struct History {
    /// The registered model, or one of its aliases.
    #[arg(value_name = "MODEL[@ALIAS]")]
    model: String,
    /// Only changes of one kind: alias, tag or stage.
    #[arg(long)]
    kind: Option<String>,
    /// Only changes of the tag with this key.
    #[arg(long)]
    key: Option<String>,
    /// So many changes at most.
    #[arg(long, default_value_t = 100)]
    limit: u32,
    #[command(flatten)]
    server: Server,
    #[command(flatten)]
    output: OutputArguments,
}

/// `fishy registry rollback`
#[derive(Debug, Args)]
pub struct Rollback {
    /// The alias.
    #[arg(value_name = "MODEL@ALIAS")]
    alias: String,
    /// The time to go back to, as 2024-05-12T14:03:00Z.
    #[arg(long)]
    to: String,
    /// Why; it is kept with the move and in the audit log.
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    server: Server,
    #[command(flatten)]
    output: OutputArguments,
}

impl History {
    /// Runs the command.
    pub async fn run(self) -> Result<()> {
        let (model, kind, key) = match self.model.rsplit_once('@') {
            None => (self.model.as_str(), self.kind.as_deref(), self.key.as_deref()),
            Some((model, alias)) if self.kind.is_none() && self.key.is_none() => (model, Some("alias"), Some(alias)),
            Some(_) => bail!("an alias has no changes of other kinds: leave out --kind and --key, or the alias"),
        };
        let changes = self.server.registry()?.history(model, (kind, key), self.limit).await?.items;
        if self.output.output == Output::Json {
            return json(&changes);
        }
        let mut rows = table(&["time", "what", "from", "to", "who", "why", "gate"]);
        for change in changes {
            let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
            let of = change.version.map(|version| format!(" of version {version}")).unwrap_or_default();
            let what = if change.key == change.kind { change.kind } else { format!("{} {}", change.kind, change.key) };
            let gate = match (change.gate, change.promotion_id) {
                (Some(gate), Some(promotion)) => format!("{gate}, promotion {promotion}"),
                (gate, _) => or_dash(gate),
            };
            rows.add_row([
                rfc3339(change.time_ms),
                format!("{what}{of}"),
                or_dash(change.from),
                or_dash(change.to),
                change.actor,
                or_dash(change.reason),
                gate,
            ]);
        }
        println!("{rows}");
        Ok(())
    }
}

impl Rollback {
    /// Runs the command.
    pub async fn run(self) -> Result<()> {
        let (model, alias) = self.alias.rsplit_once('@').context("name the alias as MODEL@ALIAS")?;
        let done = self.server.registry()?.roll_back_alias(model, alias, time(&self.to)?, &self.reason).await?;
        if self.output.output == Output::Json {
            return json(&done);
        }
        let at = rfc3339(done.time_ms);
        if done.is_moved {
            let from = done.from.map_or_else(|| "no version".to_owned(), |version| format!("version {version}"));
            println!("{model}@{alias} names version {} again, as at {at}; it named {from}", done.to);
        } else {
            println!("{model}@{alias} names version {} as at {at}: nothing to do", done.to);
        }
        Ok(())
    }
}
