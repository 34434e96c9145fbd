//! What the service tells others.

use fishy_audit::{Entry, Outcome};
use fishy_contracts::deployment::{DeploymentSpec, Revision};
use fishy_contracts::events::{AUDIT_ENTRY, REVISION_ACTIVATED, RevisionActivated};
use fishy_core::{Env, Error, Event, Result, TraceContext};
use serde::Serialize;
use serde_json::Value;

/// The service's name, as others see it.
pub(crate) const SERVICE: &str = "deployment";

fn event(env: &Env, kind: &str, subject: &str, data: &impl Serialize) -> Result<Event> {
    let data =
        serde_json::to_value(data).map_err(|error| Error::internal("cannot write an event").with_source(error))?;
    Ok(Event::new(env.new_id(), SERVICE, kind, subject, env.now_ms(), data))
}

/// An audit entry as an event.
pub(crate) fn audit(
    env: &Env,
    actor: &str,
    action: &str,
    deployment: &str,
    outcome: Outcome,
    details: Value,
) -> Result<Event> {
    let entry = Entry {
        id: env.new_id(),
        time: fishy_core::time::rfc3339(env.now_ms()),
        service: SERVICE.to_owned(),
        actor: actor.to_owned(),
        action: action.to_owned(),
        resource: format!("deployments/{deployment}"),
        outcome,
        details,
        traceparent: TraceContext::current().map(|trace| trace.traceparent()),
    };
    event(env, AUDIT_ENTRY, &entry.resource, &entry)
}

/// A revision serves.
pub(crate) fn activated(env: &Env, spec: &DeploymentSpec, revision: &Revision) -> Result<Event> {
    let data = RevisionActivated {
        deployment: spec.name.clone(),
        revision: revision.number,
        model: revision.model.clone(),
        version: revision.version.clone(),
        digest: revision.digest.clone(),
        features: revision.features.clone(),
        tags: revision.tags.clone(),
    };
    event(env, REVISION_ACTIVATED, &format!("deployments/{}", spec.name), &data)
}
