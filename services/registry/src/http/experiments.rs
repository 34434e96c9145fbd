//! `/2.0/mlflow/experiments/…`

use fishy_core::Error;
use fishy_http::Routes;

use super::message::Message;
use super::{Answer, App, Here, READ, WRITE, many, nothing, one};
use crate::store::search::View;

pub(super) fn routes(routes: Routes<App>, mount: &str) -> Routes<App> {
    let path = |name: &str| format!("{mount}/2.0/mlflow/experiments/{name}");
    routes
        .post(&path("create"), WRITE, create)
        .get(&path("get"), READ, get)
        .get(&path("get-by-name"), READ, get_by_name)
        .post(&path("delete"), WRITE, delete)
        .post(&path("restore"), WRITE, restore)
        .post(&path("update"), WRITE, update)
        .post(&path("search"), READ, search)
        .get(&path("search"), READ, search)
        .post(&path("set-experiment-tag"), WRITE, set_tag)
        .post(&path("delete-experiment-tag"), WRITE, delete_tag)
        .post(&path("search-datasets"), READ, search_datasets)
        // MLflow's own client asks here: its route lacks a slash.
        .post(&format!("{mount}/2.0mlflow/experiments/search-datasets"), READ, search_datasets)
}

/// Which deleted things a search finds: `ACTIVE_ONLY` unless it says otherwise.
pub(super) fn view(message: &Message, name: &str) -> Result<View, Error> {
    match message.filled(name)?.as_deref() {
        None | Some("ACTIVE_ONLY") => Ok(View::ActiveOnly),
        Some("DELETED_ONLY") => Ok(View::DeletedOnly),
        Some("ALL") => Ok(View::All),
        Some(other) => Err(crate::domain::names::invalid_value(name, other, "use ACTIVE_ONLY, DELETED_ONLY or ALL")),
    }
}

async fn create(Here(app): Here, message: Message) -> Answer {
    let name = message.required("name")?;
    let location = message.filled("artifact_location")?;
    let id = app.create_experiment(&name, location.as_deref(), &message.pairs("tags")?).await?;
    one("experiment_id", &id.to_string())
}

async fn get(Here(app): Here, message: Message) -> Answer {
    one("experiment", &app.experiment(&message.required_id("experiment_id")?).await?)
}

async fn get_by_name(Here(app): Here, message: Message) -> Answer {
    one("experiment", &app.experiment_by_name(&message.required("experiment_name")?).await?)
}

async fn delete(Here(app): Here, message: Message) -> Answer {
    app.set_experiment_deleted(&message.required_id("experiment_id")?, true).await?;
    nothing()
}

async fn restore(Here(app): Here, message: Message) -> Answer {
    app.set_experiment_deleted(&message.required_id("experiment_id")?, false).await?;
    nothing()
}

async fn update(Here(app): Here, message: Message) -> Answer {
    let id = message.required_id("experiment_id")?;
    if let Some(name) = message.text("new_name")? {
        app.rename_experiment(&id, &name).await?;
    }
    nothing()
}

async fn search(Here(app): Here, message: Message) -> Answer {
    let page = app.search_experiments(view(&message, "view_type")?, &message.search()?).await?;
    many("experiments", &page.rows, page.next_token())
}

async fn search_datasets(Here(app): Here, message: Message) -> Answer {
    many("dataset_summaries", &app.search_datasets(&message.texts("experiment_ids")?).await?, None)
}

async fn set_tag(Here(app): Here, message: Message) -> Answer {
    message.required("key")?;
    app.set_experiment_tag(&message.required_id("experiment_id")?, message.pair()?).await?;
    nothing()
}

async fn delete_tag(Here(app): Here, message: Message) -> Answer {
    app.delete_experiment_tag(&message.required_id("experiment_id")?, &message.required("key")?).await?;
    nothing()
}
