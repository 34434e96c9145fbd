use axum::extract::{Path, State};
use fishy_contracts::List;
use fishy_contracts::pipelines::PipelineSpec;
use fishy_core::Error;
use fishy_http::{Caller, Failure, Json, Query};

use super::{Page, Shared};

/// `PUT /api/v1/pipelines/{name}`
pub async fn apply(
    State(service): Shared,
    Path(name): Path<String>,
    Caller(caller): Caller,
    Json(spec): Json<PipelineSpec>,
) -> Result<Json<PipelineSpec>, Failure> {
    if spec.name != name {
        return Err(Error::invalid(format!("the path names pipeline {name:?}, the body {:?}", spec.name)).into());
    }
    Ok(Json(service.apply(spec, &caller.to_string()).await?))
}

/// `GET /api/v1/pipelines/{name}`
pub async fn get(State(service): Shared, Path(name): Path<String>) -> Result<Json<PipelineSpec>, Failure> {
    Ok(Json(service.pipeline(&name).await?.spec))
}

/// `GET /api/v1/pipelines`
pub async fn list(State(service): Shared, Query(page): Query<Page>) -> Result<Json<List<PipelineSpec>>, Failure> {
    let limit = page.limit();
    Ok(Json(service.pipelines(&page.page_token.unwrap_or_default(), limit).await?))
}
