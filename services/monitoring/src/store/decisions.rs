//! Decisions of the trigger.

use fishy_contracts::events::TriggerFired;
use fishy_core::Result;
use fishy_db::{Db, Row, Tx, args};
use serde_json::Value;

use super::{from_json, to_json};

/// What stands for the run of a trigger that starts nothing.
const NO_RUN: &str = "-";

/// A decision that fired, or that a data fault kept from firing.
#[derive(Debug, Clone, PartialEq)]
pub struct DecisionRow {
    pub trigger: TriggerFired,
    pub has_fired: bool,
    pub run_status: Option<String>,
    pub decided_ms: i64,
}

/// What earlier triggers mean for the next.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Earlier {
    pub last_trigger_ms: Option<i64>,
    pub last_setback_ms: Option<i64>,
    pub is_run_open: bool,
}

fn decision_of(row: &Row) -> Result<DecisionRow> {
    Ok(DecisionRow {
        trigger: TriggerFired {
            id: row.get("id")?,
            monitor: row.get("monitor")?,
            pipeline: row.get("pipeline")?,
            as_of_ms: row.get("as_of_ms")?,
            reason: row.get("reason")?,
            inputs: from_json::<Value>(&row.get::<String>("inputs")?)?,
        },
        has_fired: row.get("has_fired")?,
        run_status: row.get::<Option<String>>("run_status")?.filter(|status| status != NO_RUN),
        decided_ms: row.get("decided_ms")?,
    })
}

pub async fn insert(tx: &mut Tx, trigger: &TriggerFired, has_fired: bool, now_ms: i64) -> Result<()> {
    let sql =
        "insert into decisions(id, monitor, as_of_ms, has_fired, pipeline, reason, inputs, run_status, decided_ms)
               values ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
    let run_status = (!has_fired || trigger.pipeline.is_empty()).then_some(NO_RUN);
    let args = args![
        &trigger.id,
        &trigger.monitor,
        trigger.as_of_ms,
        has_fired,
        &trigger.pipeline,
        &trigger.reason,
        to_json(&trigger.inputs)?,
        run_status,
        now_ms
    ];
    tx.execute(sql, args).await.map(drop)
}

/// Notes how the run of a trigger ended; `false` when it is none of ours, or had ended before.
pub async fn finish(tx: &mut Tx, trigger_id: &str, status: &str) -> Result<bool> {
    let sql = "update decisions set run_status = $2 where id = $1 and run_status is null";
    Ok(tx.execute(sql, args![trigger_id, status]).await? == 1)
}

pub async fn earlier(db: &Db, monitor: &str) -> Result<Earlier> {
    let newest = "select as_of_ms from decisions where monitor = $1 and has_fired = 1 order by as_of_ms desc limit 1";
    let setback = "select as_of_ms from decisions where monitor = $1 and has_fired = 1
                   and run_status in ('rejected', 'failed') order by as_of_ms desc limit 1";
    let running = "select 1 as one from decisions where monitor = $1 and has_fired = 1 and run_status is null limit 1";
    let time = |row: Option<Row>| row.map(|row| row.get::<i64>("as_of_ms")).transpose();
    Ok(Earlier {
        last_trigger_ms: time(db.query_opt(newest, args![monitor]).await?)?,
        last_setback_ms: time(db.query_opt(setback, args![monitor]).await?)?,
        is_run_open: db.query_opt(running, args![monitor]).await?.is_some(),
    })
}

/// Newest first.
pub async fn list(db: &Db, monitor: &str, limit: usize) -> Result<Vec<DecisionRow>> {
    let sql = "select * from decisions where monitor = $1 order by as_of_ms desc limit $2";
    db.query(sql, args![monitor, limit]).await?.iter().map(decision_of).collect()
}

pub async fn newest_fired(db: &Db, monitor: &str) -> Result<Option<TriggerFired>> {
    let sql = "select * from decisions where monitor = $1 and has_fired = 1 order by as_of_ms desc limit 1";
    let row = db.query_opt(sql, args![monitor]).await?;
    Ok(row.as_ref().map(decision_of).transpose()?.map(|decision| decision.trigger))
}

pub async fn count_fired(db: &Db, monitor: &str) -> Result<u64> {
    let sql = "select count(*) as n from decisions where monitor = $1 and has_fired = 1";
    let row = db.query_opt(sql, args![monitor]).await?;
    row.map_or(Ok(0), |row| Ok(row.get::<i64>("n")? as u64))
}
