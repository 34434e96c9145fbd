//! Data pipelines: definitions, runs, steps.

use std::collections::BTreeMap;

use fishy_core::Result;
use fishy_http::{Call, ServiceClient};
use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{List, segment};

/// A pipeline: its TOML text, kept as it was written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PipelineSpec {
    /// Its name.
    pub name: String,
    /// The TOML text.
    pub definition: String,
    /// The folder that relative paths of `command` steps start from (where the TOML file and its scripts lie).
    #[serde(default)]
    pub folder: String,
}

/// A wish to run a pipeline.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StartRun {
    /// Event time: nothing that arrived later may be used. Now, if absent.
    #[serde(default)]
    pub as_of_ms: Option<i64>,
    /// Why, in words.
    #[serde(default)]
    pub reason: String,
    /// The trigger behind it; a second start with the same id answers the first run.
    #[serde(default)]
    pub trigger_id: Option<String>,
    /// Values that override the definition's `[params]`.
    #[serde(default)]
    pub params: BTreeMap<String, String>,
}

/// How a run or a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// Waits for its turn.
    Queued,
    /// Is running.
    Running,
    /// Waits for something outside, such as an approval.
    Waiting,
    /// Ended well.
    Succeeded,
    /// Ended well, but the gate said no: the champion stays.
    Rejected,
    /// Ended with an error.
    Failed,
    /// Was stopped by a person.
    Cancelled,
}

impl RunStatus {
    /// Whether nothing more will happen.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Rejected | Self::Failed | Self::Cancelled)
    }
}

/// One run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Unique.
    pub id: String,
    /// Its pipeline.
    pub pipeline: String,
    /// Event time it runs for.
    pub as_of_ms: i64,
    /// How it stands.
    pub status: RunStatus,
    /// Why it was started.
    pub reason: String,
    /// The trigger behind it.
    pub trigger_id: Option<String>,
    /// Its steps, in order.
    pub steps: Vec<Step>,
    /// What went wrong, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Wall clock.
    pub created_ms: i64,
    /// Wall clock.
    pub finished_ms: Option<i64>,
}

/// One step of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Its name in the definition.
    pub name: String,
    /// `command`, `evaluate`, `gate`, `register` or `promote`.
    pub kind: String,
    /// How it stands.
    pub status: RunStatus,
    /// How often it was tried.
    pub attempts: u32,
    /// What it gave to later steps.
    pub outputs: Value,
    /// What went wrong, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Wall clock.
    pub started_ms: Option<i64>,
    /// Wall clock.
    pub finished_ms: Option<i64>,
}

/// Client of the pipelines service.
#[derive(Clone)]
pub struct PipelinesClient(pub ServiceClient);

impl PipelinesClient {
    /// Makes or changes a pipeline.
    pub async fn apply(&self, spec: &PipelineSpec) -> Result<PipelineSpec> {
        self.0.put(&format!("/api/v1/pipelines/{}", segment(&spec.name)), spec).await
    }

    /// All pipelines.
    pub async fn list(&self) -> Result<List<PipelineSpec>> {
        self.0.get("/api/v1/pipelines").await
    }

    /// Starts a run.
    pub async fn start(&self, name: &str, start: &StartRun) -> Result<Run> {
        self.0.post(&format!("/api/v1/pipelines/{}/runs", segment(name)), start).await
    }

    /// Runs of a pipeline, newest first.
    pub async fn runs(&self, name: &str) -> Result<List<Run>> {
        self.0.get(&format!("/api/v1/pipelines/{}/runs", segment(name))).await
    }

    /// The run that a trigger started; not found until it has.
    pub async fn run_of_trigger(&self, trigger_id: &str) -> Result<Run> {
        self.0.get(&format!("/api/v1/pipeline-runs/by-trigger/{}", segment(trigger_id))).await
    }

    /// One run.
    pub async fn run(&self, id: &str) -> Result<Run> {
        self.0.get(&format!("/api/v1/pipeline-runs/{}", segment(id))).await
    }

    /// Stops a run.
    pub async fn cancel(&self, id: &str) -> Result<Run> {
        self.0.post(&format!("/api/v1/pipeline-runs/{}/cancel", segment(id)), &()).await
    }

    /// What a `command` step wrote, its retries included: the newest 8 MB at most.
    pub async fn log(&self, id: &str, step: &str) -> Result<String> {
        let path = format!("/api/v1/pipeline-runs/{}/steps/{}/log", segment(id), segment(step));
        let bytes = self.0.expect(Call::new(Method::GET, path)).await?.bytes().await?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}
