//! `/api/v1/tokens`

use axum::extract::Path;
use fishy_contracts::governance::{NewToken, TokenHolder, TokenRequest};
use fishy_http::{Caller, Failure, Json};

use super::State;

pub async fn create(
    axum::extract::State(governance): State,
    Caller(caller): Caller,
    Json(request): Json<TokenRequest>,
) -> Result<Json<NewToken>, Failure> {
    Ok(Json(governance.create_token(&request, &caller).await?))
}

pub async fn holder(
    axum::extract::State(governance): State,
    Path(sha256): Path<String>,
) -> Result<Json<TokenHolder>, Failure> {
    Ok(Json(governance.token_holder(&sha256).await?))
}

pub async fn revoke(
    axum::extract::State(governance): State,
    Path(id): Path<String>,
    Caller(caller): Caller,
) -> Result<Json<()>, Failure> {
    Ok(Json(governance.revoke_token(&id, &caller).await?))
}
