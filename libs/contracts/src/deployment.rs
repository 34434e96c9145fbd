//! Model Deployment: deployments, revisions, prediction records.

mod graph;
mod replay;
mod serving;
mod sinks;
mod traffic;

pub use graph::{
    Case, Combine, Comparison, Condition, ConditionValue, GRAPH_PATH_LABEL, GraphDeployment, GraphNode, Route,
};
pub use replay::{
    AnswerKind, Differences, Flips, ReplayFigures, ReplayLatency, ReplayReport, ReplayRequest, ReplaySlice, RowLatency,
    TruthErrors,
};
pub use serving::{EngineSettings, GraphOptimization};
pub use sinks::SinkStatus;
pub use traffic::{CanaryRule, PromoteRequest, Shadow, ShadowReport, Split, TrafficReport, TrafficSpec, VersionReport};

use std::collections::BTreeMap;
use std::time::Duration;

use fishy_core::Result;
use fishy_http::ServiceClient;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{List, segment};

/// What a deployment should be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeploymentSpec {
    /// Its name, also the model's name in the Open Inference Protocol.
    pub name: String,
    /// `models:/NAME@ALIAS`, which is followed, or `models:/NAME/VERSION`, which is fixed.
    pub model: String,
    /// Whether a new revision needs an approved promotion; then the alias is protected.
    #[serde(default)]
    pub is_gated: bool,
}

/// A deployment as it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Deployment {
    /// What it should be.
    pub spec: DeploymentSpec,
    /// What it serves now.
    pub current: Option<Revision>,
    /// Whether that is in the memory of the process that was asked; if not, the next request loads it.
    #[serde(default)]
    pub is_loaded: bool,
    /// Why it does not serve what it should, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// When it was made (wall clock).
    pub created_ms: i64,
}

/// One immutable revision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Revision {
    /// 1, 2, 3 …; 0 for a candidate that takes a share of the traffic and is no revision yet.
    pub number: i64,
    /// Registered model.
    pub model: String,
    /// Its version.
    pub version: String,
    /// SHA-256 over path and content hash of every served file.
    pub digest: String,
    /// Names of the features, in the model's order.
    pub features: Vec<String>,
    /// Tags of the model version at the time.
    pub tags: BTreeMap<String, String>,
    /// The promotion that let it through, when gated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promotion_id: Option<String>,
    /// When it began to serve (wall clock).
    pub activated_ms: i64,
}

/// One prediction, as it is logged and streamed: one row of one request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PredictionRecord {
    /// Whether a shadow answered, whose answer nobody got: recorded under the id of the answer that was given, in Parquet and
    /// for sinks. The prediction stream has none of them. First, so that a reader can tell by how a line begins.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_shadow: bool,
    /// UUIDv7 unless the caller brought its own; rows of one request after the first have `…/1`, `…/2`.
    pub id: String,
    /// The deployment.
    pub deployment: String,
    /// The revision that answered; 0 for a candidate that took a share of the traffic, which `version` names.
    pub revision: i64,
    /// The model version that answered.
    pub version: String,
    /// Event time: the request's `event_time` parameter, else when it came in.
    pub time_ms: i64,
    /// When the request came in (wall clock).
    pub received_ms: i64,
    /// Time in the model, in microseconds.
    pub latency_us: u64,
    /// Features by name; a missing value is null.
    pub inputs: BTreeMap<String, Value>,
    /// Outputs by name.
    pub outputs: BTreeMap<String, Value>,
    /// Labels such as farm, pen, camera.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// Name of the prediction stream on the bus; a batch is JSON lines of [`PredictionRecord`].
pub const PREDICTION_STREAM: &str = "predictions";

/// A replay ends itself after ten minutes, and then answers with what it has.
const REPLAY_PATIENCE: Duration = Duration::from_mins(12);

/// Client of the deployment service's own API.
#[derive(Clone)]
pub struct DeploymentClient(pub ServiceClient);

impl DeploymentClient {
    /// Makes or changes a deployment; answers when its first revision serves, or why it does not.
    pub async fn apply(&self, spec: &DeploymentSpec) -> Result<Deployment> {
        self.0.put(&format!("/api/v1/deployments/{}", segment(&spec.name)), spec).await
    }

    /// One deployment.
    pub async fn get(&self, name: &str) -> Result<Deployment> {
        self.0.get(&format!("/api/v1/deployments/{}", segment(name))).await
    }

    /// All deployments.
    pub async fn list(&self) -> Result<List<Deployment>> {
        self.0.get("/api/v1/deployments").await
    }

    /// Makes or changes an inference graph, a deployment whose answers are made of those of others.
    pub async fn set_graph(&self, name: &str, graph: &GraphNode) -> Result<GraphDeployment> {
        self.0.put(&format!("/api/v1/deployments/{}/graph", segment(name)), graph).await
    }

    /// One inference graph.
    pub async fn graph(&self, name: &str) -> Result<GraphDeployment> {
        self.0.get(&format!("/api/v1/deployments/{}/graph", segment(name))).await
    }

    /// All inference graphs.
    pub async fn graphs(&self) -> Result<List<GraphDeployment>> {
        self.0.get("/api/v1/graphs").await
    }

    /// How the sinks of the prediction log stand, in the process that is asked.
    pub async fn sinks(&self) -> Result<List<SinkStatus>> {
        self.0.get("/api/v1/prediction-sinks").await
    }

    /// Its revisions, newest first.
    pub async fn revisions(&self, name: &str) -> Result<List<Revision>> {
        self.0.get(&format!("/api/v1/deployments/{}/revisions", segment(name))).await
    }

    /// Looks the alias up now and rolls out what it names, if the gate lets it; answers what is served after that.
    pub async fn refresh(&self, name: &str) -> Result<Deployment> {
        self.0.post(&format!("/api/v1/deployments/{}/refresh", segment(name)), &()).await
    }

    /// How its models are run.
    pub async fn engine(&self, name: &str) -> Result<EngineSettings> {
        self.0.get(&format!("/api/v1/deployments/{}/engine", segment(name))).await
    }

    /// Changes how its models are run; answers when the model was loaded anew.
    pub async fn set_engine(&self, name: &str, settings: &EngineSettings) -> Result<EngineSettings> {
        self.0.put(&format!("/api/v1/deployments/{}/engine", segment(name)), settings).await
    }

    /// Where its requests go, and what became of them.
    pub async fn traffic(&self, name: &str) -> Result<TrafficReport> {
        self.0.get(&format!("/api/v1/deployments/{}/traffic", segment(name))).await
    }

    /// Splits or mirrors its requests; an empty specification ends that.
    pub async fn set_traffic(&self, name: &str, spec: &TrafficSpec) -> Result<TrafficReport> {
        self.0.put(&format!("/api/v1/deployments/{}/traffic", segment(name)), spec).await
    }

    /// Makes a version the one that serves: moves the alias that the deployment follows, or names the version.
    pub async fn promote(&self, name: &str, request: &PromoteRequest) -> Result<Deployment> {
        self.0.post(&format!("/api/v1/deployments/{}/promote", segment(name)), request).await
    }

    /// Goes back to the version that served before.
    pub async fn rollback(&self, name: &str) -> Result<Deployment> {
        self.0.post(&format!("/api/v1/deployments/{}/rollback", segment(name)), &()).await
    }
    /// Asks a version what was asked live; nothing is recorded, and the deployment serves on as it is.
    pub async fn replay(&self, name: &str, request: &ReplayRequest) -> Result<ReplayReport> {
        let client = self.0.clone().with_timeout(REPLAY_PATIENCE);
        client.post(&format!("/api/v1/deployments/{}/replay", segment(name)), request).await
    }
}
