//! The calls of webhooks. What is to be called is written with the change (`webhooks.rs`) and made from here, by one of
//! all replicas, at least once: a process that is killed between a call and its note makes the call again, under the
//! same delivery id.
//!
//! The calls of one webhook are made in the order of the changes: one that fails is tried again with growing pauses, and
//! those behind it wait. Webhooks do not wait for each other.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use fishy_config::Config;
use fishy_core::{Error, Result, time};
use fishy_db::{Db, Leader};
use futures::{StreamExt, TryStreamExt};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::Registry;
use crate::domain::webhook::{self, Reach};
use crate::seal::Seal;
use crate::store::webhooks::{self as store, Attempt, Due};

/// How often to look without being woken: for changes of other replicas, and for what is due again.
const POLL: Duration = Duration::from_millis(500);
/// How many webhooks are called at the same time.
const AT_ONCE: usize = 8;
/// How many calls a webhook gets before it is the turn of others.
const IN_ONE_TURN: i64 = 20;
/// After so many attempts a call has failed.
const MAX_ATTEMPTS: i64 = 15;
/// After this age a call has failed with its next attempt.
const MAX_AGE_MS: i64 = 24 * 60 * 60 * 1_000;
/// The first pause; it doubles with each attempt.
const FIRST_PAUSE_MS: i64 = 1_000;
/// The longest pause.
const MAX_PAUSE_MS: i64 = 10 * 60 * 1_000;
/// How long the log keeps calls that have ended.
const KEPT_MS: i64 = 30 * 24 * 60 * 60 * 1_000;
/// How often the log is trimmed.
const TRIM_MS: i64 = 60 * 60 * 1_000;
/// How much of an answer is read.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// What calls webhooks.
pub(crate) struct Calls {
    pub reach: Reach,
    pub seal: Seal,
    /// Rung when something is to be called.
    pub bell: Notify,
    http: reqwest::Client,
}

/// What a receiver answered.
pub(crate) struct Answered {
    pub status: u16,
    pub text: String,
    /// How long it wants not to be called, in milliseconds.
    retry_after_ms: Option<i64>,
}

/// Looks names up, and refuses those that stand for private addresses. What it answers is what is connected to: a name
/// that stands for something else a moment later gains nothing.
struct Resolver(Reach);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let reach = self.0.clone();
        Box::pin(async move {
            let host = name.as_str().trim_end_matches('.').to_owned();
            let found: Vec<SocketAddr> = tokio::net::lookup_host((host.as_str(), 0)).await?.collect();
            if let Some(private) = found.iter().find(|address| !reach.allows(&host, address.ip())) {
                return Err(webhook::refusal(&host, Some(private.ip())).into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// An error with its causes; the URL may hold a token and is left out.
fn text_of(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text.chars().take(1_000).collect()
}

impl Calls {
    pub fn new(config: &Config, db: &Db) -> Result<Self> {
        let reach = Reach::new(&config.registry.webhook_private_hosts);
        let http = reqwest::Client::builder()
            .dns_resolver(Arc::new(Resolver(reach.clone())))
            // Either would lead where nobody has looked.
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .timeout(Duration::from_millis(config.registry.webhook_timeout_ms))
            .user_agent(concat!("fishy/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| Error::internal("cannot build an HTTP client").with_source(error))?;
        Ok(Self { reach, seal: Seal::open(config, db)?, bell: Notify::new(), http })
    }

    /// Calls once. The error is a text for the log of the webhook.
    pub async fn call(
        &self,
        url: &str,
        secret: Option<&str>,
        delivery_id: &str,
        body: &str,
        now_ms: i64,
    ) -> std::result::Result<Answered, String> {
        // Again: an operator may have taken a host off the list.
        let url = self.reach.url(url).map_err(|error| error.message().to_owned())?;
        let unix_time = now_ms.div_euclid(1_000).to_string();
        let mut request = self
            .http
            .post(url)
            .header("content-type", "application/json")
            .header("x-mlflow-delivery-id", delivery_id)
            .header("x-mlflow-timestamp", &unix_time);
        if let Some(secret) = secret {
            let signed = webhook::signature(secret, delivery_id, &unix_time, body);
            request = request.header("x-mlflow-signature", signed.map_err(|error| error.message().to_owned())?);
        }
        let answer = request.body(body.to_owned()).send().await.map_err(text_of)?;
        let status = answer.status().as_u16();
        let retry_after = answer.headers().get("retry-after").and_then(|value| value.to_str().ok());
        let retry_after_ms = retry_after.and_then(|value| value.parse::<i64>().ok()).map(|s| s.saturating_mul(1_000));
        let mut text = Vec::new();
        let mut stream = answer.bytes_stream();
        // What it answered counts, even when its text breaks off.
        while let Some(Ok(part)) = stream.next().await {
            text.extend_from_slice(&part[..part.len().min(MAX_ANSWER_BYTES - text.len())]);
            if text.len() == MAX_ANSWER_BYTES {
                break;
            }
        }
        Ok(Answered { status, text: String::from_utf8_lossy(&text).into_owned(), retry_after_ms })
    }
}

/// How long to wait after so many attempts.
fn pause_ms(attempts: i64) -> i64 {
    FIRST_PAUSE_MS.saturating_mul(1 << attempts.clamp(1, 30).saturating_sub(1)).min(MAX_PAUSE_MS)
}

impl Registry {
    /// Calls webhooks until `stop`.
    pub async fn call_webhooks(&self, stop: &CancellationToken) {
        let mut leader = Leader::new(&self.db, "webhooks");
        let mut trimmed_ms = i64::MIN;
        while !stop.is_cancelled() {
            let worked = async {
                if leader.leads().await? {
                    self.call_due(stop).await?;
                    let now_ms = self.env.now_ms();
                    if now_ms.saturating_sub(trimmed_ms) >= TRIM_MS {
                        trimmed_ms = now_ms;
                        let mut tx = self.db.begin().await?;
                        store::forget_before(&mut tx, now_ms - KEPT_MS).await?;
                        tx.commit().await?;
                    }
                }
                Ok::<_, Error>(())
            };
            if let Err(error) = worked.await {
                tracing::warn!(error = error.chain(), "webhooks cannot be called now");
            }
            tokio::select! {
                () = self.calls.bell.notified() => {}
                () = tokio::time::sleep(POLL) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    /// Makes all calls that are due.
    async fn call_due(&self, stop: &CancellationToken) -> Result<()> {
        loop {
            let due = store::due_webhooks(&mut &self.db, self.env.now_ms()).await?;
            if due.is_empty() || stop.is_cancelled() {
                return Ok(());
            }
            let turns = futures::stream::iter(due).map(|id| async move { self.turn(&id, stop).await });
            turns.buffer_unordered(AT_ONCE).try_collect::<()>().await?;
        }
    }

    /// Makes some calls of one webhook, in their order, up to the first that must be tried again.
    async fn turn(&self, id: &str, stop: &CancellationToken) -> Result<()> {
        let Some(webhook) = store::get(&mut &self.db, id).await? else { return Ok(()) };
        let secret = self.webhook_secret(id).await;
        for due in store::due(&mut &self.db, id, IN_ONE_TURN).await? {
            if stop.is_cancelled() {
                return Ok(());
            }
            let called = match &secret {
                Ok(secret) => {
                    let (id, body) = (&due.delivery_id, &due.body);
                    let call = self.calls.call(&webhook.url, secret.as_deref(), id, body, self.env.now_ms());
                    tokio::select! {
                        called = call => called,
                        // Nobody waits for a slow receiver at the end: the next start calls it again.
                        () = stop.cancelled() => return Ok(()),
                    }
                }
                Err(error) => Err(error.message().to_owned()),
            };
            if !self.note(id, &due, called).await? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Notes what became of a call; tells whether the next one may be made.
    async fn note(&self, id: &str, due: &Due, called: std::result::Result<Answered, String>) -> Result<bool> {
        let now_ms = self.env.now_ms();
        let attempts = due.attempts + 1;
        let (status, error, is_final, retry_after_ms) = match called {
            Ok(Answered { status, .. }) if status < 300 => (Some(status), None, true, None),
            // Asking again what was refused or led elsewhere would be refused again.
            Ok(Answered { status, retry_after_ms, .. }) => {
                let is_final = status < 500 && ![408, 425, 429].contains(&status);
                (Some(status), Some(format!("the receiver answered {status}")), is_final, retry_after_ms)
            }
            Err(error) => (None, Some(error), false, None),
        };
        let has_failed = is_final || attempts >= MAX_ATTEMPTS || now_ms - due.time_ms > MAX_AGE_MS;
        let state = match (&error, has_failed) {
            (None, _) => "delivered",
            (Some(_), true) => "failed",
            (Some(_), false) => "pending",
        };
        let pause = pause_ms(attempts).max(retry_after_ms.unwrap_or(0).min(MAX_PAUSE_MS));
        let attempt = Attempt {
            state,
            attempts,
            next_ms: now_ms + pause,
            last_ms: now_ms,
            status: status.map(i64::from),
            error: error.as_deref(),
        };
        let mut tx = self.db.begin().await?;
        store::attempted(&mut tx, due.seq, &attempt).await?;
        tx.commit().await?;
        metrics::counter!("fishy_registry_webhook_calls_total", "state" => state).increment(1);
        if let Some(error) = &error {
            let next = (state == "pending").then(|| time::rfc3339(attempt.next_ms));
            tracing::warn!(webhook_id = id, delivery_id = due.delivery_id, attempts, error, next, "a webhook failed");
        }
        Ok(state != "pending")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_bound() {
        let pauses: Vec<i64> = (1..=4).map(pause_ms).collect();
        assert_eq!(pauses, [1_000, 2_000, 4_000, 8_000]);
        assert_eq!(pause_ms(MAX_ATTEMPTS), MAX_PAUSE_MS);
        assert_eq!(pause_ms(i64::MAX), MAX_PAUSE_MS);
    }
}
