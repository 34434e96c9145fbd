//! What the service says to others, and what it listens to.

use std::sync::Arc;

use fishy_audit::{Entry, Outcome};
use fishy_bus::Bus;
use fishy_contracts::events::{AUDIT_ENTRY, RUN_FINISHED, RunFinished, TRIGGER_FIRED, TriggerFired};
use fishy_contracts::pipelines::RunStatus;
use fishy_core::{Env, Error, Event, Result, TraceContext};
use serde::Serialize;
use serde_json::{Value, json};

use crate::service::Service;
use crate::store::StoredRun;

const SERVICE: &str = "pipelines";

/// Listens to the triggers of monitoring.
pub async fn subscribe(bus: &Bus, service: &Arc<Service>) -> Result<()> {
    // The bus outlives the service in tests, and must not keep it alive.
    let service = Arc::downgrade(service);
    let handler = Arc::new(move |event: Event| {
        let service = service.clone();
        let handled: futures::future::BoxFuture<'static, Result<()>> = Box::pin(async move {
            let Some(service) = service.upgrade() else {
                return Err(Error::unavailable("the pipelines service has stopped"));
            };
            let trigger: TriggerFired = serde_json::from_value(event.data)
                .map_err(|error| Error::invalid(format!("event {} is no trigger: {error}", event.id)))?;
            service.handle_trigger(&event.id, trigger).await
        });
        handled
    });
    bus.subscribe("pipelines.triggers", &[TRIGGER_FIRED], handler).await
}

/// An entry for the audit trail.
pub fn audit(env: &Env, actor: &str, action: &str, resource: &str, outcome: Outcome, details: Value) -> Result<Event> {
    let now_ms = env.now_ms();
    let entry = Entry {
        id: env.new_id(),
        time: fishy_core::time::rfc3339(now_ms),
        service: SERVICE.to_owned(),
        actor: actor.to_owned(),
        action: action.to_owned(),
        resource: resource.to_owned(),
        outcome,
        details,
        traceparent: TraceContext::current().map(|trace| trace.traceparent()),
    };
    Ok(Event::new(env.new_id(), SERVICE, AUDIT_ENTRY, resource, now_ms, data(&entry)?))
}

/// The entry that a run began.
pub fn run_started(env: &Env, stored: &StoredRun) -> Result<Event> {
    let run = &stored.run;
    let details = json!({
        "as_of_ms": run.as_of_ms, "reason": run.reason, "trigger_id": run.trigger_id, "params": stored.params,
    });
    audit(env, &stored.actor, "pipelines:start", &resource(stored), Outcome::Done, details)
}

/// What is told when a run has ended.
pub fn run_finished(env: &Env, stored: &StoredRun, status: RunStatus, details: Value) -> Result<Vec<Event>> {
    let run = &stored.run;
    let outcome = match status {
        RunStatus::Succeeded => Outcome::Done,
        RunStatus::Rejected => Outcome::Denied,
        _ => Outcome::Failed,
    };
    let finished = RunFinished {
        run_id: run.id.clone(),
        pipeline: run.pipeline.clone(),
        trigger_id: run.trigger_id.clone(),
        status,
        as_of_ms: run.as_of_ms,
    };
    let event = Event::new(env.new_id(), SERVICE, RUN_FINISHED, &run.id, env.now_ms(), data(&finished)?);
    Ok(vec![event, audit(env, &stored.actor, "pipelines:run", &resource(stored), outcome, details)?])
}

fn resource(stored: &StoredRun) -> String {
    format!("pipelines/{}/runs/{}", stored.run.pipeline, stored.run.id)
}

fn data(value: &impl Serialize) -> Result<Value> {
    serde_json::to_value(value).map_err(|error| Error::internal("an event cannot be written").with_source(error))
}
