//! The messages of `proto/`, and which of them name a model.

use fishy_http::grpc::Named;

pub(crate) use health::{HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus};
pub(crate) use inference::*;

/// All services and messages, as reflection tells them.
pub(crate) const DESCRIPTION: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/services.bin"));

#[allow(clippy::all, clippy::pedantic, missing_docs, reason = "generated from the protocol's definition")]
mod inference {
    include!(concat!(env!("OUT_DIR"), "/inference.rs"));
}

#[allow(clippy::all, clippy::pedantic, missing_docs, reason = "generated from the protocol's definition")]
mod health {
    include!(concat!(env!("OUT_DIR"), "/grpc.health.v1.rs"));
}

macro_rules! named {
    ($($message:ty: $field:ident),* $(,)?) => {
        $(impl Named for $message {
            fn name(&self) -> &str {
                &self.$field
            }
        })*
    };
}

named!(
    ModelReadyRequest: name,
    ModelMetadataRequest: name,
    ModelConfigRequest: name,
    ModelStatisticsRequest: name,
    ModelInferRequest: model_name,
    HealthCheckRequest: service,
);

impl Named for ServerLiveRequest {}
impl Named for ServerReadyRequest {}
impl Named for ServerMetadataRequest {}
impl Named for RepositoryIndexRequest {}

impl Named for RepositoryModelLoadRequest {
    fn name(&self) -> &str {
        either(&self.model_name, &self.repository_name)
    }
}

impl Named for RepositoryModelUnloadRequest {
    fn name(&self) -> &str {
        either(&self.model_name, &self.repository_name)
    }
}

/// The model's name, in whichever of the two fields a client has put it.
fn either<'a>(model: &'a str, other: &'a str) -> &'a str {
    if model.is_empty() { other } else { model }
}
