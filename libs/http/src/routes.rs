use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{DefaultBodyLimit, RawPathParams, Request, State};
use axum::handler::Handler;
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, on};
use fishy_authz::{Authenticator, Authorizer, Identity, Resource};
use fishy_core::{Error, TraceContext};
use serde_json::{Value, json};
use tonic::Status;

use crate::grpc::{self, Permit};
use crate::{ErrorForm, Failure};

/// What stands before every route of a process: who asks, and what is allowed.
#[derive(Clone)]
pub struct Guard {
    /// Tells who asks.
    pub authenticator: Authenticator,
    /// Tells what they may do.
    pub authorizer: Authorizer,
    /// The largest body in bytes.
    pub max_body_bytes: usize,
    /// The longest time for one request.
    pub request_timeout: Duration,
}

/// The tenant whose things a request is about: handlers find it among the extensions of the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant(pub String);

/// Tells which tenant's things a request is about, by its headers and by who asks; `None` where there are no tenants.
pub type TenantOf = Arc<dyn Fn(&HeaderMap, &Identity) -> fishy_core::Result<Option<Tenant>> + Send + Sync>;

/// What is known about a route without asking it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    /// The method, `GET`.
    pub method: &'static str,
    /// The path with its places, `/api/v1/things/{id}`.
    pub path: String,
    /// What Cedar decides on.
    pub action: &'static str,
}

/// Routes of one service that speak one protocol. There is no way to add a route without an action.
pub struct Routes<S> {
    router: Router<S>,
    table: Vec<Listed>,
    tenant_of: Option<TenantOf>,
    service: &'static str,
    form: ErrorForm,
    guard: Guard,
    timeout: Option<Duration>,
    by_message: bool,
    /// The largest body; `None` where bodies stream.
    max_body_bytes: Option<usize>,
}

/// One route as its layer sees it.
#[derive(Clone)]
struct Door {
    service: &'static str,
    action: &'static str,
    route: Arc<str>,
    form: ErrorForm,
    guard: Guard,
    timeout: Option<Duration>,
    by_message: bool,
    tenant_of: Option<TenantOf>,
    meters: Arc<Meters>,
}

/// The handles of a route's metrics: finding them by their labels would cost more than counting does.
#[derive(Default)]
struct Meters(RwLock<Vec<Meter>>);

/// Those of one method and status.
struct Meter {
    method: Method,
    status: u16,
    duration: metrics::Histogram,
    requests: metrics::Counter,
}

impl Meter {
    fn count(&self, took: Duration) {
        self.duration.record(took);
        self.requests.increment(1);
    }
}

impl<S: Clone + Send + Sync + 'static> Routes<S> {
    /// No routes yet.
    pub fn new(service: &'static str, form: ErrorForm, guard: &Guard) -> Self {
        let timeout = Some(guard.request_timeout);
        Self {
            router: Router::new(),
            table: Vec::new(),
            tenant_of: None,
            service,
            form,
            guard: guard.clone(),
            timeout,
            by_message: false,
            max_body_bytes: Some(guard.max_body_bytes),
        }
    }

    /// For things of one tenant each: Cedar is told whose things a request is about (`context.tenant`), and so is the
    /// handler, by the extension [`Tenant`].
    #[must_use]
    pub fn of_tenants(mut self, tenant_of: TenantOf) -> Self {
        self.tenant_of = Some(tenant_of);
        self
    }

    /// For work that takes as long as its data: no bound on its time here.
    #[must_use]
    pub fn unhurried(mut self) -> Self {
        self.timeout = None;
        self
    }

    /// For bodies that stream: no bound on their size or time here; the handler has its own.
    #[must_use]
    pub fn streaming(mut self) -> Self {
        self.timeout = None;
        self.max_body_bytes = None;
        self.router = self.router.layer(DefaultBodyLimit::disable());
        self
    }

    /// Adds a gRPC method whose messages name what they are about: whether the caller may is decided for each message, by
    /// the functions of [`grpc`](crate::grpc).
    #[must_use]
    pub fn call<H: Handler<T, S>, T: 'static>(mut self, path: &str, action: &'static str, handler: H) -> Self {
        self.by_message = true;
        let mut routes = self.route(("POST", MethodFilter::POST), path, action, handler);
        routes.by_message = false;
        routes
    }

    /// Adds a GET route.
    #[must_use]
    pub fn get<H: Handler<T, S>, T: 'static>(self, path: &str, action: &'static str, handler: H) -> Self {
        self.route(("GET", MethodFilter::GET), path, action, handler)
    }

    /// Adds a POST route.
    #[must_use]
    pub fn post<H: Handler<T, S>, T: 'static>(self, path: &str, action: &'static str, handler: H) -> Self {
        self.route(("POST", MethodFilter::POST), path, action, handler)
    }

    /// Adds a PUT route.
    #[must_use]
    pub fn put<H: Handler<T, S>, T: 'static>(self, path: &str, action: &'static str, handler: H) -> Self {
        self.route(("PUT", MethodFilter::PUT), path, action, handler)
    }

    /// Adds a PATCH route.
    #[must_use]
    pub fn patch<H: Handler<T, S>, T: 'static>(self, path: &str, action: &'static str, handler: H) -> Self {
        self.route(("PATCH", MethodFilter::PATCH), path, action, handler)
    }

    /// Adds a DELETE route.
    #[must_use]
    pub fn delete<H: Handler<T, S>, T: 'static>(self, path: &str, action: &'static str, handler: H) -> Self {
        self.route(("DELETE", MethodFilter::DELETE), path, action, handler)
    }

    fn route<H: Handler<T, S>, T: 'static>(
        mut self,
        (method, filter): (&'static str, MethodFilter),
        path: &str,
        action: &'static str,
        handler: H,
    ) -> Self {
        self.table.push(Listed { method, path: path.to_owned(), action });
        let door = Door {
            service: self.service,
            action,
            route: path.into(),
            form: self.form,
            guard: self.guard.clone(),
            timeout: self.timeout,
            by_message: self.by_message,
            tenant_of: self.tenant_of.clone(),
            meters: Arc::default(),
        };
        let limit = match self.max_body_bytes {
            Some(bytes) => DefaultBodyLimit::max(bytes),
            None => DefaultBodyLimit::disable(),
        };
        let method_router: MethodRouter<S> = on(filter, handler).layer(limit).layer(from_fn_with_state(door, pass));
        self.router = self.router.route(path, method_router);
        self
    }

    /// All routes so far: for tests that must not miss one.
    pub fn table(&self) -> &[Listed] {
        &self.table
    }

    /// The finished router.
    pub fn finish(self) -> Router<S> {
        self.router
    }
}

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The layer of every route.
async fn pass(State(door): State<Door>, params: RawPathParams, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = request.method().clone();
    let parent = request.headers().get(TRACEPARENT).and_then(|value| value.to_str().ok()).and_then(TraceContext::parse);
    let trace = parent.or_else(TraceContext::current).map_or_else(TraceContext::new_root, TraceContext::child);
    let name = params.iter().next().map(|(_, value)| value.to_owned()).unwrap_or_default();
    let mut response = trace.scope(answer(&door, name, request, next)).await;
    let mut status = response.status().as_u16();
    if let Some(Failure(error)) = response.extensions_mut().remove::<Failure>() {
        log_failure(&door, &trace, &error);
        // A gRPC answer is always a 200: what went wrong is counted as it is for the other protocols.
        status = error.code().http_status();
        response = door.form.respond(&error);
        if door.form != ErrorForm::Grpc {
            status = response.status().as_u16();
        }
    }
    if let Ok(value) = HeaderValue::from_str(&trace.traceparent()) {
        response.headers_mut().insert(TRACEPARENT, value);
    }
    door.count(&method, status, started.elapsed());
    response
}

impl Door {
    fn count(&self, method: &Method, status: u16, took: Duration) {
        let known = self.meters.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(meter) = known.iter().find(|meter| meter.status == status && meter.method == *method) {
            return meter.count(took);
        }
        drop(known);
        let labels = [
            ("service", self.service.to_owned()),
            ("route", self.route.to_string()),
            ("method", method.as_str().to_owned()),
            ("status", status.to_string()),
        ];
        let meter = Meter {
            method: method.clone(),
            status,
            duration: metrics::histogram!("fishy_http_request_duration_seconds", &labels[..3]),
            requests: metrics::counter!("fishy_http_requests_total", &labels),
        };
        meter.count(took);
        // Two requests that come first at the same time both add one, of the same handles.
        self.meters.0.write().unwrap_or_else(PoisonError::into_inner).push(meter);
    }
}

async fn answer(door: &Door, name: String, mut request: Request, next: Next) -> Response {
    if request.extensions().get::<Identity>().is_none() {
        let header = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        match door.guard.authenticator.authenticate(header).await {
            Ok(identity) => {
                request.extensions_mut().insert(identity);
            }
            Err(error) => return Failure::from(error).into_response(),
        }
    }
    let Some(identity) = request.extensions().get::<Identity>() else {
        return Failure::from(Error::internal("no identity after authentication")).into_response();
    };
    if !door.by_message {
        let resource = Resource { service: door.service.to_owned(), kind: door.route.to_string(), name };
        let tenant = match door.tenant_of.as_ref().map(|tenant_of| tenant_of(request.headers(), identity)).transpose() {
            Ok(tenant) => tenant.flatten(),
            Err(error) => return Failure::from(error).into_response(),
        };
        if let Err(denied) = may(&door.guard.authorizer, identity, door.action, &resource, tenant.as_ref()) {
            return Failure::from(denied).into_response();
        }
        if let Some(tenant) = tenant {
            request.extensions_mut().insert(tenant);
        }
        return within_time(door, request, next).await;
    }
    let permit = Permit {
        authorizer: door.guard.authorizer.clone(),
        identity: identity.clone(),
        action: door.action,
        service: door.service,
        route: Arc::clone(&door.route),
        is_asked: Arc::default(),
    };
    let is_asked = Arc::clone(&permit.is_asked);
    request.extensions_mut().insert(permit);
    let response = within_time(door, request, next).await;
    let is_refusal = response.extensions().get::<Failure>().is_some() || !response.status().is_success();
    if is_refusal || is_asked.load(Ordering::Relaxed) {
        return response;
    }
    Failure::from(Error::internal(format!("{} answered without asking whether the caller may", door.route)))
        .into_response()
}

/// Whether somebody may do something, or the error that says so.
pub(crate) fn may(
    authorizer: &Authorizer,
    identity: &Identity,
    action: &'static str,
    resource: &Resource,
    tenant: Option<&Tenant>,
) -> fishy_core::Result<()> {
    let context = tenant.map_or(Value::Null, |Tenant(tenant)| json!({ "tenant": tenant }));
    if authorizer.allow(identity, action, resource, context).allowed {
        return Ok(());
    }
    if let Some(Tenant(tenant)) = tenant {
        let (id, kind) = (&identity.id, &resource.kind);
        return Err(Error::denied(format!("{id} may not do {action} on {kind} {:?} of {tenant}", resource.name)));
    }
    Err(Error::denied(format!("{} may not do {action} on {} {:?}", identity.id, resource.kind, resource.name)))
}

async fn within_time(door: &Door, mut request: Request, next: Next) -> Response {
    let own = if door.form == ErrorForm::Grpc { grpc::timeout(request.headers()) } else { None };
    if let Some(deadline) = own.and_then(|own| Instant::now().checked_add(own)) {
        request.extensions_mut().insert(grpc::Deadline(deadline));
    }
    let Some(timeout) = door.timeout else { return next.run(request).await };
    let patience = own.map_or(timeout, |own| own.min(timeout));
    tokio::time::timeout(patience, next.run(request)).await.unwrap_or_else(|_| {
        if patience < timeout {
            return grpc::respond(&Status::deadline_exceeded("the call's own deadline passed"));
        }
        let message = format!("no answer within {} ms (server.request_timeout_ms)", timeout.as_millis());
        Failure::from(Error::unavailable(message)).into_response()
    })
}

fn log_failure(door: &Door, trace: &TraceContext, error: &Error) {
    let trace_id = format!("{:032x}", trace.trace_id);
    let (service, route, code) = (door.service, &*door.route, error.code().as_str());
    match error.code() {
        fishy_core::ErrorCode::Internal => {
            tracing::error!(service, route, code, trace_id, error = error.chain(), "request failed");
        }
        fishy_core::ErrorCode::Unavailable => {
            tracing::warn!(service, route, code, trace_id, error = error.chain(), "request failed");
        }
        _ => tracing::debug!(service, route, code, trace_id, error = error.chain(), "request refused"),
    }
}
