//! `fishy registry …`: one file a family of commands.

mod deletion;
mod history;
mod moving;
mod protection;
mod served;

pub(crate) use deletion::length_ms;

use anyhow::{Context, Result};
use clap::Subcommand;
use fishy_core::time::parse_ms;

/// `fishy registry …`
#[derive(Debug, Subcommand)]
pub enum What {
    /// What happened to a model: who changed aliases, tags and stages, when, from what to what, and why; newest first.
    History(history::History),
    /// Lets an alias name again what it named at a time; a protected one needs the promotion gate for that.
    Rollback(history::Rollback),
    /// Which version served at a time: the last prediction up to then, for a pen for example, and the revision in force.
    Served(served::Served),
    /// Deletes for good what was deleted long enough ago, with its files. What something refers to, or what is held, stays.
    Gc(deletion::Gc),
    /// Holds something back from being deleted for good.
    Hold(deletion::Held),
    /// Ends a hold.
    Release(deletion::Held),
    /// What is held.
    Holds(deletion::Holds),
    /// Puts an alias behind the promotion gate: from then on it moves only with an approved promotion, whoever asks.
    Protect(protection::Protect),
    /// Takes an alias out from behind the promotion gate.
    Unprotect(protection::Release),
    /// Which aliases are behind the promotion gate.
    Protected(protection::Protected),
    /// Copies a whole MLflow server into this one, with ids, times and users. Stopped half way, the same command goes on.
    Import(moving::Import),
    /// Copies this registry into an MLflow server, which gives ids of its own: they are noted in tags. Stopped half way, the
    /// same command goes on.
    Export(moving::Export),
    /// Copies what is new or changed since the import or the export; as often as wanted.
    Sync(moving::Sync),
}

impl What {
    /// Runs the command.
    pub async fn run(self) -> Result<()> {
        match self {
            Self::History(history) => history.run().await,
            Self::Rollback(rollback) => rollback.run().await,
            Self::Served(served) => served.run().await,
            Self::Gc(gc) => gc.run().await,
            Self::Hold(held) => held.hold().await,
            Self::Release(held) => held.release().await,
            Self::Holds(holds) => holds.run().await,
            Self::Protect(protect) => protect.run().await,
            Self::Unprotect(release) => release.run().await,
            Self::Protected(protected) => protected.run().await,
            Self::Import(import) => import.run().await,
            Self::Export(export) => export.run().await,
            Self::Sync(sync) => sync.run().await,
        }
    }
}

/// A time as a person writes it.
fn time(text: &str) -> Result<i64> {
    parse_ms(text).with_context(|| format!("{text:?} is no time: use 2024-05-12 or 2024-05-12T14:03:00Z"))
}
