//! What the registry speaks: MLflow's REST protocol under `/api` and `/ajax-api`, and our own additions.

mod aliases;
mod artifacts;
mod asker;
mod deletion;
mod experiments;
mod graphql;
mod imports;
mod logged_models;
mod message;
mod metrics;
mod models;
mod other;
mod own;
mod runs;
pub(crate) mod ui;
mod uploads;
mod versions;
mod webhooks;

use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use fishy_http::{ErrorForm, Failure, Guard, Json, Routes};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::SERVICE;
use crate::service::Registry;

/// The state of all handlers.
type App = Arc<Registry>;

/// The answer of most handlers.
type Answer = Result<Json<Value>, Failure>;

const READ: &str = "registry:read";
const WRITE: &str = "registry:write";

/// All routes; those of the web UI when there is a folder of it.
pub(crate) fn router(registry: App, guard: &Guard, ui: Option<&Path>) -> Router {
    let mlflow = || Routes::new(SERVICE, ErrorForm::Mlflow, guard);
    let mut all = [own::routes, webhooks::own_routes, deletion::routes, imports::routes]
        .into_iter()
        .fold(Routes::new(SERVICE, ErrorForm::Problem, guard), |routes, family: fn(_) -> _| family(routes))
        .finish();
    let prefixes = if ui.is_some() { &["", ui::PREFIX][..] } else { &[""] };
    for mount in prefixes.iter().flat_map(|prefix| ["api", "ajax-api"].map(|api| format!("{prefix}/{api}"))) {
        let mount = mount.as_str();
        let mut routes = mlflow();
        for family in [
            experiments::routes,
            runs::routes,
            metrics::routes,
            logged_models::routes,
            models::routes,
            versions::routes,
            aliases::routes,
            webhooks::routes,
            artifacts::routes,
            uploads::routes,
            other::routes,
        ] {
            routes = family(routes, mount);
        }
        let streams = artifacts::streams(mlflow().streaming(), mount);
        let unhurried = uploads::unhurried(mlflow().unhurried(), mount);
        all = all.merge(routes.finish()).merge(streams.finish()).merge(unhurried.finish());
    }
    let rest = all.clone().with_state(Arc::clone(&registry));
    for prefix in prefixes {
        all = all
            .merge(artifacts::root_streams(mlflow().streaming(), prefix).finish())
            .merge(graphql::routes(mlflow(), prefix, &rest).finish());
    }
    if let Some(folder) = ui {
        all = all.merge(ui::routes(mlflow(), folder).finish());
    }
    // Read by clients before they log in; it tells nothing but which protocol is spoken.
    all.route("/version", get(|| async { other::VERSION })).with_state(registry)
}

/// An answer of nothing.
#[expect(clippy::unnecessary_wraps, reason = "it is the answer of handlers that can fail")]
fn nothing() -> Answer {
    Ok(Json(Value::Object(Map::new())))
}

/// An answer of one thing under its name.
fn one(name: &str, value: &impl Serialize) -> Answer {
    Ok(Json(Value::Object(Map::from_iter([(name.to_owned(), to_json(value)?)]))))
}

/// An answer of a list, left out when it is empty, and the token of the next page, left out on the last.
fn many(name: &str, values: &[impl Serialize], next_page_token: Option<String>) -> Answer {
    let mut answer = Map::new();
    if !values.is_empty() {
        answer.insert(name.to_owned(), to_json(&values)?);
    }
    if let Some(token) = next_page_token {
        answer.insert("next_page_token".to_owned(), Value::String(token));
    }
    Ok(Json(Value::Object(answer)))
}

fn to_json(value: &impl Serialize) -> Result<Value, Failure> {
    serde_json::to_value(value)
        .map_err(|error| fishy_core::Error::internal("cannot write the answer").with_source(error).into())
}
