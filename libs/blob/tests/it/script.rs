//! A server that does what it is told to.

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use std::collections::VecDeque;
use std::fmt::Write;
use std::sync::{Arc, Mutex};

pub enum Step {
    /// Answers with this.
    Answer(u16, Vec<(&'static str, String)>, String),
    /// Promises more bytes than it sends, then is silent.
    Stall,
}

pub fn answer(status: u16, body: &str) -> Step {
    Step::Answer(status, vec![], body.to_owned())
}

/// A server that answers the requests it gets with the steps it was given, and remembers the requests.
#[derive(Clone)]
pub struct Script {
    steps: Arc<Mutex<VecDeque<Step>>>,
    seen: Arc<Mutex<Vec<String>>>,
    pub url: String,
}

impl Script {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let script = Self { steps: Arc::default(), seen: Arc::default(), url };
        let app = axum::Router::new().fallback(serve).with_state(script.clone());
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        script
    }

    pub fn then(&self, step: Step) -> &Self {
        self.steps.lock().unwrap().push_back(step);
        self
    }

    /// Method, path, and what is in the authorization and content-range headers, of each request.
    pub fn seen(&self) -> Vec<String> {
        assert!(self.steps.lock().unwrap().is_empty(), "not all steps were asked for: {:?}", self.seen.lock().unwrap());
        self.seen.lock().unwrap().clone()
    }
}

async fn serve(State(script): State<Script>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    let header = |name| head.headers.get(name).map(|value| format!(" {}", value.to_str().unwrap()));
    let mut line = format!("{} {}", head.method, head.uri.path());
    line.extend([header("authorization"), header("content-range"), header("metadata-flavor")].into_iter().flatten());
    if !body.is_empty() {
        write!(line, " +{}", body.len()).unwrap();
    }
    script.seen.lock().unwrap().push(line);
    let step = script.steps.lock().unwrap().pop_front();
    match step {
        Some(Step::Answer(status, headers, body)) => {
            let mut response = (StatusCode::from_u16(status).unwrap(), body).into_response();
            for (name, value) in headers {
                response.headers_mut().insert(name, value.parse().unwrap());
            }
            response
        }
        Some(Step::Stall) => {
            let first = futures::stream::iter([Ok::<_, std::io::Error>(Bytes::from("half"))]);
            let stream = futures::StreamExt::chain(first, futures::stream::pending());
            let headers =
                [("content-length", "8"), ("last-modified", "Mon, 23 Nov 2026 20:25:43 GMT"), ("etag", "\"1\"")];
            (headers, Body::from_stream(stream)).into_response()
        }
        None => (StatusCode::NOT_IMPLEMENTED, "the script is over").into_response(),
    }
}
