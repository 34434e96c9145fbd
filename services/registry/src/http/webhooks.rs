//! `/2.0/mlflow/webhooks`, and their log at `/api/v1/registry/webhooks/{id}/deliveries`.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query};
use fishy_contracts::List;
use fishy_core::Error;
use fishy_http::{Failure, Json, Routes};
use serde::Deserialize;

use super::message::Message;
use super::{Answer, App, Here, READ, many, nothing, one};
use crate::domain::records::Delivery;
use crate::domain::webhook::Happening;
use crate::service::{Asker, WebhookChange};

/// A webhook sends what happens here to elsewhere: not everybody who writes may decide that.
const WEBHOOK: &str = "registry:webhook";

pub(super) fn routes(routes: Routes<App>, mount: &str) -> Routes<App> {
    let all = format!("{mount}/2.0/mlflow/webhooks");
    let one = format!("{all}/{{webhook_id}}");
    routes
        .post(&all, WEBHOOK, create)
        .get(&all, READ, list)
        .get(&one, READ, get)
        .patch(&one, WEBHOOK, update)
        .delete(&one, WEBHOOK, delete)
        .post(&format!("{one}/test"), WEBHOOK, test)
}

pub(super) fn own_routes(routes: Routes<App>) -> Routes<App> {
    routes.get("/api/v1/registry/webhooks/{webhook_id}/deliveries", READ, deliveries)
}

fn happening(event: &Message) -> Result<Happening, Error> {
    Happening::parse(&event.required("entity")?, &event.required("action")?)
}

fn change(message: &Message) -> Result<WebhookChange, Error> {
    let events = message.objects("events")?;
    Ok(WebhookChange {
        name: message.filled("name")?,
        url: message.filled("url")?,
        description: message.text("description")?,
        events: if events.is_empty() { None } else { Some(events.iter().map(happening).collect::<Result<_, _>>()?) },
        secret: message.text("secret")?,
        status: message.filled("status")?,
    })
}

async fn create(Here(app): Here, asker: Asker, message: Message) -> Answer {
    one("webhook", &app.create_webhook(&asker, change(&message)?).await?)
}

async fn list(Here(app): Here, message: Message) -> Answer {
    let token = message.filled("page_token")?.unwrap_or_default();
    let page = app.webhooks(message.whole("max_results")?, &token).await?;
    many("webhooks", &page.rows, page.next_token())
}

async fn get(Here(app): Here, Path(id): Path<String>) -> Answer {
    one("webhook", &app.webhook(&id).await?)
}

async fn update(Here(app): Here, Path(id): Path<String>, asker: Asker, message: Message) -> Answer {
    one("webhook", &app.update_webhook(&asker, &id, change(&message)?).await?)
}

async fn delete(Here(app): Here, Path(id): Path<String>, asker: Asker) -> Answer {
    app.delete_webhook(&asker, &id).await?;
    nothing()
}

async fn test(Here(app): Here, Path(id): Path<String>, message: Message) -> Answer {
    let event = message.object("event")?.as_ref().map(happening).transpose()?;
    one("result", &app.test_webhook(&id, event).await?)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    limit: Option<i64>,
    page_token: Option<String>,
}

async fn deliveries(
    Here(app): Here,
    Path(id): Path<String>,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Json<List<Delivery>>, Failure> {
    let Query(Asked { limit, page_token }) = asked.map_err(|error| Error::invalid(error.body_text()))?;
    let (items, next_page_token) = app.deliveries(&id, limit, page_token.as_deref()).await?;
    Ok(Json(List { items, next_page_token }))
}
