use super::{ATTEMPTS, Doing, may_pass, pause};
use crate::parts::Part;
use bytes::Bytes;
use fishy_core::{Error, ErrorCode, Result};
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, LOCATION, RANGE};
use reqwest::{Client, Response, StatusCode};
use serde::Deserialize;

/// A resumable upload; the object appears when its last byte is in.
///
/// The session's address is what authorises it, so no token is sent.
pub(crate) struct GcsUpload {
    client: Client,
    session: String,
    path: String,
    /// How many bytes the store has.
    offset: u64,
}

/// What the store says about an upload.
enum Progress {
    /// It has this many bytes and waits for more.
    Has(u64),
    /// The object is there.
    Done(Response),
}

impl GcsUpload {
    pub(super) fn new(client: Client, path: &str, started: &Response) -> Result<Self> {
        let session = started.headers().get(LOCATION).and_then(|location| location.to_str().ok());
        let session = session.ok_or_else(|| Doing { verb: "write", path }.strange("address of the upload"))?;
        Ok(Self { client, session: session.to_owned(), path: path.to_owned(), offset: 0 })
    }

    /// Sends a part, and again what the store did not keep of it.
    pub(crate) async fn write(&mut self, part: Part) -> Result<()> {
        let start = self.offset;
        let end = start + part.bytes.len() as u64;
        let total = part.is_last.then_some(end);
        let mut attempt = 1;
        let mut ask = false;
        loop {
            let sent = if ask {
                self.send(Bytes::new(), total).await
            } else {
                self.send(part.bytes.slice((self.offset - start) as usize..), total).await
            };
            let failure = match sent {
                Ok(Progress::Done(response)) if part.is_last => return check_size(self.doing(), response, end).await,
                Ok(Progress::Done(_)) => return Err(self.doing().strange("rest of the upload")),
                Ok(Progress::Has(has)) if has < self.offset || has > end => {
                    return Err(self.doing().error(ErrorCode::Unavailable, "the store lost a part of the upload"));
                }
                Ok(Progress::Has(has)) => {
                    let has_moved = has > self.offset;
                    self.offset = has;
                    if has == end && !part.is_last {
                        return Ok(());
                    }
                    // All bytes are in and the object is not there yet: asking, with the length, ends it.
                    ask = has == end;
                    if has_moved {
                        attempt = 1;
                        continue;
                    }
                    self.doing().error(ErrorCode::Unavailable, "the store takes no more of the upload")
                }
                Err(failure) if failure.code() != ErrorCode::Unavailable => return Err(failure),
                Err(failure) => {
                    ask = true;
                    failure
                }
            };
            if attempt >= ATTEMPTS {
                return Err(failure);
            }
            tokio::time::sleep(pause(attempt)).await;
            attempt += 1;
        }
    }

    /// Sends bytes from `offset` on; without bytes, asks how far the store is.
    async fn send(&self, bytes: Bytes, total: Option<u64>) -> Result<Progress> {
        let total = total.map_or_else(|| "*".to_owned(), |total| total.to_string());
        let range = if bytes.is_empty() {
            format!("bytes */{total}")
        } else {
            format!("bytes {}-{}/{total}", self.offset, self.offset + bytes.len() as u64 - 1)
        };
        let request = self.client.put(&self.session).header(CONTENT_RANGE, range).header(CONTENT_LENGTH, bytes.len());
        let response = request.body(bytes).send().await.map_err(|error| self.doing().unreachable(error))?;
        match response.status() {
            StatusCode::PERMANENT_REDIRECT => Ok(Progress::Has(persisted(&response))),
            status if status.is_success() => Ok(Progress::Done(response)),
            status if may_pass(status) => Err(self.doing().refused(response).await),
            StatusCode::NOT_FOUND | StatusCode::GONE => {
                Err(Error::internal(format!("cannot write {:?}: the store has forgotten the upload", self.path)))
            }
            _ => Err(self.doing().refused(response).await),
        }
    }

    pub(crate) async fn abort(self) {
        // Answers 499 when it worked; what is left over goes by itself after a week.
        if let Err(error) = self.client.delete(&self.session).header(CONTENT_LENGTH, 0).send().await {
            tracing::debug!(path = self.path, error = %error.without_url(), "cannot abort an upload");
        }
    }

    fn doing(&self) -> Doing<'_> {
        Doing { verb: "write", path: &self.path }
    }
}

/// How many bytes the store says it has: the header is missing when it has none.
fn persisted(response: &Response) -> u64 {
    let range = response.headers().get(RANGE).and_then(|range| range.to_str().ok());
    let last = range.and_then(|range| range.rsplit_once('-')).and_then(|(_, last)| last.parse::<u64>().ok());
    last.map_or(0, |last| last + 1)
}

#[derive(Deserialize)]
struct Written {
    size: String,
}

/// What the store wrote must be as long as what was sent.
pub(super) async fn check_size(what: Doing<'_>, response: Response, sent: u64) -> Result<()> {
    let written: Written = response.json().await.map_err(|error| what.unreachable(error))?;
    if written.size.parse() == Ok(sent) {
        Ok(())
    } else {
        let message = format!("the store wrote {} bytes of {sent}", written.size);
        Err(what.error(ErrorCode::Internal, &message))
    }
}
