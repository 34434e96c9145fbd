//! What the service speaks: its own API, the Open Inference Protocol, and MLflow's scoring protocol.

mod deployments;
mod encoding;
mod explain;
mod extract;
mod graphs;
pub(crate) mod infer;
mod program;
mod repository;
mod scoring;
mod sinks;
mod tensors;
pub(crate) mod v2;

pub(crate) use scoring::PREDICTION_ID;

use std::sync::Arc;

use axum::Router;
use fishy_http::Guard;

use crate::service::Service;

pub(crate) fn router(service: Arc<Service>, guard: &Guard) -> Router {
    deployments::routes(guard)
        .merge(graphs::routes(guard))
        .merge(sinks::routes(guard))
        .merge(v2::routes(guard))
        .merge(scoring::routes(guard))
        .merge(program::routes(guard))
        .with_state(service)
}
