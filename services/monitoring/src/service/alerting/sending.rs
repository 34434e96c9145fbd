//! Receivers, and what each is sent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use fishy_config::ReceiverKind;
use fishy_contracts::monitoring::{Alert, Severity};
use fishy_core::time::{MINUTE_MS, rfc3339};
use fishy_core::{Error, Result};
use hmac::{Hmac, KeyInit, Mac};
use lettre::message::Mailbox;
use lettre::transport::smtp::authentication::Credentials;
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::store::alerts::Delivery;

/// A receiver that takes longer is away.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How often an Alertmanager hears that an alert lasts, and how long it may believe so.
const REMIND_MS: i64 = MINUTE_MS;
const BELIEVE_MS: i64 = 5 * MINUTE_MS;
/// Alerts of one e-mail; the others are counted.
const MAX_MAILED: usize = 50;

/// All receivers, by name.
#[derive(Default)]
pub struct Receivers(BTreeMap<String, Receiver>);

impl Receivers {
    /// Reads the configuration; refused where a receiver could not be told anything.
    pub fn new(configured: &BTreeMap<String, fishy_config::Receiver>) -> Result<Self> {
        let mut receivers = BTreeMap::new();
        for (name, configured) in configured {
            let receiver = Receiver::new(configured).map_err(|error| {
                Error::invalid(format!("monitoring.receivers.{name}: {}", error.message())).with_source(error)
            })?;
            receivers.insert(name.clone(), receiver);
        }
        Ok(Self(receivers))
    }

    /// By name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Receiver)> {
        self.0.iter().map(|(name, receiver)| (name.as_str(), receiver))
    }
}

/// One who is told of alerts.
pub struct Receiver {
    configured: fishy_config::Receiver,
    only_alerts: bool,
    way: Way,
    reminded_ms: AtomicI64,
}

enum Way {
    Http { client: reqwest::Client, url: reqwest::Url },
    Mail { transport: Box<AsyncSmtpTransport<Tokio1Executor>>, from: Mailbox, to: Vec<Mailbox> },
}

impl Receiver {
    fn new(configured: &fishy_config::Receiver) -> Result<Self> {
        let only_alerts = match configured.severity.as_str() {
            "warning" => false,
            "alert" => true,
            other => return Err(Error::invalid(format!("severity is {other:?}: use warning or alert"))),
        };
        let way = match configured.kind {
            ReceiverKind::Email => mail(configured)?,
            ReceiverKind::Alertmanager => http(&format!("{}/api/v2/alerts", configured.url.trim_end_matches('/')))?,
            ReceiverKind::AlertmanagerWebhook | ReceiverKind::Webhook => http(&configured.url)?,
        };
        Ok(Self { configured: configured.clone(), only_alerts, way, reminded_ms: AtomicI64::new(i64::MIN) })
    }

    /// Whether an alert concerns it.
    pub fn wants(&self, alert: &Alert) -> bool {
        let label = |name: &str| alert.labels.get(name).map_or("", String::as_str);
        let monitors = &self.configured.monitors;
        (!self.only_alerts || label("severity") == Severity::Alert.as_str())
            && (monitors.is_empty() || monitors.iter().any(|monitor| monitor == label("monitor")))
    }

    /// How long the first alert of a group waits.
    pub fn group_wait_ms(&self) -> i64 {
        i64::try_from(self.configured.group_wait_seconds.saturating_mul(1_000)).unwrap_or(i64::MAX >> 1)
    }

    /// The labels that an alert shares with those it comes with.
    pub fn group_of(&self, alert: &Alert) -> Vec<(String, String)> {
        let label = |name: &String| (name.clone(), alert.labels.get(name).cloned().unwrap_or_default());
        self.configured.group_by.iter().map(label).collect()
    }

    /// Whether it must hear again and again of what lasts.
    pub fn wants_reminders(&self) -> bool {
        self.configured.kind == ReceiverKind::Alertmanager
    }

    /// Whether the last reminder is old; the next one is counted from now.
    pub fn is_time_to_remind(&self, now_ms: i64) -> bool {
        let is_time = now_ms.saturating_sub(self.reminded_ms.load(Ordering::Relaxed)) >= REMIND_MS;
        if is_time {
            self.reminded_ms.store(now_ms, Ordering::Relaxed);
        }
        is_time
    }

    /// Tells what is new of a group.
    pub async fn send(
        &self,
        name: &str,
        group: &[(String, String)],
        deliveries: &[&Delivery],
        now_ms: i64,
    ) -> Result<()> {
        match self.configured.kind {
            ReceiverKind::Alertmanager => {
                // One that began and ended while it was away is told as both, or it would never tell anybody.
                for is_resolved in [false, true] {
                    let some = deliveries.iter().filter(|delivery| delivery.is_resolved == is_resolved);
                    let alerts: Vec<Value> =
                        some.map(|delivery| posted(&delivery.alert, delivery.is_resolved, now_ms)).collect();
                    if !alerts.is_empty() {
                        self.post(&json!(alerts), now_ms, "").await?;
                    }
                }
                Ok(())
            }
            ReceiverKind::AlertmanagerWebhook => {
                self.post(&webhook(name, group, &latest(deliveries)), now_ms, "").await
            }
            ReceiverKind::Webhook => {
                let latest = latest(deliveries);
                let alerts: Vec<Value> = latest
                    .iter()
                    .map(|delivery| {
                        let status = if delivery.is_resolved { "resolved" } else { "firing" };
                        json!({"status": status, "alert": delivery.alert})
                    })
                    .collect();
                let group: BTreeMap<&String, &String> = group.iter().map(|(name, value)| (name, value)).collect();
                let id = deliveries.iter().map(|delivery| delivery.seq).max().unwrap_or_default();
                let body = json!({"receiver": name, "group": group, "alerts": alerts});
                self.post(&body, now_ms, &format!("{name}-{id}")).await
            }
            ReceiverKind::Email => self.mail(group, &latest(deliveries)).await,
        }
    }

    /// Tells what lasts.
    pub async fn remind(&self, alerts: &[&Alert], now_ms: i64) -> Result<()> {
        if alerts.is_empty() {
            return Ok(());
        }
        let alerts: Vec<Value> = alerts.iter().map(|alert| posted(alert, false, now_ms)).collect();
        self.post(&json!(alerts), now_ms, "").await
    }

    async fn post(&self, body: &Value, now_ms: i64, delivery: &str) -> Result<()> {
        let Way::Http { client, url } = &self.way else {
            return Err(Error::internal("a receiver of e-mail has no URL to post to"));
        };
        let body =
            serde_json::to_vec(body).map_err(|error| Error::internal("cannot write alerts").with_source(error))?;
        let mut request = client.post(url.clone()).header("content-type", "application/json");
        if !delivery.is_empty() {
            request = request.header("fishy-delivery", delivery);
        }
        if !self.configured.secret.is_empty() {
            let signature = signature(self.configured.secret.expose(), now_ms, &body)?;
            request = request.header("fishy-timestamp", now_ms.to_string()).header("fishy-signature", signature);
        }
        let password = self.configured.password.expose();
        if !self.configured.username.is_empty() {
            request = request.basic_auth(&self.configured.username, Some(password));
        } else if !password.is_empty() {
            request = request.bearer_auth(password);
        }
        let answer = request.body(body).send().await;
        let answer =
            answer.map_err(|error| Error::unavailable("it cannot be reached").with_source(error.without_url()))?;
        if answer.status().is_success() {
            Ok(())
        } else {
            Err(Error::unavailable(format!("it answered {}", answer.status())))
        }
    }

    async fn mail(&self, group: &[(String, String)], deliveries: &[&Delivery]) -> Result<()> {
        let Way::Mail { transport, from, to } = &self.way else {
            return Err(Error::internal("a receiver that is no mailbox gets no e-mail"));
        };
        let mut message = Message::builder().from(from.clone()).subject(subject(group, deliveries));
        for mailbox in to {
            message = message.to(mailbox.clone());
        }
        let message = message
            .header(lettre::message::header::ContentType::TEXT_PLAIN)
            .body(text(deliveries))
            .map_err(|error| Error::internal("cannot write an e-mail").with_source(error))?;
        let sent = tokio::time::timeout(3 * TIMEOUT, transport.send(message)).await;
        match sent {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(Error::unavailable("the mail server did not take it").with_source(error)),
            Err(_) => Err(Error::unavailable("the mail server took too long")),
        }
    }
}

fn http(url: &str) -> Result<Way> {
    let parsed = reqwest::Url::parse(url)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        .ok_or_else(|| Error::invalid("url: use http://host/path or https://host/path"))?;
    let client = reqwest::Client::builder()
        .timeout(TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(|error| Error::internal("cannot make an HTTP client").with_source(error))?;
    Ok(Way::Http { client, url: parsed })
}

fn mail(configured: &fishy_config::Receiver) -> Result<Way> {
    let mailbox = |field: &str, text: &str| {
        text.parse::<Mailbox>().map_err(|error| {
            Error::invalid(format!("{field}: {text:?} is no address: use name@host")).with_source(error)
        })
    };
    let to = configured.to.iter().map(|text| mailbox("to", text)).collect::<Result<Vec<_>>>()?;
    if to.is_empty() {
        return Err(Error::invalid("to is empty: name at least one address"));
    }
    let mut transport = AsyncSmtpTransport::<Tokio1Executor>::from_url(&configured.url)
        .map_err(|error| Error::invalid("url: use smtp://host:25 or smtps://host:465").with_source(error))?
        .timeout(Some(TIMEOUT));
    if !configured.username.is_empty() {
        let password = configured.password.expose().to_owned();
        transport = transport.credentials(Credentials::new(configured.username.clone(), password));
    }
    Ok(Way::Mail { transport: Box::new(transport.build()), from: mailbox("from", &configured.from)?, to })
}

/// Of each alert what was last to be told.
fn latest<'a>(deliveries: &[&'a Delivery]) -> Vec<&'a Delivery> {
    let resolved: BTreeSet<&str> =
        deliveries.iter().filter(|delivery| delivery.is_resolved).map(|delivery| delivery.alert.id.as_str()).collect();
    let is_latest = |delivery: &&&Delivery| delivery.is_resolved || !resolved.contains(delivery.alert.id.as_str());
    deliveries.iter().filter(is_latest).copied().collect()
}

fn annotations(alert: &Alert) -> Value {
    json!({"summary": alert.summary, "description": alert.description})
}

/// As `POST /api/v2/alerts` takes it. Event time may lie ahead of the clock; an Alertmanager would not believe it.
fn posted(alert: &Alert, is_resolved: bool, now_ms: i64) -> Value {
    let starts_ms = alert.starts_ms.min(now_ms);
    let ends_ms = match alert.ends_ms.filter(|_| is_resolved) {
        Some(ends_ms) => ends_ms.clamp(starts_ms, now_ms),
        None => now_ms + BELIEVE_MS,
    };
    json!({
        "labels": alert.labels, "annotations": annotations(alert),
        "startsAt": rfc3339(starts_ms), "endsAt": rfc3339(ends_ms),
    })
}

/// What an Alertmanager posts to its webhooks, version 4.
fn webhook(name: &str, group: &[(String, String)], deliveries: &[&Delivery]) -> Value {
    let group: BTreeMap<&String, &String> = group.iter().map(|(name, value)| (name, value)).collect();
    let key: Vec<String> = group.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
    let alerts: Vec<Value> = deliveries
        .iter()
        .map(|delivery| {
            let alert = &delivery.alert;
            let ends_ms = alert.ends_ms.filter(|_| delivery.is_resolved);
            json!({
                "status": if delivery.is_resolved { "resolved" } else { "firing" },
                "labels": alert.labels, "annotations": annotations(alert),
                "startsAt": rfc3339(alert.starts_ms),
                "endsAt": ends_ms.map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), rfc3339),
                "generatorURL": "", "fingerprint": alert.fingerprint,
            })
        })
        .collect();
    let is_firing = deliveries.iter().any(|delivery| !delivery.is_resolved);
    json!({
        "version": "4", "groupKey": format!("{{}}:{{{}}}", key.join(", ")), "truncatedAlerts": 0,
        "status": if is_firing { "firing" } else { "resolved" }, "receiver": name, "groupLabels": group,
        "commonLabels": common(deliveries), "commonAnnotations": {}, "externalURL": "", "alerts": alerts,
    })
}

fn common(deliveries: &[&Delivery]) -> BTreeMap<String, String> {
    let Some((first, rest)) = deliveries.split_first() else { return BTreeMap::new() };
    let mut labels = first.alert.labels.clone();
    labels.retain(|name, value| rest.iter().all(|delivery| delivery.alert.labels.get(name) == Some(value)));
    labels
}

/// `sha256=` and the HMAC of time, dot and body.
fn signature(secret: &str, now_ms: i64, body: &[u8]) -> Result<String> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes())
        .map_err(|_| Error::internal("a key that HMAC does not take"))?;
    mac.update(now_ms.to_string().as_bytes());
    mac.update(b".");
    mac.update(body);
    Ok(format!("sha256={}", hex::encode(mac.finalize().into_bytes())))
}

fn subject(group: &[(String, String)], deliveries: &[&Delivery]) -> String {
    let firing = deliveries.iter().filter(|delivery| !delivery.is_resolved).count();
    let over = deliveries.len() - firing;
    let counts = match (firing, over) {
        (firing, 0) => format!("{firing} new"),
        (0, over) => format!("{over} over"),
        (firing, over) => format!("{firing} new, {over} over"),
    };
    let about: Vec<&str> = group.iter().map(|(_, value)| value.as_str()).filter(|value| !value.is_empty()).collect();
    let place = if about.is_empty() { "Fishy Watch".to_owned() } else { format!("Fishy Watch {}", about.join(" ")) };
    let one = deliveries.first().filter(|_| deliveries.len() == 1 && firing == 1);
    one.map_or_else(|| format!("[{place}] {counts}"), |delivery| format!("[{place}] {}", delivery.alert.summary))
}

fn text(deliveries: &[&Delivery]) -> String {
    let mut text = String::new();
    for delivery in deliveries.iter().take(MAX_MAILED) {
        let alert = &delivery.alert;
        let severity = alert.labels.get("severity").map_or("alert", String::as_str);
        let status = if delivery.is_resolved { "over".to_owned() } else { severity.to_owned() };
        let ends_ms = alert.ends_ms.filter(|_| delivery.is_resolved);
        let until = ends_ms.map_or_else(String::new, |ends_ms| format!(" until {}", rfc3339(ends_ms)));
        let lines = [
            format!("{}: {}\n", status.to_uppercase(), alert.summary),
            format!("  since {}{until}\n", rfc3339(alert.starts_ms)),
            format!("  {}\n\n", alert.description),
        ];
        text.extend(lines);
    }
    if deliveries.len() > MAX_MAILED {
        text.extend([format!("and {} more.\n", deliveries.len() - MAX_MAILED)]);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_that_of_time_and_body() {
        // Computed with OpenSSL: printf '1000.{}' | openssl dgst -sha256 -hmac key
        let expected = "sha256=c32de42341dece79a1511c9e7f74a2734112edcfcf48943c976faf07047065db";
        assert_eq!(signature("key", 1_000, b"{}").unwrap(), expected);
    }
}
