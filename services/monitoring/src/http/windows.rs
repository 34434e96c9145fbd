//! Windows, data faults and decisions.

use axum::extract::{Path, State as Extract};
use fishy_contracts::List;
use fishy_contracts::monitoring::{DataFault, Window};
use fishy_http::{Failure, Json, Query};
use serde::Deserialize;
use serde_json::Value;

use super::{Name, State};

/// Which windows are asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowQuery {
    #[serde(default = "day")]
    length: String,
    #[serde(default)]
    from_ms: i64,
    #[serde(default = "end")]
    to_ms: i64,
}

fn day() -> String {
    "day".to_owned()
}

const fn end() -> i64 {
    i64::MAX
}

/// Which data faults are asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultQuery {
    #[serde(default)]
    is_open: bool,
}

/// `GET /api/v1/monitors/{name}/windows`
pub async fn list(
    Extract(monitoring): State,
    Path(name): Name,
    Query(query): Query<WindowQuery>,
) -> Result<Json<List<Window>>, Failure> {
    Ok(Json(monitoring.windows(&name, &query.length, query.from_ms, query.to_ms).await?))
}

/// `GET /api/v1/monitors/{name}/faults`
pub async fn faults(
    Extract(monitoring): State,
    Path(name): Name,
    Query(query): Query<FaultQuery>,
) -> Result<Json<List<DataFault>>, Failure> {
    Ok(Json(monitoring.faults(&name, query.is_open).await?))
}

/// `GET /api/v1/monitors/{name}/triggers`
pub async fn triggers(Extract(monitoring): State, Path(name): Name) -> Result<Json<List<Value>>, Failure> {
    Ok(Json(monitoring.triggers(&name).await?))
}
