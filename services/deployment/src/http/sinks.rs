//! How the sinks of the prediction log stand in this process.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use fishy_contracts::List;
use fishy_contracts::deployment::SinkStatus;
use fishy_http::{ErrorForm, Failure, Guard, Json, Routes};

use crate::events::SERVICE;
use crate::export::SinkExport;
use crate::service::Service;

pub(super) fn routes(guard: &Guard) -> Router<Arc<Service>> {
    Routes::new(SERVICE, ErrorForm::Problem, guard).get("/api/v1/prediction-sinks", "deployment:read", list).finish()
}

async fn list(State(service): State<Arc<Service>>) -> Result<Json<List<SinkStatus>>, Failure> {
    Ok(Json(List { items: service.sinks.iter().map(SinkExport::status).collect(), next_page_token: None }))
}
