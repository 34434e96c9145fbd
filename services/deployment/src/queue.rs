//! Requests from queues of RabbitMQ. Each goes through the same door as one over HTTP: the same authorisation, limits, metrics
//! and errors.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::{HeaderName, HeaderValue, Method};
use bytes::Bytes;
use fishy_authz::Identity;
use fishy_bus::{Answer, Bus, QueuedRequest, RequestHandler, RequestQueues};
use fishy_config::RequestQueue;
use fishy_core::{Error, Result, check_name};
use fishy_http::{Call, ServiceClient, ServiceSlot};
use futures::FutureExt;

use crate::domain::check_prediction_id;
use crate::http::PREDICTION_ID;

/// A request waits at least so long for a model that is overloaded: `0` would make its queue of no use.
const MIN_PATIENCE_MS: u64 = 1_000;
/// The broker takes a message back that is not acknowledged within 30 minutes.
const MAX_PATIENCE_MS: u64 = 20 * 60_000;

/// Takes the requests of all queues whose deployments this process serves.
pub(crate) async fn serve(
    bus: &Bus,
    queues: BTreeMap<String, RequestQueue>,
    only: &HashSet<String>,
    router: &Router,
) -> Result<()> {
    let slot = ServiceSlot::default();
    slot.fill(router.clone());
    for (deployment, settings) in queues {
        if !only.is_empty() && !only.contains(&deployment) {
            continue;
        }
        let attached = serve_one(bus, &deployment, settings, &slot).await;
        attached.map_err(|error| error.context(format!("deployment.queues.{deployment}")))?;
    }
    Ok(())
}

async fn serve_one(bus: &Bus, deployment: &str, settings: RequestQueue, slot: &ServiceSlot) -> Result<()> {
    check_name("deployment", deployment)?;
    let RequestQueue { requests, results, dead, principal, roles, prefetch, patience_ms } = settings;
    if !(MIN_PATIENCE_MS..=MAX_PATIENCE_MS).contains(&patience_ms) {
        return Err(Error::invalid(format!(
            "patience_ms is {patience_ms}: it is from {MIN_PATIENCE_MS} to {MAX_PATIENCE_MS}"
        )));
    }
    let queues = RequestQueues {
        dead: if dead.is_empty() { format!("{requests}.dead") } else { dead },
        results: Some(results).filter(|name| !name.is_empty()),
        requests,
        prefetch,
        patience: Duration::from_millis(patience_ms),
    };
    let client = ServiceClient::local_as("deployment", slot, Identity::user(principal, roles));
    let path: Arc<str> = format!("/v2/models/{deployment}/infer").into();
    let handler: RequestHandler = Arc::new(move |request| {
        let (client, path) = (client.clone(), Arc::clone(&path));
        async move { ask(&client, &path, request).await }.boxed()
    });
    bus.serve(queues, handler).await
}

async fn ask(client: &ServiceClient, path: &str, request: QueuedRequest) -> Result<Answer> {
    let mut call = Call::new(Method::POST, path);
    // The same for each delivery of a message, so that an answer that comes twice can be told, and is recorded once.
    let id = request.message_id.filter(|id| check_prediction_id(id).is_ok());
    let id = id.unwrap_or_else(|| format!("queued-{}", request.fingerprint));
    let mut set = |name: HeaderName, value: Option<&str>| {
        if let Some(value) = value.and_then(|value| HeaderValue::from_str(value).ok()) {
            call.headers.insert(name, value);
        }
    };
    set(PREDICTION_ID, Some(&id));
    set(CONTENT_TYPE, Some(request.content_type.as_deref().unwrap_or("application/json")));
    set(CONTENT_ENCODING, request.content_encoding.as_deref());
    call.body = Body::from(request.body);
    let reply = client.send(call).await?;
    let status = reply.status.as_u16();
    let content_type = reply.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let content_type = content_type.unwrap_or("application/json").to_owned();
    if content_type == "application/octet-stream" {
        let body =
            serde_json::json!({"error": "answers in queues are JSON: leave out binary_data and binary_data_output"});
        let body = Bytes::from(body.to_string());
        return Ok(Answer { status: 400, content_type: "application/json".to_owned(), body });
    }
    Ok(Answer { status, content_type, body: reply.bytes().await? })
}
