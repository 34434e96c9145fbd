//! `/api/v1/registry/…`: what MLflow's protocol has no words for.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query};
use fishy_contracts::List;
use fishy_contracts::registry::{AliasAt, ModelFile, PastChange, ProtectedAlias, RolledBack, Unprotect};
use fishy_core::{Error, time};
use fishy_http::{Caller, Failure, Json, Routes};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::asker::checked;
use super::{App, Here, READ, WRITE};
use crate::service::Asker;

/// Whoever may write may put an alias behind the gate, but not take it out again.
const PROTECT: &str = "registry:protect";

pub(super) fn routes(routes: Routes<App>) -> Routes<App> {
    routes
        .get("/api/v1/registry/models/{name}/versions/{version}/files", READ, files)
        .get("/api/v1/registry/models/{name}/history", READ, model_history)
        .get("/api/v1/registry/models/{name}/aliases/{alias}/at", READ, alias_at)
        .post("/api/v1/registry/models/{name}/aliases/{alias}/rollback", WRITE, roll_back_alias)
        .get("/api/v1/registry/protected-aliases", READ, protected_aliases)
        .put("/api/v1/registry/protected-aliases", WRITE, protect_alias)
        .delete("/api/v1/registry/protected-aliases", PROTECT, unprotect_alias)
}

async fn files(
    Here(app): Here,
    Path((name, version)): Path<(String, String)>,
) -> Result<Json<List<ModelFile>>, Failure> {
    Ok(Json(List { items: app.version_files(&name, &version).await?, next_page_token: None }))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    kind: Option<String>,
    key: Option<String>,
    limit: Option<i64>,
}

async fn model_history(
    Here(app): Here,
    Path(name): Path<String>,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Json<List<PastChange>>, Failure> {
    let Query(Asked { kind, key, limit }) = asked.map_err(|error| Error::invalid(error.body_text()))?;
    let items = app.model_history(&name, kind.as_deref(), key.as_deref(), limit).await?;
    Ok(Json(List { items, next_page_token: None }))
}

/// A time as RFC 3339, or in milliseconds since the epoch.
fn time_ms(text: &str) -> Result<i64, Error> {
    text.parse().ok().or_else(|| time::parse_ms(text)).ok_or_else(|| {
        Error::invalid(format!(
            "{text:?} is no time: use RFC 3339, as 2024-05-12T14:03:00Z, or milliseconds since 1970"
        ))
    })
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct At {
    time: String,
}

async fn alias_at(
    Here(app): Here,
    Path((name, alias)): Path<(String, String)>,
    at: Result<Query<At>, QueryRejection>,
) -> Result<Json<AliasAt>, Failure> {
    let Query(at) = at.map_err(|error| Error::invalid(error.body_text()))?;
    Ok(Json(app.alias_at(&name, &alias, time_ms(&at.time)?).await?))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RollBack {
    /// RFC 3339, or milliseconds since the epoch as text.
    to: String,
    reason: Option<String>,
}

async fn roll_back_alias(
    Here(app): Here,
    Caller(who): Caller,
    Path((name, alias)): Path<(String, String)>,
    Json(wanted): Json<RollBack>,
) -> Result<Json<RolledBack>, Failure> {
    let asker = Asker::new(who, checked(wanted.reason)?);
    Ok(Json(app.roll_back_alias(&asker, &name, &alias, time_ms(&wanted.to)?).await?))
}

async fn protected_aliases(Here(app): Here) -> Result<Json<List<ProtectedAlias>>, Failure> {
    Ok(Json(List { items: app.protected_aliases().await?, next_page_token: None }))
}

async fn protect_alias(
    Here(app): Here,
    Caller(who): Caller,
    Json(alias): Json<ProtectedAlias>,
) -> Result<Json<ProtectedAlias>, Failure> {
    app.protect_alias(&who, &alias).await?;
    Ok(Json(alias))
}

async fn unprotect_alias(
    Here(app): Here,
    Caller(who): Caller,
    Json(alias): Json<Unprotect>,
) -> Result<Json<Value>, Failure> {
    app.unprotect_alias(&who, &alias).await?;
    Ok(Json(Value::Object(Map::new())))
}
