use fishy_core::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::canonical::canonical_json;
use crate::merkle::{Hash, leaf_hash};

/// How an action ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// A decision: yes.
    Allowed,
    /// A decision: no.
    Denied,
    /// A change that was made.
    Done,
    /// A change that was tried.
    Failed,
}

impl Outcome {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }
}

/// One thing that somebody did, or was not let do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Unique; an entry that arrives twice is kept once.
    pub id: String,
    /// When it happened, RFC 3339 in UTC.
    pub time: String,
    /// The service that says so, for example `registry`.
    pub service: String,
    /// Who did it, for example `user:ada`.
    pub actor: String,
    /// What was done, in the words of the policies: `registry:write`.
    pub action: String,
    /// To what, for example `models/oxygen/versions/3`.
    pub resource: String,
    /// How it ended.
    pub outcome: Outcome,
    /// The facts it was decided on. No secrets, no personal data beyond the actor.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub details: Value,
    /// W3C trace context: ties the entry to the request, the logs and the other entries of one cause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
}

impl Entry {
    /// The bytes that are hashed, stored and exported: [`canonical_json`]. Make them once and keep them.
    pub fn canonical(&self) -> Result<String> {
        let value = serde_json::to_value(self)
            .map_err(|error| Error::internal("an audit entry cannot be written as JSON").with_source(error))?;
        Ok(canonical_json(&value))
    }

    /// The leaf of this entry in the log: [`leaf_hash`] of its canonical bytes.
    pub fn leaf_hash(&self) -> Result<Hash> {
        Ok(leaf_hash(self.canonical()?.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_entry_has_one_canonical_form() {
        let text = r#"{"traceparent":null,"time":"2012-05-01T00:00:00.000Z","id":"e-1","service":"governance",
            "actor":"user:ada","action":"governance:approve","resource":"approvals/7","outcome":"allowed",
            "details":{"z":1.50,"a":"é"}}"#;
        let entry: Entry = serde_json::from_str(text).unwrap();
        let canonical = entry.canonical().unwrap();
        assert_eq!(
            canonical,
            r#"{"action":"governance:approve","actor":"user:ada","details":{"a":"é","z":1.5},"id":"e-1","outcome":"allowed","resource":"approvals/7","service":"governance","time":"2012-05-01T00:00:00.000Z"}"#
        );
        assert_eq!(serde_json::from_str::<Entry>(&canonical).unwrap(), entry);
        let mut other = entry.clone();
        other.outcome = Outcome::Denied;
        assert_ne!(other.leaf_hash().unwrap(), entry.leaf_hash().unwrap());
        assert_eq!(json!(Outcome::Failed), json!(Outcome::Failed.as_str()));
        assert!(serde_json::from_str::<Entry>(&text.replace("\"allowed\"", "\"maybe\"")).is_err());
    }
}
