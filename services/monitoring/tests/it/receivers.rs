//! Real receivers of alerts: an HTTP server that can be away, a mail server, and Debian's Alertmanager.

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

/// Waits for something that happens in its own time.
pub async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let started = std::time::Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(started.elapsed() < Duration::from_mins(1), "waited too long for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What a hook got: headers and body.
pub type Got = Arc<Mutex<Vec<(HeaderMap, Bytes)>>>;

/// An HTTP server that keeps what is posted to it; it answers 503 while it is away.
pub struct Hook {
    pub address: SocketAddr,
    pub got: Got,
    pub is_away: Arc<std::sync::atomic::AtomicBool>,
}

impl Hook {
    pub async fn start() -> Self {
        let got = Got::default();
        let is_away = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let take = |State((got, is_away)): State<(Got, Arc<std::sync::atomic::AtomicBool>)>,
                    headers: HeaderMap,
                    body: Bytes| async move {
            if is_away.load(std::sync::atomic::Ordering::SeqCst) {
                return StatusCode::SERVICE_UNAVAILABLE;
            }
            got.lock().unwrap().push((headers, body));
            StatusCode::OK
        };
        let router = axum::Router::new().fallback(take).with_state((got.clone(), is_away.clone()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, got, is_away }
    }

    pub fn away(&self, is_away: bool) {
        self.is_away.store(is_away, std::sync::atomic::Ordering::SeqCst);
    }

    pub fn bodies(&self) -> Vec<Value> {
        self.got.lock().unwrap().iter().map(|(_, body)| serde_json::from_slice(body).unwrap()).collect()
    }
}

/// A mail server that keeps the messages it is given.
pub async fn mail_server() -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let mails = Arc::new(Mutex::new(Vec::new()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let kept = mails.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let kept = kept.clone();
            tokio::spawn(async move {
                let (read, mut write) = stream.into_split();
                let mut lines = BufReader::new(read).lines();
                write.write_all(b"220 mail.test ESMTP\r\n").await.unwrap();
                let (mut mail, mut is_data) = (String::new(), false);
                while let Ok(Some(line)) = lines.next_line().await {
                    let answer = match line.as_str() {
                        "." if is_data => {
                            is_data = false;
                            kept.lock().unwrap().push(std::mem::take(&mut mail));
                            "250 kept\r\n"
                        }
                        line if is_data => {
                            mail.push_str(line);
                            mail.push('\n');
                            continue;
                        }
                        "DATA" => {
                            is_data = true;
                            "354 go on\r\n"
                        }
                        "QUIT" => "221 bye\r\n",
                        line => {
                            if line.starts_with("RCPT") || line.starts_with("MAIL") {
                                mail.push_str(line);
                                mail.push('\n');
                            }
                            "250 mail.test\r\n"
                        }
                    };
                    write.write_all(answer.as_bytes()).await.unwrap();
                }
            });
        }
    });
    (address, mails)
}

/// A real Alertmanager that tells a hook.
pub struct Alertmanager {
    pub url: String,
    _process: tokio::process::Child,
    _dir: tempfile::TempDir,
}

impl Alertmanager {
    pub async fn start(hook: SocketAddr) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("alertmanager.yml");
        let text = format!(
            "route:\n  receiver: hook\n  group_by: [monitor]\n  group_wait: 0s\n  group_interval: 1s\n\
             receivers:\n- name: hook\n  webhook_configs:\n  - url: http://{hook}/\n    send_resolved: true\n"
        );
        std::fs::write(&config, text).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let process = tokio::process::Command::new("prometheus-alertmanager")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.path={}", dir.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--cluster.listen-address=")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            // Of Debian, like PostgreSQL: the set-up of the tests installs it.
            .unwrap();
        let url = format!("http://127.0.0.1:{port}");
        let manager = Self { url, _process: process, _dir: dir };
        until("the Alertmanager", async || manager.alerts().await).await;
        manager
    }

    /// Its alerts; `None` while it does not answer.
    pub async fn alerts(&self) -> Option<Vec<Value>> {
        reqwest::get(format!("{}/api/v2/alerts", self.url)).await.ok()?.json().await.ok()
    }
}
