//! What the service keeps: pipelines, runs and their steps.

mod claims;
mod migrations;
mod pipelines;
mod runs;
mod writes;

use std::collections::BTreeMap;

use fishy_contracts::pipelines::{Run, RunStatus};
use fishy_core::{Error, Result};
use fishy_db::Db;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::dataset::Manifest;

pub use claims::Renewal;
pub use migrations::MIGRATIONS;
pub use pipelines::StoredPipeline;
pub use runs::NewRun;
pub use writes::{Fence, StepEnd};

/// The store. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    db: Db,
}

/// A run with what only this service needs to know of it.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredRun {
    /// Its place in the order of all runs.
    pub seq: i64,
    /// What everybody may know.
    pub run: Run,
    /// The pipeline's TOML text when the run was started: a change of the pipeline does not touch it.
    pub definition: String,
    /// The pipeline's folder at that time.
    pub folder: String,
    /// Values of its params.
    pub params: BTreeMap<String, String>,
    /// Its data, once they are there.
    pub dataset: Option<Manifest>,
    /// Who started it, as the audit trail names them.
    pub actor: String,
    /// The trace it belongs to.
    pub traceparent: Option<String>,
    /// Whether somebody wants it stopped.
    pub is_cancel_requested: bool,
    /// When it first began (wall clock).
    pub started_ms: Option<i64>,
}

impl Store {
    /// The store in a database.
    pub const fn new(db: Db) -> Self {
        Self { db }
    }

    /// The database.
    pub const fn db(&self) -> &Db {
        &self.db
    }
}

const STATUSES: [(RunStatus, &str); 7] = [
    (RunStatus::Queued, "queued"),
    (RunStatus::Running, "running"),
    (RunStatus::Waiting, "waiting"),
    (RunStatus::Succeeded, "succeeded"),
    (RunStatus::Rejected, "rejected"),
    (RunStatus::Failed, "failed"),
    (RunStatus::Cancelled, "cancelled"),
];

/// A status as it is kept, and as it is on the wire and in metrics.
pub fn status_text(status: RunStatus) -> &'static str {
    STATUSES.iter().find(|(known, _)| *known == status).map_or("failed", |(_, text)| text)
}

fn parse_status(text: &str) -> Result<RunStatus> {
    let known = STATUSES.iter().find(|(_, known)| *known == text).map(|(status, _)| *status);
    known.ok_or_else(|| Error::internal(format!("a run with status {text:?}")))
}

fn to_text(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Error::internal("a value cannot be kept").with_source(error))
}

fn from_text<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| Error::internal("a kept value cannot be read").with_source(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_kept_as_it_is_sent() {
        for (status, text) in STATUSES {
            assert_eq!(serde_json::to_value(status).unwrap(), text);
            assert_eq!(parse_status(status_text(status)).unwrap(), status);
        }
        assert!(parse_status("asleep").is_err());
    }
}
