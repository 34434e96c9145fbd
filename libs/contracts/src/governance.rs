//! Governance: promotions, approvals, policies, tokens, audit.

use std::collections::BTreeMap;

pub use fishy_authz::ReplayFacts;
use fishy_core::{Error, Result};
use fishy_http::ServiceClient;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{List, segment};

/// A wish to let an alias move, with the facts the gate decides on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PromotionRequest {
    /// Unique; a second request with the same id answers the first decision.
    pub id: String,
    /// Registered model.
    pub model: String,
    /// The challenger's version.
    pub version: String,
    /// The champion's version; `None` for the first one.
    pub champion_version: Option<String>,
    /// The alias that would move.
    pub alias: String,
    /// The pipeline run it comes from.
    pub run_id: Option<String>,
    /// Who made the challenger.
    pub author: String,
    /// Mean absolute error of the challenger on the evaluation window.
    pub challenger_error: f64,
    /// Mean absolute error of the champion on the same rows.
    pub champion_error: Option<f64>,
    /// Labelled rows both were evaluated on.
    pub evaluated_labels: u64,
    /// Whether neither was trained on any of those rows.
    pub is_held_out: bool,
    /// Data faults that are open on the monitored features.
    pub open_data_faults: u64,
    /// Whether inputs and outputs have the champion's names, types and shapes.
    pub signature_matches: bool,
    /// How the challenger answered what was asked live, where the pipeline replayed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay: Option<ReplayFacts>,
    /// Further facts that are recorded with the decision: windows, digests, dataset hash.
    #[serde(default)]
    pub facts: Value,
    /// The rules of this gate.
    #[serde(default)]
    pub rules: GateRules,
}

/// What a gate asks for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GateRules {
    /// How much smaller the challenger's error must be, as a share of the champion's (0.02 = 2 %).
    pub min_improvement: f64,
    /// Labelled rows that the evaluation must rest on.
    pub min_labels: u64,
    /// Whether somebody other than the author must approve.
    pub needs_approval: bool,
    /// What the replay must show; without it, no replay is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replay: Option<ReplayRules>,
}

impl Default for GateRules {
    fn default() -> Self {
        Self { min_improvement: 0.0, min_labels: 24, needs_approval: false, replay: None }
    }
}

/// What a gate asks of the replay of what was asked live. A first version needs none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReplayRules {
    /// The share of the decisions that may flip at most, at any threshold.
    pub max_flips_share: f64,
    /// The share of the predictions that the challenger may give no number for.
    pub max_failed_share: f64,
    /// Predictions that must have been compared.
    pub min_rows: u64,
}

impl Default for ReplayRules {
    fn default() -> Self {
        Self { max_flips_share: 1.0, max_failed_share: 0.0, min_rows: 1 }
    }
}

impl ReplayRules {
    /// Refuses shares that are none.
    pub fn check(&self) -> Result<()> {
        for (name, share) in [("max_flips_share", self.max_flips_share), ("max_failed_share", self.max_failed_share)] {
            if !(0.0..=1.0).contains(&share) {
                return Err(Error::invalid(format!(
                    "replay: {name} is {share}: use a share from 0 to 1, 0.05 for 5 %"
                )));
            }
        }
        Ok(())
    }
}

/// How a promotion stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PromotionStatus {
    /// The alias may move to this version.
    Approved,
    /// It may not; the reasons say why.
    Rejected,
    /// A person must decide.
    WaitingForApproval,
}

/// A promotion and its decision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Promotion {
    /// What was asked.
    pub request: PromotionRequest,
    /// How it stands.
    pub status: PromotionStatus,
    /// Why, in words that a person can act on.
    pub reasons: Vec<String>,
    /// Who approved or rejected by hand.
    pub approver: Option<String>,
    /// When it was asked (wall clock).
    pub created_ms: i64,
    /// When it was decided (wall clock).
    pub decided_ms: Option<i64>,
}

/// A person's word on a promotion.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approval {
    /// Yes or no.
    pub is_approved: bool,
    /// Why.
    #[serde(default)]
    pub reason: String,
}

/// Whether an alias may name a version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AliasCheck {
    /// Whether an approved promotion stands behind it.
    pub is_allowed: bool,
    /// Which one.
    pub promotion_id: Option<String>,
    /// Why not, in words.
    pub reason: String,
}

/// The policies in force.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyBundle {
    /// Counts up.
    pub version: i64,
    /// When it was issued (wall clock).
    pub issued_ms: i64,
    /// Cedar policies.
    pub policies: String,
}

/// A wish for a service token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenRequest {
    /// For whom.
    pub name: String,
    /// Their roles.
    pub roles: Vec<String>,
    /// How long it is valid.
    #[serde(default)]
    pub ttl_ms: Option<i64>,
}

/// A new token: the only time its text is seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NewToken {
    /// Its id, for revoking it.
    pub id: String,
    /// Its text.
    pub token: String,
}

/// Who a token stands for, looked up by the SHA-256 of its text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TokenHolder {
    /// The name.
    pub name: String,
    /// The roles.
    pub roles: Vec<String>,
    /// Until when it is valid (wall clock).
    pub expires_ms: Option<i64>,
}

/// One sequenced audit entry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SequencedEntry {
    /// Its place in the log, from 0.
    pub index: u64,
    /// The entry.
    pub entry: fishy_audit::Entry,
}

/// Client of the governance service.
#[derive(Clone)]
pub struct GovernanceClient(pub ServiceClient);

impl GovernanceClient {
    /// Asks for a promotion; a repeated id is answered from the record.
    pub async fn request_promotion(&self, request: &PromotionRequest) -> Result<Promotion> {
        self.0.post("/api/v1/promotions", request).await
    }

    /// One promotion.
    pub async fn promotion(&self, id: &str) -> Result<Promotion> {
        self.0.get(&format!("/api/v1/promotions/{}", segment(id))).await
    }

    /// Promotions of a model, newest first.
    pub async fn promotions(&self, model: &str) -> Result<List<Promotion>> {
        self.0.get(&format!("/api/v1/promotions?model={}", segment(model))).await
    }

    /// Approves or rejects by hand.
    pub async fn approve(&self, id: &str, approval: &Approval) -> Result<Promotion> {
        self.0.post(&format!("/api/v1/promotions/{}/approval", segment(id)), approval).await
    }

    /// Whether a protected alias may name a version: asked by the registry and by the deployment service.
    pub async fn check_alias(&self, model: &str, alias: &str, version: &str) -> Result<AliasCheck> {
        let (model, alias, version) = (segment(model), segment(alias), segment(version));
        self.0.get(&format!("/api/v1/promotions/check?model={model}&alias={alias}&version={version}")).await
    }

    /// The policies in force.
    pub async fn bundle(&self) -> Result<PolicyBundle> {
        self.0.get("/api/v1/policies/bundle").await
    }

    /// Makes a token.
    pub async fn create_token(&self, request: &TokenRequest) -> Result<NewToken> {
        self.0.post("/api/v1/tokens", request).await
    }

    /// Who a token stands for.
    pub async fn token_holder(&self, sha256: &str) -> Result<TokenHolder> {
        self.0.get(&format!("/api/v1/tokens/by-hash/{sha256}")).await
    }

    /// Audit entries from an index on.
    pub async fn audit_entries(&self, from: u64, limit: u64) -> Result<List<SequencedEntry>> {
        self.0.get(&format!("/api/v1/audit/entries?from={from}&limit={limit}")).await
    }

    /// How many entries the log has, by service and action.
    pub async fn audit_summary(&self) -> Result<BTreeMap<String, Value>> {
        self.0.get("/api/v1/audit/summary").await
    }
}
