//! Explanations and replays.

use axum::extract::{Path, State as Extract};
use fishy_contracts::monitoring::{Explanation, Replay};
use fishy_http::{Failure, Json, Query};
use serde::Deserialize;

use super::{Name, State};

/// Which windows are computed again.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplayQuery {
    from_ms: i64,
    to_ms: i64,
}

/// `GET /api/v1/monitors/{name}/explanation`
pub async fn explain(Extract(monitoring): State, Path(name): Name) -> Result<Json<Explanation>, Failure> {
    Ok(Json(monitoring.explain(&name).await?))
}

/// `GET /api/v1/monitors/{name}/replay`
pub async fn replay(
    Extract(monitoring): State,
    Path(name): Name,
    Query(query): Query<ReplayQuery>,
) -> Result<Json<Replay>, Failure> {
    Ok(Json(monitoring.replay(&name, query.from_ms, query.to_ms).await?))
}
