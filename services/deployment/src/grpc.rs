//! The Open Inference Protocol over gRPC, with health and reflection, on the port of HTTP. Every method is a route of its
//! own: what stands before a route of HTTP stands before it.

mod contents;
mod health;
mod infer;
mod messages;
mod models;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::Uri;
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use fishy_core::{Error, Result};
use fishy_http::{ErrorForm, Guard, Routes};
use tonic::codegen::Service as _;
use tonic_reflection::server::Builder;

use crate::events::SERVICE;
use crate::service::Service;

const READ: &str = "deployment:read";
const WRITE: &str = "deployment:write";
const PREDICT: &str = "deployment:predict";

pub(crate) fn router(service: Arc<Service>, guard: &Guard) -> Result<Router> {
    let methods = Routes::new(SERVICE, ErrorForm::Grpc, guard)
        .post("/inference.GRPCInferenceService/ServerLive", READ, models::live)
        .post("/inference.GRPCInferenceService/ServerReady", READ, models::ready)
        .post("/inference.GRPCInferenceService/ServerMetadata", READ, models::server_metadata)
        .call("/inference.GRPCInferenceService/ModelReady", READ, models::model_ready)
        .call("/inference.GRPCInferenceService/ModelMetadata", READ, models::metadata)
        .call("/inference.GRPCInferenceService/ModelConfig", READ, models::config)
        .call("/inference.GRPCInferenceService/ModelStatistics", READ, models::statistics)
        .call("/inference.GRPCInferenceService/ModelInfer", PREDICT, infer::infer)
        .post("/inference.GRPCInferenceService/RepositoryIndex", READ, models::index)
        .call("/inference.GRPCInferenceService/RepositoryModelLoad", WRITE, models::load)
        .call("/inference.GRPCInferenceService/RepositoryModelUnload", WRITE, models::unload)
        .call("/grpc.health.v1.Health/Check", READ, health::check)
        .finish();
    let (v1, v1alpha) = (reflection().build_v1(), reflection().build_v1alpha());
    let broken = |error| Error::internal("the description of the gRPC services").with_source(error);
    let (v1, v1alpha) = (v1.map_err(broken)?, v1alpha.map_err(broken)?);
    let streams = Routes::new(SERVICE, ErrorForm::Grpc, guard)
        .streaming()
        .call("/inference.GRPCInferenceService/ModelStreamInfer", PREDICT, infer::stream)
        .post("/grpc.health.v1.Health/Watch", READ, health::watch)
        .post("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", READ, move |request: Request| {
            let mut service = v1.clone();
            async move { service.call(request).await.map(|answer| answer.map(Body::new)).into_response() }
        })
        .post("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", READ, move |request: Request| {
            let mut service = v1alpha.clone();
            async move { service.call(request).await.map(|answer| answer.map(Body::new)).into_response() }
        })
        .finish();
    let unknown = Router::new()
        .route("/inference.GRPCInferenceService/{*method}", any(unknown))
        .route("/grpc.health.v1.Health/{*method}", any(unknown));
    Ok(methods.merge(streams).merge(unknown).with_state(service))
}

fn reflection() -> Builder<'static> {
    Builder::configure().register_encoded_file_descriptor_set(messages::DESCRIPTION)
}

async fn unknown(uri: Uri) -> Response {
    fishy_http::grpc::unimplemented(&format!("there is no method {}", uri.path()))
}
