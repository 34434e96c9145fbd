use std::time::Duration;

use fishy_config::{PredictionSink, Secret, SinkMode};
use fishy_core::{Error, Result};
use futures::{StreamExt, TryStreamExt, stream};
use hmac::{Hmac, KeyInit, Mac};
use reqwest::{Client, RequestBuilder, StatusCode, Url};
use sha2::Sha256;

use super::{Failure, LONGEST_RETRY_AFTER, Taken};
use crate::domain::cloud_event::{CloudEvent, header_value};

/// Requests of single events that are open at the same time.
const OPEN_REQUESTS: usize = 16;

/// Events over HTTP, as the HTTP binding of CloudEvents has them.
pub(super) struct HttpDoor {
    client: Client,
    url: Url,
    mode: SinkMode,
    token: Secret,
    secret: Secret,
}

impl HttpDoor {
    pub(super) fn new(url: &str, settings: &PredictionSink) -> Result<Self> {
        if !settings.queue.is_empty() || !settings.exchange.is_empty() {
            return Err(Error::invalid("queue and exchange are for RabbitMQ: with an http URL leave them out"));
        }
        // The URL may hold a token: it is not repeated.
        let url = Url::parse(url)
            .ok()
            .filter(Url::has_host)
            .ok_or_else(|| Error::invalid("url: use http://host/path or https://host/path"))?;
        let client = Client::builder()
            .timeout(Duration::from_millis(settings.timeout_ms))
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("fishy/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| Error::internal("cannot make an HTTP client").with_source(error))?;
        let mode = settings.mode.unwrap_or(SinkMode::Batched);
        Ok(Self { client, url, mode, token: settings.token.clone(), secret: settings.secret.clone() })
    }

    /// Answers when the sink has all of them.
    pub(super) async fn send(&self, events: &[CloudEvent<'_>], now_ms: i64) -> Result<Taken, Failure> {
        if self.mode == SinkMode::Batched {
            return self.send_batch(events, now_ms).await;
        }
        let requests: Vec<_> = events.iter().map(|event| self.send_one(event, now_ms)).collect();
        let taken: Vec<bool> = stream::iter(requests).buffer_unordered(OPEN_REQUESTS).try_collect().await?;
        let sent = taken.iter().filter(|is_taken| **is_taken).count() as u64;
        Ok(Taken { sent, refused: taken.len() as u64 - sent })
    }

    /// Events in one request; in halves where they are too large together.
    async fn send_batch(&self, events: &[CloudEvent<'_>], now_ms: i64) -> Result<Taken, Failure> {
        let mut taken = Taken::default();
        let mut parts = vec![events];
        while let Some(part) = parts.pop() {
            let mut body = vec![b'['];
            for (place, event) in part.iter().enumerate() {
                if place > 0 {
                    body.push(b',');
                }
                event.write_json(&mut body)?;
            }
            body.push(b']');
            let request = self.client.post(self.url.clone());
            let request = request.header("content-type", "application/cloudevents-batch+json; charset=utf-8");
            match self.post(request, body, now_ms).await? {
                true => taken.sent += part.len() as u64,
                false if part.len() == 1 => taken.refused += 1,
                false => {
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.extend([second, first]);
                }
            }
        }
        Ok(taken)
    }

    async fn send_one(&self, event: &CloudEvent<'_>, now_ms: i64) -> Result<bool, Failure> {
        let mut request = self.client.post(self.url.clone());
        let mut body = Vec::new();
        if self.mode == SinkMode::Structured {
            event.write_json(&mut body)?;
            request = request.header("content-type", "application/cloudevents+json; charset=utf-8");
        } else {
            body.extend_from_slice(&event.data);
            request = request.header("content-type", "application/json");
            for (name, value) in event.texts() {
                request = request.header(format!("ce-{name}"), header_value(&value));
            }
        }
        self.post(request, body, now_ms).await
    }

    /// One request: `false` when it is too large for the sink. Whatever else is not taken has to be sent again.
    async fn post(&self, mut request: RequestBuilder, body: Vec<u8>, now_ms: i64) -> Result<bool, Failure> {
        if !self.token.is_empty() {
            request = request.bearer_auth(self.token.expose());
        }
        if !self.secret.is_empty() {
            let signature = signature(self.secret.expose(), now_ms, &body)?;
            request = request.header("fishy-timestamp", now_ms.to_string()).header("fishy-signature", signature);
        }
        let answer = request.body(body).send().await;
        let answer = answer.map_err(|error| {
            let what = if error.is_timeout() { "it did not answer in time" } else { "it cannot be reached" };
            Error::unavailable(what).with_source(error.without_url())
        })?;
        let status = answer.status();
        if status.is_success() {
            return Ok(true);
        }
        if status == StatusCode::PAYLOAD_TOO_LARGE {
            return Ok(false);
        }
        let after = answer.headers().get("retry-after").and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let after = after.map(|seconds| Duration::from_secs(seconds).min(LONGEST_RETRY_AFTER));
        Err(Failure { error: Error::unavailable(format!("it answered {}", status.as_u16())), after })
    }
}

/// `sha256=` and the HMAC of time, dot and body, as our other webhooks have it.
fn signature(secret: &str, now_ms: i64, body: &[u8]) -> Result<String> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes())
        .map_err(|_| Error::internal("a key that HMAC does not take"))?;
    for part in [now_ms.to_string().as_bytes(), b".", body] {
        mac.update(part);
    }
    Ok(format!("sha256={}", hex::encode(mac.finalize().into_bytes())))
}
