//! MLflow's own web UI below `/mlflow`, out of a folder of files that an installed `mlflow` package has.
//!
//! The page asks for everything relative to its own address, so its files and its API lie below `/mlflow` as well.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use fishy_core::{Error, Result};
use fishy_http::{Failure, Routes};
use http::header::{CACHE_CONTROL, LOCATION, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS};
use http::{HeaderValue, StatusCode, Uri};
use tower_http::services::ServeDir;

use super::{App, READ};

/// Where the UI is.
pub(super) const PREFIX: &str = "/mlflow";
/// Where the page expects its files.
const FILES: &str = "/mlflow/static-files";

/// The folder of the UI, checked; `None` when there is to be none.
pub(crate) fn folder(configured: &str) -> Result<Option<PathBuf>> {
    if configured.is_empty() {
        return Ok(None);
    }
    let folder = Path::new(configured);
    if folder.join("index.html").is_file() {
        return Ok(Some(folder.to_owned()));
    }
    Err(Error::invalid(format!(
        "{configured:?} (registry.mlflow_ui, --mlflow-ui) has no index.html: name the folder mlflow/server/js/build of \
         an installed mlflow package"
    )))
}

pub(super) fn routes(routes: Routes<App>, folder: &Path) -> Routes<App> {
    let files = ServeDir::new(folder).append_index_html_on_directories(false);
    let page = files.clone();
    routes
        .get(PREFIX, READ, || async { (StatusCode::PERMANENT_REDIRECT, [(LOCATION, "mlflow/")]) })
        .get(&format!("{PREFIX}/"), READ, move || file(page.clone(), "/index.html".to_owned()))
        .get(&format!("{FILES}/{{*path}}"), READ, move |uri: Uri| {
            file(files.clone(), uri.path().strip_prefix(FILES).unwrap_or("/").to_owned())
        })
}

/// One file below the folder.
async fn file(mut files: ServeDir, path: String) -> Result<Response, Failure> {
    let request = Request::builder().uri(&path).body(Body::empty());
    let request = request.map_err(|_| Error::not_found(format!("the web UI has no file {path:?}")))?;
    let none = || Error::not_found(format!("the web UI has no file {path:?}"));
    let answer = match files.try_call(request).await {
        Ok(answer) if answer.status() == StatusCode::NOT_FOUND => return Err(none().into()),
        Ok(answer) => answer,
        Err(error) if is_of_the_path(error.kind()) => return Err(none().into()),
        Err(error) => return Err(Error::internal("cannot read a file of the web UI").with_source(error).into()),
    };
    let mut answer = answer.map(Body::new).into_response();
    // These have the digest of their content in their names; the page that names them must be looked up again.
    let is_named_by_content = path.starts_with("/static/");
    let caching = if is_named_by_content { "public, max-age=31536000, immutable" } else { "no-cache" };
    let headers = answer.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(caching));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("SAMEORIGIN"));
    Ok(answer)
}

/// Whether a file cannot be read because of what was asked for.
fn is_of_the_path(kind: ErrorKind) -> bool {
    use ErrorKind::{InvalidFilename, InvalidInput, IsADirectory, NotADirectory, NotFound};
    matches!(kind, NotFound | NotADirectory | IsADirectory | InvalidInput | InvalidFilename)
}
