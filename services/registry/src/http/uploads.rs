//! `/2.0/mlflow-artifacts/mpu/…` and `…/presigned/…`: clients that read and write the object store themselves.

use axum::extract::Path;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use fishy_core::Error;
use fishy_http::{Failure, Json, Routes};
use serde_json::json;

use super::artifacts::path_below;
use super::message::Message;
use super::{Answer, App, Here, READ, WRITE, nothing};
use crate::domain::{artifact, names};

/// What a client looks for at the beginning of the message, to send the file through us instead.
const NO_UPLOAD: &str = "Multipart upload is not supported for the current artifact repository";
const NO_DOWNLOAD: &str = "Multipart download is not supported for the current artifact repository";

pub(super) fn routes(routes: Routes<App>, mount: &str) -> Routes<App> {
    routes
        .post(&format!("{mount}/2.0/mlflow-artifacts/mpu/create/{{*folder}}"), WRITE, create)
        .post(&format!("{mount}/2.0/mlflow-artifacts/mpu/abort/{{*folder}}"), WRITE, abort)
        .get(&format!("{mount}/2.0/mlflow-artifacts/presigned/{{*path}}"), READ, presigned)
        .post(&format!("{mount}/2.0/mlflow/artifacts/presigned-download-url"), READ, presigned_of_run)
        .post(&format!("{mount}/2.0/mlflow/artifacts/presigned-upload-url"), WRITE, no_upload_by_one_address)
}

/// The routes that take as long as the file is.
pub(super) fn unhurried(routes: Routes<App>, mount: &str) -> Routes<App> {
    routes.post(&format!("{mount}/2.0/mlflow-artifacts/mpu/complete/{{*folder}}"), WRITE, complete)
}

/// Why a client is not sent to the store.
fn unsupported(message: &str) -> Response {
    let why = "files of any size go through this server in one stream";
    let body = json!({"error_code": "NOT_IMPLEMENTED", "message": format!("{message}: {why}")});
    (StatusCode::NOT_IMPLEMENTED, Json(body)).into_response()
}

/// The artifact that a client means by a folder and the path of a file on its own machine.
fn target(folder: &str, message: &Message) -> Result<String, Error> {
    let file = message.required("path")?;
    let name = file.rsplit(['/', '\\']).next().unwrap_or_default();
    if name.is_empty() {
        return Err(names::invalid_value("path", &file, "it must name a file"));
    }
    Ok(artifact::join(folder.trim_end_matches('/'), name))
}

async fn create(Here(app): Here, Path(folder): Path<String>, message: Message) -> Result<Response, Failure> {
    if !app.transfers_directly() {
        return Ok(unsupported(NO_UPLOAD));
    }
    let upload = app.start_upload(&target(&folder, &message)?, message.whole("num_parts")?.unwrap_or(1)).await?;
    let parts = upload.parts.iter().enumerate();
    let credentials: Vec<_> =
        parts.map(|(at, url)| json!({"url": url, "part_number": at + 1, "headers": {}})).collect();
    Ok(Json(json!({"upload_id": upload.id, "credentials": credentials})).into_response())
}

async fn complete(Here(app): Here, Path(folder): Path<String>, message: Message) -> Result<Response, Failure> {
    if !app.transfers_directly() {
        return Ok(unsupported(NO_UPLOAD));
    }
    let path = target(&folder, &message)?;
    let mut parts = Vec::new();
    for part in message.objects("parts")? {
        let number = part.whole("part_number")?.ok_or_else(|| names::missing("part_number"))?;
        parts.push((number, part.required("etag")?));
    }
    parts.sort();
    if parts.is_empty() || parts.iter().zip(1..).any(|((number, _), expected)| *number != expected) {
        return Err(
            Error::invalid("Invalid value for parameter 'parts' supplied: name every part once, from 1 on").into()
        );
    }
    let tags: Vec<String> = parts.into_iter().map(|(_, tag)| tag).collect();
    app.complete_upload(&path, &message.required("upload_id")?, &tags).await?;
    Ok(nothing()?.into_response())
}

async fn abort(Here(app): Here, Path(folder): Path<String>, message: Message) -> Result<Response, Failure> {
    if !app.transfers_directly() {
        return Ok(unsupported(NO_UPLOAD));
    }
    app.abort_upload(&target(&folder, &message)?, &message.required("upload_id")?).await?;
    Ok(nothing()?.into_response())
}

async fn presigned(Here(app): Here, Path(path): Path<String>) -> Result<Response, Failure> {
    if !app.transfers_directly() {
        return Ok(unsupported(NO_DOWNLOAD));
    }
    let signed = app.signed_artifact(&path).await?;
    Ok(Json(json!({"url": signed.url, "headers": {}, "file_size": signed.size_bytes})).into_response())
}

async fn presigned_of_run(Here(app): Here, message: Message) -> Result<Response, Failure> {
    let run = app.run_info(&message.run_id()?).await?;
    let path = path_below(&run.artifact_uri, &message.required("path")?)?;
    if !app.transfers_directly() {
        return Ok(unsupported(NO_DOWNLOAD));
    }
    let signed = app.signed_artifact(&path).await?;
    Ok(Json(json!({"presigned_url": signed.url, "headers": {}, "file_size": signed.size_bytes})).into_response())
}

/// As with MLflow where artifacts are reached through the server; and nobody would hash what came in so.
async fn no_upload_by_one_address() -> Answer {
    let text = "Presigned upload is not supported for proxied artifact storage (artifact URI scheme: mlflow-artifacts). \
                PUT the file to /api/2.0/mlflow-artifacts/artifacts/<path>.";
    Err(Error::invalid(text).into())
}
