//! Puts a load to a server: connections that each ask again as soon as they are answered.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, TE};
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::LocalSet;

use crate::requests::end_of;
use crate::server::Server;

const INFER: &str = "/inference.GRPCInferenceService/ModelInfer";

/// No server takes longer for one answer, unless it hangs.
const PATIENCE: Duration = Duration::from_mins(1);

/// What is asked, and how often at the same time.
#[derive(Debug, Clone)]
pub struct Load {
    pub requests: Rc<Vec<Bytes>>,
    pub connections: usize,
    pub is_grpc: bool,
    /// The `authorization` header of gRPC; HTTP requests are whole and have it.
    pub bearer: Option<String>,
}

/// What was measured.
#[derive(Debug, Clone, Copy)]
pub struct Measured {
    pub per_second: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    /// User and system time of the server's processes for one request, until the server was at rest again: what is done for
    /// a request after its answer counts as well.
    pub cpu_us: f64,
}

/// Runs a load for so long, after a quarter of that to warm up.
pub async fn measure(server: &Server, load: &Load, duration: Duration) -> Result<Measured> {
    run(server, load, Instant::now() + duration / 4).await?;
    server.rest().await?;
    let before = server.usage()?;
    let started = Instant::now();
    let mut times = run(server, load, started + duration).await?;
    let seconds = started.elapsed().as_secs_f64();
    server.rest().await?;
    let cpu_s = server.usage()?.cpu_s - before.cpu_s;
    times.sort_unstable();
    let count = times.len() as f64;
    let at = |part: f64| times.get((count * part) as usize).map_or(f64::NAN, |time| time.as_secs_f64() * 1e6);
    Ok(Measured { per_second: count / seconds, p50_us: at(0.5), p99_us: at(0.99), cpu_us: cpu_s * 1e6 / count })
}

/// The times of all requests that were begun before `until`.
async fn run(server: &Server, load: &Load, until: Instant) -> Result<Vec<Duration>> {
    let tasks = LocalSet::new();
    let running: Vec<_> = (0..load.connections)
        .map(|number| {
            let (load, address) = (load.clone(), if load.is_grpc { server.grpc } else { server.http });
            tasks.spawn_local(async move {
                let mut connection = Connection::open(address, &load).await?;
                let mut times = Vec::new();
                // Each connection begins at another request.
                for request in load.requests.iter().cycle().skip(number) {
                    let begun = Instant::now();
                    if begun >= until {
                        break;
                    }
                    tokio::time::timeout(PATIENCE, connection.ask(request)).await.context("no answer")??;
                    times.push(begun.elapsed());
                }
                anyhow::Ok(times)
            })
        })
        .collect();
    let mut all = Vec::new();
    for task in tasks.run_until(futures::future::join_all(running)).await {
        all.extend(task??);
    }
    Ok(all)
}

/// One request, answered with success.
pub async fn ask_once(address: SocketAddr, request: &Bytes) -> Result<()> {
    let mut connection = Connection::http(address).await?;
    tokio::time::timeout(PATIENCE, connection.ask(request)).await.context("no answer")?
}

enum Connection {
    Http { stream: TcpStream, buffer: Vec<u8> },
    Grpc { sender: http2::SendRequest<Full<Bytes>>, template: Request<()> },
}

impl Connection {
    async fn open(address: SocketAddr, load: &Load) -> Result<Self> {
        if load.is_grpc { Self::grpc(address, load.bearer.as_deref()).await } else { Self::http(address).await }
    }

    async fn http(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self::Http { stream, buffer: Vec::with_capacity(16 * 1024) })
    }

    async fn grpc(address: SocketAddr, bearer: Option<&str>) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let mut template = Request::post(format!("http://{address}{INFER}"))
            .header(CONTENT_TYPE, "application/grpc")
            .header(TE, "trailers");
        if let Some(token) = bearer {
            template = template.header("authorization", format!("Bearer {token}"));
        }
        Ok(Self::Grpc { sender, template: template.body(())? })
    }

    async fn ask(&mut self, request: &Bytes) -> Result<()> {
        match self {
            Self::Http { stream, buffer } => {
                stream.write_all(request).await?;
                buffer.clear();
                loop {
                    if stream.read_buf(buffer).await? == 0 {
                        bail!("the server closed the connection");
                    }
                    if end_of(buffer)?.is_some() {
                        return Ok(());
                    }
                }
            }
            Self::Grpc { sender, template } => {
                sender.ready().await?;
                let answer = sender.send_request(template.clone().map(|()| Full::new(request.clone()))).await?;
                let head = answer.headers().clone();
                let body = answer.into_body().collect().await?;
                let status = |headers: &HeaderMap| headers.get("grpc-status").map(|status| status == "0");
                if body.trailers().and_then(status).or_else(|| status(&head)) != Some(true) {
                    bail!("the call failed: {:?}", body.trailers().unwrap_or(&head));
                }
                Ok(())
            }
        }
    }
}
