//! True values and labelled history.

use std::collections::{HashMap, HashSet};

use fishy_contracts::monitoring::Observation;
use fishy_core::Result;
use fishy_db::{Tx, args};

use super::predictions::Found;
use super::{id_chunks, to_json};
use crate::domain::truth::{Changes, Truth};

/// Whether there are true values whose predictions have not come yet.
pub async fn is_any_waiting(tx: &mut Tx) -> Result<bool> {
    let sql = "select 1 as one from ground_truth where is_joined = 0 limit 1";
    Ok(tx.query_opt(sql, args![]).await?.is_some())
}

/// The true values of these predictions, as far as they are known.
pub async fn known(tx: &mut Tx, ids: impl IntoIterator<Item = &str>) -> Result<HashMap<String, Truth>> {
    let mut known = HashMap::new();
    for (places, args) in id_chunks(ids, 1) {
        let sql =
            format!("select prediction_id, value, arrived_ms from ground_truth where prediction_id in ({places})");
        for row in tx.query(&sql, args).await? {
            let truth = Truth { value: row.get("value")?, arrived_ms: row.get("arrived_ms")? };
            known.insert(row.get("prediction_id")?, truth);
        }
    }
    Ok(known)
}

/// Writes the new and corrected values, each with what is known of its prediction, and what they replaced.
pub async fn write(
    tx: &mut Tx,
    changes: &Changes,
    found: &HashMap<String, Found>,
    actor: &str,
    now_ms: i64,
) -> Result<()> {
    let replaced = changes.replaced.iter().map(|(id, truth)| args![id, truth.value, truth.arrived_ms, actor, now_ms]);
    let into = "insert into ground_truth_history(prediction_id, value, arrived_ms, actor, replaced_ms)";
    tx.bulk(into, "", replaced).await?;
    let corrected: HashSet<&str> = changes.replaced.iter().map(|(id, _)| id.as_str()).collect();
    let row = |(id, truth): (&String, &Truth)| {
        let found = found.get(id);
        args![
            id,
            truth.value,
            truth.arrived_ms,
            now_ms,
            actor,
            found.is_some(),
            found.map(|found| found.deployment.as_str()),
            found.map(|found| found.version.as_str()),
            found.map(|found| found.time_ms),
            found.and_then(|found| found.output),
            corrected.contains(id.as_str())
        ]
    };
    let into = "insert into ground_truth(prediction_id, value, arrived_ms, received_ms, actor, is_joined, deployment, \
                version, time_ms, output, is_corrected)";
    // Written again is only what is corrected.
    let suffix = "on conflict (prediction_id) do update set value = excluded.value, arrived_ms = excluded.arrived_ms, \
                  received_ms = excluded.received_ms, actor = excluded.actor, is_corrected = excluded.is_corrected";
    tx.bulk(into, suffix, changes.writes.iter().map(row)).await.map(drop)
}

/// Notes that the predictions of these values are there now.
pub async fn set_joined(tx: &mut Tx, ids: impl IntoIterator<Item = &str>) -> Result<()> {
    for (places, args) in id_chunks(ids, 1) {
        let sql = format!(
            "update ground_truth set is_joined = 1, deployment = p.deployment, version = p.version,
               time_ms = p.time_ms, output = p.output
             from predictions p
             where p.prediction_id = ground_truth.prediction_id and ground_truth.prediction_id in ({places})
               and p.prediction_id in ({places})"
        );
        tx.execute(&sql, args).await?;
    }
    Ok(())
}

/// Takes labelled history; gives how many rows were new.
pub async fn insert_observations(tx: &mut Tx, monitor: &str, items: &[Observation]) -> Result<u64> {
    let mut rows = Vec::with_capacity(items.len());
    for item in items {
        let labels = if item.labels.is_empty() { String::new() } else { to_json(&item.labels)? };
        rows.push(args![monitor, &item.id, item.time_ms, item.arrived_ms, to_json(&item.inputs)?, labels, item.value]);
    }
    let into = "insert into observations(monitor, id, time_ms, arrived_ms, inputs, labels, value)";
    tx.bulk(into, "on conflict (monitor, id) do nothing", rows).await
}
