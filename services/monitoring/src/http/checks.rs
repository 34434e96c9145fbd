//! Figures and alarms of the checks.

use axum::extract::{Path, State as Extract};
use fishy_contracts::List;
use fishy_contracts::monitoring::{Alarm, CheckWindow};
use fishy_http::{Failure, Json, Query};
use serde::Deserialize;

use super::{Name, State};

/// Which figures are asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckQuery {
    /// Of one check; of all if empty.
    #[serde(default)]
    check: String,
    #[serde(default)]
    from_ms: i64,
    #[serde(default = "end")]
    to_ms: i64,
}

const fn end() -> i64 {
    i64::MAX
}

/// Which alarms are asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlarmQuery {
    #[serde(default)]
    is_open: bool,
}

/// `GET /api/v1/monitors/{name}/checks`
pub async fn list(
    Extract(monitoring): State,
    Path(name): Name,
    Query(query): Query<CheckQuery>,
) -> Result<Json<List<CheckWindow>>, Failure> {
    Ok(Json(monitoring.checks(&name, &query.check, query.from_ms, query.to_ms).await?))
}

/// `GET /api/v1/monitors/{name}/alarms`
pub async fn alarms(
    Extract(monitoring): State,
    Path(name): Name,
    Query(query): Query<AlarmQuery>,
) -> Result<Json<List<Alarm>>, Failure> {
    Ok(Json(monitoring.alarms(&name, query.is_open).await?))
}
