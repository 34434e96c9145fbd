//! The same loop as five services in six processes, over PostgreSQL and RabbitMQ, where everyone must say who they are.

use std::fmt::Write;
use std::net::TcpListener;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use sqlx::{Connection, Executor, PgConnection};

use super::rig::{estuary, fishy, python, replay};

/// Ends with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn setting(name: &str, default: &str) -> String {
    #[expect(clippy::disallowed_methods, reason = "tests find their services by environment")]
    std::env::var(name).unwrap_or_else(|_| default.to_owned())
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// What stands before the services in a cluster: sends each path to its service, in turn where there are replicas.
struct Ingress {
    http: reqwest::Client,
    turn: AtomicUsize,
    ports: Vec<(&'static str, Vec<u16>)>,
}

impl Ingress {
    fn service_of(path: &str) -> &'static str {
        let owners = [
            ("/v2", "deployment"),
            ("/deployments", "deployment"),
            ("/api/v1/deployments", "deployment"),
            ("/api/v1/graphs", "deployment"),
            ("/api/v1/monitors", "monitoring"),
            ("/api/v1/feedback", "monitoring"),
            ("/api/v1/predictions", "monitoring"),
            ("/api/v1/pipeline", "pipelines"),
            ("/api/v1/promotions", "governance"),
            ("/api/v1/audit", "governance"),
            ("/api/v1/policies", "governance"),
        ];
        owners.iter().find(|(prefix, _)| path.starts_with(prefix)).map_or("registry", |(_, service)| service)
    }

    async fn pass(State(ingress): State<Arc<Self>>, request: Request) -> Response {
        let service = Self::service_of(request.uri().path());
        let ports = &ingress.ports.iter().find(|(name, _)| *name == service).unwrap().1;
        let port = ports[ingress.turn.fetch_add(1, Ordering::SeqCst) % ports.len()];
        let (parts, body) = request.into_parts();
        let url = format!("http://127.0.0.1:{port}{}", parts.uri);
        let body = reqwest::Body::wrap_stream(body.into_data_stream());
        let mut headers = parts.headers;
        headers.remove("host");
        match ingress.http.request(parts.method, url).headers(headers).body(body).send().await {
            Ok(answer) => {
                let (status, headers) = (answer.status(), answer.headers().clone());
                (status, headers, Body::from_stream(answer.bytes_stream())).into_response()
            }
            Err(error) => (axum::http::StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
        }
    }
}

/// What the services of this installation show each other.
const SECRET: &str = "thirty-two characters or a few more";

#[test]
fn five_services_over_postgresql_and_rabbitmq_run_the_same_loop() {
    let Some(data) = estuary() else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let server = setting("FISHY_TEST_POSTGRES", "postgres://postgres@127.0.0.1:5432/test");
    let broker = setting("FISHY_TEST_AMQP", "amqp://guest:guest@127.0.0.1:5672/%2f");
    let name = format!("fishy_loop_{}", std::process::id());
    let execute = |sql: String| {
        runtime.block_on(async {
            let mut connection = PgConnection::connect(&server).await.unwrap();
            connection.execute(sqlx::AssertSqlSafe(sql)).await.unwrap();
        });
    };
    execute(format!("drop database if exists {name} with (force)"));
    execute(format!("create database {name}"));
    let database = format!("{}/{name}", server.rsplit_once('/').unwrap().0);

    let administrator = fishy()
        .args(["token", "create", "replay", "--role", "admin", "--offline"])
        .env("FISHY__STORAGE__DATABASE", &database)
        .output()
        .unwrap();
    assert!(administrator.status.success(), "{}", String::from_utf8_lossy(&administrator.stderr));
    let token = String::from_utf8(administrator.stdout).unwrap().trim().to_owned();

    let services = ["governance", "registry", "deployment", "deployment", "monitoring", "pipelines"];
    let ports: Vec<u16> = services.iter().map(|_| free_port()).collect();
    let port_of = |service: &str| ports[services.iter().position(|name| *name == service).unwrap()];
    let processes: Vec<Process> = services
        .iter()
        .zip(&ports)
        .enumerate()
        .map(|(place, (service, port))| {
            let data_dir = folder.path().join(format!("{service}-{place}"));
            let log = std::fs::File::create(folder.path().join(format!("{service}-{place}.log"))).unwrap();
            let mut command = fishy();
            command.args(["serve", "--service", service, "--listen", &format!("127.0.0.1:{port}"), "--data-dir"]);
            command.arg(&data_dir).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
            command.env("FISHY__STORAGE__DATABASE", &database);
            command.env("FISHY__STORAGE__DATABASE_CONNECTIONS", "5");
            command.env("FISHY__STORAGE__ARTIFACTS", format!("file://{}", folder.path().join("objects").display()));
            command.env("FISHY__BUS__URL", &broker).env("FISHY__BUS__PREFIX", &name);
            command.env("FISHY__AUTH__TOKENS", "true").env("FISHY__AUTH__INTERNAL_SECRET", SECRET);
            command.env("FISHY__PIPELINES__PYTHON", python());
            for other in ["governance", "registry", "deployment", "monitoring", "pipelines"] {
                if other != *service {
                    let url = format!("http://127.0.0.1:{}", port_of(other));
                    command.env(format!("FISHY__SERVICES__{}", other.to_uppercase()), url);
                }
            }
            Process(command.spawn().unwrap())
        })
        .collect();

    let logs = || {
        let mut text = String::new();
        for (place, service) in services.iter().enumerate() {
            let log = std::fs::read_to_string(folder.path().join(format!("{service}-{place}.log"))).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines[lines.len().saturating_sub(12)..].join("\n");
            let _ = writeln!(text, "--- {service}-{place}\n{tail}");
        }
        text
    };
    let url = runtime.block_on(async {
        let http = reqwest::Client::new();
        let started = Instant::now();
        for port in &ports {
            while http.get(format!("http://127.0.0.1:{port}/health")).send().await.is_err() {
                assert!(started.elapsed() < Duration::from_mins(1), "not all services came up\n{}", logs());
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        let ports = ["governance", "registry", "deployment", "monitoring", "pipelines"].map(|wanted| {
            let of = services.iter().zip(&ports).filter(|(service, _)| **service == wanted).map(|(_, port)| *port);
            (wanted, of.collect::<Vec<_>>())
        });
        let ingress = Ingress { http, turn: AtomicUsize::new(0), ports: ports.to_vec() };
        let router = Router::new().fallback(Ingress::pass).with_state(Arc::new(ingress));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        url
    });

    let stranger = runtime.block_on(reqwest::get(format!("{url}/api/v1/monitors"))).unwrap();
    assert_eq!(stranger.status(), 401, "whoever says nothing is nobody");
    let data = data.display().to_string();
    let mut arguments = vec!["--example", "virtual-oxygen", "--data", &data, "--end", "2012-08-01", "--no-baselines"];
    arguments.extend(["--url", &url, "--token", &token]);
    let report =
        std::panic::catch_unwind(|| replay(folder.path(), &arguments)).unwrap_or_else(|_| panic!("{}", logs()));
    assert_eq!(report["failed_requests"], 0, "{report:#}");
    assert_eq!(report["lost"], 0, "{report:#}\n{}", logs());
    assert!(report["retrains"].as_u64().unwrap() >= 1, "{report:#}");
    assert_eq!(report["failed_runs"], 0, "{report:#}");
    assert!(report["audit"].as_str().unwrap().starts_with("intact"), "{report:#}");
    for (place, service) in services.iter().enumerate() {
        let log = std::fs::read_to_string(folder.path().join(format!("{service}-{place}.log"))).unwrap();
        assert!(!log.contains(SECRET) && !log.contains(&token), "a secret in the log of {service}");
    }
    drop(processes);
    execute(format!("drop database if exists {name} with (force)"));
}
