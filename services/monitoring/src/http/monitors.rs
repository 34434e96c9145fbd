//! Monitors and their watermark.

use axum::extract::{Path, State as Extract};
use fishy_contracts::List;
use fishy_contracts::monitoring::{MonitorSpec, MonitorStatus, Watermark};
use fishy_http::{Caller, Failure, Json};

use super::{Name, State};

/// `PUT /api/v1/monitors/{name}`
pub async fn apply(
    Extract(monitoring): State,
    Path(name): Name,
    Caller(caller): Caller,
    Json(spec): Json<MonitorSpec>,
) -> Result<Json<MonitorStatus>, Failure> {
    Ok(Json(monitoring.apply(&name, spec, &caller).await?))
}

/// `GET /api/v1/monitors/{name}`
pub async fn status(Extract(monitoring): State, Path(name): Name) -> Result<Json<MonitorStatus>, Failure> {
    Ok(Json(monitoring.status(&name).await?))
}

/// `GET /api/v1/monitors`
pub async fn list(Extract(monitoring): State) -> Result<Json<List<MonitorStatus>>, Failure> {
    Ok(Json(monitoring.list().await?))
}

/// `POST /api/v1/monitors/{name}/watermark`
pub async fn watermark(
    Extract(monitoring): State,
    Path(name): Name,
    Json(watermark): Json<Watermark>,
) -> Result<Json<MonitorStatus>, Failure> {
    Ok(Json(monitoring.set_watermark(&name, watermark.time_ms).await?))
}
