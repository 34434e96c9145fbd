use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use fishy_core::{Error, Result};
use futures::future::BoxFuture;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::grpc::Draining;

/// Tells what keeps the process from being ready: empty when nothing does.
pub type Readiness = Arc<dyn Fn() -> BoxFuture<'static, Vec<(String, String)>> + Send + Sync>;

/// Tells whether requests can be sent to this process, even when something beside it is wrong.
pub type Accepting = Arc<dyn Fn() -> BoxFuture<'static, bool> + Send + Sync>;

/// `/health` (alive), `/ready` (and what is wrong, by part), `/ready/traffic` (whether to send requests here) and
/// `/metrics`: open to probes, they tell no data.
pub fn health_routes(readiness: Readiness, accepting: Accepting) -> Router {
    let traffic = move || {
        let accepting = accepting.clone();
        async move { if accepting().await { (StatusCode::OK, "OK") } else { (StatusCode::SERVICE_UNAVAILABLE, "not yet") } }
    };
    let ready = move || {
        let readiness = readiness.clone();
        async move {
            let problems = readiness().await;
            let status = if problems.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            let problems: Vec<Value> =
                problems.into_iter().map(|(part, problem)| json!({"part": part, "problem": problem})).collect();
            let body = json!({"ready": problems.is_empty(), "problems": problems});
            (status, [(CONTENT_TYPE, "application/json")], body.to_string())
        }
    };
    let alive = || async { "OK" };
    let router = Router::new().route("/health", get(alive)).route("/ready", get(ready));
    router.route("/ready/traffic", get(traffic)).route(
        "/metrics",
        get(|| async {
            ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], fishy_telemetry::render_metrics())
                .into_response()
        }),
    )
}

/// Serves HTTP/1 and HTTP/2 until `stop`; then takes no new connections and gives open requests `grace` to end.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken, grace: Duration) -> Result<()> {
    let draining = Draining(stop.clone());
    let service = tower::service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(draining.clone());
        router.clone().oneshot(request)
    });
    let graceful = GracefulShutdown::new();
    let mut builder = Builder::new(TokioExecutor::new());
    // The windows that HTTP/2 begins with (64 kB) hold up a tensor of an image for several round trips.
    let mut http2 = builder.http2();
    http2.initial_stream_window_size(1 << 20).initial_connection_window_size(4 << 20);
    http2.timer(hyper_util::rt::TokioTimer::new()).keep_alive_interval(Duration::from_secs(30));
    builder.http1().header_read_timeout(Duration::from_secs(30)).timer(hyper_util::rt::TokioTimer::new());
    loop {
        let accepted: std::io::Result<(_, SocketAddr)> = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        // Small answers must not wait for Nagle's algorithm.
        let _ = stream.set_nodelay(true);
        let service = TowerToHyperService::new(service.clone());
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned();
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection ended");
            }
        });
    }
    drop(listener);
    tokio::time::timeout(grace, graceful.shutdown())
        .await
        .map_err(|_| Error::unavailable(format!("requests were still open after {} ms", grace.as_millis())))
}
