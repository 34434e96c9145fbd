use std::sync::Arc;

use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_ENCODING;
use axum::http::request::Parts;
use bytes::Bytes;
use fishy_core::Error;
use fishy_http::Failure;
use serde::de::DeserializeOwned;

use super::encoding::unpack;
use crate::service::Service;

/// The parameters of the path.
pub(crate) struct Path<T>(pub(crate) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let path = axum::extract::Path::<T>::from_request_parts(parts, state).await;
        path.map(|axum::extract::Path(value)| Self(value))
            .map_err(|rejection| Error::invalid(format!("path: {}", rejection.body_text())).into())
    }
}

/// The whole body without its content encoding, within the configured bound.
pub(crate) struct Body(pub(crate) Bytes);

impl FromRequest<Arc<Service>> for Body {
    type Rejection = Failure;

    async fn from_request(request: Request, service: &Arc<Service>) -> Result<Self, Failure> {
        let encoding = request.headers().get(CONTENT_ENCODING).cloned();
        let body =
            Bytes::from_request(request, service).await.map_err(|rejection| match rejection.status().as_u16() {
                413 => Error::exhausted("the request body is larger than server.max_body_bytes allows"),
                _ => Error::invalid(format!("request body: {rejection}")),
            })?;
        let Some(encoding) = encoding else { return Ok(Self(body)) };
        let headers = HeaderMap::from_iter([(CONTENT_ENCODING, encoding)]);
        Ok(Self(unpack(&headers, body, service.max_body_bytes).await?))
    }
}
