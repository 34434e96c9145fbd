//! One of the two servers: calls with timeouts, and again with growing pauses while it is busy or away.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use futures::StreamExt;
use http::header::{AUTHORIZATION, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::Value;

use crate::commands::client::WORKSPACE_HEADER;

/// How often a call is made before it has failed.
const ATTEMPTS: u32 = 6;
/// The first pause; it doubles with each attempt.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest pause, also when the server asks for a longer one.
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// The longest wait for the answer of a call.
const CALL_TIMEOUT: Duration = Duration::from_mins(2);
/// How often a file is begun before it has failed.
pub const FILE_ATTEMPTS: u32 = 4;
/// The longest silence of a server that sends a file.
pub const SILENCE: Duration = Duration::from_mins(2);
/// The largest answer that is read into memory.
const MAX_ANSWER_BYTES: usize = 256 * 1024 * 1024;

/// A server.
pub struct Door {
    /// Its URL without a slash at the end.
    pub base: String,
    /// Whether it is a Databricks workspace.
    pub is_databricks: bool,
    name: &'static str,
    http: reqwest::Client,
    workspace: Option<HeaderValue>,
    /// Sends no token.
    plain: reqwest::Client,
}

/// An answer that says no: trying again would not help.
#[derive(Debug)]
pub struct Refusal {
    /// Its status.
    pub status: StatusCode,
    text: String,
}

impl Refusal {
    /// One that no server has told.
    pub fn new(text: String) -> Self {
        Self { status: StatusCode::CONFLICT, text }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Refusal {}

/// Whether an error is a refusal with this status.
pub fn is_status(error: &anyhow::Error, status: StatusCode) -> bool {
    error.downcast_ref::<Refusal>().is_some_and(|refusal| refusal.status == status)
}

/// The whole body, up to a bound.
async fn whole(answer: Response) -> Result<Vec<u8>> {
    let mut whole = Vec::new();
    let mut parts = answer.bytes_stream();
    while let Some(part) = parts.next().await {
        whole.extend_from_slice(&part.map_err(reqwest::Error::without_url)?);
        if whole.len() > MAX_ANSWER_BYTES {
            bail!("an answer of more than {MAX_ANSWER_BYTES} bytes");
        }
    }
    Ok(whole)
}

impl Door {
    /// `name` is what errors call it. `silence` is how long it may be silent; a server that is sent files is silent for
    /// as long as they take.
    pub fn open(name: &'static str, base: &str, token: Option<&str>, silence: Option<Duration>) -> Result<Self> {
        let mut headers = HeaderMap::new();
        if let Some(token) = token {
            let value = HeaderValue::from_str(&format!("Bearer {token}"));
            let mut value = value.map_err(|_| anyhow!("the token has characters that no header can have"))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let client = |headers: HeaderMap| {
            let mut http = reqwest::Client::builder()
                .default_headers(headers)
                // A token goes nowhere but to the server it was given for.
                .redirect(reqwest::redirect::Policy::none())
                .connect_timeout(Duration::from_secs(10))
                // MLflow's server closes what was idle for a few seconds.
                .pool_idle_timeout(Duration::from_secs(1))
                .user_agent(concat!("fishy/", env!("CARGO_PKG_VERSION")));
            if let Some(silence) = silence {
                http = http.read_timeout(silence);
            }
            http.build()
        };
        Ok(Self {
            base: base.trim_end_matches('/').to_owned(),
            is_databricks: false,
            name,
            http: client(headers)?,
            workspace: None,
            plain: client(HeaderMap::new())?,
        })
    }

    /// The same, for one workspace of it.
    #[must_use]
    pub fn in_workspace(self, workspace: Option<HeaderValue>) -> Self {
        Self { workspace, ..self }
    }

    /// The same as a Databricks workspace, or as an MLflow server.
    #[must_use]
    pub fn databricks(self, is_databricks: bool) -> Self {
        Self { is_databricks, ..self }
    }

    /// A route of registered models and their versions.
    pub fn models(&self, route: &str) -> String {
        let catalog = if self.is_databricks { "unity-catalog/" } else { "" };
        format!("/api/2.0/mlflow/{catalog}{route}")
    }

    /// A request of an address of another server that this one has signed: without the token.
    pub fn unsigned(&self, method: Method, url: reqwest::Url) -> RequestBuilder {
        self.plain.request(method, url)
    }

    /// A request of a path of this server.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match &self.workspace {
            Some(workspace) => request.header(WORKSPACE_HEADER, workspace),
            None => request,
        }
    }

    /// Sends once. `Err` of the inner result is passing: it can be tried again after this pause.
    pub async fn once(&self, request: RequestBuilder) -> Result<std::result::Result<Response, Passing>> {
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) => return Ok(Err(Passing { error: anyhow!(error.without_url()), pause: None })),
        };
        let status = answer.status();
        if status.is_success() {
            return Ok(Ok(answer));
        }
        let pause = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let body = whole(answer).await.unwrap_or_default();
        let told: Value = serde_json::from_slice(&body).unwrap_or_default();
        let message = told["message"].as_str().or_else(|| told["detail"].as_str()).unwrap_or("no reason was given");
        let message: String = message.chars().take(500).collect();
        let text = format!("{} answered {}: {message}", self.name, status.as_u16());
        let is_passing = status == StatusCode::TOO_MANY_REQUESTS
            || (status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED);
        let error = anyhow!(Refusal { status, text });
        if is_passing { Ok(Err(Passing { error, pause: pause.map(Duration::from_secs) })) } else { Err(error) }
    }

    /// Makes a call until it is answered; `request` makes it anew each time.
    async fn answer(&self, request: impl Fn() -> RequestBuilder) -> Result<Response> {
        let mut attempt = 1;
        loop {
            match self.once(request()).await? {
                Ok(answer) => return Ok(answer),
                Err(passing) if attempt < ATTEMPTS => passing.wait(attempt).await,
                Err(passing) => {
                    return Err(passing.error.context(format!("{} fails, tried {ATTEMPTS} times", self.name)));
                }
            }
            attempt += 1;
        }
    }

    async fn json(&self, request: impl Fn() -> RequestBuilder) -> Result<Value> {
        let answer = self.answer(|| request().timeout(CALL_TIMEOUT)).await?;
        let body = whole(answer).await?;
        if body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&body).with_context(|| format!("{} answered something that is no JSON", self.name))
    }

    /// GET, answered with JSON.
    pub async fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Value> {
        self.json(|| self.request(Method::GET, path).query(query)).await
    }

    /// A JSON body, answered with JSON.
    pub async fn send(&self, method: Method, path: &str, body: &Value) -> Result<Value> {
        self.json(|| self.request(method.clone(), path).json(body)).await
    }
}

/// What may be different a moment later.
pub struct Passing {
    /// What went wrong.
    pub error: anyhow::Error,
    pause: Option<Duration>,
}

impl Passing {
    /// Waits before the next attempt.
    pub async fn wait(&self, attempt: u32) {
        let pause = FIRST_PAUSE.saturating_mul(1 << attempt.min(10).saturating_sub(1));
        tokio::time::sleep(self.pause.unwrap_or(pause).min(MAX_PAUSE)).await;
    }

    /// A failure in the middle of a file.
    pub fn of(error: anyhow::Error) -> Self {
        Self { error, pause: None }
    }
}
