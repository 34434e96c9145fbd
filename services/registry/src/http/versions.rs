//! `/2.0/mlflow/model-versions/…`

use fishy_http::Routes;

use super::message::Message;
use super::{Answer, App, Here, READ, WRITE, many, nothing, one};
use crate::domain::artifact;
use crate::service::{Asker, NewVersion};

pub(super) fn routes(routes: Routes<App>, mount: &str) -> Routes<App> {
    let path = |name: &str| format!("{mount}/2.0/mlflow/model-versions/{name}");
    routes
        .post(&path("create"), WRITE, create)
        .get(&path("get"), READ, get)
        .patch(&path("update"), WRITE, update)
        .post(&path("transition-stage"), WRITE, transition)
        .delete(&path("delete"), WRITE, delete)
        .get(&path("search"), READ, search)
        .get(&path("get-download-uri"), READ, download_uri)
        .post(&path("set-tag"), WRITE, set_tag)
        .delete(&path("delete-tag"), WRITE, delete_tag)
}

async fn create(Here(app): Here, asker: Asker, message: Message) -> Answer {
    let new = NewVersion {
        name: message.required("name")?,
        source: message.required("source")?,
        run_id: message.filled("run_id")?,
        model_id: message.filled("model_id")?,
        run_link: message.filled("run_link")?,
        description: message.filled("description")?,
        tags: message.pairs("tags")?,
    };
    one("model_version", &app.create_version(&asker, new).await?)
}

async fn get(Here(app): Here, message: Message) -> Answer {
    let version = app.version(&message.required("name")?, &message.required_id("version")?).await?;
    one("model_version", &version)
}

async fn update(Here(app): Here, message: Message) -> Answer {
    let (name, version) = (message.required("name")?, message.required_id("version")?);
    let description = message.text("description")?;
    one("model_version", &app.update_version(&name, &version, description.as_deref()).await?)
}

async fn transition(Here(app): Here, asker: Asker, message: Message) -> Answer {
    let (name, version) = (message.required("name")?, message.required_id("version")?);
    let stage = message.required("stage")?;
    let archives_others = message.flag("archive_existing_versions")?.unwrap_or(false);
    one("model_version", &app.transition_version(&asker, &name, &version, &stage, archives_others).await?)
}

async fn delete(Here(app): Here, asker: Asker, message: Message) -> Answer {
    app.delete_version(&asker, &message.required("name")?, &message.required_id("version")?).await?;
    nothing()
}

async fn search(Here(app): Here, message: Message) -> Answer {
    let page = app.search_versions(&message.search()?).await?;
    many("model_versions", &page.rows, page.next_token())
}

async fn download_uri(Here(app): Here, message: Message) -> Answer {
    let version = app.version(&message.required("name")?, &message.required_id("version")?).await?;
    one("artifact_uri", &artifact::uri(&version.artifact_path))
}

async fn set_tag(Here(app): Here, asker: Asker, message: Message) -> Answer {
    message.required("key")?;
    app.set_version_tag(&asker, &message.required("name")?, &message.required_id("version")?, message.pair()?).await?;
    nothing()
}

async fn delete_tag(Here(app): Here, asker: Asker, message: Message) -> Answer {
    let (name, version) = (message.required("name")?, message.required_id("version")?);
    app.delete_version_tag(&asker, &name, &version, &message.required("key")?).await?;
    nothing()
}
