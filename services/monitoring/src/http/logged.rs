//! What was asked and answered.

use axum::extract::State as Extract;
use fishy_contracts::monitoring::{LoggedPage, LoggedQuery};
use fishy_http::{Failure, Json, Query};

use super::State;

/// `GET /api/v1/predictions?deployment=&from_ms=&to_ms=&page_token=&limit=`
pub async fn logged(Extract(monitoring): State, Query(query): Query<LoggedQuery>) -> Result<Json<LoggedPage>, Failure> {
    Ok(Json(monitoring.logged(&query).await?))
}
