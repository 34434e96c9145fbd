//! What monitoring speaks: our own API, errors as problem+json.

mod alerts;
mod checks;
mod dataset;
mod experts;
mod feedback;
mod logged;
mod looking_back;
mod monitors;
mod overview;
mod served;
mod windows;

use std::sync::Arc;

use fishy_http::{ErrorForm, Guard, Routes};

use crate::service::Monitoring;

pub(crate) type State = axum::extract::State<Arc<Monitoring>>;
pub(crate) type Name = axum::extract::Path<String>;

pub fn router(monitoring: Arc<Monitoring>, guard: &Guard) -> axum::Router {
    Routes::new("monitoring", ErrorForm::Problem, guard)
        .get("/api/v1/monitors", "monitoring:read", monitors::list)
        .put("/api/v1/monitors/{name}", "monitoring:write", monitors::apply)
        .get("/api/v1/monitors/{name}", "monitoring:read", monitors::status)
        .post("/api/v1/monitors/{name}/watermark", "monitoring:write", monitors::watermark)
        .get("/api/v1/monitors/{name}/windows", "monitoring:read", windows::list)
        .get("/api/v1/monitors/{name}/faults", "monitoring:read", windows::faults)
        .get("/api/v1/monitors/{name}/triggers", "monitoring:read", windows::triggers)
        .get("/api/v1/monitors/{name}/checks", "monitoring:read", checks::list)
        .get("/api/v1/monitors/{name}/alarms", "monitoring:read", checks::alarms)
        .get("/api/v1/monitors/{name}/explanation", "monitoring:read", looking_back::explain)
        .get("/api/v1/monitors/{name}/replay", "monitoring:read", looking_back::replay)
        .get("/api/v1/monitors/{name}/overview", "monitoring:read", overview::overview)
        .post("/api/v1/monitors/{name}/observations", "feedback:write", feedback::observations)
        .get("/api/v1/monitors/{name}/queue", "feedback:read", experts::list)
        .post("/api/v1/monitors/{name}/queue/leases", "feedback:write", experts::next)
        .post("/api/v1/monitors/{name}/queue/leases/{lease}/answer", "feedback:write", experts::answer)
        .post("/api/v1/monitors/{name}/queue/leases/{lease}/release", "feedback:write", experts::release)
        .get("/api/v1/monitors/{name}/agreement", "feedback:read", experts::agreement)
        .get("/api/v1/monitors/{name}/comparison", "feedback:read", experts::comparison)
        .get("/api/v1/alerts", "monitoring:read", alerts::list)
        .get("/api/v1/silences", "monitoring:read", alerts::silences)
        .post("/api/v1/silences", "monitoring:write", alerts::silence)
        .delete("/api/v1/silences/{id}", "monitoring:write", alerts::end_silence)
        .get("/api/v1/feedback", "feedback:read", feedback::opinions)
        .post("/api/v1/feedback", "feedback:write", feedback::give_opinions)
        .post("/api/v1/feedback/ground-truth", "feedback:ground_truth", feedback::ground_truth)
        .get("/api/v1/predictions", "monitoring:read", logged::logged)
        .get("/api/v1/predictions/served", "monitoring:read", served::served)
        .post("/api/v1/monitors/{name}/dataset", "monitoring:read", dataset::dataset)
        .finish()
        .with_state(monitoring)
}
