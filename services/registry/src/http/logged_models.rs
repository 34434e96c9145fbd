//! `/2.0/mlflow/logged-models…`

use axum::extract::Path;
use fishy_core::Error;
use fishy_http::Routes;

use super::message::Message;
use super::{Answer, App, Here, READ, WRITE, many, nothing, one};
use crate::domain::names;
use crate::service::NewLoggedModel;
use crate::store::search::OnDataset;

pub(super) fn routes(routes: Routes<App>, mount: &str) -> Routes<App> {
    let all = format!("{mount}/2.0/mlflow/logged-models");
    routes
        .post(&all, WRITE, create)
        .post(&format!("{all}/search"), READ, search)
        .get(&format!("{all}/{{model_id}}"), READ, get)
        .patch(&format!("{all}/{{model_id}}"), WRITE, finalize)
        .delete(&format!("{all}/{{model_id}}"), WRITE, delete)
        .post(&format!("{all}/{{model_id}}/params"), WRITE, log_params)
        .patch(&format!("{all}/{{model_id}}/tags"), WRITE, set_tags)
        .delete(&format!("{all}/{{model_id}}/tags/{{key}}"), WRITE, delete_tag)
}

async fn create(Here(app): Here, message: Message) -> Answer {
    let new = NewLoggedModel {
        experiment_id: message.required("experiment_id")?,
        name: message.filled("name")?,
        model_type: message.filled("model_type")?,
        source_run_id: message.filled("source_run_id")?,
        params: message.pairs("params")?,
        tags: message.pairs("tags")?,
    };
    one("model", &app.create_logged_model(new).await?)
}

async fn get(Here(app): Here, Path(model_id): Path<String>) -> Answer {
    one("model", &app.logged_model(&model_id).await?)
}

async fn finalize(Here(app): Here, Path(model_id): Path<String>, message: Message) -> Answer {
    let status = match message.text("status") {
        Ok(status) => status.ok_or_else(|| names::missing("status"))?,
        Err(wrong) => match message.whole("status")? {
            Some(1) => "LOGGED_MODEL_PENDING".to_owned(),
            Some(2) => "LOGGED_MODEL_READY".to_owned(),
            Some(3) => "LOGGED_MODEL_UPLOAD_FAILED".to_owned(),
            _ => return Err(wrong.into()),
        },
    };
    one("model", &app.finalize_logged_model(&model_id, &status).await?)
}

async fn delete(Here(app): Here, Path(model_id): Path<String>) -> Answer {
    app.delete_logged_model(&model_id).await?;
    nothing()
}

async fn log_params(Here(app): Here, Path(model_id): Path<String>, message: Message) -> Answer {
    app.log_logged_model_params(&model_id, &message.pairs("params")?).await?;
    nothing()
}

async fn set_tags(Here(app): Here, Path(model_id): Path<String>, message: Message) -> Answer {
    one("model", &app.set_logged_model_tags(&model_id, &message.pairs("tags")?).await?)
}

async fn delete_tag(Here(app): Here, Path((model_id, key)): Path<(String, String)>) -> Answer {
    app.delete_logged_model_tag(&model_id, &key).await?;
    nothing()
}

async fn search(Here(app): Here, message: Message) -> Answer {
    let datasets = message.objects("datasets")?.iter().map(on_dataset).collect::<Result<Vec<_>, _>>()?;
    let (filter, token) =
        (message.text("filter")?.unwrap_or_default(), message.text("page_token")?.unwrap_or_default());
    let page = (message.whole("max_results")?, token.as_str());
    let ids = message.texts("experiment_ids")?;
    let (models, next) = app.search_logged_models(&ids, &filter, &datasets, message.list("order_by")?, page).await?;
    many("models", &models, next)
}

fn on_dataset(message: &Message) -> Result<OnDataset, Error> {
    let name = message.filled("dataset_name")?;
    let name = name.ok_or_else(|| Error::invalid("`dataset_name` in the `datasets` clause must be specified."))?;
    Ok(OnDataset { name, digest: message.filled("dataset_digest")? })
}
