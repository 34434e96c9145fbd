//! `grpc.health.v1`: the whole server, the inference service, or a deployment by name.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::Response;
use fishy_core::{Error, Result};
use fishy_http::grpc;
use futures::stream::unfold;

use super::messages::{HealthCheckRequest, HealthCheckResponse, ServingStatus};
use crate::service::Service;

type App = State<Arc<Service>>;

/// How soon a watcher hears of a change.
const LOOK_EVERY: Duration = Duration::from_millis(500);

pub(super) async fn check(State(service): App, request: Request) -> Response {
    let limit = service.max_body_bytes;
    let answer = |asked: HealthCheckRequest| async move {
        match status(&service, &asked.service) {
            ServingStatus::ServiceUnknown => {
                Err(Error::not_found(format!("nothing here is called {:?}", asked.service)))
            }
            status => Ok(HealthCheckResponse { status: status.into() }),
        }
    };
    grpc::unary(request, limit, answer).await
}

pub(super) async fn watch(State(service): App, request: Request) -> Response {
    let limit = service.max_body_bytes;
    let answer = |asked: HealthCheckRequest| {
        unfold((service, asked.service, None), |(service, name, told)| async move {
            loop {
                let now = status(&service, &name);
                if told != Some(now) {
                    let answer: Result<_> = Ok(HealthCheckResponse { status: now.into() });
                    return Some((answer, (service, name, Some(now))));
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        })
    };
    grpc::server_streaming(request, limit, answer).await
}

fn status(service: &Service, name: &str) -> ServingStatus {
    let is_serving = match name {
        "" | "inference.GRPCInferenceService" => service.is_ready(),
        name => match (service.slot(name), service.graph(name)) {
            (Some(slot), _) => slot.is_available(),
            (None, Some(graph)) => service.graph_problem(&graph).is_none(),
            (None, None) => return ServingStatus::ServiceUnknown,
        },
    };
    if is_serving { ServingStatus::Serving } else { ServingStatus::NotServing }
}
