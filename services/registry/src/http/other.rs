//! What tells clients about the server, and what answers the parts of MLflow's protocol that are not here.

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use fishy_http::{Json, Routes};
use serde_json::{Value, json};

use super::{App, READ};

/// The version of MLflow whose protocol is spoken.
pub(super) const VERSION: &str = "3.17.2";

/// Families of routes that MLflow has and we have not, and what to do instead.
const NOT_IMPLEMENTED: [(&str, &[&str]); 6] = [
    (
        "traces and their evaluation are not part of this system, which is for models that predict numbers and classes",
        &[
            "traces",
            "unified-traces",
            "get-trace-artifact",
            "get-online-trace-details",
            "assessments",
            "datasets",
            "scorer",
            "scorers",
            "issues",
            "label-schemas",
            "review-queues",
            "genai",
            "demo",
        ],
    ),
    (
        "prompts are not part of this system, which is for models that predict numbers and classes",
        &["prompts", "prompt-optimization", "create-promptlab-run"],
    ),
    (
        "there is no gateway to language models, no assistant and no MCP registry here",
        &["gateway", "gateway-proxy", "assistant", "mcp-servers"],
    ),
    ("there is one workspace, named default: registry.workspaces allows for others", &["workspaces"]),
    ("work in the background is done by pipelines: see /api/v1/pipelines", &["jobs"]),
    ("users come from the identity provider, and what they may do from policies", &["roles"]),
];

pub(super) fn routes(mut routes: Routes<App>, mount: &str) -> Routes<App> {
    routes = routes
        .get(&format!("{mount}/3.0/mlflow/server-info"), READ, server_info)
        .get(&format!("{mount}/2.0/mlflow/gateway-proxy"), READ, no_endpoints)
        .get(&format!("{mount}/3.0/mlflow/ui-telemetry"), READ, no_telemetry)
        .post(&format!("{mount}/3.0/mlflow/ui-telemetry"), READ, telemetry_is_disabled)
        .get(&format!("{mount}/3.0/mlflow/assistant/config"), READ, no_assistant)
        .get(&format!("{mount}/3.0/mlflow/assistant/providers"), READ, no_assistant_providers)
        .post(&format!("{mount}/3.0/jobs/{{*rest}}"), READ, unknown)
        .get(&format!("{mount}/3.0/jobs/{{*rest}}"), READ, unknown);
    for version in ["2.0", "3.0"] {
        for family in ["mlflow", "mlflow-artifacts"] {
            // The artifact door itself takes every path below it.
            let path = format!("{mount}/{version}/{family}/{{*rest}}");
            routes = routes
                .get(&path, READ, unknown)
                .post(&path, READ, unknown)
                .put(&path, READ, unknown)
                .patch(&path, READ, unknown)
                .delete(&path, READ, unknown);
        }
    }
    routes
}

async fn server_info(State(app): State<App>) -> Json<Value> {
    let is_direct = app.home().transfers_directly();
    Json(json!({
        "store_type": "SqlStore",
        "workspaces_enabled": app.is_on(),
        "trace_archival_enabled": false,
        "multipart_uploads_enabled": is_direct,
        "multipart_downloads_enabled": is_direct,
        "presigned_upload_run_id_supported": false,
        "presigned_upload_model_id_supported": false,
        "features_enabled": {"gateway": false},
    }))
}

/// The web UI asks on every page which language models there are.
async fn no_endpoints() -> Json<Value> {
    Json(json!({ "endpoints": [] }))
}

async fn no_telemetry() -> Json<Value> {
    Json(json!({"disable_ui_telemetry": true, "disable_ui_events": [], "ui_rollout_percentage": 0}))
}

async fn telemetry_is_disabled() -> Json<Value> {
    Json(json!({"status": "disabled"}))
}

async fn no_assistant() -> Json<Value> {
    Json(json!({"providers": {}, "projects": {}, "remote_access_allowed": false}))
}

async fn no_assistant_providers() -> Json<Value> {
    Json(json!({"providers": [], "resolved": null, "gateway_vendor_options": []}))
}

/// Why a path of MLflow is not served.
fn why_not_implemented(path: &str) -> Option<&'static str> {
    let path = path.strip_prefix(super::ui::PREFIX).unwrap_or(path);
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).skip(2).collect();
    match segments[..] {
        ["mlflow", "runs", family] | ["mlflow", family, ..] | [family @ "jobs", ..] => {
            NOT_IMPLEMENTED.iter().find(|(_, families)| families.contains(&family)).map(|(why, _)| *why)
        }
        _ => None,
    }
}

async fn unknown(request: Request) -> Response {
    let path = request.uri().path();
    let (status, code, why) = match why_not_implemented(path) {
        Some(why) => (StatusCode::NOT_IMPLEMENTED, "NOT_IMPLEMENTED", why),
        None => (StatusCode::NOT_FOUND, "ENDPOINT_NOT_FOUND", "there is no such endpoint"),
    };
    let message = format!("{} {path}: {why}", request.method());
    (status, Json(json!({"error_code": code, "message": message}))).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_says_so_and_what_nobody_knows_does_not() {
        for path in [
            "/api/2.0/mlflow/traces",
            "/api/3.0/mlflow/traces/search",
            "/ajax-api/3.0/mlflow/gateway/endpoints/list",
            "/api/2.0/mlflow/gateway-proxy",
            "/ajax-api/2.0/mlflow/runs/create-promptlab-run",
            "/ajax-api/3.0/jobs/search",
            "/api/3.0/mlflow/mcp-servers",
            "/mlflow/ajax-api/3.0/mlflow/traces/search",
        ] {
            assert!(why_not_implemented(path).is_some(), "{path}");
        }
        for path in ["/api/2.0/mlflow/users/current", "/api/2.0/mlflow/no/such", "/api/2.0/mlflow-artifacts/x", "/api"]
        {
            assert_eq!(why_not_implemented(path), None, "{path}");
        }
    }
}
