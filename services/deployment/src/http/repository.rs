//! `/v2/repository`: which models are there, loading and unloading them.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use fishy_core::Error;
use fishy_http::{Caller, Failure};
use serde::Deserialize;

use super::extract::{Body, Path};
use super::tensors::to_json;
use crate::service::Service;

type App = State<Arc<Service>>;

#[derive(Deserialize, Default)]
struct IndexRequest {
    #[serde(default)]
    ready: bool,
}

/// The body is optional, as clients send none.
pub(super) async fn index(State(service): App, Body(body): Body) -> Result<Response, Failure> {
    let request: IndexRequest = match body.trim_ascii() {
        b"" => IndexRequest::default(),
        body => serde_json::from_slice(body).map_err(|error| Error::invalid(format!("request body: {error}")))?,
    };
    Ok(([(CONTENT_TYPE, "application/json")], to_json(&service.index(request.ready))?).into_response())
}

pub(super) async fn load(
    State(service): App,
    Path(model): Path<String>,
    Caller(caller): Caller,
) -> Result<Response, Failure> {
    service.load(&caller.to_string(), &model).await?;
    Ok(([(CONTENT_TYPE, "application/json")], "{}").into_response())
}

pub(super) async fn unload(
    State(service): App,
    Path(model): Path<String>,
    Caller(caller): Caller,
) -> Result<Response, Failure> {
    service.unload(&caller.to_string(), &model).await?;
    Ok(([(CONTENT_TYPE, "application/json")], "{}").into_response())
}
