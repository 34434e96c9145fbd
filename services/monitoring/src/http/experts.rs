//! The expert queue.

use axum::extract::{Path, State as Extract};
use fishy_contracts::List;
use fishy_contracts::monitoring::{
    Agreement, AgreementQuery, ComparedPair, QueueAnswer, QueueItem, QueueReceipt, QueueRelease, QueueRequest,
};
use fishy_http::{Caller, Failure, Json, Query};
use serde::Deserialize;

use super::{Name, State};

/// How many items are asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueueQuery {
    #[serde(default = "ten")]
    limit: u32,
}

const fn ten() -> u32 {
    10
}

/// `GET /api/v1/monitors/{name}/queue`
pub async fn list(
    Extract(monitoring): State,
    Caller(caller): Caller,
    Path(name): Name,
    Query(query): Query<QueueQuery>,
) -> Result<Json<List<QueueItem>>, Failure> {
    Ok(Json(monitoring.queue(&name, query.limit, &caller).await?))
}

/// `POST /api/v1/monitors/{name}/queue/leases`
pub async fn next(
    Extract(monitoring): State,
    Caller(caller): Caller,
    Path(name): Name,
    Json(request): Json<QueueRequest>,
) -> Result<Json<List<QueueItem>>, Failure> {
    Ok(Json(monitoring.next_items(&name, request, &caller).await?))
}

/// `POST /api/v1/monitors/{name}/queue/leases/{lease}/answer`
pub async fn answer(
    Extract(monitoring): State,
    Caller(caller): Caller,
    Path((name, lease)): Path<(String, String)>,
    Json(answer): Json<QueueAnswer>,
) -> Result<Json<QueueReceipt>, Failure> {
    Ok(Json(monitoring.answer_item(&name, &lease, answer, &caller).await?))
}

/// `POST /api/v1/monitors/{name}/queue/leases/{lease}/release`
pub async fn release(
    Extract(monitoring): State,
    Caller(caller): Caller,
    Path((name, lease)): Path<(String, String)>,
    Json(release): Json<QueueRelease>,
) -> Result<Json<QueueReceipt>, Failure> {
    Ok(Json(monitoring.release_item(&name, &lease, release, &caller).await?))
}

/// `GET /api/v1/monitors/{name}/agreement`
pub async fn agreement(
    Extract(monitoring): State,
    Path(name): Name,
    Query(query): Query<AgreementQuery>,
) -> Result<Json<Agreement>, Failure> {
    Ok(Json(monitoring.agreement(&name, query).await?))
}

/// `GET /api/v1/monitors/{name}/comparison`
pub async fn comparison(Extract(monitoring): State, Path(name): Name) -> Result<Json<List<ComparedPair>>, Failure> {
    Ok(Json(monitoring.compared_pairs(&name).await?))
}
