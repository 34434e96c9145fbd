//! What governance speaks: our own API, errors as problem+json.

mod audit;
mod policies;
mod promotions;
mod tokens;

use std::sync::Arc;

use fishy_http::{ErrorForm, Guard, Routes};

use crate::service::Governance;

pub(crate) type State = axum::extract::State<Arc<Governance>>;

pub fn router(governance: Arc<Governance>, guard: &Guard) -> axum::Router {
    let routes = Routes::new("governance", ErrorForm::Problem, guard)
        .post("/api/v1/promotions", "governance:decide", promotions::request)
        .get("/api/v1/promotions", "governance:read", promotions::list)
        .get("/api/v1/promotions/check", "governance:read", promotions::check)
        .get("/api/v1/promotions/{id}", "governance:read", promotions::get)
        .post("/api/v1/promotions/{id}/approval", "governance:approve", promotions::approve)
        .get("/api/v1/audit/entries", "audit:read", audit::entries)
        .get("/api/v1/audit/checkpoint", "audit:read", audit::checkpoint)
        .get("/api/v1/audit/summary", "audit:read", audit::summary)
        .get("/api/v1/policies/bundle", "governance:read", policies::get)
        .put("/api/v1/policies/bundle", "governance:write", policies::put)
        .post("/api/v1/tokens", "governance:write", tokens::create)
        .get("/api/v1/tokens/by-hash/{sha256}", "governance:read", tokens::holder)
        .delete("/api/v1/tokens/{id}", "governance:write", tokens::revoke)
        .finish();
    let streams = Routes::new("governance", ErrorForm::Problem, guard)
        .streaming()
        .get("/api/v1/audit/export", "audit:export", audit::export)
        .finish();
    routes.merge(streams).with_state(governance)
}
