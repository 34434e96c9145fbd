//! Deletion for good, and what is held back from it: only our registry has that.

use fishy_core::Result;
use fishy_http::Call;
use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::RegistryClient;
use crate::List;

/// What can be held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HoldKind {
    /// An experiment with its runs and logged models.
    Experiment,
    /// A run with the logged models it made.
    Run,
    /// A logged model.
    LoggedModel,
    /// A registered model with its versions.
    Model,
}

/// A legal hold: while it lasts, nothing of the thing is deleted for good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hold {
    /// What is held.
    pub kind: HoldKind,
    /// Its id; the name of a registered model.
    pub id: String,
    /// Why.
    pub reason: String,
    /// Who held it; told by the server.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub actor: String,
    /// Since when, in milliseconds since the epoch; told by the server.
    #[serde(default)]
    pub time_ms: i64,
}

/// The end of a hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// What is released.
    pub kind: HoldKind,
    /// Its id; the name of a registered model.
    pub id: String,
    /// Why.
    pub reason: String,
}

/// One step of the deletion for good of what was deleted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GcRequest {
    /// Only what was deleted at least so long ago.
    pub older_than_ms: i64,
    /// Only says what would go.
    pub dry_run: bool,
    /// So many things are looked at in one step at most; 100 when it is not given.
    pub limit: Option<u32>,
    /// Where the step before ended.
    pub next: Option<String>,
}

/// What went, or would go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purged {
    /// `logged_model`, `run`, `experiment` or `orphan`.
    pub kind: String,
    /// Its id; the name of an orphan in the object store.
    pub id: String,
    /// How many files.
    pub files: u64,
    /// How large they were together.
    pub bytes: u64,
}

/// What was deleted and stays nevertheless.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// `logged_model`, `run` or `experiment`.
    pub kind: String,
    /// Its id.
    pub id: String,
    /// Why.
    pub why: String,
}

/// What a step did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GcReport {
    /// What went, or would go.
    pub purged: Vec<Purged>,
    /// What stays.
    pub kept: Vec<Kept>,
    /// Files that are still in the object store although nothing refers to them: they are tried again.
    pub files_left: u64,
    /// Where the next step begins; none when all is done.
    pub next: Option<String>,
}

impl RegistryClient {
    /// One step of the deletion for good.
    pub async fn gc(&self, request: &GcRequest) -> Result<GcReport> {
        self.client.post("/api/v1/registry/gc", request).await
    }

    /// Holds something.
    pub async fn hold(&self, hold: &Hold) -> Result<Hold> {
        self.client.put("/api/v1/registry/holds", hold).await
    }

    /// Ends a hold.
    pub async fn release(&self, release: &Release) -> Result<()> {
        let call = Call::new(Method::DELETE, "/api/v1/registry/holds").json(release)?;
        self.client.json::<Value>(call).await.map(drop)
    }

    /// All holds, newest first.
    pub async fn holds(&self) -> Result<List<Hold>> {
        self.client.get("/api/v1/registry/holds").await
    }
}
