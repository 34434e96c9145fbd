//! The use cases of the registry.

mod aliases;
mod arrivals;
mod artifacts;
mod calls;
mod experiments;
mod gc;
mod history;
mod holds;
mod imports;
mod logged_models;
mod models;
mod runs;
mod searches;
mod uploads;
mod versions;
mod webhooks;
mod workspaces;

pub(crate) use calls::Calls;
pub(crate) use imports::{Copied, Origin, Seal};
pub(crate) use logged_models::NewLoggedModel;
pub(crate) use runs::{Batch, NewRun, RunChange};
pub(crate) use searches::Search;
pub(crate) use versions::NewVersion;
pub(crate) use webhooks::WebhookChange;
pub(crate) use workspaces::{Inside, WORKSPACE, Workspaces};

use fishy_authz::Identity;
use fishy_blob::Blob;
use fishy_config::Config;
use fishy_contracts::GovernanceClient;
use fishy_core::{Env, Error, Result};
use fishy_db::Db;

use crate::domain::records::ACTIVE;
use crate::domain::workspace::DEFAULT;
use crate::store::history::By;

/// What the use cases need.
pub(crate) struct Registry {
    pub env: Env,
    pub config: Config,
    pub db: Db,
    pub blob: Blob,
    /// Where the content of artifacts is in the object store.
    pub folder: String,
    pub governance: GovernanceClient,
    /// What calls webhooks.
    pub calls: Calls,
    /// The workspace whose things these are.
    pub workspace: String,
}

impl Registry {
    /// The name under which others know a thing of this workspace: things of different workspaces may have one name.
    /// No name of a model has a slash.
    pub fn known_as(&self, name: &str) -> String {
        if self.workspace == DEFAULT { name.to_owned() } else { format!("{}/{name}", self.workspace) }
    }
}

/// Who asks, and why where they said so.
#[derive(Debug, Clone)]
pub(crate) struct Asker {
    pub who: Identity,
    pub reason: Option<String>,
    name: String,
}

impl Asker {
    /// `reason` is what the caller said, if anything.
    pub fn new(who: Identity, reason: Option<String>) -> Self {
        Self { name: actor(&who), who, reason }
    }

    /// As the history names them.
    pub fn by(&self) -> By<'_> {
        By { actor: &self.name, reason: self.reason.as_deref() }
    }
}

/// Who asks, as events and audit entries name them.
pub(crate) fn actor(who: &Identity) -> String {
    who.to_string()
}

/// Refuses a change of something that was deleted.
fn check_active(what: &str, id: &str, lifecycle_stage: &str) -> Result<()> {
    if lifecycle_stage == ACTIVE {
        return Ok(());
    }
    Err(Error::invalid(format!("The {what} {id} must be in the 'active' state. Current state is {lifecycle_stage}.")))
}

/// A name for what came without one: two words out of its id.
fn invented_name(id: &str) -> String {
    const FIRST: [&str; 16] = [
        "brisk", "calm", "clear", "deep", "eager", "gentle", "keen", "lively", "mild", "nimble", "quiet", "rapid",
        "silver", "steady", "swift", "vivid",
    ];
    const SECOND: [&str; 16] = [
        "char", "cod", "eel", "grayling", "halibut", "herring", "lumpfish", "mackerel", "perch", "pollock", "salmon",
        "sprat", "sturgeon", "trout", "turbot", "wrasse",
    ];
    let digits: Vec<usize> = id.chars().rev().filter_map(|c| c.to_digit(16)).map(|digit| digit as usize).collect();
    let digit = |at: usize| digits.get(at).copied().unwrap_or(0);
    format!("{}-{}-{}", FIRST[digit(0)], SECOND[digit(1)], digit(2) * 64 + digit(3) * 4 + digit(4) % 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invented_name_is_words_and_a_number() {
        assert_eq!(invented_name("00000000-0000-0000-0000-000000000001"), "calm-char-0");
        assert_eq!(invented_name(""), "brisk-char-0");
        assert_eq!(invented_name("ffffffff"), "vivid-wrasse-1023");
    }
}
