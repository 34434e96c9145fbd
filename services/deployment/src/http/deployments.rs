//! `/api/v1/deployments`: our own resources.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use fishy_contracts::List;
use fishy_contracts::deployment::{
    Deployment, DeploymentSpec, EngineSettings, PromoteRequest, ReplayReport, ReplayRequest, Revision, TrafficReport,
    TrafficSpec,
};
use fishy_core::Error;
use fishy_http::{Caller, ErrorForm, Failure, Guard, Json, Routes};

use super::extract::Path;
use crate::events::SERVICE;
use crate::service::Service;

type App = State<Arc<Service>>;

pub(super) fn routes(guard: &Guard) -> Router<Arc<Service>> {
    Routes::new(SERVICE, ErrorForm::Problem, guard)
        .get("/api/v1/deployments", "deployment:read", list)
        .get("/api/v1/deployments/{name}", "deployment:read", get)
        .put("/api/v1/deployments/{name}", "deployment:write", apply)
        .delete("/api/v1/deployments/{name}", "deployment:write", delete)
        .get("/api/v1/deployments/{name}/revisions", "deployment:read", revisions)
        .post("/api/v1/deployments/{name}/refresh", "deployment:write", refresh)
        .get("/api/v1/deployments/{name}/engine", "deployment:read", engine)
        .put("/api/v1/deployments/{name}/engine", "deployment:write", set_engine)
        .get("/api/v1/deployments/{name}/traffic", "deployment:read", traffic)
        .put("/api/v1/deployments/{name}/traffic", "deployment:write", set_traffic)
        .post("/api/v1/deployments/{name}/promote", "deployment:write", promote)
        .post("/api/v1/deployments/{name}/rollback", "deployment:write", rollback)
        .unhurried()
        .post("/api/v1/deployments/{name}/replay", "deployment:replay", replay)
        .finish()
}

async fn list(State(service): App) -> Result<Json<List<Deployment>>, Failure> {
    Ok(Json(List { items: service.list().await?, next_page_token: None }))
}

async fn get(State(service): App, Path(name): Path<String>) -> Result<Json<Deployment>, Failure> {
    Ok(Json(service.get(&name).await?))
}

async fn apply(
    State(service): App,
    Path(name): Path<String>,
    Caller(caller): Caller,
    Json(spec): Json<DeploymentSpec>,
) -> Result<Json<Deployment>, Failure> {
    if spec.name != name {
        let message = format!("the path names deployment {name:?} and the body {:?}: they must agree", spec.name);
        return Err(Error::invalid(message).into());
    }
    Ok(Json(service.apply(&caller.to_string(), &spec).await?))
}

async fn delete(State(service): App, Path(name): Path<String>, Caller(caller): Caller) -> Result<StatusCode, Failure> {
    service.delete(&caller.to_string(), &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn revisions(State(service): App, Path(name): Path<String>) -> Result<Json<List<Revision>>, Failure> {
    Ok(Json(List { items: service.revisions(&name).await?, next_page_token: None }))
}

async fn refresh(State(service): App, Path(name): Path<String>) -> Result<Json<Deployment>, Failure> {
    Ok(Json(service.refresh(&name).await?))
}

async fn engine(State(service): App, Path(name): Path<String>) -> Result<Json<EngineSettings>, Failure> {
    Ok(Json(service.engine_settings(&name).await?))
}

async fn set_engine(
    State(service): App,
    Path(name): Path<String>,
    Caller(caller): Caller,
    Json(settings): Json<EngineSettings>,
) -> Result<Json<EngineSettings>, Failure> {
    Ok(Json(service.set_engine(&caller.to_string(), &name, settings).await?))
}

async fn traffic(State(service): App, Path(name): Path<String>) -> Result<Json<TrafficReport>, Failure> {
    Ok(Json(service.traffic_report(&name).await?))
}

async fn set_traffic(
    State(service): App,
    Path(name): Path<String>,
    Caller(caller): Caller,
    Json(spec): Json<TrafficSpec>,
) -> Result<Json<TrafficReport>, Failure> {
    Ok(Json(service.set_traffic(&caller.to_string(), &name, spec).await?))
}

async fn promote(
    State(service): App,
    Path(name): Path<String>,
    Caller(caller): Caller,
    Json(request): Json<PromoteRequest>,
) -> Result<Json<Deployment>, Failure> {
    Ok(Json(service.promote(&caller.to_string(), &name, &request.version).await?))
}

async fn rollback(
    State(service): App,
    Path(name): Path<String>,
    Caller(caller): Caller,
) -> Result<Json<Deployment>, Failure> {
    Ok(Json(service.rollback(&caller.to_string(), &name).await?))
}

async fn replay(
    State(service): App,
    Path(name): Path<String>,
    Caller(caller): Caller,
    Json(request): Json<ReplayRequest>,
) -> Result<Json<ReplayReport>, Failure> {
    Ok(Json(service.replay(&caller.to_string(), &name, request).await?))
}
