//! Puts a load to a server: clients that each ask again as soon as they are answered, over kept connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use reqwest::Client;

use crate::server::Server;

/// How many ask at the same time.
pub const CLIENTS: u64 = 8;
/// Requests before the clock starts: caches are warm, and statements are prepared.
const WARM_UP: u64 = 16;

/// A request.
#[derive(Debug, Clone)]
pub enum Ask {
    /// A GET of a path with its query.
    Get(String),
    /// A POST of JSON.
    Post(&'static str, Bytes),
}

/// What a load is: the request number `n` of all, by client `client`.
pub type Load = Arc<dyn Fn(u64, u64) -> Ask + Send + Sync>;

/// What was measured.
#[derive(Debug, Clone, Copy)]
pub struct Measured {
    pub per_second: f64,
    pub p50_ms: f64,
    pub p95_ms: f64,
    pub p99_ms: f64,
    /// User and system time of the server's processes.
    pub cpu_ms: f64,
}

/// A client with connections that stay open.
pub fn client() -> Result<Client> {
    Ok(Client::builder()
        .no_proxy()
        .pool_max_idle_per_host(CLIENTS as usize)
        .timeout(Duration::from_mins(10))
        .build()?)
}

/// Asks once; anything but success is an error that tells the answer.
pub async fn ask(client: &Client, url: &str, ask: Ask) -> Result<Bytes> {
    let request = match &ask {
        Ask::Get(path) => client.get(format!("{url}{path}")),
        Ask::Post(path, body) => {
            client.post(format!("{url}{path}")).header("content-type", "application/json").body(body.clone())
        }
    };
    let answer = request.send().await.with_context(|| format!("{ask:?}"))?;
    let status = answer.status();
    let body = answer.bytes().await?;
    if !status.is_success() {
        let ask = format!("{ask:?}").chars().take(300).collect::<String>();
        bail!("{ask} was answered {status}: {}", String::from_utf8_lossy(&body));
    }
    Ok(body)
}

/// Runs a load for so long, and until every client has been answered once.
pub async fn measure(server: &Server, load: &Load, clients: u64, duration: Duration) -> Result<Measured> {
    let client = client()?;
    let numbers = Arc::new(AtomicU64::new(0));
    // A slow server is not asked more than once each for warming up.
    let warming = Instant::now();
    let warm = run(&client, server, load, clients, &numbers, move |n| n >= WARM_UP || warming.elapsed() > duration / 4);
    warm.await?;
    let before = server.usage()?;
    let started = Instant::now();
    let times = run(&client, server, load, clients, &numbers, move |_| started.elapsed() >= duration).await?;
    let seconds = started.elapsed().as_secs_f64();
    let cpu_s = server.usage()?.cpu_s - before.cpu_s;
    let mut all: Vec<f64> = times.into_iter().flatten().collect();
    all.sort_by(f64::total_cmp);
    let at = |part: f64| all.get(((all.len() as f64 * part) as usize).min(all.len() - 1)).copied().unwrap_or(f64::NAN);
    Ok(Measured {
        per_second: all.len() as f64 / seconds,
        p50_ms: at(0.5),
        p95_ms: at(0.95),
        p99_ms: at(0.99),
        cpu_ms: cpu_s * 1_000.0 / all.len() as f64,
    })
}

async fn run(
    client: &Client,
    server: &Server,
    load: &Load,
    clients: u64,
    numbers: &Arc<AtomicU64>,
    is_enough: impl Fn(u64) -> bool + Clone + Send + 'static,
) -> Result<Vec<Vec<f64>>> {
    let workers = (0..clients).map(|number| {
        let (client, url, load) = (client.clone(), server.url.clone(), Arc::clone(load));
        let (numbers, is_enough) = (Arc::clone(numbers), is_enough.clone());
        tokio::spawn(async move {
            let mut times = Vec::new();
            loop {
                let n = numbers.fetch_add(1, Ordering::Relaxed);
                let started = Instant::now();
                ask(&client, &url, load(n, number)).await?;
                times.push(started.elapsed().as_secs_f64() * 1_000.0);
                if is_enough(n) {
                    return anyhow::Ok(times);
                }
            }
        })
    });
    futures::future::join_all(workers).await.into_iter().map(|worker| worker?).collect()
}
