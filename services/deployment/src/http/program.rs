//! `/deployments/{name}/…`: the paths of a program.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use axum::body::Body as HttpBody;
use axum::extract::{OriginalUri, State};
use axum::http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, COOKIE, EXPECT, HOST,
    PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, SET_COOKIE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};
use axum::response::Response;
use bytes::Bytes;
use fishy_authz::Identity;
use fishy_core::{Error, Result, TraceContext};
use fishy_http::{Caller, ErrorForm, Failure, Guard, Routes};

use super::extract::{Body, Path};
use super::scoring::{PREDICTION_ID, meta_of};
use crate::events::SERVICE;
use crate::service::{ProgramRequest, Service};

type App = State<Arc<Service>>;

/// What belongs to one connection, or says who the caller is to us and to nobody else.
const KEPT_BACK: [HeaderName; 14] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    CONTENT_LENGTH,
    EXPECT,
    AUTHORIZATION,
    COOKIE,
    SET_COOKIE,
    // A body is unpacked here.
    CONTENT_ENCODING,
];
/// Where the program is among our paths, for the links that it makes.
const PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
/// Who asks, as the policies know them.
const CALLER: HeaderName = HeaderName::from_static("x-fishy-caller");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// Pages of a program are no pages of ours: they can do nothing with the rights of who looks at them.
const SANDBOX: HeaderValue = HeaderValue::from_static("sandbox allow-scripts allow-forms");

pub(super) fn routes(guard: &Guard) -> Router<Arc<Service>> {
    let mut routes = Routes::new(SERVICE, ErrorForm::Problem, guard);
    for path in ["/deployments/{name}/", "/deployments/{name}/{*path}"] {
        routes = routes
            .get(path, "deployment:predict", proxy)
            .post(path, "deployment:predict", proxy)
            .put(path, "deployment:predict", proxy)
            .patch(path, "deployment:predict", proxy)
            .delete(path, "deployment:predict", proxy);
    }
    routes.finish()
}

async fn proxy(
    State(service): App,
    Path(mut params): Path<HashMap<String, String>>,
    Caller(caller): Caller,
    method: Method,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
    Body(body): Body,
) -> Result<Response, Failure> {
    let name = params.remove("name").unwrap_or_default();
    // The path as it was sent: what is encoded stays so.
    let below = uri.path().splitn(4, '/').nth(3).unwrap_or_default();
    let target = match uri.query() {
        None => format!("/{below}"),
        Some(query) => format!("/{below}?{query}"),
    };
    Ok(forward(&service, &name, &caller, method, &target, &headers, body).await?)
}

/// Sends a request to a program, and its answer back.
pub(super) async fn forward(
    service: &Arc<Service>,
    name: &str,
    caller: &Identity,
    method: Method,
    target: &str,
    headers: &HeaderMap,
    body: Bytes,
) -> Result<Response> {
    let asked = async {
        let meta = meta_of(headers, &serde_json::Map::new())?;
        let uri = Uri::try_from(target).map_err(|error| Error::invalid(format!("path {target:?}: {error}")))?;
        let mut request = Request::new(());
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.headers_mut() = passed_on(headers, name, caller)?;
        let (head, ()) = request.into_parts();
        service.ask_program(name, ProgramRequest { head, body, meta }).await
    };
    let (id, answered) = asked.await.inspect_err(|error| service.count_refused(name, error))?;
    let (mut head, body) = answered.into_parts();
    for header in dropped(&head.headers) {
        // An answer is passed on as it was packed.
        if header != CONTENT_ENCODING {
            head.headers.remove(header);
        }
    }
    // That of our connection, whatever the program speaks.
    head.version = Version::default();
    head.headers.insert(CONTENT_SECURITY_POLICY, SANDBOX);
    if let Ok(id) = HeaderValue::from_str(&id) {
        head.headers.insert(PREDICTION_ID, id);
    }
    Ok(Response::from_parts(head, HttpBody::from(body)))
}

/// The headers that go no further: of the connection, and those that it names.
fn dropped(headers: &HeaderMap) -> Vec<HeaderName> {
    let named = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let named = named.flat_map(|value| value.split(',')).filter_map(|name| name.trim().parse().ok());
    KEPT_BACK.into_iter().chain(named).collect()
}

fn passed_on(headers: &HeaderMap, name: &str, caller: &Identity) -> Result<HeaderMap> {
    let mut passed = headers.clone();
    for header in dropped(headers) {
        passed.remove(header);
    }
    let value = |text: String| {
        HeaderValue::try_from(text).map_err(|error| Error::invalid("the caller's name").with_source(error))
    };
    passed.insert(PREFIX, value(format!("/deployments/{name}"))?);
    passed.insert(CALLER, value(caller.to_string())?);
    if let Some(host) = headers.get(HOST) {
        passed.insert(HeaderName::from_static("x-forwarded-host"), host.clone());
    }
    if let Some(trace) = TraceContext::current() {
        passed.insert(TRACEPARENT, value(trace.traceparent())?);
    }
    Ok(passed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_does_not_see_the_callers_secrets_and_cannot_be_lied_to() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("authorization", "Bearer secret"),
            ("cookie", "session=1"),
            ("connection", "close, x-hop"),
            ("x-hop", "1"),
            ("x-fishy-caller", "user:somebody-else"),
            ("x-forwarded-prefix", "/elsewhere"),
            ("host", "farm.example"),
            ("accept", "text/html"),
        ] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let passed = passed_on(&headers, "advice", &Identity::user("ada", ["expert"])).unwrap();
        for gone in ["authorization", "cookie", "connection", "x-hop"] {
            assert_eq!(passed.get(gone), None, "{gone}");
        }
        for (name, value) in [
            ("x-fishy-caller", "user:ada"),
            ("x-forwarded-prefix", "/deployments/advice"),
            ("x-forwarded-host", "farm.example"),
            ("accept", "text/html"),
        ] {
            assert_eq!(passed.get(name).and_then(|value| value.to_str().ok()), Some(value), "{name}");
        }
    }
}
