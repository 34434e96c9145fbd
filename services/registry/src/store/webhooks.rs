//! Webhooks and their deliveries.

use fishy_core::{Error, Result};
use fishy_db::{Row, Tx, args};

use super::{Read, rows_by_id};
use crate::domain::records::{Delivery, Webhook};
use crate::domain::webhook::Happening;

const COLUMNS: &str = "webhook_id, name, url, description, status, creation_time, last_updated_time";

/// Writes a new webhook; `secret` is encrypted.
pub(crate) async fn create(tx: &mut Tx, webhook: &Webhook, secret: Option<&str>) -> Result<()> {
    let sql = "INSERT INTO webhooks(webhook_id, name, url, description, status, secret, creation_time, \
               last_updated_time) VALUES ($1, $2, $3, $4, $5, $6, $7, $7)";
    let args = args![
        &webhook.webhook_id,
        &webhook.name,
        &webhook.url,
        webhook.description.as_deref(),
        &webhook.status,
        secret,
        webhook.creation_timestamp
    ];
    tx.execute(sql, args).await?;
    subscribe(tx, &webhook.webhook_id, &webhook.events).await
}

async fn subscribe(tx: &mut Tx, id: &str, events: &[Happening]) -> Result<()> {
    let rows = events.iter().map(|event| args![event.key(), id]);
    tx.bulk("INSERT INTO webhook_events(event, webhook_id)", "ON CONFLICT DO NOTHING", rows).await.map(drop)
}

/// Writes what has changed; a secret that is not given stays.
pub(crate) async fn update(tx: &mut Tx, webhook: &Webhook, secret: Option<&str>) -> Result<()> {
    let sql = "UPDATE webhooks SET name = $2, url = $3, description = $4, status = $5, last_updated_time = $6, \
               secret = COALESCE($7, secret) WHERE webhook_id = $1";
    let args = args![
        &webhook.webhook_id,
        &webhook.name,
        &webhook.url,
        webhook.description.as_deref(),
        &webhook.status,
        webhook.last_updated_timestamp,
        secret
    ];
    tx.execute(sql, args).await?;
    tx.execute("DELETE FROM webhook_events WHERE webhook_id = $1", args![&webhook.webhook_id]).await?;
    subscribe(tx, &webhook.webhook_id, &webhook.events).await
}

/// Forgets the secret of a webhook.
pub(crate) async fn forget_secret(tx: &mut Tx, id: &str) -> Result<()> {
    tx.execute("UPDATE webhooks SET secret = NULL WHERE webhook_id = $1", args![id]).await.map(drop)
}

/// Deletes a webhook with its deliveries; tells whether there was one.
pub(crate) async fn delete(tx: &mut Tx, id: &str) -> Result<bool> {
    Ok(tx.execute("DELETE FROM webhooks WHERE webhook_id = $1", args![id]).await? > 0)
}

/// One webhook.
pub(crate) async fn get(read: &mut impl Read, id: &str) -> Result<Option<Webhook>> {
    let rows = read.rows(&format!("SELECT {COLUMNS} FROM webhooks WHERE webhook_id = $1"), args![id]).await?;
    Ok(from_rows(read, rows).await?.pop())
}

/// The encrypted secret of a webhook.
pub(crate) async fn secret(read: &mut impl Read, id: &str) -> Result<Option<String>> {
    let row = read.row("SELECT secret FROM webhooks WHERE webhook_id = $1", args![id]).await?;
    row.map_or(Ok(None), |row| row.get("secret"))
}

/// How many webhooks there are.
pub(crate) async fn count(read: &mut impl Read) -> Result<i64> {
    let row = read.row("SELECT COUNT(*) AS n FROM webhooks", args![]).await?;
    row.map_or(Ok(0), |row| row.get("n"))
}

/// Webhooks, newest first.
pub(crate) async fn list(read: &mut impl Read, limit: u64, offset: u64) -> Result<Vec<Webhook>> {
    let sql = format!("SELECT {COLUMNS} FROM webhooks ORDER BY creation_time DESC, webhook_id LIMIT $1 OFFSET $2");
    let rows = read.rows(&sql, args![limit as i64, offset as i64]).await?;
    from_rows(read, rows).await
}

async fn from_rows(read: &mut impl Read, rows: Vec<Row>) -> Result<Vec<Webhook>> {
    let ids: Vec<String> = rows.iter().map(|row| row.get("webhook_id")).collect::<Result<_>>()?;
    let select = "SELECT webhook_id, event FROM webhook_events WHERE webhook_id IN ";
    let mut events = rows_by_id(read, select, " ORDER BY event", "webhook_id", &ids).await?;
    rows.into_iter()
        .zip(ids)
        .map(|(row, webhook_id)| {
            let events = events.remove(&webhook_id).unwrap_or_default();
            Ok(Webhook {
                events: events.iter().map(event_of).collect::<Result<_>>()?,
                webhook_id,
                name: row.get("name")?,
                url: row.get("url")?,
                description: row.get("description")?,
                status: row.get("status")?,
                creation_timestamp: row.get("creation_time")?,
                last_updated_timestamp: row.get("last_updated_time")?,
            })
        })
        .collect()
}

fn event_of(row: &Row) -> Result<Happening> {
    let key: String = row.get("event")?;
    Happening::from_key(&key).ok_or_else(|| Error::internal(format!("{key:?} is no event of webhooks")))
}

/// The webhooks that are called for something, in the order in which they were made.
pub(crate) async fn called_for(read: &mut impl Read, happening: Happening) -> Result<Vec<String>> {
    let sql = "SELECT w.webhook_id FROM webhook_events e JOIN webhooks w ON w.webhook_id = e.webhook_id \
               WHERE e.event = $1 AND w.status = 'ACTIVE' ORDER BY w.creation_time, w.webhook_id";
    let rows = read.rows(sql, args![happening.key()]).await?;
    rows.iter().map(|row| row.get("webhook_id")).collect()
}

/// A call that is to be made.
#[derive(Debug, Clone)]
pub(crate) struct Due {
    pub seq: i64,
    pub delivery_id: String,
    pub body: String,
    pub attempts: i64,
    pub time_ms: i64,
}

/// Notes that a webhook is to be called.
pub(crate) async fn enqueue(
    tx: &mut Tx,
    (webhook_id, delivery_id): (&str, &str),
    happening: Happening,
    body: &str,
    now_ms: i64,
) -> Result<()> {
    let sql = "INSERT INTO webhook_deliveries(delivery_id, webhook_id, event, time_ms, body, state, attempts, next_ms) \
               VALUES ($1, $2, $3, $4, $5, 'pending', 0, $4)";
    tx.execute(sql, args![delivery_id, webhook_id, happening.key(), now_ms, body]).await.map(drop)
}

/// The active webhooks whose oldest call is due.
pub(crate) async fn due_webhooks(read: &mut impl Read, now_ms: i64) -> Result<Vec<String>> {
    let sql = "SELECT webhook_id FROM webhooks w WHERE status = 'ACTIVE' AND (SELECT next_ms FROM webhook_deliveries d \
               WHERE d.state = 'pending' AND d.webhook_id = w.webhook_id ORDER BY d.seq LIMIT 1) <= $1";
    read.rows(sql, args![now_ms]).await?.iter().map(|row| row.get("webhook_id")).collect()
}

/// The oldest calls of a webhook that are not made yet.
pub(crate) async fn due(read: &mut impl Read, webhook_id: &str, limit: i64) -> Result<Vec<Due>> {
    let sql = "SELECT seq, delivery_id, body, attempts, time_ms FROM webhook_deliveries \
               WHERE state = 'pending' AND webhook_id = $1 ORDER BY seq LIMIT $2";
    let rows = read.rows(sql, args![webhook_id, limit]).await?;
    rows.iter()
        .map(|row| {
            Ok(Due {
                seq: row.get("seq")?,
                delivery_id: row.get("delivery_id")?,
                body: row.get("body")?,
                attempts: row.get("attempts")?,
                time_ms: row.get("time_ms")?,
            })
        })
        .collect()
}

/// What became of an attempt.
#[derive(Debug, Clone)]
pub(crate) struct Attempt<'a> {
    pub state: &'a str,
    pub attempts: i64,
    pub next_ms: i64,
    pub last_ms: i64,
    pub status: Option<i64>,
    pub error: Option<&'a str>,
}

/// Notes what became of an attempt.
pub(crate) async fn attempted(tx: &mut Tx, seq: i64, attempt: &Attempt<'_>) -> Result<()> {
    let sql = "UPDATE webhook_deliveries SET state = $2, attempts = $3, next_ms = $4, last_ms = $5, \
               response_status = $6, error = $7 WHERE seq = $1";
    let Attempt { state, attempts, next_ms, last_ms, status, error } = attempt;
    tx.execute(sql, args![seq, *state, *attempts, *next_ms, *last_ms, *status, *error]).await.map(drop)
}

/// Forgets calls that ended before a time.
pub(crate) async fn forget_before(tx: &mut Tx, time_ms: i64) -> Result<u64> {
    let sql = "DELETE FROM webhook_deliveries WHERE state IN ('delivered', 'failed') AND time_ms < $1";
    tx.execute(sql, args![time_ms]).await
}

/// The log of a webhook, newest first; `before` is the number of the last one of the page before.
pub(crate) async fn deliveries(
    read: &mut impl Read,
    webhook_id: &str,
    before: i64,
    limit: i64,
) -> Result<Vec<(i64, Delivery)>> {
    let sql = "SELECT seq, delivery_id, event, time_ms, state, attempts, next_ms, last_ms, response_status, error \
               FROM webhook_deliveries WHERE webhook_id = $1 AND seq < $2 ORDER BY seq DESC LIMIT $3";
    let rows = read.rows(sql, args![webhook_id, before, limit]).await?;
    rows.iter()
        .map(|row| {
            let state: String = row.get("state")?;
            let next_ms: i64 = row.get("next_ms")?;
            let delivery = Delivery {
                delivery_id: row.get("delivery_id")?,
                event: row.get("event")?,
                time_ms: row.get("time_ms")?,
                next_ms: (state == "pending").then_some(next_ms),
                state,
                attempts: row.get("attempts")?,
                last_ms: row.get("last_ms")?,
                response_status: row.get("response_status")?,
                error: row.get("error")?,
            };
            Ok((row.get("seq")?, delivery))
        })
        .collect()
}
