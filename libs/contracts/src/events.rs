//! Types and data of the events (CloudEvents; see `fishy_core::Event`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// An audit entry (`fishy_audit::Entry` as data); governance sequences it.
pub const AUDIT_ENTRY: &str = "fishy.audit.entry.recorded.v1";
/// An alias of a registered model was set or deleted; data: [`AliasMoved`].
pub const ALIAS_MOVED: &str = "fishy.registry.alias.moved.v1";
/// A deployment began to serve a revision; data: [`RevisionActivated`].
pub const REVISION_ACTIVATED: &str = "fishy.deployment.revision.activated.v1";
/// A monitor's trigger fired; data: [`TriggerFired`].
pub const TRIGGER_FIRED: &str = "fishy.monitoring.trigger.fired.v1";
/// True values arrived: whoever has them may publish them instead of posting them; data:
/// [`crate::monitoring::GroundTruth`].
pub const GROUND_TRUTH_ARRIVED: &str = "fishy.feedback.ground_truth.arrived.v1";
/// A data fault began or ended; data: [`crate::monitoring::DataFault`].
pub const DATA_FAULT_CHANGED: &str = "fishy.monitoring.data_fault.changed.v1";
/// An alarm of a check began, grew worse or ended; data: [`crate::monitoring::Alarm`].
pub const ALARM_CHANGED: &str = "fishy.monitoring.alarm.changed.v1";
/// A pipeline run ended, well or not; data: [`RunFinished`].
pub const RUN_FINISHED: &str = "fishy.pipelines.run.finished.v1";
/// A promotion was decided; data: [`crate::governance::Promotion`].
pub const PROMOTION_DECIDED: &str = "fishy.governance.promotion.decided.v1";
/// The policy bundle was replaced; data: [`crate::governance::PolicyBundle`].
pub const POLICIES_REPLACED: &str = "fishy.governance.policies.replaced.v1";

/// Data of [`ALIAS_MOVED`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AliasMoved {
    /// Registered model.
    pub model: String,
    /// The alias.
    pub alias: String,
    /// The version it named before.
    pub from: Option<String>,
    /// The version it names now; `None` when it was deleted.
    pub to: Option<String>,
    /// Who moved it.
    pub actor: String,
}

/// Data of [`REVISION_ACTIVATED`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RevisionActivated {
    /// The deployment.
    pub deployment: String,
    /// The revision: 1, 2, 3 …
    pub revision: i64,
    /// Registered model.
    pub model: String,
    /// Its version.
    pub version: String,
    /// SHA-256 of the served files.
    pub digest: String,
    /// Names of the features, in the model's order.
    pub features: Vec<String>,
    /// The version's tags: monitoring reads the training window and the evaluation from them (`fishy.…`).
    pub tags: BTreeMap<String, String>,
}

/// Data of [`TRIGGER_FIRED`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TriggerFired {
    /// Unique: a pipeline run is started once for each.
    pub id: String,
    /// The monitor.
    pub monitor: String,
    /// The pipeline to start.
    pub pipeline: String,
    /// Event time of the decision: nothing that arrived later may be used.
    pub as_of_ms: i64,
    /// Which rule fired, in words.
    pub reason: String,
    /// The figures behind the decision.
    pub inputs: Value,
}

/// Data of [`RUN_FINISHED`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunFinished {
    /// The run.
    pub run_id: String,
    /// Its pipeline.
    pub pipeline: String,
    /// The trigger that started it.
    pub trigger_id: Option<String>,
    /// How it ended.
    pub status: crate::pipelines::RunStatus,
    /// Event time it ran for.
    pub as_of_ms: i64,
}
