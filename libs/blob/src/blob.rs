use crate::file::{FileBackend, FileUpload};
use crate::gcs::{GcsBackend, GcsUpload};
use crate::objects::{ObjectBackend, ObjectUpload, cannot_sign};
use crate::options::BlobOptions;
use crate::parts::{Part, Parts};
use crate::signed::{DirectUpload, MAX_PARTS};
use bytes::{Bytes, BytesMut};
use fishy_core::{Error, ErrorCode, Result, check_relative_path};
use futures::stream::{BoxStream, Stream, StreamExt};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::Duration;

/// The folder in which the file backend writes what is not complete yet; no blob may be called so.
pub(crate) const TEMPORARY: &str = ".fishy-tmp";
/// Hashing less than this is cheaper than handing it to another thread.
const HASH_INLINE_BYTES: usize = 32 * 1024;

/// The content of a blob, chunk by chunk.
pub type BlobStream = BoxStream<'static, Result<Bytes>>;

/// What is known about a blob without reading it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobMeta {
    /// Its path below the root of the store.
    pub path: String,
    /// How long it is.
    pub size_bytes: u64,
    /// When it was written, by the clock of the store, in milliseconds since the epoch.
    pub modified_ms: i64,
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutInfo {
    /// How long it is.
    pub size_bytes: u64,
    /// The SHA-256 of the content in lower-case hexadecimal.
    pub sha256: String,
}

/// What lies directly in a folder, each sorted by path.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    /// The blobs.
    pub files: Vec<BlobMeta>,
    /// The paths of the folders, without a slash at the end.
    pub dirs: Vec<String>,
}

/// A store of blobs; cheap to clone.
#[derive(Clone, Debug)]
pub struct Blob {
    backend: Arc<Backend>,
    part_size: usize,
}

#[derive(Debug)]
enum Backend {
    File(FileBackend),
    Objects(ObjectBackend),
    Gcs(GcsBackend),
}

/// A blob on its way in; nothing of it shows before its last part is written.
enum Upload {
    File(FileUpload),
    Objects(ObjectUpload),
    Gcs(GcsUpload),
}

impl Blob {
    /// Opens the store of a URL: `file:///dir` (made when missing), `memory:` (a new one each time),
    /// `s3://bucket/prefix` or `gs://bucket/prefix`. Nothing is sent yet.
    pub fn open(url: &str, options: &BlobOptions) -> Result<Self> {
        let backend = match url.split_once(':') {
            Some(("file", _)) => Backend::File(FileBackend::open(url)?),
            Some(("memory", _)) => Backend::Objects(ObjectBackend::memory()),
            Some(("s3", rest)) => {
                let (bucket, prefix) = bucket_and_prefix(url, rest)?;
                Backend::Objects(ObjectBackend::s3(bucket, prefix, options)?)
            }
            Some(("gs", rest)) => {
                let (bucket, prefix) = bucket_and_prefix(url, rest)?;
                Backend::Gcs(GcsBackend::open(bucket, prefix, options)?)
            }
            _ => {
                return Err(Error::invalid(format!(
                    "{url:?} is not the URL of a store: use file:///dir, memory:, s3://bucket/prefix or gs://bucket/prefix"
                )));
            }
        };
        // GCS takes chunks in multiples of 256 KiB only.
        let part_size = options.part_size_bytes.max(1).next_multiple_of(256 * 1024);
        Ok(Self { backend: Arc::new(backend), part_size })
    }

    /// Writes a blob, replacing what was there. See [`put_stream`](Self::put_stream).
    pub async fn put(&self, path: &str, content: Bytes) -> Result<PutInfo> {
        self.put_stream(path, futures::stream::iter([Ok(content)])).await
    }

    /// Writes a blob from a stream, replacing what was there, and hashes it on the way.
    ///
    /// When the stream gives an error, that error is returned and the store is as it was before.
    pub async fn put_stream<S>(&self, path: &str, stream: S) -> Result<PutInfo>
    where
        S: Stream<Item = Result<Bytes>> + Send,
    {
        let path = check(path)?;
        let mut stream = std::pin::pin!(stream);
        let mut parts = Parts::new(stream.as_mut(), self.part_size);
        let first = parts.next().await?;
        if first.is_last {
            let hash = Digested::default().add(first.bytes.clone());
            let (digest, written) = tokio::join!(hash, self.put_whole(path, first.bytes));
            written?;
            return Ok(digest?.finish());
        }
        let mut upload = self.start(path).await?;
        match write_parts(&mut upload, first, parts).await {
            Ok(info) => Ok(info),
            Err(error) => {
                upload.abort().await;
                Err(error.context(format_args!("cannot write {path:?}")))
            }
        }
    }

    /// The content of a blob.
    pub async fn get(&self, path: &str) -> Result<(BlobMeta, BlobStream)> {
        let path = check(path)?;
        match &*self.backend {
            Backend::File(backend) => backend.get(path).await,
            Backend::Objects(backend) => backend.get(path).await,
            Backend::Gcs(backend) => backend.get(path).await,
        }
    }

    /// The content of a blob in one piece; `ResourceExhausted` when it is longer than `limit` bytes.
    pub async fn get_bytes(&self, path: &str, limit: u64) -> Result<Bytes> {
        let too_long = |size: u64| {
            Error::exhausted(format!("{path:?} has at least {size} bytes: at most {limit} are read in one piece"))
        };
        let (meta, mut stream) = self.get(path).await?;
        if meta.size_bytes > limit {
            return Err(too_long(meta.size_bytes));
        }
        let mut content = BytesMut::with_capacity(meta.size_bytes as usize);
        while let Some(chunk) = stream.next().await {
            content.extend_from_slice(&chunk?);
            if content.len() as u64 > limit {
                return Err(too_long(content.len() as u64));
            }
        }
        Ok(content.freeze())
    }

    /// What lies directly in the folder `prefix`, or in the root for `""`; nothing when there is no such folder.
    pub async fn list(&self, prefix: &str) -> Result<Listing> {
        let prefix = check_prefix(prefix)?;
        let mut listing = match &*self.backend {
            Backend::File(backend) => backend.list(prefix).await,
            Backend::Objects(backend) => backend.list(prefix).await,
            Backend::Gcs(backend) => backend.list(prefix).await,
        }?;
        listing.files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        listing.dirs.sort_unstable();
        Ok(listing)
    }

    /// All blobs below the folder `prefix`, or all for `""`, sorted by path. The answer is held in memory.
    pub async fn list_recursive(&self, prefix: &str) -> Result<Vec<BlobMeta>> {
        let prefix = check_prefix(prefix)?;
        let mut files = match &*self.backend {
            Backend::File(backend) => backend.list_recursive(prefix).await,
            Backend::Objects(backend) => backend.list_recursive(prefix).await,
            Backend::Gcs(backend) => backend.list_recursive(prefix).await,
        }?;
        files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        Ok(files)
    }

    /// Deletes a blob; fine when there is none.
    pub async fn delete(&self, path: &str) -> Result<()> {
        let path = check(path)?;
        match &*self.backend {
            Backend::File(backend) => backend.delete(path).await,
            Backend::Objects(backend) => backend.delete(path).await,
            Backend::Gcs(backend) => backend.delete(path).await,
        }
    }

    /// Deletes all blobs below the folder `prefix`, which must not be empty, and tells how many there were.
    pub async fn delete_prefix(&self, prefix: &str) -> Result<u64> {
        let prefix = check(prefix)?;
        match &*self.backend {
            Backend::File(backend) => backend.delete_prefix(prefix).await,
            Backend::Objects(backend) => backend.delete_prefix(prefix).await,
            Backend::Gcs(backend) => backend.delete_prefix(prefix).await,
        }
    }

    /// What is known about a blob; `NotFound` when there is none.
    pub async fn head(&self, path: &str) -> Result<BlobMeta> {
        let path = check(path)?;
        match &*self.backend {
            Backend::File(backend) => backend.head(path).await,
            Backend::Objects(backend) => backend.head(path).await,
            Backend::Gcs(backend) => backend.head(path).await,
        }
    }

    /// Whether there is a blob of this path.
    pub async fn exists(&self, path: &str) -> Result<bool> {
        match self.head(path).await {
            Ok(_) => Ok(true),
            Err(error) if error.code() == ErrorCode::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Reads a blob to its end, and tells how long it is and what its hash is.
    pub async fn digest(&self, path: &str) -> Result<PutInfo> {
        let (_, mut stream) = self.get(path).await?;
        let mut digest = Digested::default();
        while let Some(chunk) = stream.next().await {
            digest = digest.add(chunk?).await?;
        }
        Ok(digest.finish())
    }

    /// Whether others can be given addresses with which they read and write this store themselves.
    pub fn can_sign(&self) -> bool {
        matches!(&*self.backend, Backend::Objects(backend) if backend.can_sign())
    }

    fn signing(&self) -> Result<&ObjectBackend> {
        match &*self.backend {
            Backend::Objects(backend) => Ok(backend),
            Backend::File(_) | Backend::Gcs(_) => Err(cannot_sign()),
        }
    }

    /// An address from which anybody who has it can read a blob for so long. Whether there is one is not looked up.
    pub async fn signed_get(&self, path: &str, lifetime: Duration) -> Result<String> {
        self.signing()?.signed_get(check(path)?, lifetime).await
    }

    /// Starts an upload in so many parts, which anybody who has their addresses can send for so long. The blob is
    /// there after [`finish_direct`](Self::finish_direct).
    pub async fn start_direct(&self, path: &str, parts: u16, lifetime: Duration) -> Result<DirectUpload> {
        if parts == 0 || parts > MAX_PARTS {
            return Err(Error::invalid(format!("an upload in {parts} parts: it takes 1 to {MAX_PARTS}")));
        }
        self.signing()?.start_direct(check(path)?, parts, lifetime).await
    }

    /// Makes a blob of the parts that were sent, by the tags that the store answered, in their order. `NotFound` when
    /// there is no such upload, or no longer.
    pub async fn finish_direct(&self, path: &str, id: &str, tags: &[String]) -> Result<()> {
        self.signing()?.finish_direct(check(path)?, id, tags).await
    }

    /// Throws the parts of an upload away; fine when there is no such upload.
    pub async fn abort_direct(&self, path: &str, id: &str) -> Result<()> {
        self.signing()?.abort_direct(check(path)?, id).await
    }

    async fn put_whole(&self, path: &str, content: Bytes) -> Result<()> {
        match &*self.backend {
            Backend::File(backend) => backend.put(path, content).await,
            Backend::Objects(backend) => backend.put(path, content).await,
            Backend::Gcs(backend) => backend.put(path, content).await,
        }
    }

    async fn start(&self, path: &str) -> Result<Upload> {
        Ok(match &*self.backend {
            Backend::File(backend) => Upload::File(backend.start(path).await?),
            Backend::Objects(backend) => Upload::Objects(backend.start(path).await?),
            Backend::Gcs(backend) => Upload::Gcs(backend.start(path).await?),
        })
    }
}

/// Writes all parts, hashing each while it is written.
async fn write_parts<S>(upload: &mut Upload, first: Part, mut parts: Parts<'_, S>) -> Result<PutInfo>
where
    S: Stream<Item = Result<Bytes>>,
{
    let mut digest = Digested::default();
    let mut part = first;
    loop {
        let is_last = part.is_last;
        let (hashed, written) = tokio::join!(digest.add(part.bytes.clone()), upload.write(part));
        written?;
        digest = hashed?;
        if is_last {
            return Ok(digest.finish());
        }
        part = parts.next().await?;
    }
}

impl Upload {
    /// Writes a part; after the last one the blob is there.
    async fn write(&mut self, part: Part) -> Result<()> {
        match self {
            Self::File(upload) => upload.write(part).await,
            Self::Objects(upload) => upload.write(part).await,
            Self::Gcs(upload) => upload.write(part).await,
        }
    }

    /// Gives up; what cannot be cleaned away is logged, since the reason for giving up matters more.
    async fn abort(self) {
        match self {
            // Dropping it removes the temporary file.
            Self::File(_) => {}
            Self::Objects(upload) => upload.abort().await,
            Self::Gcs(upload) => upload.abort().await,
        }
    }
}

/// A hash in the making.
#[derive(Default)]
struct Digested {
    hasher: Sha256,
    size_bytes: u64,
}

impl Digested {
    /// Takes and gives itself back, since large pieces are hashed on another thread.
    async fn add(self, bytes: Bytes) -> Result<Self> {
        let Self { mut hasher, size_bytes } = self;
        let size_bytes = size_bytes + bytes.len() as u64;
        if bytes.len() <= HASH_INLINE_BYTES {
            hasher.update(&bytes);
        } else {
            hasher = blocking(move || {
                hasher.update(&bytes);
                Ok(hasher)
            })
            .await?;
        }
        Ok(Self { hasher, size_bytes })
    }

    fn finish(self) -> PutInfo {
        PutInfo { size_bytes: self.size_bytes, sha256: hex::encode(self.hasher.finalize()) }
    }
}

/// Runs what blocks or computes away from the async threads.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Error::internal("a blocking task did not end").with_source(error))?
}

pub(crate) fn not_found(path: &str) -> Error {
    Error::not_found(format!("there is no {path:?} in the store"))
}

fn check(path: &str) -> Result<&str> {
    let path = check_relative_path(path)?;
    if path.split('/').next() == Some(TEMPORARY) {
        return Err(Error::invalid(format!("Invalid path: {path:?}: {TEMPORARY} is kept for unfinished files")));
    }
    Ok(path)
}

fn check_prefix(prefix: &str) -> Result<&str> {
    if prefix.is_empty() { Ok(prefix) } else { check(prefix) }
}

/// Splits what follows `s3:` or `gs:`.
fn bucket_and_prefix<'a>(url: &str, rest: &'a str) -> Result<(&'a str, &'a str)> {
    let wrong = || Error::invalid(format!("{url:?} is not the URL of a store: use scheme://bucket/prefix"));
    let rest = rest.strip_prefix("//").ok_or_else(wrong)?;
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if bucket.is_empty() || !bucket.chars().all(is_plain) {
        return Err(wrong());
    }
    let prefix = prefix.trim_end_matches('/');
    Ok((bucket, check_prefix(prefix).map_err(|_| wrong())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_that_are_no_stores_are_refused() {
        let options = BlobOptions::default();
        for url in
            ["", "here", "ftp://x", "s3:bucket", "s3://", "gs:///x", "s3://b?x=1/y", "s3://b/../c", "file:relative"]
        {
            let code = Blob::open(url, &options).unwrap_err().code();
            assert_eq!(code, ErrorCode::InvalidArgument, "{url}");
        }
        assert_eq!(bucket_and_prefix("", "//b/p/q/").unwrap(), ("b", "p/q"));
        assert_eq!(bucket_and_prefix("", "//b").unwrap(), ("b", ""));
    }
}
