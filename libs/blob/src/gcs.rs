mod auth;
mod upload;

pub(crate) use upload::GcsUpload;

use crate::blob::{BlobMeta, BlobStream, Listing, not_found};
use crate::options::BlobOptions;
use auth::Auth;
use bytes::Bytes;
use fishy_core::{Error, ErrorCode, Result};
use futures::{StreamExt, TryStreamExt};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, LAST_MODIFIED};
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde::Deserialize;
use std::time::Duration;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const ATTEMPTS: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const DELETES_AT_ONCE: usize = 16;
/// Everything but what RFC 3986 calls unreserved: an object's name is one segment of the address.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Blobs in Google Cloud Storage, through its JSON API.
///
/// Not `object_store`'s: that one speaks the XML API, which no test server answers.
#[derive(Debug)]
pub(crate) struct GcsBackend {
    client: Client,
    endpoint: String,
    bucket: String,
    prefix: String,
    auth: Auth,
}

#[derive(Debug, Deserialize)]
struct Object {
    name: String,
    size: String,
    updated: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    #[serde(default)]
    items: Vec<Object>,
    #[serde(default)]
    prefixes: Vec<String>,
    next_page_token: Option<String>,
}

impl GcsBackend {
    pub(crate) fn open(bucket: &str, prefix: &str, options: &BlobOptions) -> Result<Self> {
        let client = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(options.timeout())
            // 308 means "go on" in a resumable upload, and a compressed blob is to come back as it was put.
            .redirect(reqwest::redirect::Policy::none())
            .no_gzip()
            .build()
            .map_err(|error| Error::internal("cannot make an HTTP client").with_source(error))?;
        let endpoint = options.gcs.endpoint.as_deref().unwrap_or("https://storage.googleapis.com");
        Ok(Self {
            auth: Auth::new(options.gcs.auth.clone(), client.clone()),
            client,
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
        })
    }

    fn name(&self, path: &str) -> String {
        if self.prefix.is_empty() { path.to_owned() } else { format!("{}/{path}", self.prefix) }
    }

    /// The path of an object; `None` for the empty objects that some tools put in place of folders.
    fn path(&self, name: &str) -> Option<String> {
        let path = if self.prefix.is_empty() { name } else { name.strip_prefix(&self.prefix)?.strip_prefix('/')? };
        (!path.is_empty() && !path.ends_with('/')).then(|| path.to_owned())
    }

    fn meta(&self, object: &Object) -> Option<BlobMeta> {
        Some(BlobMeta {
            path: self.path(&object.name)?,
            size_bytes: object.size.parse().ok()?,
            modified_ms: fishy_core::time::parse_ms(&object.updated)?,
        })
    }

    fn object_url(&self, path: &str) -> String {
        let name = self.name(path);
        format!("{}/storage/v1/b/{}/o/{}", self.endpoint, self.bucket, utf8_percent_encode(&name, SEGMENT))
    }

    fn upload_url(&self) -> String {
        format!("{}/upload/storage/v1/b/{}/o", self.endpoint, self.bucket)
    }

    /// Sends a request that may be repeated, until it is answered, refused, or tried often enough.
    async fn send(&self, what: Doing<'_>, request: impl Fn() -> RequestBuilder) -> Result<Response> {
        let mut attempt = 1;
        loop {
            let request = match self.auth.token().await? {
                Some(token) => request().bearer_auth(token),
                None => request(),
            };
            let sent = request.send().await;
            let is_final = attempt >= ATTEMPTS;
            match sent {
                Ok(response) if response.status().is_success() => return Ok(response),
                Ok(response) if response.status() == StatusCode::UNAUTHORIZED && attempt == 1 => self.auth.forget(),
                Ok(response) if is_final || !may_pass(response.status()) => return Err(what.refused(response).await),
                Err(error) if is_final => return Err(what.unreachable(error)),
                Ok(_) | Err(_) => tokio::time::sleep(pause(attempt)).await,
            }
            attempt += 1;
        }
    }

    pub(crate) async fn put(&self, path: &str, content: Bytes) -> Result<()> {
        let (name, size) = (self.name(path), content.len());
        let what = Doing { verb: "write", path };
        let response = self
            .send(what, || {
                self.client
                    .post(self.upload_url())
                    .query(&[("uploadType", "media"), ("name", &name)])
                    .header(CONTENT_TYPE, "application/octet-stream")
                    .header(CONTENT_LENGTH, size)
                    .body(content.clone())
            })
            .await
            .map_err(no_bucket)?;
        upload::check_size(what, response, size as u64).await
    }

    pub(crate) async fn start(&self, path: &str) -> Result<GcsUpload> {
        let name = self.name(path);
        let what = Doing { verb: "write", path };
        let response = self
            .send(what, || {
                self.client
                    .post(self.upload_url())
                    .query(&[("uploadType", "resumable"), ("name", &name)])
                    .header("X-Upload-Content-Type", "application/octet-stream")
                    .header(CONTENT_LENGTH, 0)
            })
            .await
            .map_err(no_bucket)?;
        GcsUpload::new(self.client.clone(), path, &response)
    }

    pub(crate) async fn get(&self, path: &str) -> Result<(BlobMeta, BlobStream)> {
        let (what, url) = (Doing { verb: "read", path }, self.object_url(path));
        let response = self.send(what, || self.client.get(&url).query(&[("alt", "media")])).await?;
        let meta = match media_meta(path, response.headers()) {
            Some(meta) => meta,
            None => self.head(path).await?,
        };
        let path = path.to_owned();
        let stream =
            response.bytes_stream().map_err(move |error| Doing { verb: "read", path: &path }.unreachable(error));
        Ok((meta, stream.boxed()))
    }

    pub(crate) async fn head(&self, path: &str) -> Result<BlobMeta> {
        let (what, url) = (Doing { verb: "read", path }, self.object_url(path));
        let response = self.send(what, || self.client.get(&url)).await?;
        let object: Object = response.json().await.map_err(|error| what.unreachable(error))?;
        self.meta(&object).ok_or_else(|| what.strange("metadata of an object"))
    }

    pub(crate) async fn list(&self, prefix: &str) -> Result<Listing> {
        let mut listing = Listing::default();
        let mut page_token = None;
        loop {
            let page = self.page(prefix, Some("/"), page_token).await?;
            listing.files.extend(page.items.iter().filter_map(|object| self.meta(object)));
            listing.dirs.extend(page.prefixes.iter().filter_map(|dir| self.path(dir.trim_end_matches('/'))));
            page_token = page.next_page_token;
            if page_token.is_none() {
                return Ok(listing);
            }
        }
    }

    pub(crate) async fn list_recursive(&self, prefix: &str) -> Result<Vec<BlobMeta>> {
        let mut files = Vec::new();
        let mut page_token = None;
        loop {
            let page = self.page(prefix, None, page_token).await?;
            files.extend(page.items.iter().filter_map(|object| self.meta(object)));
            page_token = page.next_page_token;
            if page_token.is_none() {
                return Ok(files);
            }
        }
    }

    async fn page(&self, prefix: &str, delimiter: Option<&str>, page_token: Option<String>) -> Result<Page> {
        let what = Doing { verb: "list", path: prefix };
        let url = format!("{}/storage/v1/b/{}/o", self.endpoint, self.bucket);
        let below = match (self.prefix.as_str(), prefix) {
            ("", "") => String::new(),
            (root, "") => format!("{root}/"),
            _ => format!("{}/", self.name(prefix)),
        };
        let mut query = vec![("prefix", below.as_str()), ("fields", "items(name,size,updated),prefixes,nextPageToken")];
        query.extend(delimiter.map(|delimiter| ("delimiter", delimiter)));
        query.extend(page_token.as_deref().map(|token| ("pageToken", token)));
        let response = self.send(what, || self.client.get(&url).query(&query)).await.map_err(no_bucket)?;
        response.json().await.map_err(|error| what.unreachable(error))
    }

    pub(crate) async fn delete(&self, path: &str) -> Result<()> {
        let (what, url) = (Doing { verb: "delete", path }, self.object_url(path));
        match self.send(what, || self.client.delete(&url)).await {
            Ok(_) => Ok(()),
            Err(error) if error.code() == ErrorCode::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn delete_prefix(&self, prefix: &str) -> Result<u64> {
        let files = self.list_recursive(prefix).await?;
        let count = files.len() as u64;
        futures::stream::iter(files)
            .map(Ok)
            .try_for_each_concurrent(DELETES_AT_ONCE, async |file| self.delete(&file.path).await)
            .await?;
        Ok(count)
    }
}

/// What was being done to which blob: the first half of every error message.
#[derive(Debug, Clone, Copy)]
struct Doing<'a> {
    verb: &'a str,
    path: &'a str,
}

impl Doing<'_> {
    fn unreachable(self, error: reqwest::Error) -> Error {
        let message =
            if error.is_timeout() { "the store was silent for too long" } else { "the store cannot be reached" };
        // The address of an upload session is as good as a password for it.
        self.error(ErrorCode::Unavailable, message).with_source(error.without_url())
    }

    fn strange(self, missing: &str) -> Error {
        self.error(ErrorCode::Internal, &format!("the store answered without the {missing}"))
    }

    fn error(self, code: ErrorCode, message: &str) -> Error {
        Error::new(code, message).context(format_args!("cannot {} {:?}", self.verb, self.path))
    }

    async fn refused(self, response: Response) -> Error {
        let status = response.status();
        let body: String = response.text().await.unwrap_or_default().chars().take(500).collect();
        let error = match status {
            StatusCode::NOT_FOUND => not_found(self.path),
            StatusCode::PRECONDITION_FAILED => {
                self.error(ErrorCode::Conflict, "somebody else changed it at the same time")
            }
            // Ours, not those of the one who asks: who mends them makes the same request work.
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                self.error(ErrorCode::Unavailable, "the store refuses our credentials")
            }
            status if may_pass(status) => self.error(ErrorCode::Unavailable, "the store is not able to answer now"),
            _ => self.error(ErrorCode::Internal, "the store refused the request"),
        };
        error.with_source(format!("{status}: {body}"))
    }
}

/// When writing or listing, "not found" speaks of the bucket.
fn no_bucket(error: Error) -> Error {
    if error.code() == ErrorCode::NotFound {
        Error::precondition("the bucket of the store does not exist").with_source(error)
    } else {
        error
    }
}

/// Whether the same request may be answered a little later.
fn may_pass(status: StatusCode) -> bool {
    status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::REQUEST_TIMEOUT
}

fn pause(attempt: u32) -> Duration {
    FIRST_PAUSE * 2_u32.saturating_pow(attempt - 1)
}

/// What the headers of a download tell about the blob.
fn media_meta(path: &str, headers: &HeaderMap) -> Option<BlobMeta> {
    let text = |name| headers.get(name)?.to_str().ok();
    let size_bytes = text("content-length").or_else(|| text("x-goog-stored-content-length"))?.parse().ok()?;
    let modified = chrono::DateTime::parse_from_rfc2822(text(LAST_MODIFIED.as_str())?).ok()?;
    Some(BlobMeta { path: path.to_owned(), size_bytes, modified_ms: modified.timestamp_millis() })
}
