//! Inference graphs as resources; they are deleted as deployments are.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use fishy_contracts::List;
use fishy_contracts::deployment::{GraphDeployment, GraphNode};
use fishy_http::{Caller, ErrorForm, Failure, Guard, Json, Routes};

use super::extract::Path;
use crate::events::SERVICE;
use crate::service::Service;

type App = State<Arc<Service>>;

pub(super) fn routes(guard: &Guard) -> Router<Arc<Service>> {
    Routes::new(SERVICE, ErrorForm::Problem, guard)
        .get("/api/v1/graphs", "deployment:read", list)
        .get("/api/v1/deployments/{name}/graph", "deployment:read", get)
        .put("/api/v1/deployments/{name}/graph", "deployment:write", set)
        .finish()
}

async fn list(State(service): App) -> Result<Json<List<GraphDeployment>>, Failure> {
    Ok(Json(List { items: service.graph_deployments().await?, next_page_token: None }))
}

async fn get(State(service): App, Path(name): Path<String>) -> Result<Json<GraphDeployment>, Failure> {
    Ok(Json(service.graph_deployment(&name).await?))
}

async fn set(
    State(service): App,
    Path(name): Path<String>,
    Caller(caller): Caller,
    Json(graph): Json<GraphNode>,
) -> Result<Json<GraphDeployment>, Failure> {
    Ok(Json(service.set_graph(&caller.to_string(), &name, &graph).await?))
}
