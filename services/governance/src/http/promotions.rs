//! `/api/v1/promotions`

use axum::extract::Path;
use fishy_contracts::List;
use fishy_contracts::governance::{AliasCheck, Approval, Promotion, PromotionRequest};
use fishy_http::{Caller, Failure, Json, Query};
use serde::Deserialize;

use super::State;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ByModel {
    model: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    model: String,
    alias: String,
    version: String,
}

pub async fn request(
    axum::extract::State(governance): State,
    Caller(caller): Caller,
    Json(request): Json<PromotionRequest>,
) -> Result<Json<Promotion>, Failure> {
    Ok(Json(governance.request_promotion(request, &caller).await?))
}

pub async fn list(
    axum::extract::State(governance): State,
    Query(query): Query<ByModel>,
) -> Result<Json<List<Promotion>>, Failure> {
    Ok(Json(List { items: governance.promotions(&query.model).await?, next_page_token: None }))
}

pub async fn check(
    axum::extract::State(governance): State,
    Query(target): Query<Target>,
) -> Result<Json<AliasCheck>, Failure> {
    Ok(Json(governance.check_alias(&target.model, &target.alias, &target.version).await?))
}

pub async fn get(axum::extract::State(governance): State, Path(id): Path<String>) -> Result<Json<Promotion>, Failure> {
    Ok(Json(governance.promotion(&id).await?))
}

pub async fn approve(
    axum::extract::State(governance): State,
    Path(id): Path<String>,
    Caller(caller): Caller,
    Json(approval): Json<Approval>,
) -> Result<Json<Promotion>, Failure> {
    Ok(Json(governance.approve(&id, &approval, &caller).await?))
}
