//! Alerts and silences.

use axum::extract::{Path, State as Extract};
use fishy_contracts::List;
use fishy_contracts::monitoring::{Alert, Silence, SilenceRequest};
use fishy_http::{Caller, Failure, Json, Query};
use serde::Deserialize;

use super::{Name, State};

/// Which alerts are asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlertQuery {
    #[serde(default)]
    is_open: bool,
}

/// `GET /api/v1/alerts`
pub async fn list(Extract(monitoring): State, Query(query): Query<AlertQuery>) -> Result<Json<List<Alert>>, Failure> {
    Ok(Json(monitoring.alerts(query.is_open).await?))
}

/// `GET /api/v1/silences`
pub async fn silences(Extract(monitoring): State) -> Result<Json<List<Silence>>, Failure> {
    Ok(Json(monitoring.silences().await?))
}

/// `POST /api/v1/silences`
pub async fn silence(
    Extract(monitoring): State,
    Caller(caller): Caller,
    Json(request): Json<SilenceRequest>,
) -> Result<Json<Silence>, Failure> {
    Ok(Json(monitoring.silence(request, &caller).await?))
}

/// `DELETE /api/v1/silences/{id}`
pub async fn end_silence(
    Extract(monitoring): State,
    Path(id): Name,
    Caller(caller): Caller,
) -> Result<Json<Silence>, Failure> {
    Ok(Json(monitoring.end_silence(&id, &caller).await?))
}
