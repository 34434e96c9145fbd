//! Legal holds: who holds what back from being deleted for good, and why.

use fishy_contracts::registry::{Hold, HoldKind, Release};
use fishy_core::{Error, Result};
use fishy_db::Tx;
use serde_json::json;

use super::{Asker, Registry};
use crate::domain::{artifact, names};
use crate::events;
use crate::store::holds::{self as store, kind_text};
use crate::store::{Read, experiments, logged_models, models, runs};

/// The longest reason.
const MAX_REASON_CHARS: usize = 1_000;

fn check_reason(reason: &str) -> Result<()> {
    if reason.trim().is_empty() {
        return Err(Error::invalid("a hold, and its end, need a reason"));
    }
    names::check_chars("reason", reason, MAX_REASON_CHARS)
}

/// What a hold says to those who want to delete.
pub(super) fn held(hold: &Hold) -> String {
    format!(
        "{} {} is held since {}: {}",
        kind_text(hold.kind),
        hold.id,
        fishy_core::time::rfc3339(hold.time_ms),
        hold.reason
    )
}

/// Refuses a change of files that are held.
pub(super) async fn check_files_not_held(tx: &mut Tx, paths: &[&str]) -> Result<()> {
    match store::at(tx, paths).await? {
        Some(hold) => Err(Error::precondition(format!("the files cannot be changed: {}", held(&hold)))),
        None => Ok(()),
    }
}

/// Refuses to delete a registered model, or a version of it, that is held.
pub(super) async fn check_model_not_held(tx: &mut Tx, name: &str) -> Result<()> {
    match store::get(tx, HoldKind::Model, name).await? {
        Some(hold) => {
            Err(Error::precondition(format!("nothing of model {name:?} can be deleted or renamed: {}", held(&hold))))
        }
        None => Ok(()),
    }
}

/// Where the artifacts of a thing are, if anywhere of our own; an error when there is no such thing.
async fn root_of(read: &mut impl Read, kind: HoldKind, id: &str) -> Result<Option<String>> {
    let missing = || Error::not_found(format!("there is no {} {id:?}", kind_text(kind)));
    let uri = match kind {
        HoldKind::Run => runs::info(read, id).await?.ok_or_else(missing)?.artifact_uri,
        HoldKind::LoggedModel => logged_models::get(read, id).await?.ok_or_else(missing)?.info.artifact_uri,
        HoldKind::Experiment => {
            let number = names::experiment_id(id)?;
            experiments::get(read, number).await?.ok_or_else(missing)?.artifact_location
        }
        HoldKind::Model => {
            return if models::exists(read, id).await? { Ok(None) } else { Err(missing()) };
        }
    };
    Ok(artifact::path_of(&uri).map(str::to_owned))
}

impl Registry {
    /// Holds something; again, with another reason, is fine.
    pub async fn hold(&self, asker: &Asker, wanted: Hold) -> Result<Hold> {
        check_reason(&wanted.reason)?;
        let hold = Hold { actor: asker.by().actor.to_owned(), time_ms: self.env.now_ms(), ..wanted };
        let mut tx = self.db.begin().await?;
        let root = root_of(&mut tx, hold.kind, &hold.id).await?;
        store::put(&mut tx, &hold, root.as_deref()).await?;
        self.audit_hold(&mut tx, asker, "hold.set", (hold.kind, &hold.id), &hold.reason).await?;
        tx.commit().await?;
        Ok(hold)
    }

    /// Ends a hold.
    pub async fn release(&self, asker: &Asker, release: &Release) -> Result<()> {
        check_reason(&release.reason)?;
        let Release { kind, id, reason } = release;
        let mut tx = self.db.begin().await?;
        if !store::delete(&mut tx, *kind, id).await? {
            return Err(Error::not_found(format!("{} {id:?} is not held", kind_text(*kind))));
        }
        self.audit_hold(&mut tx, asker, "hold.release", (*kind, id), reason).await?;
        tx.commit().await
    }

    async fn audit_hold(
        &self,
        tx: &mut Tx,
        asker: &Asker,
        action: &str,
        (kind, id): (HoldKind, &str),
        reason: &str,
    ) -> Result<()> {
        let resource = format!("{}s/{id}", kind_text(kind));
        events::audit(tx, self, asker.by().actor, action, &resource, json!({ "reason": reason })).await
    }

    /// All holds, newest first.
    pub async fn holds(&self) -> Result<Vec<Hold>> {
        store::all(&mut &self.db).await
    }
}
