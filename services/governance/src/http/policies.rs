//! `/api/v1/policies/bundle`

use fishy_contracts::governance::PolicyBundle;
use fishy_http::{Caller, Failure, Json};
use serde::Deserialize;

use super::State;

/// New access policies: Cedar text.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewPolicies {
    policies: String,
}

pub async fn get(axum::extract::State(governance): State) -> Json<PolicyBundle> {
    Json(governance.bundle())
}

pub async fn put(
    axum::extract::State(governance): State,
    Caller(caller): Caller,
    Json(new): Json<NewPolicies>,
) -> Result<Json<PolicyBundle>, Failure> {
    Ok(Json(governance.replace_policies(&new.policies, &caller).await?))
}
