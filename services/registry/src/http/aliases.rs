//! `/2.0/mlflow/registered-models/alias`

use fishy_http::Routes;

use super::message::Message;
use super::{Answer, App, Here, READ, WRITE, nothing, one};
use crate::service::Asker;

pub(super) fn routes(routes: Routes<App>, mount: &str) -> Routes<App> {
    let path = format!("{mount}/2.0/mlflow/registered-models/alias");
    routes.post(&path, WRITE, set).get(&path, READ, get).delete(&path, WRITE, delete)
}

async fn set(Here(app): Here, asker: Asker, message: Message) -> Answer {
    let (name, alias) = (message.required("name")?, message.required("alias")?);
    app.set_alias(&asker, &name, &alias, &message.required_id("version")?).await?;
    nothing()
}

async fn get(Here(app): Here, message: Message) -> Answer {
    one("model_version", &app.version_by_alias(&message.required("name")?, &message.required("alias")?).await?)
}

async fn delete(Here(app): Here, asker: Asker, message: Message) -> Answer {
    app.delete_alias(&asker, &message.required("name")?, &message.required("alias")?).await?;
    nothing()
}
