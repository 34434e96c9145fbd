//! `GET /api/v1/monitors/{name}/overview`: what a span looks like.

use axum::extract::{Path, State as Extract};
use fishy_contracts::monitoring::Overview;
use fishy_http::{Failure, Json, Query};
use serde::Deserialize;

use super::{Name, State};

/// Which span.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Span {
    from_ms: i64,
    to_ms: i64,
}

/// The overview.
pub async fn overview(
    Extract(monitoring): State,
    Path(name): Name,
    Query(span): Query<Span>,
) -> Result<Json<Overview>, Failure> {
    Ok(Json(monitoring.overview(&name, span.from_ms, span.to_ms).await?))
}
