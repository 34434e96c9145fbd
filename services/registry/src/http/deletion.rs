//! `/api/v1/registry/gc` and `/api/v1/registry/holds`: deletion for good, and what is held back from it.

use fishy_contracts::List;
use fishy_contracts::registry::{GcReport, GcRequest, Hold, Release};
use fishy_http::{Failure, Json, Routes};
use serde_json::{Map, Value};

use super::{Answer, App, Here, READ};
use crate::service::Asker;

const ADMIN: &str = "registry:admin";
const HOLD: &str = "registry:hold";

pub(super) fn routes(routes: Routes<App>) -> Routes<App> {
    const HOLDS: &str = "/api/v1/registry/holds";
    routes
        .post("/api/v1/registry/gc", ADMIN, gc)
        .get(HOLDS, READ, holds)
        .put(HOLDS, HOLD, hold)
        .delete(HOLDS, HOLD, release)
}

async fn gc(Here(app): Here, asker: Asker, Json(request): Json<GcRequest>) -> Result<Json<GcReport>, Failure> {
    Ok(Json(app.gc(&asker, &request).await?))
}

async fn holds(Here(app): Here) -> Result<Json<List<Hold>>, Failure> {
    Ok(Json(List { items: app.holds().await?, next_page_token: None }))
}

async fn hold(Here(app): Here, asker: Asker, Json(wanted): Json<Hold>) -> Result<Json<Hold>, Failure> {
    Ok(Json(app.hold(&asker, wanted).await?))
}

async fn release(Here(app): Here, asker: Asker, Json(release): Json<Release>) -> Answer {
    app.release(&asker, &release).await?;
    Ok(Json(Value::Object(Map::new())))
}
