//! True values and labelled history.

use axum::extract::{Path, State as Extract};
use fishy_contracts::List;
use fishy_contracts::monitoring::{GroundTruth, GroundTruthReceipt, Observations, Opinion, OpinionQuery, Opinions};
use fishy_http::{Caller, Failure, Json, Query};

use super::{Name, State};

/// `POST /api/v1/feedback/ground-truth`
pub async fn ground_truth(
    Extract(monitoring): State,
    Caller(caller): Caller,
    Json(truth): Json<GroundTruth>,
) -> Result<Json<GroundTruthReceipt>, Failure> {
    Ok(Json(monitoring.ground_truth(&truth, &caller.to_string()).await?))
}

/// `POST /api/v1/feedback`
pub async fn give_opinions(
    Extract(monitoring): State,
    Caller(caller): Caller,
    Json(opinions): Json<Opinions>,
) -> Result<Json<GroundTruthReceipt>, Failure> {
    Ok(Json(monitoring.give_opinions(opinions, &caller).await?))
}

/// `GET /api/v1/feedback`
pub async fn opinions(
    Extract(monitoring): State,
    Query(query): Query<OpinionQuery>,
) -> Result<Json<List<Opinion>>, Failure> {
    Ok(Json(monitoring.opinions(&query).await?))
}

/// `POST /api/v1/monitors/{name}/observations`
pub async fn observations(
    Extract(monitoring): State,
    Path(name): Name,
    Json(observations): Json<Observations>,
) -> Result<Json<GroundTruthReceipt>, Failure> {
    Ok(Json(monitoring.observations(&name, &observations).await?))
}
