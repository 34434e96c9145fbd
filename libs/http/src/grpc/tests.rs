use std::time::Duration;

use axum::Router;
use axum::http::HeaderValue;
use fishy_authz::{Authenticator, Bundle};
use futures::FutureExt;
use http_body_util::BodyExt;
use tower::ServiceExt;

use super::*;
use crate::{ErrorForm, Guard, Routes};

#[derive(Clone, PartialEq, prost::Message)]
struct Asked {
    #[prost(string, tag = "1")]
    model: String,
}

impl Named for Asked {
    fn name(&self) -> &str {
        &self.model
    }
}

const LIMIT: usize = 64;

async fn echo(request: Request) -> Response {
    unary(request, LIMIT, |asked: Asked| async move {
        match asked.model.as_str() {
            "slow" => std::future::pending().await,
            "broken" => Err(Error::internal("password of the database is hunter2")),
            "full" => Err(Error::exhausted("the queue is full")),
            _ => Ok(asked),
        }
    })
    .await
}

async fn echo_all(request: Request) -> Response {
    streaming(request, LIMIT, |all: Messages<Asked>| all).await
}

async fn careless() -> Response {
    ().into_response()
}

fn router() -> Router {
    let authorizer = Authorizer::embedded(0).unwrap();
    let present = authorizer.bundle();
    let policies = format!(
        "{}\n@id(\"not-this-one\") forbid (principal, action, resource) when {{ resource.name == \"secret\" }};",
        present.policies
    );
    authorizer.replace(Bundle { version: present.version + 1, issued_ms: 0, policies }).unwrap();
    let guard = Guard {
        authenticator: Authenticator::local(),
        authorizer,
        max_body_bytes: LIMIT,
        request_timeout: Duration::from_mins(1),
    };
    let unary = Routes::new("deployment", ErrorForm::Grpc, &guard)
        .call("/t/Echo", "deployment:predict", echo)
        .call("/t/Careless", "deployment:predict", careless)
        .finish();
    let stream = Routes::new("deployment", ErrorForm::Grpc, &guard).streaming();
    unary.merge(stream.call("/t/All", "deployment:predict", echo_all).finish())
}

fn framed(messages: &[&str]) -> Vec<u8> {
    let mut body = Vec::new();
    for model in messages {
        let message = Asked { model: (*model).to_owned() }.encode_to_vec();
        body.push(0);
        body.extend((message.len() as u32).to_be_bytes());
        body.extend(message);
    }
    body
}

fn request(path: &str, body: impl Into<Body>) -> Request {
    Request::post(path).header(CONTENT_TYPE, "application/grpc").body(body.into()).unwrap()
}

/// The status, and the messages that came before it.
async fn answer(request: Request) -> (Code, String, Vec<String>) {
    let response = router().oneshot(request).await.unwrap();
    assert_eq!(response.status(), 200);
    let head = Status::from_header_map(response.headers());
    let body = response.into_body().collect().await.unwrap();
    let tail = body.trailers().and_then(Status::from_header_map);
    let status = head.or(tail).unwrap();
    let bytes = body.to_bytes();
    let mut messages = Vec::new();
    let mut rest = &bytes[..];
    while let Some((frame, more)) = rest.split_at_checked(5) {
        let (message, more) = more.split_at(u32::from_be_bytes(frame[1..].try_into().unwrap()) as usize);
        messages.push(Asked::decode(message).unwrap().model);
        rest = more;
    }
    (status.code(), status.message().to_owned(), messages)
}

#[tokio::test]
async fn a_call_is_answered_and_an_error_keeps_its_code_but_not_its_secrets() {
    let (code, _, messages) = answer(request("/t/Echo", framed(&["pen"]))).await;
    assert_eq!((code, messages), (Code::Ok, vec!["pen".to_owned()]));
    let (code, text, _) = answer(request("/t/Echo", framed(&["full"]))).await;
    assert_eq!((code, text.as_str()), (Code::ResourceExhausted, "the queue is full"));
    let (code, text, _) = answer(request("/t/Echo", framed(&["broken"]))).await;
    assert!(code == Code::Internal && !text.contains("hunter2"), "{text}");
}

#[tokio::test]
async fn what_a_caller_may_is_decided_by_the_name_in_the_message() {
    let (code, text, _) = answer(request("/t/Echo", framed(&["secret"]))).await;
    assert_eq!(code, Code::PermissionDenied);
    assert!(text.contains("deployment:predict on /t/Echo \"secret\""), "{text}");
    let (code, _, messages) = answer(request("/t/All", framed(&["pen", "secret", "pen"]))).await;
    assert_eq!((code, messages), (Code::PermissionDenied, vec!["pen".to_owned()]));
    let (code, ..) = answer(request("/t/Careless", framed(&["pen"]))).await;
    assert_eq!(code, Code::Internal, "an answer that nobody was asked for is not sent");
}

#[tokio::test]
async fn messages_that_cannot_be_read_are_the_callers_fault() {
    let mut garbage = framed(&["pen"]);
    garbage[5] = 0xff;
    let (code, text, _) = answer(request("/t/Echo", garbage)).await;
    assert_eq!(code, Code::InvalidArgument, "{text}");
    let (code, text, _) = answer(request("/t/Echo", framed(&["x".repeat(LIMIT).as_str()]))).await;
    assert_eq!(code, Code::ResourceExhausted);
    assert!(text.contains("server.max_body_bytes"), "{text}");
    let (code, ..) = answer(request("/t/Echo", "")).await;
    assert_eq!(code, Code::InvalidArgument);
    let json = Request::post("/t/Echo").header(CONTENT_TYPE, "application/json").body(Body::from("{}")).unwrap();
    assert_eq!(router().oneshot(json).await.unwrap().status(), 415);
}

#[tokio::test]
async fn a_bomb_does_not_go_off() {
    let mut packed = std::process::Command::new("gzip")
        .arg("-c")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let bomb = Asked { model: "x".repeat(100_000) }.encode_to_vec();
    std::io::Write::write_all(packed.stdin.as_mut().unwrap(), &bomb).unwrap();
    let packed = packed.wait_with_output().unwrap().stdout;
    let mut body = vec![1];
    body.extend((packed.len() as u32).to_be_bytes());
    body.extend(packed);
    let mut call = request("/t/Echo", body);
    call.headers_mut().insert("grpc-encoding", HeaderValue::from_static("gzip"));
    let (code, text, _) = answer(call).await;
    assert_eq!(code, Code::ResourceExhausted, "{text}");
}

#[tokio::test]
async fn a_call_ends_when_its_own_time_is_over() {
    let mut call = request("/t/Echo", framed(&["slow"]));
    call.headers_mut().insert("grpc-timeout", HeaderValue::from_static("1m"));
    assert_eq!(answer(call).await.0, Code::DeadlineExceeded);
}

#[tokio::test]
async fn a_stream_ends_when_the_process_drains() {
    let first: Result<bytes::Bytes, std::io::Error> = Ok(framed(&["pen"]).into());
    let endless = futures::stream::once(async { first }).chain(futures::stream::pending());
    let mut call = request("/t/All", Body::from_stream(endless));
    let draining = Draining::default();
    call.extensions_mut().insert(draining.clone());
    let mut ends = Box::pin(answer(call));
    assert!(ends.as_mut().now_or_never().is_none());
    draining.0.cancel();
    assert_eq!(ends.await, (Code::Ok, String::new(), vec!["pen".to_owned()]));
}

#[test]
fn timeouts_are_read_and_nonsense_is_left_alone() {
    let read = |text: &'static str| {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-timeout", HeaderValue::from_static(text));
        timeout(&headers)
    };
    assert_eq!(read("500m"), Some(Duration::from_millis(500)));
    assert_eq!(read("2H"), Some(Duration::from_hours(2)));
    assert_eq!(read("99999999u"), Some(Duration::from_micros(99_999_999)));
    for bad in ["", "m", "1", "1x", "-1S", "123456789S"] {
        assert_eq!(read(bad), None, "{bad}");
    }
}
