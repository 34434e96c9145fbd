//! Somebody who takes events over HTTP and counts them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::routing::post;
use bytes::Bytes;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A sink that can be away.
pub struct Sink {
    address: SocketAddr,
    seen: Arc<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    events: AtomicU64,
    /// A bit for each number.
    numbers: Vec<AtomicU64>,
}

#[derive(Deserialize)]
struct Event<'a> {
    id: &'a str,
}

impl Sink {
    /// One whose port is closed, for events of the numbers below `records`.
    pub async fn away(records: u64) -> Result<Self> {
        let address = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
        let numbers = (0..=records / 64).map(|_| AtomicU64::new(0)).collect();
        Ok(Self { address, seen: Arc::new(Seen { numbers, ..Seen::default() }) })
    }

    /// Begins to listen.
    pub async fn come(&self) -> Result<JoinHandle<()>> {
        let listener = TcpListener::bind(self.address).await?;
        let router = Router::new()
            .route("/events", post(take))
            .layer(DefaultBodyLimit::disable())
            .with_state(Arc::clone(&self.seen));
        Ok(tokio::spawn(async move {
            // It ends with the benchmark.
            let _ = axum::serve(listener, router).await;
        }))
    }

    pub fn url(&self) -> String {
        format!("http://{}/events", self.address)
    }

    /// Events that came.
    pub fn events(&self) -> u64 {
        self.seen.events.load(Ordering::SeqCst)
    }

    /// Different records among them.
    pub fn different(&self) -> u64 {
        self.seen.numbers.iter().map(|word| u64::from(word.load(Ordering::SeqCst).count_ones())).sum()
    }
}

async fn take(State(seen): State<Arc<Seen>>, body: Bytes) -> StatusCode {
    let Ok(events) = serde_json::from_slice::<Vec<Event<'_>>>(&body) else { return StatusCode::BAD_REQUEST };
    for event in &events {
        let number = event.id.strip_prefix("p-").and_then(|number| number.parse::<u64>().ok());
        let Some((number, word)) = number.and_then(|n| Some((n, seen.numbers.get(n as usize / 64)?))) else {
            return StatusCode::BAD_REQUEST;
        };
        word.fetch_or(1 << (number % 64), Ordering::SeqCst);
    }
    seen.events.fetch_add(events.len() as u64, Ordering::SeqCst);
    StatusCode::OK
}
