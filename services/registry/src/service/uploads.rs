//! Files that clients send to the object store, and fetch from it, without us in between: large ones, where the store
//! has signed addresses. What was sent is hashed before it is visible, so that every artifact has its SHA-256.

use std::time::Duration;

use fishy_blob::DirectUpload;
use fishy_core::{Error, ErrorCode, Result};

use super::Registry;
use super::artifacts::not_found;
use crate::domain::artifact;
use crate::store::artifacts::{self as store, Artifact};
use crate::store::uploads::{self, Upload};

/// How long the parts of an upload may take.
const UPLOAD_LIFETIME: Duration = Duration::from_hours(12);
/// How long a download may take to begin; clients ask again when it has passed.
const DOWNLOAD_LIFETIME: Duration = Duration::from_mins(5);
/// How many uploads are given up in one sweep.
const SWEEP: i64 = 1_000;

/// An address from which an artifact can be read for a while.
pub(crate) struct SignedArtifact {
    pub url: String,
    pub size_bytes: i64,
}

impl Registry {
    /// Whether clients are sent to the object store.
    pub fn transfers_directly(&self) -> bool {
        self.config.registry.direct_transfers && self.blob.can_sign()
    }

    /// Starts an upload of an artifact in parts; its id is ours, not the store's.
    pub async fn start_upload(&self, path: &str, parts: i64) -> Result<DirectUpload> {
        let path = artifact::check_path(path)?;
        let wrong =
            || Error::invalid(format!("Invalid value {parts} for parameter 'num_parts' supplied: use 1 to 10000"));
        let parts = u16::try_from(parts).map_err(|_| wrong())?;
        let blob = self.new_blob();
        let started = self.blob.start_direct(&blob, parts, UPLOAD_LIFETIME).await?;
        let upload = Upload { id: self.env.new_id(), path: path.to_owned(), blob, store_id: started.id };
        let mut tx = self.db.begin().await?;
        uploads::put(&mut tx, &upload, self.env.now_ms()).await?;
        tx.commit().await?;
        Ok(DirectUpload { id: upload.id, parts: started.parts })
    }

    async fn upload_of(&self, path: &str, id: &str) -> Result<Option<Upload>> {
        let path = artifact::check_path(path)?;
        Ok(uploads::get(&mut &self.db, id).await?.filter(|upload| upload.path == path))
    }

    /// Makes an artifact of the parts that were sent. Done once more, it changes nothing.
    pub async fn complete_upload(&self, path: &str, id: &str, tags: &[String]) -> Result<()> {
        let upload = self.upload_of(path, id).await?;
        let no_such = || Error::not_found(format!("No such upload: '{id}'"));
        let upload = upload.ok_or_else(no_such)?;
        match self.blob.finish_direct(&upload.blob, &upload.store_id, tags).await {
            Ok(()) => {}
            // An earlier attempt may have got this far.
            Err(error) if error.code() == ErrorCode::NotFound => {
                if !self.blob.exists(&upload.blob).await? {
                    return Err(no_such());
                }
            }
            Err(error) => return Err(error),
        }
        let done = self.show_upload(&upload).await;
        if let Err(error) = &done
            && error.code() != ErrorCode::Unavailable
            && error.code() != ErrorCode::Internal
        {
            self.give_up(&upload).await?;
        }
        done
    }

    async fn show_upload(&self, upload: &Upload) -> Result<()> {
        let (size, limit) = (self.blob.head(&upload.blob).await?.size_bytes, self.config.registry.max_artifact_bytes);
        if size > limit {
            let text =
                format!("the artifact has {size} bytes, more than registry.max_artifact_bytes allows ({limit} bytes)");
            return Err(Error::exhausted(text));
        }
        let content = self.blob.digest(&upload.blob).await?;
        let artifact = Artifact {
            path: upload.path.clone(),
            size_bytes: content.size_bytes as i64,
            sha256: content.sha256,
            blob: upload.blob.clone(),
        };
        let before = self.put_row(&artifact, Some(&upload.id)).await?;
        self.remove_blobs(before).await;
        Ok(())
    }

    /// Throws away what was sent. An upload that is not there, or no longer, is no fault.
    pub async fn abort_upload(&self, path: &str, id: &str) -> Result<()> {
        match self.upload_of(path, id).await? {
            Some(upload) => self.give_up(&upload).await,
            None => Ok(()),
        }
    }

    async fn give_up(&self, upload: &Upload) -> Result<()> {
        // Forgotten first: whoever forgets it owns its blob, also when somebody completes it meanwhile.
        let mut tx = self.db.begin().await?;
        let is_ours = uploads::forget(&mut tx, &upload.id).await?;
        if is_ours {
            store::discard(&mut tx, &upload.blob).await?;
        }
        tx.commit().await?;
        if is_ours {
            self.blob.abort_direct(&upload.blob, &upload.store_id).await?;
            self.remove_blobs([upload.blob.clone()]).await;
        }
        Ok(())
    }

    /// Gives up the uploads that were started before a time, and that nobody has ended.
    pub(super) async fn give_up_uploads(&self, before: i64) -> Result<()> {
        for upload in uploads::started_before(&mut &self.db, before, SWEEP).await? {
            self.give_up(&upload).await?;
        }
        Ok(())
    }

    /// An address of an artifact in the object store.
    pub async fn signed_artifact(&self, path: &str) -> Result<SignedArtifact> {
        let path = artifact::check_path(path)?;
        let artifact = store::get(&mut &self.db, path).await?.ok_or_else(|| not_found(path))?;
        let url = self.blob.signed_get(&artifact.blob, DOWNLOAD_LIFETIME).await?;
        Ok(SignedArtifact { url, size_bytes: artifact.size_bytes })
    }
}
