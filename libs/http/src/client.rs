use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, BodyDataStream, HttpBody};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use bytes::Bytes;
use fishy_authz::Identity;
use fishy_core::{Error, ErrorCode, Result, TraceContext};
use futures::{Stream, StreamExt, TryStreamExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::Semaphore;
use tower::ServiceExt;

use crate::failure::code_of_mlflow_error;

/// The largest answer that is read into memory whole; streams are not bounded by it.
const MAX_REPLY_BYTES: usize = 256 * 1024 * 1024;
/// Calls to somebody else's server that are under way at once; more wait for their turn.
const FOREIGN_CALLS: usize = 8;
/// The longest silence of somebody else's server in the middle of an answer.
const FOREIGN_SILENCE: Duration = Duration::from_mins(1);
/// MLflow's server closes a connection that was idle for a few seconds: one that it is about to close is not used again.
const FOREIGN_IDLE: Duration = Duration::from_secs(1);

/// The place of a service's router in this process; filled once all services are built, since they call each other.
#[derive(Clone, Default)]
pub struct ServiceSlot(Arc<OnceLock<Router>>);

impl ServiceSlot {
    /// Puts the router in; a second call changes nothing.
    pub fn fill(&self, router: Router) {
        let _ = self.0.set(router);
    }
}

/// The client of one service, wherever that service runs.
#[derive(Clone)]
pub struct ServiceClient {
    service: &'static str,
    target: Target,
    caller: Identity,
    timeout: Duration,
    /// Sent with every call.
    headers: HeaderMap,
}

#[derive(Clone)]
enum Target {
    Local(ServiceSlot),
    /// Neither in this process nor at a known URL.
    Nowhere,
    Remote {
        base: String,
        http: reqwest::Client,
        authorization: Option<HeaderValue>,
        /// Calls that may be under way at once, where that is bounded.
        turns: Option<Arc<Semaphore>>,
    },
}

/// One call: what is sent.
pub struct Call {
    /// The method.
    pub method: Method,
    /// Path and query, for example `/api/v1/monitors?limit=10`.
    pub path: String,
    /// Headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Body,
}

/// What came back, with the body still streaming.
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: BodyDataStream,
}

impl Call {
    /// A call without a body.
    pub fn new(method: Method, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), headers: HeaderMap::new(), body: Body::empty() }
    }

    /// Adds a JSON body.
    pub fn json<T: Serialize>(mut self, value: &T) -> Result<Self> {
        let body =
            serde_json::to_vec(value).map_err(|error| Error::internal("cannot write a request").with_source(error))?;
        self.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        self.body = Body::from(body);
        Ok(self)
    }

    /// Adds a body that streams.
    #[must_use]
    pub fn stream(mut self, body: impl Stream<Item = Result<Bytes>> + Send + 'static) -> Self {
        self.body = Body::from_stream(body);
        self
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }
}

impl Reply {
    /// The whole body.
    pub async fn bytes(self) -> Result<Bytes> {
        let mut whole = Vec::new();
        let mut body = self.body;
        while let Some(part) = body.next().await {
            let part = part.map_err(|error| Error::unavailable("the answer broke off").with_source(error))?;
            if whole.len() + part.len() > MAX_REPLY_BYTES {
                return Err(Error::exhausted(format!("an answer of more than {MAX_REPLY_BYTES} bytes")));
            }
            whole.extend_from_slice(&part);
        }
        Ok(whole.into())
    }

    /// The body as it comes.
    pub fn into_stream(self) -> impl Stream<Item = Result<Bytes>> + Send + 'static {
        self.body.map_err(|error| Error::unavailable("the answer broke off").with_source(error))
    }
}

impl ServiceClient {
    /// A client of the service in `slot`, calling as the service `caller`.
    pub fn local(service: &'static str, slot: &ServiceSlot, caller: &str) -> Self {
        let target = Target::Local(slot.clone());
        Self {
            service,
            target,
            caller: Identity::service(caller),
            timeout: Duration::from_mins(1),
            headers: HeaderMap::new(),
        }
    }

    /// A client of the service in `slot` that asks for somebody else, for a door that is not HTTP: with that one's rights.
    pub fn local_as(service: &'static str, slot: &ServiceSlot, caller: Identity) -> Self {
        let target = Target::Local(slot.clone());
        Self { service, target, caller, timeout: Duration::from_mins(1), headers: HeaderMap::new() }
    }

    /// A client of a service that is not needed here: each call says where its URL belongs.
    pub fn nowhere(service: &'static str, caller: &str) -> Self {
        let (target, caller) = (Target::Nowhere, Identity::service(caller));
        Self { service, target, caller, timeout: Duration::from_mins(1), headers: HeaderMap::new() }
    }

    /// A client of the service at a URL. `authorization` is sent as it is.
    pub fn remote(service: &'static str, base: &str, caller: &str, authorization: Option<&str>) -> Result<Self> {
        let authorization = authorization.map(secret_header).transpose()?;
        let http = built(reqwest::Client::builder().connect_timeout(Duration::from_secs(5)))?;
        let base = base.trim_end_matches('/').to_owned();
        let target = Target::Remote { base, http, authorization, turns: None };
        Ok(Self {
            service,
            target,
            caller: Identity::service(caller),
            timeout: Duration::from_mins(1),
            headers: HeaderMap::new(),
        })
    }

    /// A client of somebody else's server. It is sent `token`, where there is one, as a bearer token, and never what our
    /// services show each other; it is not followed to other servers, and only so many calls are under way at once.
    pub fn foreign(service: &'static str, base: &str, token: Option<&str>) -> Result<Self> {
        let authorization = token.map(|token| secret_header(&format!("Bearer {token}"))).transpose()?;
        let http = built(
            reqwest::Client::builder()
                .redirect(reqwest::redirect::Policy::none())
                .connect_timeout(Duration::from_secs(10))
                .read_timeout(FOREIGN_SILENCE)
                .pool_idle_timeout(FOREIGN_IDLE),
        )?;
        let base = base.trim_end_matches('/').to_owned();
        let turns = Some(Arc::new(Semaphore::new(FOREIGN_CALLS)));
        let target = Target::Remote { base, http, authorization, turns };
        let caller = Identity::service("foreign");
        Ok(Self { service, target, caller, timeout: Duration::from_mins(1), headers: HeaderMap::new() })
    }

    /// The same for calls that may take longer, or less long, than a minute until their answer begins.
    #[must_use]
    pub const fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The same with a header in every call.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Whether the service runs in this process.
    pub fn is_local(&self) -> bool {
        matches!(self.target, Target::Local(_))
    }

    /// Sends a call; any status is an `Ok`.
    pub async fn send(&self, call: Call) -> Result<Reply> {
        let path = call.path.clone();
        match tokio::time::timeout(self.timeout, self.dispatch(call)).await {
            Ok(reply) => reply,
            Err(_) => Err(Error::unavailable(format!(
                "{} did not answer {path} within {} s",
                self.service,
                self.timeout.as_secs()
            ))),
        }
    }

    async fn dispatch(&self, mut call: Call) -> Result<Reply> {
        call.headers.extend(self.headers.clone());
        if let Some(value) = TraceContext::current().and_then(|t| HeaderValue::from_str(&t.traceparent()).ok()) {
            call.headers.insert(HeaderName::from_static("traceparent"), value);
        }
        match &self.target {
            Target::Local(slot) => {
                let router =
                    slot.0.get().ok_or_else(|| Error::unavailable(format!("{} is still starting", self.service)))?;
                let mut request = Request::new(call.body);
                *request.method_mut() = call.method;
                *request.uri_mut() =
                    call.path.parse().map_err(|error| Error::internal(format!("path {:?}: {error}", call.path)))?;
                *request.headers_mut() = call.headers;
                request.extensions_mut().insert(self.caller.clone());
                let response = router.clone().oneshot(request).await.unwrap_or_else(|never| match never {});
                let (parts, body) = response.into_parts();
                Ok(Reply { status: parts.status, headers: parts.headers, body: body.into_data_stream() })
            }
            Target::Nowhere => Err(Error::unavailable(format!(
                "{0} does not run in this process: set services.{0} to its URL",
                self.service
            ))),
            Target::Remote { base, http, authorization, turns } => {
                let _turn = match turns {
                    Some(turns) => turns.acquire().await.ok(),
                    None => None,
                };
                let mut request = http
                    .request(call.method, format!("{base}{}", call.path))
                    .headers(call.headers)
                    .body(body_to_send(call.body).await?);
                if let Some(authorization) = authorization {
                    request = request.header(AUTHORIZATION, authorization);
                }
                let response = request.send().await.map_err(|error| {
                    Error::unavailable(format!("{} cannot be reached", self.service)).with_source(error)
                })?;
                let (status, headers) = (response.status(), response.headers().clone());
                let body = Body::from_stream(response.bytes_stream()).into_data_stream();
                Ok(Reply { status, headers, body })
            }
        }
    }

    /// Sends a call; a status of 400 and above is the error that the other side told.
    pub async fn expect(&self, call: Call) -> Result<Reply> {
        let reply = self.send(call).await?;
        if reply.status.is_success() {
            return Ok(reply);
        }
        let status = reply.status.as_u16();
        let body = reply.bytes().await.unwrap_or_default();
        Err(error_of(self.service, status, &body))
    }

    /// GET, answered with JSON.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.json(Call::new(Method::GET, path)).await
    }

    /// POST of JSON, answered with JSON.
    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T> {
        self.json(Call::new(Method::POST, path).json(body)?).await
    }

    /// PUT of JSON, answered with JSON.
    pub async fn put<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T> {
        self.json(Call::new(Method::PUT, path).json(body)?).await
    }

    /// Any call that is answered with JSON.
    pub async fn json<T: DeserializeOwned>(&self, call: Call) -> Result<T> {
        let path = call.path.clone();
        let body = self.expect(call).await?.bytes().await?;
        let body: &[u8] = if body.is_empty() { b"null" } else { &body };
        serde_json::from_slice(body).map_err(|error| {
            Error::internal(format!("{} answered {path} with something else", self.service)).with_source(error)
        })
    }
}

fn built(builder: reqwest::ClientBuilder) -> Result<reqwest::Client> {
    builder.build().map_err(|error| Error::internal("cannot build an HTTP client").with_source(error))
}

/// A header that no log shows.
fn secret_header(text: &str) -> Result<HeaderValue> {
    let mut value = HeaderValue::from_str(text)
        .map_err(|_| Error::invalid("the token of a server has characters that no header can have"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// A body of known size is sent with its size: MLflow's own server takes a JSON body without one for an empty one.
async fn body_to_send(body: Body) -> Result<reqwest::Body> {
    if body.size_hint().exact().is_none() {
        return Ok(reqwest::Body::wrap_stream(body.into_data_stream()));
    }
    let whole = axum::body::to_bytes(body, usize::MAX)
        .await
        .map_err(|error| Error::internal("cannot read a request").with_source(error))?;
    Ok(reqwest::Body::from(whole))
}

/// The error that another service told, in problem+json, MLflow's or the inference protocol's form.
fn error_of(service: &str, status: u16, body: &[u8]) -> Error {
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |key: &str| value.get(key).and_then(Value::as_str);
    let code = text("code")
        .and_then(ErrorCode::parse)
        .or_else(|| text("error_code").and_then(code_of_mlflow_error))
        .unwrap_or_else(|| ErrorCode::from_http_status(status));
    let message = text("detail").or_else(|| text("message")).or_else(|| text("error"));
    Error::new(code, message.map_or_else(|| format!("{service} answered {status}"), str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::any;

    #[tokio::test]
    async fn a_service_that_runs_nowhere_says_where_its_url_belongs() {
        let error = ServiceClient::nowhere("monitoring", "registry").json::<Value>(Call::new(Method::GET, "/x")).await;
        assert_eq!(
            error.unwrap_err().message(),
            "monitoring does not run in this process: set services.monitoring to its URL"
        );
    }

    /// A server that answers with what it was sent: its headers, one a line.
    async fn echo() -> String {
        let seen = |headers: HeaderMap| async move {
            let lines = headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap_or("?")));
            serde_json::json!(lines.collect::<Vec<_>>()).to_string()
        };
        let moved = || async { (StatusCode::FOUND, [("location", "http://127.0.0.1:9/elsewhere")]) };
        let router = Router::new().route("/seen", any(seen)).route("/moved", any(moved));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        url
    }

    #[tokio::test]
    async fn a_foreign_server_is_sent_its_own_token_and_the_size_of_each_body() {
        let url = echo().await;
        let client = ServiceClient::foreign("registry", &url, Some("theirs")).unwrap();
        let seen: Vec<String> = client.post("/seen", &serde_json::json!({"a": 1})).await.unwrap();
        assert!(seen.contains(&"authorization: Bearer theirs".to_owned()), "{seen:?}");
        assert!(seen.contains(&"content-length: 7".to_owned()), "{seen:?}");
        let nobody = ServiceClient::foreign("registry", &url, None).unwrap();
        let seen: Vec<String> = nobody.get("/seen").await.unwrap();
        assert!(!seen.iter().any(|line| line.starts_with("authorization")), "{seen:?}");
        let moved = client.get::<Value>("/moved").await.unwrap_err();
        assert!(moved.message().contains("302"), "{moved}");
        assert!(ServiceClient::foreign("registry", &url, Some("two\nlines")).is_err());
    }
}
