//! The history of a registered model, which only our registry keeps.

use std::fmt::Write as _;

use fishy_core::Result;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::RegistryClient;
use crate::{List, segment};

/// A change of an alias, a tag or a stage that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastChange {
    /// When, in milliseconds since the epoch.
    pub time_ms: i64,
    /// `alias`, `tag` or `stage`.
    pub kind: String,
    /// The alias, the key of the tag, or `stage`.
    pub key: String,
    /// The version whose tag or stage it is; none for aliases and for tags of the model.
    pub version: Option<String>,
    /// What it was before.
    pub from: Option<String>,
    /// What it was then; none when it was deleted.
    pub to: Option<String>,
    /// Who changed it.
    pub actor: String,
    /// Why, where that was said.
    pub reason: Option<String>,
    /// The gated deployment that followed the alias.
    pub gate: Option<String>,
    /// The promotion that the gate let through.
    pub promotion_id: Option<String>,
}

/// What an alias named at a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AliasAt {
    /// The registered model.
    pub model: String,
    /// The alias.
    pub alias: String,
    /// The time that was asked for, in milliseconds since the epoch.
    pub time_ms: i64,
    /// The version it named then; none when there was no such alias.
    pub version: Option<String>,
    /// The move that had made it so; none when it had never been set.
    pub since: Option<PastChange>,
}

/// What a rollback did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolledBack {
    /// The registered model.
    pub model: String,
    /// The alias.
    pub alias: String,
    /// The time it was rolled back to, in milliseconds since the epoch.
    pub time_ms: i64,
    /// The version it named before; none when it had been deleted.
    pub from: Option<String>,
    /// The version it names now.
    pub to: String,
    /// Whether that changed anything.
    pub is_moved: bool,
}

impl RegistryClient {
    /// What happened to a model, newest first; of one kind and of one key where these are given.
    pub async fn history(
        &self,
        model: &str,
        (kind, key): (Option<&str>, Option<&str>),
        limit: u32,
    ) -> Result<List<PastChange>> {
        let mut path = format!("/api/v1/registry/models/{}/history?limit={limit}", segment(model));
        for (name, value) in [("kind", kind), ("key", key)] {
            if let Some(value) = value {
                let _ = write!(path, "&{name}={}", segment(value));
            }
        }
        self.client.get(&path).await
    }

    /// Which version an alias named at a time.
    pub async fn alias_at(&self, model: &str, alias: &str, time_ms: i64) -> Result<AliasAt> {
        let (model, alias) = (segment(model), segment(alias));
        self.client.get(&format!("/api/v1/registry/models/{model}/aliases/{alias}/at?time={time_ms}")).await
    }

    /// Lets an alias name again what it named at a time.
    pub async fn roll_back_alias(&self, model: &str, alias: &str, to_ms: i64, reason: &str) -> Result<RolledBack> {
        let path = format!("/api/v1/registry/models/{}/aliases/{}/rollback", segment(model), segment(alias));
        self.client.post(&path, &json!({"to": to_ms.to_string(), "reason": reason})).await
    }
}
