//! What governance keeps, in one SQL text for SQLite and PostgreSQL.

use fishy_contracts::governance::{
    AliasCheck, PolicyBundle, Promotion, PromotionRequest, PromotionStatus, TokenHolder,
};
use fishy_core::{Error, Result};
use fishy_db::{Db, Migration, Row, Tx, args};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The service's own migrations; 1 is the outbox.
pub const MIGRATIONS: &[Migration] =
    &[Migration { version: 2, name: "governance", sql: include_str!("../migrations/002_governance.sql") }];

/// A token as it is stored: never its text.
pub struct NewTokenRow<'a> {
    pub id: &'a str,
    pub hash: &'a str,
    pub name: &'a str,
    pub roles: &'a [String],
    pub created_ms: i64,
    pub expires_ms: Option<i64>,
}

/// An entry as it is stored: the bytes that were hashed, and their hash.
pub struct EntryRow {
    pub index: u64,
    pub canonical: String,
    pub leaf: String,
}

impl EntryRow {
    pub fn entry(&self) -> Result<fishy_audit::Entry> {
        from_json(&self.canonical)
    }
}

/// A signed head of the audit log.
pub struct CheckpointRow {
    pub size: u64,
    pub note: String,
}

fn to_json<T: Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Error::internal("cannot write a row").with_source(error))
}

fn from_json<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| Error::internal("a row that cannot be read").with_source(error))
}

fn status_name(status: PromotionStatus) -> &'static str {
    match status {
        PromotionStatus::Approved => "approved",
        PromotionStatus::Rejected => "rejected",
        PromotionStatus::WaitingForApproval => "waiting_for_approval",
    }
}

fn status_of(name: &str) -> Result<PromotionStatus> {
    match name {
        "approved" => Ok(PromotionStatus::Approved),
        "rejected" => Ok(PromotionStatus::Rejected),
        "waiting_for_approval" => Ok(PromotionStatus::WaitingForApproval),
        other => Err(Error::internal(format!("promotion status {other:?}"))),
    }
}

fn promotion_of(row: &Row) -> Result<Promotion> {
    Ok(Promotion {
        request: from_json::<PromotionRequest>(&row.get::<String>("request")?)?,
        status: status_of(&row.get::<String>("status")?)?,
        reasons: from_json(&row.get::<String>("reasons")?)?,
        approver: row.get("approver")?,
        created_ms: row.get("created_ms")?,
        decided_ms: row.get("decided_ms")?,
    })
}

// --- promotions ---

pub async fn promotion(db: &Db, id: &str) -> Result<Option<Promotion>> {
    let row = db.query_opt("select * from promotions where id = $1", args![id]).await?;
    row.as_ref().map(promotion_of).transpose()
}

pub async fn promotions(db: &Db, model: &str, limit: i64) -> Result<Vec<Promotion>> {
    let sql = "select * from promotions where model = $1 order by created_ms desc, id desc limit $2";
    db.query(sql, args![model, limit]).await?.iter().map(promotion_of).collect()
}

/// Writes a new promotion; `false` when one of that id is there already.
pub async fn insert_promotion(tx: &mut Tx, promotion: &Promotion) -> Result<bool> {
    let request = &promotion.request;
    let sql =
        "insert into promotions (id, model, alias, version, status, request, reasons, approver, created_ms, decided_ms)
               values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) on conflict (id) do nothing";
    let inserted = tx
        .execute(
            sql,
            args![
                &request.id,
                &request.model,
                &request.alias,
                &request.version,
                status_name(promotion.status),
                to_json(request)?,
                to_json(&promotion.reasons)?,
                promotion.approver.clone(),
                promotion.created_ms,
                promotion.decided_ms
            ],
        )
        .await?;
    Ok(inserted == 1)
}

/// Decides a waiting promotion; `false` when somebody else decided it first.
pub async fn decide_promotion(tx: &mut Tx, promotion: &Promotion) -> Result<bool> {
    let sql = "update promotions set status = $2, reasons = $3, approver = $4, decided_ms = $5
               where id = $1 and status = 'waiting_for_approval'";
    let args = args![
        &promotion.request.id,
        status_name(promotion.status),
        to_json(&promotion.reasons)?,
        promotion.approver.clone(),
        promotion.decided_ms
    ];
    Ok(tx.execute(sql, args).await? == 1)
}

pub async fn check_alias(db: &Db, model: &str, alias: &str, version: &str) -> Result<AliasCheck> {
    let sql = "select id, status, reasons from promotions where model = $1 and alias = $2 and version = $3
               order by case when status = 'approved' then 0 else 1 end, created_ms desc limit 1";
    let Some(row) = db.query_opt(sql, args![model, alias, version]).await? else {
        let reason = format!(
            "no promotion was asked for {model} version {version} as {alias}: run its pipeline, or ask for one"
        );
        return Ok(AliasCheck { is_allowed: false, promotion_id: None, reason });
    };
    let id: String = row.get("id")?;
    let status = status_of(&row.get::<String>("status")?)?;
    let reasons: Vec<String> = from_json(&row.get::<String>("reasons")?)?;
    let reason = format!("promotion {id} is {}: {}", status_name(status).replace('_', " "), reasons.join("; "));
    Ok(AliasCheck { is_allowed: status == PromotionStatus::Approved, promotion_id: Some(id), reason })
}

// --- policies ---

pub async fn newest_bundle(db: &Db) -> Result<Option<PolicyBundle>> {
    let sql = "select version, issued_ms, policies from policy_bundles order by version desc limit 1";
    let Some(row) = db.query_opt(sql, args![]).await? else { return Ok(None) };
    Ok(Some(PolicyBundle {
        version: row.get("version")?,
        issued_ms: row.get("issued_ms")?,
        policies: row.get("policies")?,
    }))
}

pub async fn insert_bundle(tx: &mut Tx, bundle: &PolicyBundle, issued_by: &str) -> Result<()> {
    let sql = "insert into policy_bundles (version, issued_ms, policies, issued_by) values ($1, $2, $3, $4)";
    tx.execute(sql, args![bundle.version, bundle.issued_ms, &bundle.policies, issued_by]).await.map(drop)
}

// --- tokens ---

pub async fn insert_token(tx: &mut Tx, token: &NewTokenRow<'_>) -> Result<()> {
    let sql = "insert into tokens (id, hash, name, roles, created_ms, expires_ms) values ($1, $2, $3, $4, $5, $6)";
    let roles = to_json(&token.roles)?;
    tx.execute(sql, args![token.id, token.hash, token.name, roles, token.created_ms, token.expires_ms]).await.map(drop)
}

pub async fn token_holder(db: &Db, hash: &str) -> Result<Option<TokenHolder>> {
    let sql = "select name, roles, expires_ms from tokens where hash = $1 and revoked_ms is null";
    let Some(row) = db.query_opt(sql, args![hash]).await? else { return Ok(None) };
    Ok(Some(TokenHolder {
        name: row.get("name")?,
        roles: from_json(&row.get::<String>("roles")?)?,
        expires_ms: row.get("expires_ms")?,
    }))
}

pub async fn revoke_token(tx: &mut Tx, id: &str, now_ms: i64) -> Result<bool> {
    let sql = "update tokens set revoked_ms = $2 where id = $1 and revoked_ms is null";
    Ok(tx.execute(sql, args![id, now_ms]).await? == 1)
}

// --- audit ---

/// Locks and reads the state of the Merkle log; `empty` becomes the state before the first entry.
pub async fn lock_log(tx: &mut Tx, empty: &str) -> Result<String> {
    // The write locks the row on PostgreSQL, also when it is the first: no two replicas give out the same index.
    let sql = "insert into audit_state (id, log) values (1, $1) on conflict (id) do update set log = audit_state.log";
    tx.execute(sql, args![empty]).await?;
    let row = tx.query_opt("select log from audit_state where id = 1", args![]).await?;
    row.ok_or_else(|| Error::internal("the audit log has no state"))?.get("log")
}

pub async fn save_log(tx: &mut Tx, log: &str) -> Result<()> {
    tx.execute("update audit_state set log = $1 where id = 1", args![log]).await.map(drop)
}

pub async fn has_entry(tx: &mut Tx, id: &str) -> Result<bool> {
    Ok(tx.query_opt("select idx from audit_entries where id = $1", args![id]).await?.is_some())
}

pub async fn insert_entry(
    tx: &mut Tx,
    index: u64,
    leaf: &str,
    entry: &fishy_audit::Entry,
    canonical: &str,
    now_ms: i64,
) -> Result<()> {
    let sql = "insert into audit_entries (idx, id, leaf, entry, service, action, received_ms)
               values ($1, $2, $3, $4, $5, $6, $7)";
    let args = args![index as i64, &entry.id, leaf, canonical, &entry.service, &entry.action, now_ms];
    tx.execute(sql, args).await.map(drop)
}

pub async fn entries(db: &Db, from: u64, limit: i64) -> Result<Vec<EntryRow>> {
    let sql = "select idx, entry, leaf from audit_entries where idx >= $1 order by idx limit $2";
    // An index beyond what the database can hold is beyond every entry.
    let from = i64::try_from(from).unwrap_or(i64::MAX);
    let rows = db.query(sql, args![from, limit]).await?;
    rows.iter()
        .map(|row| {
            let index = row.get::<i64>("idx")? as u64;
            Ok(EntryRow { index, canonical: row.get("entry")?, leaf: row.get("leaf")? })
        })
        .collect()
}

pub async fn log_state(db: &Db) -> Result<Option<String>> {
    let row = db.query_opt("select log from audit_state where id = 1", args![]).await?;
    row.map(|row| row.get("log")).transpose()
}

/// Entries by service and action.
pub async fn summary(db: &Db) -> Result<Vec<(String, String, i64)>> {
    let sql = "select service, action, count(*) as entries from audit_entries group by service, action order by 1, 2";
    let rows = db.query(sql, args![]).await?;
    rows.iter().map(|row| Ok((row.get("service")?, row.get("action")?, row.get("entries")?))).collect()
}

pub async fn newest_checkpoint(db: &Db) -> Result<Option<CheckpointRow>> {
    let rows = checkpoints(db, "order by size desc limit 1").await?;
    Ok(rows.into_iter().next())
}

pub async fn all_checkpoints(db: &Db) -> Result<Vec<CheckpointRow>> {
    checkpoints(db, "order by size").await
}

async fn checkpoints(db: &Db, order: &str) -> Result<Vec<CheckpointRow>> {
    let rows = db.query(&format!("select size, note from audit_checkpoints {order}"), args![]).await?;
    rows.iter().map(|row| Ok(CheckpointRow { size: row.get::<i64>("size")? as u64, note: row.get("note")? })).collect()
}

pub async fn insert_checkpoint(db: &Db, checkpoint: &CheckpointRow, now_ms: i64) -> Result<bool> {
    let mut tx = db.begin().await?;
    let sql =
        "insert into audit_checkpoints (size, note, created_ms) values ($1, $2, $3) on conflict (size) do nothing";
    let inserted = tx.execute(sql, args![checkpoint.size as i64, &checkpoint.note, now_ms]).await?;
    tx.commit().await?;
    Ok(inserted == 1)
}
