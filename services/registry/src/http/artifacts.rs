//! `/2.0/mlflow-artifacts/artifacts…`, where content is read and written, and MLflow's listings by run and by model.

use axum::body::Body;
use axum::extract::{Path, Request};
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE, ETAG, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use fishy_core::Error;
use fishy_http::{Failure, Routes};
use futures::TryStreamExt;
use serde_json::json;

use super::message::Message;
use super::{Answer, App, Here, READ, WRITE, many, nothing};
use crate::domain::artifact;
use crate::domain::records::FileInfo;
use crate::service::Registry;

pub(super) fn routes(routes: Routes<App>, mount: &str) -> Routes<App> {
    routes
        .get(&format!("{mount}/2.0/mlflow-artifacts/artifacts"), READ, list)
        .delete(&format!("{mount}/2.0/mlflow-artifacts/artifacts/{{*path}}"), WRITE, delete)
        .get(&format!("{mount}/2.0/mlflow/artifacts/list"), READ, list_of_run)
        .get(&format!("{mount}/2.0/mlflow/logged-models/{{model_id}}/artifacts/directories"), READ, list_of_model)
}

/// The routes whose bodies stream.
pub(super) fn streams(routes: Routes<App>, mount: &str) -> Routes<App> {
    let path = format!("{mount}/2.0/mlflow-artifacts/artifacts/{{*path}}");
    routes
        .get(&path, READ, download)
        .put(&path, WRITE, upload)
        .get(&format!("{mount}/2.0/mlflow/logged-models/{{model_id}}/artifacts/files"), READ, file_of_model)
        .post(&format!("{mount}/2.0/mlflow/upload-artifact"), WRITE, upload_to_run)
}

/// The doors of the web UI, which are beside its page.
pub(super) fn root_streams(routes: Routes<App>, prefix: &str) -> Routes<App> {
    routes.get(&format!("{prefix}/get-artifact"), READ, file_of_run).get(
        &format!("{prefix}/model-versions/get-artifact"),
        READ,
        file_of_version,
    )
}

async fn upload(Here(app): Here, Path(path): Path<String>, request: Request) -> Result<(), Failure> {
    let body = request.into_body().into_data_stream();
    let body = body.map_err(|error| Error::invalid("the upload broke off").with_source(error));
    Ok(app.put_artifact(&path, body).await?)
}

async fn download(Here(app): Here, Path(path): Path<String>) -> Result<Response, Failure> {
    answer_with(&app, &path).await
}

/// The path in our store of a file below a URI.
pub(super) fn path_below(uri: &str, path: &str) -> Result<String, Error> {
    let root = artifact::path_of(uri)
        .ok_or_else(|| Error::precondition(format!("the artifacts at {uri} are not in the store of this server")))?;
    Ok(artifact::join(root, artifact::check_path(path)?))
}

async fn file_of_run(Here(app): Here, message: Message) -> Result<Response, Failure> {
    let run = app.run_info(&message.run_id()?).await?;
    answer_with(&app, &path_below(&run.artifact_uri, &message.required("path")?)?).await
}

async fn file_of_model(Here(app): Here, Path(model_id): Path<String>, message: Message) -> Result<Response, Failure> {
    let model = app.logged_model(&model_id).await?;
    answer_with(&app, &path_below(&model.info.artifact_uri, &message.required("artifact_file_path")?)?).await
}

async fn file_of_version(Here(app): Here, message: Message) -> Result<Response, Failure> {
    let version = app.version(&message.required("name")?, &message.required_id("version")?).await?;
    answer_with(&app, &path_below(&artifact::uri(&version.artifact_path), &message.required("path")?)?).await
}

/// What the web UI uploads: its place is in the query, its content is the body.
async fn upload_to_run(Here(app): Here, request: Request) -> Result<(), Failure> {
    let place = Message::from_query(request.uri().query().unwrap_or(""))?;
    let run = app.active_run_info(&place.run_id()?).await?;
    let path = path_below(&run.artifact_uri, &place.required("path")?)?;
    let body = request.into_body().into_data_stream();
    let body = body.map_err(|error| Error::invalid("the upload broke off").with_source(error));
    Ok(app.put_artifact(&path, body).await?)
}

async fn answer_with(app: &Registry, path: &str) -> Result<Response, Failure> {
    let (file, stream) = app.artifact(path).await?;
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(CONTENT_DISPOSITION, HeaderValue::from_static("attachment"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(file.size_bytes));
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{}\"", file.sha256)) {
        headers.insert(ETAG, tag);
    }
    Ok((headers, Body::from_stream(stream)).into_response())
}

async fn delete(Here(app): Here, Path(path): Path<String>) -> Answer {
    app.delete_artifact(&path).await?;
    nothing()
}

/// Paths relative to a folder.
fn relative(files: Vec<FileInfo>, folder: &str) -> Vec<FileInfo> {
    let cut =
        |path: String| path.strip_prefix(folder).map_or(path.clone(), |rest| rest.trim_start_matches('/').to_owned());
    files.into_iter().map(|file| FileInfo { path: cut(file.path), ..file }).collect()
}

async fn list(Here(app): Here, message: Message) -> Answer {
    let folder = message.text("path")?.unwrap_or_default();
    let folder = folder.trim_end_matches('/');
    many("files", &relative(app.list_artifacts(folder).await?, folder), None)
}

async fn list_of_run(Here(app): Here, message: Message) -> Answer {
    let run = app.run_info(&message.run_id()?).await?;
    below(&app, &run.artifact_uri, message.filled("path")?).await
}

async fn list_of_model(Here(app): Here, Path(model_id): Path<String>, message: Message) -> Answer {
    let model = app.logged_model(&model_id).await?;
    below(&app, &model.info.artifact_uri, message.filled("artifact_directory_path")?).await
}

/// What is in a folder below the artifacts of a run or model, with paths relative to these.
async fn below(app: &Registry, uri: &str, folder: Option<String>) -> Answer {
    let root = artifact::path_of(uri)
        .ok_or_else(|| Error::precondition(format!("the artifacts at {uri} are not in the store of this server")))?;
    let folder = folder.unwrap_or_default();
    let folder = folder.trim_end_matches('/');
    if !folder.is_empty() {
        artifact::check_path(folder)?;
    }
    let files = relative(app.list_artifacts(&artifact::join(root, folder)).await?, root);
    let mut answer = json!({ "root_uri": uri });
    if !files.is_empty() {
        answer["files"] = super::to_json(&files)?;
    }
    Ok(fishy_http::Json(answer))
}
