//! `/3.0/mlflow/workspaces`, and which workspace any other request is about.

use std::sync::Arc;

use axum::extract::{FromRequestParts, Path, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use fishy_authz::Identity;
use fishy_core::{Error, Result};
use fishy_http::{Caller, Failure, Routes, Tenant, TenantOf};

use super::message::Message;
use super::{Answer, App, READ, many, one};
use crate::domain::workspace::{DEFAULT, HEADER, check_name, deletion};
use crate::service::{Asker, Inside, WORKSPACE};

/// The registry of the workspace that a request is about: the only way in which a handler gets hold of one.
pub(super) struct Here(pub Inside);

impl FromRequestParts<App> for Here {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Failure> {
        let inside = match parts.extensions.get::<Tenant>() {
            Some(Tenant(name)) => app.enter(name).await?,
            None if !app.is_on() => app.home(),
            None => return Err(Error::internal("nobody said which workspace the request is about").into()),
        };
        Ok(Self(inside))
    }
}

/// Tells which workspace a request is about: that of its header, else that of the caller's tenant.
pub(super) fn tenant_of(is_on: bool) -> TenantOf {
    Arc::new(move |headers: &HeaderMap, who: &Identity| {
        let asked = asked(headers)?;
        if is_on {
            return Ok(Some(Tenant(asked.map_or_else(|| who.tenant.clone(), str::to_owned))));
        }
        match asked {
            None | Some(DEFAULT) => Ok(None),
            Some(_) => Err(Error::precondition(
                "Workspace APIs are not available: workspaces are not enabled on this server (registry.workspaces)",
            )),
        }
    })
}

/// The workspace that the header names, if it names one.
fn asked(headers: &HeaderMap) -> Result<Option<&str>> {
    let mut values = headers.get_all(HEADER).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Error::invalid("the header X-MLFLOW-WORKSPACE is given more than once"));
    }
    let wrong = |_| Error::invalid("the header X-MLFLOW-WORKSPACE has other characters than those of a name");
    let name = value.to_str().map_err(wrong)?.trim();
    if name.is_empty() {
        return Ok(None);
    }
    if name != DEFAULT {
        check_name(name)?;
    }
    Ok(Some(name))
}

pub(super) fn routes(routes: Routes<App>, mount: &str) -> Routes<App> {
    let all = format!("{mount}/3.0/mlflow/workspaces");
    let one = format!("{all}/{{workspace_name}}");
    routes
        .get(&all, READ, list)
        .post(&all, WORKSPACE, create)
        .get(&one, READ, get)
        .patch(&one, WORKSPACE, update)
        .delete(&one, WORKSPACE, delete)
}

/// Every workspace keeps its artifacts in the store of this server, and there are no traces to archive.
fn check_places(message: &Message) -> Result<()> {
    if message.filled("default_artifact_root")?.is_some() {
        return Err(Error::invalid(
            "Invalid value for 'default_artifact_root': the artifacts of every workspace are in the store of this server",
        ));
    }
    let Some(archive) = message.object("trace_archival_config")? else { return Ok(()) };
    if archive.filled("location")?.is_some() || archive.filled("retention")?.is_some() {
        return Err(Error::invalid("Invalid value for 'trace_archival_config': there are no traces here"));
    }
    Ok(())
}

async fn list(State(app): State<App>, Caller(who): Caller) -> Answer {
    many("workspaces", &app.all(&who).await?, None)
}

async fn create(State(app): State<App>, asker: Asker, message: Message) -> Result<Response, Failure> {
    check_places(&message)?;
    let made = app.create(&asker, &message.required("name")?, message.text("description")?.as_deref()).await?;
    Ok((StatusCode::CREATED, one("workspace", &made)?).into_response())
}

async fn get(State(app): State<App>, Caller(who): Caller, Path(name): Path<String>) -> Answer {
    one("workspace", &app.one(&who, &name).await?)
}

async fn update(State(app): State<App>, Path(name): Path<String>, asker: Asker, message: Message) -> Answer {
    const KEYS: [&str; 3] = ["description", "default_artifact_root", "trace_archival_config"];
    if KEYS.iter().all(|key| message.value(key).is_none()) {
        return Err(Error::invalid("Workspace update must have at least one key").into());
    }
    check_places(&message)?;
    let changed = match message.text("description")? {
        Some(description) => app.describe(&asker, &name, Some(&description)).await?,
        None => app.one(&asker.who, &name).await?,
    };
    one("workspace", &changed)
}

async fn delete(
    State(app): State<App>,
    Path(name): Path<String>,
    asker: Asker,
    message: Message,
) -> Result<StatusCode, Failure> {
    app.delete(&asker, &name, deletion(message.filled("mode")?.as_deref())?).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    fn with(values: &[&str]) -> HeaderMap {
        let name = HeaderName::from_static(HEADER);
        values.iter().map(|value| (name.clone(), HeaderValue::from_str(value).unwrap())).collect()
    }

    #[test]
    fn the_header_names_the_workspace_else_the_tenant_does() {
        let of = Identity { tenant: "north".to_owned(), ..Identity::user("ada", ["viewer"]) };
        let tenant = |values: &[&str]| tenant_of(true)(&with(values), &of).map(|tenant| tenant.unwrap().0);
        assert_eq!(tenant(&["south"]).unwrap(), "south");
        assert_eq!(tenant(&[" default "]).unwrap(), "default");
        for none in [&[][..], &[""], &["  "]] {
            assert_eq!(tenant(none).unwrap(), "north");
        }
        for bad in [&["../south"][..], &["South"], &["a"], &["south", "south"], &["south,north"]] {
            assert!(tenant(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn without_workspaces_there_is_one() {
        let of = Identity::user("ada", ["viewer"]);
        for none in [&[][..], &["default"]] {
            assert_eq!(tenant_of(false)(&with(none), &of).unwrap(), None);
        }
        assert!(tenant_of(false)(&with(&["south"]), &of).is_err());
    }
}
