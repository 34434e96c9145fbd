//! `POST /api/v1/monitors/{name}/dataset`: labelled rows as JSON lines.

use axum::body::Body;
use axum::extract::{Path, State as Extract};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use fishy_contracts::monitoring::DatasetRequest;
use fishy_http::{Failure, Json};

use super::{Name, State};

/// The rows stream: the time limit of requests holds for the first of them.
pub async fn dataset(
    Extract(monitoring): State,
    Path(name): Name,
    Json(request): Json<DatasetRequest>,
) -> Result<Response, Failure> {
    let lines = monitoring.dataset(&name, request).await?;
    Ok(([(CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response())
}
