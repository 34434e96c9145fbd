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
mod workspaces;

use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use fishy_http::{ErrorForm, Failure, Guard, Json, Listed, Routes};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use self::workspaces::Here;
use crate::SERVICE;
use crate::service::Workspaces;

/// The state of all handlers. Those about things of a workspace take [`Here`].
type App = Arc<Workspaces>;

/// The answer of most handlers.
type Answer = Result<Json<Value>, Failure>;

const READ: &str = "registry:read";
const WRITE: &str = "registry:write";

/// The routers of families of routes, and the list of all their routes.
#[derive(Default)]
struct All {
    router: Router<App>,
    table: Vec<Listed>,
}

impl All {
    fn add(&mut self, routes: Routes<App>) {
        self.table.extend_from_slice(routes.table());
        self.router = std::mem::take(&mut self.router).merge(routes.finish());
    }
}

/// All routes, those of the web UI when there is a folder of it; and their list.
pub(crate) fn router(app: App, guard: &Guard, ui: Option<&Path>) -> (Router, Vec<Listed>) {
    let tenant_of = workspaces::tenant_of(app.is_on());
    let open = || Routes::new(SERVICE, ErrorForm::Mlflow, guard);
    let mlflow = || open().of_tenants(Arc::clone(&tenant_of));
    let mut all = All::default();
    let ours = Routes::new(SERVICE, ErrorForm::Problem, guard).of_tenants(Arc::clone(&tenant_of));
    all.add(
        [own::routes, webhooks::own_routes, deletion::routes, imports::routes]
            .into_iter()
            .fold(ours, |routes, family: fn(_) -> _| family(routes)),
    );
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
        ] {
            routes = family(routes, mount);
        }
        all.add(routes);
        all.add(artifacts::streams(mlflow().streaming(), mount));
        all.add(uploads::unhurried(mlflow().unhurried(), mount));
        // These are about no workspace, or about one that their path names.
        all.add(other::routes(open(), mount));
        if app.is_on() {
            all.add(workspaces::routes(open(), mount));
        }
    }
    let rest = all.router.clone().with_state(Arc::clone(&app));
    for prefix in prefixes {
        all.add(artifacts::root_streams(mlflow().streaming(), prefix));
        all.add(graphql::routes(mlflow(), prefix, &rest));
    }
    if let Some(folder) = ui {
        all.add(ui::routes(open(), folder));
    }
    // Read by clients before they log in; it tells nothing but which protocol is spoken.
    let router = all.router.route("/version", get(|| async { other::VERSION })).with_state(app);
    (router, all.table)
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

/// As [`many`] of a list that may be long: written as it is, without a tree of values in between.
struct Long<T> {
    name: &'static str,
    values: Vec<T>,
    next_page_token: Option<String>,
}

impl<T: Serialize> Serialize for Long<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut answer = serializer.serialize_map(None)?;
        if !self.values.is_empty() {
            answer.serialize_entry(self.name, &self.values)?;
        }
        if let Some(token) = &self.next_page_token {
            answer.serialize_entry("next_page_token", token)?;
        }
        answer.end()
    }
}

/// The answer of a handler that may be long.
type LongAnswer<T> = Result<Json<Long<T>>, Failure>;

fn long<T>(name: &'static str, values: Vec<T>, next_page_token: Option<String>) -> Json<Long<T>> {
    Json(Long { name, values, next_page_token })
}

fn to_json(value: &impl Serialize) -> Result<Value, Failure> {
    serde_json::to_value(value)
        .map_err(|error| fishy_core::Error::internal("cannot write the answer").with_source(error).into())
}
