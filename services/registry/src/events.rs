//! What the registry tells others: each in the transaction of the change.

use fishy_audit::{Entry, Outcome};
use fishy_contracts::events::{ALIAS_MOVED, AUDIT_ENTRY, AliasMoved};
use fishy_core::{Error, Event, Result, TraceContext, time};
use fishy_db::Tx;
use serde_json::Value;

use crate::SERVICE;
use crate::domain::workspace::DEFAULT;
use crate::service::Registry;
use crate::store::aliases::{self, Move};

fn data(value: &impl serde::Serialize) -> Result<Value> {
    serde_json::to_value(value).map_err(|error| Error::internal("an event cannot be written").with_source(error))
}

/// An alias was set or deleted: kept in its history and told to everybody.
pub(crate) async fn alias_moved(tx: &mut Tx, at: &Registry, moved: Move<'_>) -> Result<()> {
    let now_ms = at.env.now_ms();
    aliases::remember(tx, moved, now_ms).await?;
    let event = AliasMoved {
        model: at.known_as(moved.name),
        alias: moved.alias.to_owned(),
        from: moved.from.map(|version| version.to_string()),
        to: moved.to.map(|version| version.to_string()),
        actor: moved.by.actor.to_owned(),
    };
    let subject = format!("{}@{}", event.model, moved.alias);
    tx.emit(&Event::new(at.env.new_id(), SERVICE, ALIAS_MOVED, &subject, now_ms, data(&event)?)).await
}

/// Something was changed. The entry names the workspace in front of `resource`.
pub(crate) async fn audit(
    tx: &mut Tx,
    at: &Registry,
    actor: &str,
    action: &str,
    resource: &str,
    details: Value,
) -> Result<()> {
    entry(tx, at, actor, action, resource, (Outcome::Done, details)).await
}

/// Something was refused.
pub(crate) async fn audit_denied(
    tx: &mut Tx,
    at: &Registry,
    actor: &str,
    action: &str,
    resource: &str,
    details: Value,
) -> Result<()> {
    entry(tx, at, actor, action, resource, (Outcome::Denied, details)).await
}

async fn entry(
    tx: &mut Tx,
    at: &Registry,
    actor: &str,
    action: &str,
    resource: &str,
    (outcome, details): (Outcome, Value),
) -> Result<()> {
    let now_ms = at.env.now_ms();
    let workspace = if at.workspace == DEFAULT { String::new() } else { format!("workspaces/{}/", at.workspace) };
    let resource = format!("{workspace}{resource}");
    let entry = Entry {
        id: at.env.new_id(),
        time: time::rfc3339(now_ms),
        service: SERVICE.to_owned(),
        actor: actor.to_owned(),
        action: action.to_owned(),
        resource: resource.clone(),
        outcome,
        details,
        traceparent: TraceContext::current().map(|trace| trace.traceparent()),
    };
    tx.emit(&Event::new(entry.id.clone(), SERVICE, AUDIT_ENTRY, &resource, now_ms, data(&entry)?)).await
}
