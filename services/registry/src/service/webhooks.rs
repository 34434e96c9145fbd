//! Webhooks: who is called when something happens. The calls themselves are made by `calls.rs`.

use fishy_core::{Error, Result, time};
use fishy_db::Tx;
use serde_json::{Value, json};

use super::calls::{Answered, Calls};
use super::{Asker, Registry};
use crate::domain::page::{self, Page};
use crate::domain::records::{Delivery, Webhook};
use crate::domain::webhook::{self, Happening};
use crate::domain::{limits, names};
use crate::events;
use crate::store::webhooks as store;

/// The most webhooks: each is looked at with every change.
const MAX_WEBHOOKS: i64 = 1_000;
/// The longest secret.
const MAX_SECRET_CHARS: usize = 1_000;

/// A webhook to be made or changed: what is not given stays, or is the default.
#[derive(Default)]
pub(crate) struct WebhookChange {
    pub name: Option<String>,
    pub url: Option<String>,
    pub description: Option<String>,
    pub events: Option<Vec<Happening>>,
    pub secret: Option<String>,
    pub status: Option<String>,
}

/// What a test call came to.
#[derive(Debug, serde::Serialize)]
pub(crate) struct TestResult {
    pub success: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_body: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
}

fn not_found(id: &str) -> Error {
    Error::not_found(format!("Webhook with ID {id} not found."))
}

impl WebhookChange {
    fn check(&self, calls: &Calls) -> Result<()> {
        if let Some(name) = &self.name {
            webhook::check_name(name)?;
        }
        if let Some(url) = &self.url {
            calls.reach.url(url)?;
        }
        if let Some(description) = &self.description {
            names::check_chars("description", description, limits::DESCRIPTION_CHARS)?;
        }
        if let Some(secret) = &self.secret {
            // Not with its value, which the usual check would tell.
            if secret.chars().count() > MAX_SECRET_CHARS {
                return Err(Error::invalid(format!("the secret has more than {MAX_SECRET_CHARS} characters")));
            }
        }
        match self.status.as_deref() {
            None | Some("ACTIVE" | "DISABLED") => Ok(()),
            Some(other) => Err(names::invalid_value("status", other, "use ACTIVE or DISABLED")),
        }
    }

    /// What the audit log is told: no secret.
    fn told(webhook: &Webhook, has_secret: bool) -> Value {
        let events: Vec<String> = webhook.events.iter().map(|event| event.key()).collect();
        let host = url::Url::parse(&webhook.url).ok().map(|url| webhook::host_name(&url));
        json!({"name": webhook.name, "host": host, "events": events, "status": webhook.status, "secret_given": has_secret})
    }
}

impl Registry {
    pub async fn create_webhook(&self, asker: &Asker, new: WebhookChange) -> Result<Webhook> {
        new.check(&self.calls)?;
        let now_ms = self.env.now_ms();
        let webhook = Webhook {
            webhook_id: self.env.new_id(),
            name: new.name.ok_or_else(|| names::missing("name"))?,
            url: new.url.ok_or_else(|| names::missing("url"))?,
            description: new.description,
            events: new.events.filter(|events| !events.is_empty()).ok_or_else(|| names::missing("events"))?,
            status: new.status.unwrap_or_else(|| "ACTIVE".to_owned()),
            creation_timestamp: now_ms,
            last_updated_timestamp: now_ms,
        };
        let secret = new.secret.filter(|secret| !secret.is_empty());
        let sealed = secret.map(|secret| self.calls.seal.close(&webhook.webhook_id, &secret)).transpose()?;
        let mut tx = self.db.begin().await?;
        if store::count(&mut tx).await? >= MAX_WEBHOOKS {
            return Err(Error::exhausted(format!("there are {MAX_WEBHOOKS} webhooks: delete some first")));
        }
        store::create(&mut tx, &webhook, sealed.as_deref()).await?;
        let details = WebhookChange::told(&webhook, sealed.is_some());
        self.audit_webhook(&mut tx, asker, "webhook.create", &webhook.webhook_id, details).await?;
        let made = store::get(&mut tx, &webhook.webhook_id).await?.ok_or_else(|| not_found(&webhook.webhook_id))?;
        tx.commit().await?;
        Ok(made)
    }

    async fn audit_webhook(&self, tx: &mut Tx, asker: &Asker, action: &str, id: &str, details: Value) -> Result<()> {
        events::audit(tx, self, asker.by().actor, action, &format!("webhooks/{id}"), details).await
    }

    pub async fn webhook(&self, id: &str) -> Result<Webhook> {
        store::get(&mut &self.db, id).await?.ok_or_else(|| not_found(id))
    }

    /// Webhooks, newest first.
    pub async fn webhooks(&self, max_results: Option<i64>, token: &str) -> Result<Page<Webhook>> {
        let limit = max_results.filter(|asked| *asked != 0).unwrap_or(100);
        if !(1..=1_000).contains(&limit) {
            return Err(Error::invalid("max_results must be between 1 and 1000."));
        }
        let offset = page::read(token)?.offset();
        let rows = store::list(&mut &self.db, limit as u64 + 1, offset).await?;
        Ok(Page::at_offset(rows, limit as u64, offset))
    }

    pub async fn update_webhook(&self, asker: &Asker, id: &str, change: WebhookChange) -> Result<Webhook> {
        change.check(&self.calls)?;
        let mut tx = self.db.begin().await?;
        let mut webhook = store::get(&mut tx, id).await?.ok_or_else(|| not_found(id))?;
        webhook.name = change.name.unwrap_or(webhook.name);
        webhook.url = change.url.unwrap_or(webhook.url);
        webhook.description = change.description.or(webhook.description);
        webhook.events = change.events.filter(|events| !events.is_empty()).unwrap_or(webhook.events);
        webhook.status = change.status.unwrap_or(webhook.status);
        webhook.last_updated_timestamp = self.env.now_ms();
        let secret = change.secret.as_deref();
        if secret == Some("") {
            store::forget_secret(&mut tx, id).await?;
        }
        let sealed = secret.filter(|secret| !secret.is_empty()).map(|secret| self.calls.seal.close(id, secret));
        store::update(&mut tx, &webhook, sealed.transpose()?.as_deref()).await?;
        let details = WebhookChange::told(&webhook, secret.is_some());
        self.audit_webhook(&mut tx, asker, "webhook.update", id, details).await?;
        let changed = store::get(&mut tx, id).await?.ok_or_else(|| not_found(id))?;
        tx.commit().await?;
        self.calls.bell.notify_one();
        Ok(changed)
    }

    /// Deletes a webhook; what is not delivered to it never will be.
    pub async fn delete_webhook(&self, asker: &Asker, id: &str) -> Result<()> {
        let mut tx = self.db.begin().await?;
        let webhook = store::get(&mut tx, id).await?.ok_or_else(|| not_found(id))?;
        store::delete(&mut tx, id).await?;
        let details = WebhookChange::told(&webhook, false);
        self.audit_webhook(&mut tx, asker, "webhook.delete", id, details).await?;
        tx.commit().await
    }

    /// Calls a webhook once with an example, and tells what came back.
    pub async fn test_webhook(&self, id: &str, happening: Option<Happening>) -> Result<TestResult> {
        let webhook = self.webhook(id).await?;
        let first = webhook.events.first().copied();
        let happening = happening.or(first).ok_or_else(|| Error::precondition("the webhook is called for nothing"))?;
        let secret = self.webhook_secret(id).await?;
        let body = self.webhook_body(happening, &happening.example());
        let now_ms = self.env.now_ms();
        let called = self.calls.call(&webhook.url, secret.as_deref(), &self.env.new_id(), &body, now_ms).await;
        Ok(match called {
            Ok(Answered { status, text, .. }) => TestResult {
                success: status < 300,
                response_status: Some(status),
                response_body: Some(text),
                error_message: None,
            },
            Err(error) => TestResult {
                success: false,
                response_status: None,
                response_body: None,
                error_message: Some(format!("Failed to test webhook: {error}")),
            },
        })
    }

    /// The secret of a webhook in the clear.
    pub(super) async fn webhook_secret(&self, id: &str) -> Result<Option<String>> {
        let sealed = store::secret(&mut &self.db, id).await?;
        sealed.map(|sealed| self.calls.seal.open_secret(id, &sealed)).transpose()
    }

    fn webhook_body(&self, happening: Happening, data: &Value) -> String {
        let workspace = self.config.registry.workspaces.then_some(self.workspace.as_str());
        webhook::body(happening, &time::rfc3339(self.env.now_ms()), data, workspace)
    }

    /// Notes, in the transaction of a change, which webhooks are to be called for it. Ring the bell after the commit:
    /// see [`commit_told`](Self::commit_told).
    pub(super) async fn tell(&self, tx: &mut Tx, happening: Happening, data: &Value) -> Result<()> {
        let webhooks = store::called_for(tx, happening).await?;
        if webhooks.is_empty() {
            return Ok(());
        }
        let body = self.webhook_body(happening, data);
        for id in webhooks {
            let delivery_id = self.env.new_id();
            store::enqueue(tx, (&id, &delivery_id), happening, &body, self.env.now_ms()).await?;
        }
        Ok(())
    }

    /// Commits a change that webhooks may be called for.
    pub(super) async fn commit_told(&self, tx: Tx) -> Result<()> {
        tx.commit().await?;
        self.calls.bell.notify_one();
        Ok(())
    }

    /// The log of a webhook, newest first.
    pub async fn deliveries(
        &self,
        id: &str,
        limit: Option<i64>,
        token: Option<&str>,
    ) -> Result<(Vec<Delivery>, Option<String>)> {
        self.webhook(id).await?;
        let limit = limit.unwrap_or(100);
        if !(1..=1_000).contains(&limit) {
            return Err(Error::invalid(format!("limit must be between 1 and 1000, got {limit}")));
        }
        let before = match token {
            None => i64::MAX,
            Some(token) => token.parse().map_err(|_| Error::invalid("page_token is not one of this list"))?,
        };
        let mut rows = store::deliveries(&mut &self.db, id, before, limit + 1).await?;
        let has_more = rows.len() as i64 > limit;
        rows.truncate(limit as usize);
        let next = rows.last().filter(|_| has_more).map(|(seq, _)| seq.to_string());
        Ok((rows.into_iter().map(|(_, delivery)| delivery).collect(), next))
    }
}
