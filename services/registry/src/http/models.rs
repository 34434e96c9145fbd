//! `/2.0/mlflow/registered-models/…`

use fishy_http::Routes;

use super::message::Message;
use super::{Answer, App, Here, READ, WRITE, many, nothing, one};
use crate::service::Asker;

pub(super) fn routes(routes: Routes<App>, mount: &str) -> Routes<App> {
    let path = |name: &str| format!("{mount}/2.0/mlflow/registered-models/{name}");
    routes
        .post(&path("create"), WRITE, create)
        .get(&path("get"), READ, get)
        .post(&path("get-latest-versions"), READ, latest_versions)
        .get(&path("get-latest-versions"), READ, latest_versions)
        .patch(&path("update"), WRITE, update)
        .post(&path("rename"), WRITE, rename)
        .delete(&path("delete"), WRITE, delete)
        .get(&path("search"), READ, search)
        .post(&path("set-tag"), WRITE, set_tag)
        .delete(&path("delete-tag"), WRITE, delete_tag)
}

async fn create(Here(app): Here, asker: Asker, message: Message) -> Answer {
    let (name, description) = (message.required("name")?, message.filled("description")?);
    let model = app.create_model(&asker, &name, description.as_deref(), &message.pairs("tags")?).await?;
    one("registered_model", &model)
}

async fn get(Here(app): Here, message: Message) -> Answer {
    one("registered_model", &app.model(&message.required("name")?).await?)
}

async fn latest_versions(Here(app): Here, message: Message) -> Answer {
    many("model_versions", &app.latest_versions(&message.required("name")?, &message.texts("stages")?).await?, None)
}

async fn update(Here(app): Here, message: Message) -> Answer {
    let description = message.text("description")?;
    one("registered_model", &app.update_model(&message.required("name")?, description.as_deref()).await?)
}

async fn rename(Here(app): Here, asker: Asker, message: Message) -> Answer {
    let (name, new_name) = (message.required("name")?, message.required("new_name")?);
    one("registered_model", &app.rename_model(&asker, &name, &new_name).await?)
}

async fn delete(Here(app): Here, asker: Asker, message: Message) -> Answer {
    app.delete_model(&asker, &message.required("name")?).await?;
    nothing()
}

async fn search(Here(app): Here, message: Message) -> Answer {
    let page = app.search_models(&message.search()?).await?;
    many("registered_models", &page.rows, page.next_token())
}

async fn set_tag(Here(app): Here, asker: Asker, message: Message) -> Answer {
    message.required("key")?;
    app.set_model_tag(&asker, &message.required("name")?, message.pair()?).await?;
    nothing()
}

async fn delete_tag(Here(app): Here, asker: Asker, message: Message) -> Answer {
    app.delete_model_tag(&asker, &message.required("name")?, &message.required("key")?).await?;
    nothing()
}
