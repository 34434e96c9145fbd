//! The service's own API.

mod pipelines;
mod runs;

use std::sync::Arc;

use axum::Router;
use fishy_http::{ErrorForm, Guard, Routes};
use serde::Deserialize;

use crate::service::Service;

type Shared = axum::extract::State<Arc<Service>>;

/// All routes.
pub fn router(service: &Arc<Service>, guard: &Guard) -> Router {
    Routes::<Arc<Service>>::new("pipelines", ErrorForm::Problem, guard)
        .get("/api/v1/pipelines", "pipelines:read", pipelines::list)
        .get("/api/v1/pipelines/{name}", "pipelines:read", pipelines::get)
        .put("/api/v1/pipelines/{name}", "pipelines:write", pipelines::apply)
        .post("/api/v1/pipelines/{name}/runs", "pipelines:start", runs::start)
        .get("/api/v1/pipelines/{name}/runs", "pipelines:read", runs::list)
        .get("/api/v1/pipeline-runs/by-trigger/{trigger}", "pipelines:read", runs::by_trigger)
        .get("/api/v1/pipeline-runs/{id}", "pipelines:read", runs::get)
        .post("/api/v1/pipeline-runs/{id}/cancel", "pipelines:start", runs::cancel)
        .get("/api/v1/pipeline-runs/{id}/steps/{step}/log", "pipelines:read", runs::log)
        .finish()
        .with_state(service.clone())
}

/// Which page of a list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    #[serde(default)]
    page_token: Option<String>,
    #[serde(default = "a_hundred")]
    limit: usize,
}

impl Page {
    fn limit(&self) -> usize {
        self.limit.clamp(1, 100)
    }
}

const fn a_hundred() -> usize {
    100
}
