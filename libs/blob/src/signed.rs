use crate::blob::not_found;
use crate::options::S3Options;
use fishy_core::{Error, Result};
use object_store::aws::AmazonS3;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use rusty_s3::{Bucket, Credentials, S3Action, UrlStyle};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The largest number of parts that S3 takes.
pub(crate) const MAX_PARTS: u16 = 10_000;

/// An upload whose parts somebody sends to the store without us; see [`Blob::start_direct`](crate::Blob::start_direct).
#[derive(Clone, PartialEq, Eq)]
pub struct DirectUpload {
    /// What the store calls it.
    pub id: String,
    /// Where each part is to be put, in their order. Who has such an address needs no other credentials.
    pub parts: Vec<String>,
}

impl fmt::Debug for DirectUpload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DirectUpload").field("id", &self.id).field("parts", &self.parts.len()).finish()
    }
}

/// Signs addresses of an S3 bucket, with which others read and write objects for some time.
///
/// Not `object_store`'s signer: that one signs whole objects only, not the parts of an upload.
#[derive(Debug)]
pub(crate) struct Signer {
    s3: Arc<AmazonS3>,
    bucket: Bucket,
}

impl Signer {
    pub(crate) fn new(s3: Arc<AmazonS3>, bucket: &str, options: &S3Options) -> Result<Self> {
        let region = options.region.clone().unwrap_or_else(|| "us-east-1".to_owned());
        let endpoint = options.endpoint.clone().unwrap_or_else(|| format!("https://s3.{region}.amazonaws.com"));
        let unusable = |why: String| Error::invalid(format!("the options of s3://{bucket} are not usable: {why}"));
        let endpoint = endpoint.parse().map_err(|error| unusable(format!("endpoint: {error}")))?;
        let bucket = Bucket::new(endpoint, UrlStyle::Path, bucket.to_owned(), region)
            .map_err(|error| unusable(error.to_string()))?;
        Ok(Self { s3, bucket })
    }

    async fn credentials(&self) -> Result<Credentials> {
        let granted = self.s3.credentials().get_credential().await.map_err(|error| {
            Error::unavailable("there are no credentials to sign an address of the store with").with_source(error)
        })?;
        let (key, secret) = (granted.key_id.clone(), granted.secret_key.clone());
        Ok(match &granted.token {
            Some(token) => Credentials::new_with_token(key, secret, token.clone()),
            None => Credentials::new(key, secret),
        })
    }

    pub(crate) async fn get(&self, key: &Path, lifetime: Duration) -> Result<String> {
        let credentials = self.credentials().await?;
        Ok(self.bucket.get_object(Some(&credentials), key.as_ref()).sign(lifetime).into())
    }

    pub(crate) async fn start(&self, key: &Path, parts: u16, lifetime: Duration) -> Result<DirectUpload> {
        let credentials = self.credentials().await?;
        let id =
            self.s3.create_multipart(key).await.map_err(|error| crate::objects::not_written(key.as_ref(), error))?;
        let sign =
            |number| self.bucket.upload_part(Some(&credentials), key.as_ref(), number, &id).sign(lifetime).into();
        Ok(DirectUpload { parts: (1..=parts).map(sign).collect(), id })
    }

    pub(crate) async fn finish(&self, key: &Path, id: &str, tags: &[String]) -> Result<()> {
        let parts = tags.iter().map(|tag| PartId { content_id: tag.clone() }).collect();
        match self.s3.complete_multipart(key, &id.to_owned(), parts).await {
            Ok(_) => Ok(()),
            Err(error @ object_store::Error::NotFound { .. }) => Err(not_found(key.as_ref()).with_source(error)),
            Err(error) => {
                // The crate has no kind of its own for what the store finds wrong with a request.
                let told = error.to_string();
                let faults = ["InvalidPart", "EntityTooSmall", "InvalidRequest", "MalformedXML"];
                if faults.iter().any(|fault| told.contains(fault)) {
                    let text =
                        "the store does not take these parts: send each of at least 5 MiB but the last, and its tag";
                    return Err(Error::invalid(text).with_source(error));
                }
                Err(crate::objects::not_written(key.as_ref(), error))
            }
        }
    }

    pub(crate) async fn abort(&self, key: &Path, id: &str) -> Result<()> {
        match self.s3.abort_multipart(key, &id.to_owned()).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(crate::objects::not_written(key.as_ref(), error)),
        }
    }
}
