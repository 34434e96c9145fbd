use crate::blob::{BlobMeta, BlobStream, Listing, not_found};
use crate::options::BlobOptions;
use crate::parts::Part;
use crate::signed::{DirectUpload, Signer};
use bytes::Bytes;
use fishy_core::{Error, Result};
use futures::{StreamExt, TryStreamExt};
use object_store::aws::AmazonS3Builder;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ClientOptions, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt, RetryConfig, UploadPart};
use std::sync::Arc;
use std::time::Duration;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const RETRIES: usize = 4;

/// Blobs in a store of the `object_store` crate: S3, or memory.
#[derive(Debug)]
pub(crate) struct ObjectBackend {
    store: Arc<dyn ObjectStore>,
    /// The same place, for downloads: they take as long as they take, only silence is timed.
    download: Arc<dyn ObjectStore>,
    prefix: String,
    timeout: Duration,
    /// Where others can be sent to the store.
    signer: Option<Signer>,
}

/// A multipart upload; the object appears when it is completed.
pub(crate) struct ObjectUpload {
    upload: Box<dyn MultipartUpload>,
    path: String,
}

impl ObjectBackend {
    pub(crate) fn memory() -> Self {
        let store = Arc::new(InMemory::new());
        let timeout = BlobOptions::default().timeout();
        Self { store: store.clone(), download: store, prefix: String::new(), timeout, signer: None }
    }

    pub(crate) fn s3(bucket: &str, prefix: &str, options: &BlobOptions) -> Result<Self> {
        let s3 = &options.s3;
        let client = ClientOptions::new().with_allow_http(s3.allow_http).with_connect_timeout(CONNECT_TIMEOUT);
        let build = |client: ClientOptions| {
            let mut builder = AmazonS3Builder::new()
                .with_bucket_name(bucket)
                .with_region(s3.region.as_deref().unwrap_or("us-east-1"))
                .with_client_options(client)
                .with_retry(RetryConfig {
                    max_retries: RETRIES,
                    retry_timeout: options.timeout() * 3,
                    ..RetryConfig::default()
                });
            if let Some(endpoint) = &s3.endpoint {
                builder = builder.with_endpoint(endpoint);
            }
            if let (Some(key), Some(secret)) = (&s3.access_key_id, &s3.secret_access_key) {
                builder = builder.with_access_key_id(key).with_secret_access_key(secret);
            }
            if let Some(token) = &s3.session_token {
                builder = builder.with_token(token);
            }
            builder.build().map_err(|error| {
                Error::invalid(format!("the options of s3://{bucket} are not usable: {error}")).with_source(error)
            })
        };
        if s3.access_key_id.is_some() != s3.secret_access_key.is_some() {
            return Err(Error::invalid(format!(
                "the options of s3://{bucket} are not usable: access_key_id and secret_access_key go together"
            )));
        }
        let store = Arc::new(build(client.clone().with_timeout(options.timeout()))?);
        Ok(Self {
            signer: Some(Signer::new(Arc::clone(&store), bucket, s3)?),
            store,
            download: Arc::new(build(client.with_timeout_disabled())?),
            prefix: prefix.to_owned(),
            timeout: options.timeout(),
        })
    }

    /// The key of a path that was checked.
    fn key(&self, path: &str) -> Result<Path> {
        let key = match (self.prefix.as_str(), path) {
            ("", path) => path.to_owned(),
            (prefix, "") => prefix.to_owned(),
            (prefix, path) => format!("{prefix}/{path}"),
        };
        Path::parse(key).map_err(|error| Error::invalid(format!("Invalid path: {path:?}")).with_source(error))
    }

    /// The path of a key; `None` for the empty objects that some tools put in place of folders.
    fn path(&self, key: &Path) -> Option<String> {
        let path = if self.prefix.is_empty() {
            key.as_ref()
        } else {
            key.as_ref().strip_prefix(&self.prefix)?.strip_prefix('/')?
        };
        (!path.is_empty()).then(|| path.to_owned())
    }

    fn meta(&self, meta: &ObjectMeta) -> Option<BlobMeta> {
        Some(BlobMeta {
            path: self.path(&meta.location)?,
            size_bytes: meta.size,
            modified_ms: meta.last_modified.timestamp_millis(),
        })
    }

    pub(crate) const fn can_sign(&self) -> bool {
        self.signer.is_some()
    }

    fn signer(&self) -> Result<&Signer> {
        self.signer.as_ref().ok_or_else(cannot_sign)
    }

    pub(crate) async fn signed_get(&self, path: &str, lifetime: Duration) -> Result<String> {
        self.signer()?.get(&self.key(path)?, lifetime).await
    }

    pub(crate) async fn start_direct(&self, path: &str, parts: u16, lifetime: Duration) -> Result<DirectUpload> {
        self.signer()?.start(&self.key(path)?, parts, lifetime).await
    }

    pub(crate) async fn finish_direct(&self, path: &str, id: &str, tags: &[String]) -> Result<()> {
        self.signer()?.finish(&self.key(path)?, id, tags).await
    }

    pub(crate) async fn abort_direct(&self, path: &str, id: &str) -> Result<()> {
        self.signer()?.abort(&self.key(path)?, id).await
    }

    pub(crate) async fn put(&self, path: &str, content: Bytes) -> Result<()> {
        self.store.put(&self.key(path)?, content.into()).await.map_err(|error| not_written(path, error))?;
        Ok(())
    }

    pub(crate) async fn start(&self, path: &str) -> Result<ObjectUpload> {
        let upload = self.store.put_multipart(&self.key(path)?).await.map_err(|error| not_written(path, error))?;
        Ok(ObjectUpload { upload, path: path.to_owned() })
    }

    pub(crate) async fn get(&self, path: &str) -> Result<(BlobMeta, BlobStream)> {
        let silent = |path: &str, timeout: Duration| {
            Error::unavailable(format!("cannot read {path:?}: the store was silent for {} s", timeout.as_secs_f64()))
        };
        let (key, timeout) = (self.key(path)?, self.timeout);
        let found = tokio::time::timeout(timeout, self.download.get(&key))
            .await
            .map_err(|_| silent(path, timeout))?
            .map_err(|error| failed("read", path, error))?;
        let meta = self.meta(&found.meta).ok_or_else(|| not_found(path))?;
        let chunks = found.into_stream();
        let path = path.to_owned();
        let stream = futures::stream::try_unfold((chunks, path), move |(mut chunks, path)| async move {
            let next = tokio::time::timeout(timeout, chunks.next()).await.map_err(|_| silent(&path, timeout))?;
            let chunk = next.transpose().map_err(|error| failed("read", &path, error))?;
            Ok(chunk.map(|chunk| (chunk, (chunks, path))))
        });
        Ok((meta, stream.boxed()))
    }

    pub(crate) async fn head(&self, path: &str) -> Result<BlobMeta> {
        let found = self.store.head(&self.key(path)?).await.map_err(|error| failed("read", path, error))?;
        self.meta(&found).ok_or_else(|| not_found(path))
    }

    pub(crate) async fn list(&self, prefix: &str) -> Result<Listing> {
        let key = self.key(prefix)?;
        let found = self.store.list_with_delimiter(Some(&key)).await.map_err(|error| failed("list", prefix, error))?;
        Ok(Listing {
            files: found.objects.iter().filter_map(|meta| self.meta(meta)).collect(),
            dirs: found.common_prefixes.iter().filter_map(|key| self.path(key)).collect(),
        })
    }

    pub(crate) async fn list_recursive(&self, prefix: &str) -> Result<Vec<BlobMeta>> {
        let key = self.key(prefix)?;
        self.store
            .list(Some(&key))
            .map_err(|error| failed("list", prefix, error))
            .try_filter_map(async |meta| Ok(self.meta(&meta)))
            .try_collect()
            .await
    }

    pub(crate) async fn delete(&self, path: &str) -> Result<()> {
        match self.store.delete(&self.key(path)?).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(failed("delete", path, error)),
        }
    }

    pub(crate) async fn delete_prefix(&self, prefix: &str) -> Result<u64> {
        let key = self.key(prefix)?;
        let keys = self.store.list(Some(&key)).map_ok(|meta| meta.location).boxed();
        let mut deleted = self.store.delete_stream(keys);
        let mut count = 0;
        while let Some(result) = deleted.next().await {
            match result {
                Ok(_) => count += 1,
                Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(failed("delete", prefix, error)),
            }
        }
        Ok(count)
    }
}

impl ObjectUpload {
    pub(crate) async fn write(&mut self, part: Part) -> Result<()> {
        let sending: UploadPart = self.upload.put_part(part.bytes.into());
        sending.await.map_err(|error| not_written(&self.path, error))?;
        if part.is_last {
            self.upload.complete().await.map_err(|error| not_written(&self.path, error))?;
        }
        Ok(())
    }

    pub(crate) async fn abort(mut self) {
        if let Err(error) = self.upload.abort().await {
            tracing::warn!(path = self.path, error = %error, "cannot abort an upload: its parts stay in the store");
        }
    }
}

/// What a store says that has no addresses to give away.
pub(crate) fn cannot_sign() -> Error {
    Error::precondition("this store has no signed addresses: only S3 has them here")
}

/// When writing, "not found" speaks of the bucket.
pub(crate) fn not_written(path: &str, error: object_store::Error) -> Error {
    match error {
        object_store::Error::NotFound { .. } => {
            Error::precondition(format!("cannot write {path:?}: the bucket does not exist")).with_source(error)
        }
        error => failed("write", path, error),
    }
}

fn failed(doing: &str, path: &str, error: object_store::Error) -> Error {
    use object_store::Error as Cause;
    let what = match &error {
        Cause::NotFound { .. } => return not_found(path).with_source(error),
        Cause::InvalidPath { .. } => Error::invalid("the path is not valid"),
        Cause::AlreadyExists { .. } | Cause::Precondition { .. } | Cause::NotModified { .. } => {
            Error::new(fishy_core::ErrorCode::Conflict, "somebody else changed it at the same time")
        }
        // Ours, not those of the one who asks: who mends them makes the same request work.
        Cause::PermissionDenied { .. } | Cause::Unauthenticated { .. } => {
            Error::unavailable("the store refuses our credentials")
        }
        Cause::Generic { .. } => Error::unavailable("the store cannot be reached or does not answer as it should"),
        _ => Error::internal("the store failed"),
    };
    what.context(format_args!("cannot {doing} {path:?}")).with_source(error)
}
