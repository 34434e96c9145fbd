//! What the process that works on a run writes. Each write says who writes, and nothing is written once the claim is lost.

use fishy_contracts::pipelines::RunStatus;
use fishy_core::{Error, Event, Result};
use fishy_db::{Tx, args};
use serde_json::Value;

use super::{Store, status_text, to_text};
use crate::dataset::Manifest;

/// A run and the process that has claimed it.
#[derive(Debug, Clone)]
pub struct Fence {
    /// The run.
    pub run_id: String,
    /// The process.
    pub owner: String,
}

/// How a step stands after a try.
#[derive(Debug, Clone)]
pub struct StepEnd {
    /// Its place in the run.
    pub position: usize,
    /// How it stands.
    pub status: RunStatus,
    /// What it gives to later steps.
    pub outputs: Value,
    /// What went wrong, in words.
    pub error: Option<String>,
    /// Wall clock.
    pub at_ms: i64,
}

impl Store {
    async fn fenced(&self, fence: &Fence) -> Result<Tx> {
        let mut tx = self.db.begin().await?;
        let sql = "UPDATE runs SET owner = owner WHERE id = $1 AND owner = $2";
        if tx.execute(sql, args![&fence.run_id, &fence.owner]).await? == 1 {
            return Ok(tx);
        }
        Err(Error::precondition(format!("run {} is held by another process now", fence.run_id)))
    }

    /// The run has begun, or goes on; the events are those of its first beginning.
    pub async fn mark_running(&self, fence: &Fence, now_ms: i64, events: &[Event]) -> Result<()> {
        let mut tx = self.fenced(fence).await?;
        let sql = "UPDATE runs SET status = 'running', started_ms = COALESCE(started_ms, $1) WHERE id = $2";
        tx.execute(sql, args![now_ms, &fence.run_id]).await?;
        for event in events {
            tx.emit(event).await?;
        }
        tx.commit().await
    }

    /// The run's data are there.
    pub async fn set_dataset(&self, fence: &Fence, manifest: &Manifest) -> Result<()> {
        let mut tx = self.fenced(fence).await?;
        let sql = "UPDATE runs SET dataset = $1 WHERE id = $2";
        tx.execute(sql, args![to_text(manifest)?, &fence.run_id]).await?;
        tx.commit().await
    }

    /// A try of a step begins.
    pub async fn begin_step(&self, fence: &Fence, position: usize, now_ms: i64) -> Result<()> {
        let mut tx = self.fenced(fence).await?;
        let sql = "UPDATE steps SET status = 'running', attempts = attempts + 1, started_ms = COALESCE(started_ms, $1)
                   WHERE run_id = $2 AND position = $3";
        tx.execute(sql, args![now_ms, &fence.run_id, position]).await?;
        tx.commit().await
    }

    /// A try of a step failed, and another will follow.
    pub async fn note_failure(&self, fence: &Fence, position: usize, error: &str) -> Result<()> {
        let mut tx = self.fenced(fence).await?;
        let sql = "UPDATE steps SET error = $1 WHERE run_id = $2 AND position = $3";
        tx.execute(sql, args![error, &fence.run_id, position]).await?;
        tx.commit().await
    }

    /// A step ended well.
    pub async fn end_step(&self, fence: &Fence, end: &StepEnd) -> Result<()> {
        let mut tx = self.fenced(fence).await?;
        write_step(&mut tx, fence, end).await?;
        tx.commit().await
    }

    /// The run cannot go on now: it is given back, with the status that says what it waits for.
    pub async fn park(&self, fence: &Fence, status: RunStatus, end: Option<&StepEnd>) -> Result<()> {
        let mut tx = self.fenced(fence).await?;
        if let Some(end) = end {
            write_step(&mut tx, fence, end).await?;
        }
        let sql = "UPDATE runs SET status = $1, owner = NULL WHERE id = $2";
        tx.execute(sql, args![status_text(status), &fence.run_id]).await?;
        tx.commit().await
    }

    /// The run has ended: its last step, itself, what it means for its pipeline, and the events that tell of it.
    pub async fn finish(
        &self,
        fence: &Fence,
        end: Option<&StepEnd>,
        status: RunStatus,
        error: Option<&str>,
        now_ms: i64,
        events: &[Event],
    ) -> Result<()> {
        let mut tx = self.fenced(fence).await?;
        if let Some(end) = end {
            write_step(&mut tx, fence, end).await?;
        }
        let sql = "UPDATE runs SET status = $1, error = $2, finished_ms = $3, owner = NULL WHERE id = $4";
        tx.execute(sql, args![status_text(status), error.map(str::to_owned), now_ms, &fence.run_id]).await?;
        if status != RunStatus::Cancelled {
            let problem = error.map(|error| format!("run {} failed: {error}", fence.run_id));
            let sql = "UPDATE pipelines SET problem = $1 WHERE name = (SELECT pipeline FROM runs WHERE id = $2)";
            tx.execute(sql, args![problem, &fence.run_id]).await?;
        }
        for event in events {
            tx.emit(event).await?;
        }
        tx.commit().await
    }
}

async fn write_step(tx: &mut Tx, fence: &Fence, end: &StepEnd) -> Result<()> {
    let finished_ms = end.status.is_final().then_some(end.at_ms);
    let sql =
        "UPDATE steps SET status = $1, outputs = $2, error = $3, finished_ms = $4 WHERE run_id = $5 AND position = $6";
    let outputs = to_text(&end.outputs)?;
    let args = args![status_text(end.status), outputs, end.error.clone(), finished_ms, &fence.run_id, end.position];
    tx.execute(sql, args).await?;
    Ok(())
}
