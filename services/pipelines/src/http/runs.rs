use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HeaderName};
use fishy_contracts::List;
use fishy_contracts::pipelines::{Run, StartRun};
use fishy_http::{Caller, Failure, Json, Query};

use super::{Page, Shared};

/// `POST /api/v1/pipelines/{name}/runs`
pub async fn start(
    State(service): Shared,
    Path(name): Path<String>,
    Caller(caller): Caller,
    Json(start): Json<StartRun>,
) -> Result<(StatusCode, Json<Run>), Failure> {
    Ok((StatusCode::CREATED, Json(service.start_run(&name, start, &caller.to_string()).await?)))
}

/// `GET /api/v1/pipelines/{name}/runs`
pub async fn list(
    State(service): Shared,
    Path(name): Path<String>,
    Query(page): Query<Page>,
) -> Result<Json<List<Run>>, Failure> {
    Ok(Json(service.runs(&name, page.page_token.as_deref(), page.limit()).await?))
}

/// `GET /api/v1/pipeline-runs/{id}`
pub async fn get(State(service): Shared, Path(id): Path<String>) -> Result<Json<Run>, Failure> {
    Ok(Json(service.run(&id).await?.run))
}

/// `GET /api/v1/pipeline-runs/by-trigger/{trigger}`
pub async fn by_trigger(State(service): Shared, Path(trigger): Path<String>) -> Result<Json<Run>, Failure> {
    Ok(Json(service.run_of_trigger(&trigger).await?))
}

/// `POST /api/v1/pipeline-runs/{id}/cancel`
pub async fn cancel(
    State(service): Shared,
    Path(id): Path<String>,
    Caller(caller): Caller,
) -> Result<Json<Run>, Failure> {
    Ok(Json(service.cancel(&id, &caller.to_string()).await?))
}

/// `GET /api/v1/pipeline-runs/{id}/steps/{step}/log`
pub async fn log(
    State(service): Shared,
    Path((id, step)): Path<(String, String)>,
) -> Result<([(HeaderName, &'static str); 1], Vec<u8>), Failure> {
    Ok(([(CONTENT_TYPE, "text/plain; charset=utf-8")], service.log(&id, &step).await?))
}
