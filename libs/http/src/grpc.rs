//! gRPC calls as routes: each method is a POST route with an action of its own, and passes the same layer as every other
//! route. Framing and compression are tonic's.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use fishy_authz::{Authorizer, Identity, Resource};
use fishy_core::{Error, ErrorCode, Result};
use futures::{Stream, StreamExt};
use prost::Message;
use tokio_util::sync::CancellationToken;
use tonic::codec::CompressionEncoding;
use tonic::server::Grpc;
use tonic::{Code, Status};
use tonic_prost::ProstCodec;

use crate::Failure;

/// When the caller of a gRPC method stops waiting (its `grpc-timeout`); an extension of the request.
#[derive(Debug, Clone, Copy)]
pub struct Deadline(pub Instant);

/// Cancelled when the process takes no new requests; an extension of the request. A call that would go on for as long as
/// its caller likes ends then.
#[derive(Debug, Clone, Default)]
pub struct Draining(pub CancellationToken);

/// What a caller may do is decided for each message, where only the message names what it is about. The routes put it into
/// the request ([`Routes::call`](crate::Routes::call)), and the functions of this module ask it before a handler sees a
/// message.
#[derive(Clone)]
pub(crate) struct Permit {
    pub(crate) authorizer: Authorizer,
    pub(crate) identity: Identity,
    pub(crate) action: &'static str,
    pub(crate) service: &'static str,
    pub(crate) route: Arc<str>,
    /// Whether anybody asked. An answer of a route that did not ask is not sent.
    pub(crate) is_asked: Arc<AtomicBool>,
}

impl Permit {
    /// The permit of a request; `None` where the route has decided already.
    fn of(request: &Request) -> Option<Self> {
        let permit = request.extensions().get::<Self>().cloned()?;
        permit.is_asked.store(true, Ordering::Relaxed);
        Some(permit)
    }

    pub(crate) fn check(&self, name: &str) -> Result<()> {
        let resource =
            Resource { service: self.service.to_owned(), kind: self.route.to_string(), name: name.to_owned() };
        crate::routes::may(&self.authorizer, &self.identity, self.action, &resource, None)
    }
}

/// A message that may name what it is about, for example a model.
pub trait Named: Message + Default + 'static {
    /// The name; empty for everything there is.
    #[expect(clippy::unnecessary_literal_bound, reason = "a message that names something answers its own text")]
    fn name(&self) -> &str {
        ""
    }
}

/// The messages of a call that streams. One that cannot be read is the last.
pub type Messages<Q> = Pin<Box<dyn Stream<Item = Result<Q>> + Send>>;

/// The gRPC status of an error. The text of an internal one is not sent.
pub fn status_of(error: &Error) -> Status {
    let code = match error.code() {
        ErrorCode::NotFound => Code::NotFound,
        ErrorCode::AlreadyExists => Code::AlreadyExists,
        ErrorCode::InvalidArgument => Code::InvalidArgument,
        ErrorCode::FailedPrecondition => Code::FailedPrecondition,
        ErrorCode::Conflict => Code::Aborted,
        ErrorCode::Unauthenticated => Code::Unauthenticated,
        ErrorCode::PermissionDenied => Code::PermissionDenied,
        ErrorCode::ResourceExhausted => Code::ResourceExhausted,
        ErrorCode::Unavailable => Code::Unavailable,
        ErrorCode::Internal => Code::Internal,
    };
    Status::new(code, crate::failure::told(error))
}

/// An answer that is a status and nothing else.
pub(crate) fn respond(status: &Status) -> Response {
    status.clone().into_http::<Body>()
}

/// The answer to a call of a method that there is not.
pub fn unimplemented(message: &str) -> Response {
    respond(&Status::unimplemented(message))
}

/// The time limit that the caller set (`grpc-timeout: 500m`); nothing when there is none or it is none of the protocol's.
pub(crate) fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(count * 3600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

/// Answers a call of one message with one message. A message larger than `max_bytes`, packed or unpacked, is refused.
pub async fn unary<Q, A, F>(request: Request, max_bytes: usize, call: impl FnOnce(Q) -> F + Send) -> Response
where
    Q: Named,
    A: Message + 'static,
    F: Future<Output = Result<A>> + Send,
{
    if let Some(refusal) = wrong_type(request.headers()) {
        return refusal;
    }
    let permit = Permit::of(&request);
    let failed = Arc::<OnceLock<Failure>>::default();
    let (mut call, failure) = (Some(call), Arc::clone(&failed));
    let method = tower::service_fn(move |request: tonic::Request<Q>| {
        let message = request.into_inner();
        let answer = match permit.as_ref().map_or(Ok(()), |permit| permit.check(message.name())) {
            Ok(()) => call.take().map(|call| call(message)).ok_or_else(|| Error::internal("a call ran twice")),
            Err(denied) => Err(denied),
        };
        let failure = Arc::clone(&failure);
        async move {
            let answer = match answer {
                Ok(answer) => answer.await,
                Err(error) => Err(error),
            };
            answer.map(tonic::Response::new).map_err(|error| {
                // The routes tell and log it; what tonic makes of the status is not sent.
                let _ = failure.set(error.into());
                Status::internal("")
            })
        }
    });
    let response = codec(max_bytes).unary(method, request).await;
    if let Some(failure) = failed.get() {
        return failure.clone().into_response();
    }
    finish(response)
}

/// Answers a call of any number of messages with any number of messages. While the process drains, no further message is
/// read, so that the call ends once those before are answered.
pub async fn streaming<Q, A, S>(
    request: Request,
    max_bytes: usize,
    call: impl FnOnce(Messages<Q>) -> S + Send,
) -> Response
where
    Q: Named,
    A: Message + 'static,
    S: Stream<Item = Result<A>> + Send + 'static,
{
    if let Some(refusal) = wrong_type(request.headers()) {
        return refusal;
    }
    let permit = Permit::of(&request);
    let draining = request.extensions().get::<Draining>().cloned().unwrap_or_default();
    let mut call = Some(call);
    let method = tower::service_fn(move |request: tonic::Request<tonic::Streaming<Q>>| {
        let permit = permit.clone();
        let messages = request.into_inner().map(move |message| {
            let message = message.map_err(|status| unreadable(&status))?;
            permit.as_ref().map_or(Ok(()), |permit| permit.check(message.name()))?;
            Ok(message)
        });
        let messages = until_error(messages).take_until(draining.0.clone().cancelled_owned());
        let messages: Messages<Q> = Box::pin(messages);
        let answers = call.take().map(|call| call(messages).map(|answer| answer.map_err(|error| status_of(&error))));
        std::future::ready(answers.map(tonic::Response::new).ok_or_else(|| Status::internal("")))
    });
    finish(codec(max_bytes).streaming(method, request).await)
}

/// The items up to the first error, which is the last: what a caller sends behind a message that is refused is not read.
fn until_error<T>(items: impl Stream<Item = Result<T>>) -> impl Stream<Item = Result<T>> {
    items.scan(false, |is_over, item| {
        let item = (!*is_over).then_some(item);
        *is_over |= matches!(item, Some(Err(_)));
        std::future::ready(item)
    })
}

/// Answers a call of one message with any number of messages, until the process drains. The route has decided whether the
/// caller may: such a call is about the server.
pub async fn server_streaming<Q, A, S>(request: Request, max_bytes: usize, call: impl FnOnce(Q) -> S + Send) -> Response
where
    Q: Named,
    A: Message + 'static,
    S: Stream<Item = Result<A>> + Send + 'static,
{
    if let Some(refusal) = wrong_type(request.headers()) {
        return refusal;
    }
    let draining = request.extensions().get::<Draining>().cloned().unwrap_or_default();
    let mut call = Some(call);
    let method = tower::service_fn(move |request: tonic::Request<Q>| {
        let answers = call.take().map(|call| {
            let answers = call(request.into_inner()).map(|answer| answer.map_err(|error| status_of(&error)));
            answers.take_until(draining.0.clone().cancelled_owned())
        });
        std::future::ready(answers.map(tonic::Response::new).ok_or_else(|| Status::internal("")))
    });
    finish(codec(max_bytes).server_streaming(method, request).await)
}

fn codec<Q, A>(max_bytes: usize) -> Grpc<ProstCodec<A, Q>>
where
    Q: Named,
    A: Message + 'static,
{
    let mut grpc = Grpc::new(ProstCodec::new()).max_decoding_message_size(max_bytes);
    for encoding in [CompressionEncoding::Gzip, CompressionEncoding::Deflate] {
        grpc = grpc.accept_compressed(encoding).send_compressed(encoding);
    }
    grpc
}

/// What is not gRPC gets the answer that the protocol has for it.
fn wrong_type(headers: &HeaderMap) -> Option<Response> {
    let is_grpc = headers.get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
    (!is_grpc).then(|| StatusCode::UNSUPPORTED_MEDIA_TYPE.into_response())
}

/// A message that tonic could not read: the caller's fault.
fn unreadable(status: &Status) -> Error {
    match status.code() {
        Code::OutOfRange | Code::ResourceExhausted => {
            Error::exhausted("the message is larger than server.max_body_bytes allows")
        }
        _ => Error::invalid(format!("request message: {}", status.message())),
    }
}

/// An answer of tonic; what it refused becomes a failure, which the routes tell and log as any other.
fn finish(response: axum::http::Response<tonic::body::Body>) -> Response {
    match Status::from_header_map(response.headers()) {
        // An encoding that is not known: the answer's headers name those that are.
        Some(status) if status.code() != Code::Ok && status.code() != Code::Unimplemented => {
            Failure::from(unreadable(&status)).into_response()
        }
        _ => response.map(Body::new),
    }
}

#[cfg(test)]
mod tests;
