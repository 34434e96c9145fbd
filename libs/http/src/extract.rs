use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use fishy_authz::Identity;
use fishy_core::Error;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Failure;

/// Who asks; the routes' layer has put it there.
#[derive(Debug, Clone)]
pub struct Caller(pub Identity);

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        let identity = parts.extensions.get::<Identity>().cloned();
        identity.map(Self).ok_or_else(|| Error::internal("a route without its layer").into())
    }
}

/// A JSON body, in and out. A body that is no JSON, of another type, or too large is the caller's error.
#[derive(Debug, Clone, Copy)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        let content_type = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
        let is_json = content_type.is_empty() || content_type.starts_with("application/json");
        if !is_json {
            return Err(Error::invalid(format!("content type {content_type:?} is not application/json")).into());
        }
        let body = body_of(request, state).await?;
        let value = serde_json::from_slice(&body).map_err(|error| Error::invalid(format!("request body: {error}")))?;
        Ok(Self(value))
    }
}

/// The whole body within the configured bound.
async fn body_of<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, Failure> {
    Bytes::from_request(request, state).await.map_err(|rejection| {
        let error = match rejection.status().as_u16() {
            413 => Error::exhausted("the request body is larger than server.max_body_bytes allows"),
            _ => Error::invalid(format!("request body: {rejection}")),
        };
        error.into()
    })
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(body) => ([(CONTENT_TYPE, "application/json")], body).into_response(),
            Err(error) => Failure::from(Error::internal("cannot write the answer").with_source(error)).into_response(),
        }
    }
}

/// The query string.
#[derive(Debug, Clone, Copy)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        let query = axum::extract::Query::<T>::try_from_uri(&parts.uri);
        query
            .map(|axum::extract::Query(value)| Self(value))
            .map_err(|error| Error::invalid(format!("query string: {}", error.body_text())).into())
    }
}
