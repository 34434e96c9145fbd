//! Artifacts: files of runs and models.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use fishy_blob::BlobStream;
use fishy_core::{Error, ErrorCode, Result};
use fishy_db::Tx;
use futures::{Stream, StreamExt};
use tokio_util::sync::CancellationToken;

use super::Registry;
use super::holds::check_files_not_held;
use crate::domain::artifact;
use crate::domain::records::FileInfo;
use crate::store::artifacts::{self as store, Artifact};
use crate::store::{models, uploads};

/// How many blobs are removed in one sweep.
const SWEEP: i64 = 1_000;
/// Uploads older than this are given up.
const ABANDONED_MS: i64 = 7 * 24 * 3_600_000;

pub(super) fn not_found(path: &str) -> Error {
    Error::not_found(format!("No such artifact: '{path}'"))
}

/// The files of a registered version stay as they were when it was made: what was evaluated and approved is what is
/// served.
async fn check_not_registered(tx: &mut Tx, paths: &[&str]) -> Result<()> {
    match models::version_at(tx, paths).await? {
        Some((name, version)) => Err(Error::precondition(format!(
            "{:?} belongs to version {version} of the registered model {name:?} and cannot be changed: delete that version first",
            paths.first().copied().unwrap_or_default()
        ))),
        None => Ok(()),
    }
}

impl Registry {
    /// Writes an artifact from a stream; what was there before is replaced when the last byte is safe.
    pub async fn put_artifact(
        &self,
        path: &str,
        content: impl Stream<Item = Result<Bytes>> + Send + 'static,
    ) -> Result<()> {
        let path = artifact::check_path(path)?;
        let blob = self.new_blob();
        let (limit, so_far) = (self.config.registry.max_artifact_bytes, Arc::new(AtomicU64::new(0)));
        let bounded = content.map(move |chunk| {
            let chunk = chunk?;
            let size = so_far.fetch_add(chunk.len() as u64, Ordering::Relaxed) + chunk.len() as u64;
            if size > limit {
                let text = format!("the artifact is larger than registry.max_artifact_bytes allows ({limit} bytes)");
                return Err(Error::exhausted(text));
            }
            Ok(chunk)
        });
        let info = self.blob.put_stream(&blob, bounded).await?;
        let artifact = Artifact {
            path: path.to_owned(),
            size_bytes: info.size_bytes as i64,
            sha256: info.sha256,
            blob: blob.clone(),
        };
        match self.put_row(&artifact, None).await {
            Ok(before) => {
                self.remove_blobs(before).await;
                Ok(())
            }
            Err(error) => {
                // Whether a commit whose answer was lost has happened is not known: then the blob must stay.
                if error.code() != ErrorCode::Unavailable && error.code() != ErrorCode::Internal {
                    let _ = self.blob.delete(&blob).await;
                }
                Err(error)
            }
        }
    }

    /// A name for the content of an artifact, which no other content ever has.
    pub(super) fn new_blob(&self) -> String {
        let id = self.env.new_id();
        // Folders by the last digits, which are spread evenly.
        format!("{}/{}/{id}", self.folder, &id[id.len().saturating_sub(2)..])
    }

    /// Makes an artifact visible, and ends the upload that brought it. Answers the blob that it replaced.
    pub(super) async fn put_row(&self, artifact: &Artifact, upload: Option<&str>) -> Result<Option<String>> {
        let mut tx = self.db.begin().await?;
        let before = store::get(&mut tx, &artifact.path).await?;
        if let Some(id) = upload
            && !uploads::forget(&mut tx, id).await?
        {
            // Completed twice at once: the other one was faster.
            let is_done = before.is_some_and(|before| before.blob == artifact.blob);
            return if is_done { Ok(None) } else { Err(Error::not_found(format!("No such upload: '{id}'"))) };
        }
        let is_there = before.is_some();
        // Writing the same once more is no change.
        if before.is_none_or(|before| before.sha256 != artifact.sha256) {
            let paths: Vec<&str> = artifact::ancestors(&artifact.path).collect();
            check_not_registered(&mut tx, &paths).await?;
            if is_there {
                check_files_not_held(&mut tx, &paths).await?;
            }
        }
        let (files, folders) = store::list(&mut tx, &artifact.path).await?;
        let mut above = artifact::ancestors(artifact::split(&artifact.path).0);
        let is_folder = !files.is_empty() || !folders.is_empty();
        let mut file_above = None;
        for path in above.by_ref() {
            if store::get(&mut tx, path).await?.is_some() {
                file_above = Some(path.to_owned());
            }
        }
        if is_folder || file_above.is_some() {
            return Err(Error::invalid(format!(
                "Invalid path: {:?} {}",
                artifact.path,
                if is_folder { "is a folder" } else { "lies below a file" }
            )));
        }
        let before = store::put(&mut tx, artifact, self.env.now_ms()).await?;
        tx.commit().await?;
        Ok(before)
    }

    /// The content of an artifact.
    pub async fn artifact(&self, path: &str) -> Result<(Artifact, BlobStream)> {
        let path = artifact::check_path(path)?;
        // A blob that is replaced between the two steps is gone: the row then names the new one.
        for _ in 0..3 {
            let artifact = store::get(&mut &self.db, path).await?.ok_or_else(|| not_found(path))?;
            match self.blob.get(&artifact.blob).await {
                Ok((_, stream)) => return Ok((artifact, stream)),
                Err(error) if error.code() == ErrorCode::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::internal(format!("the content of artifact {path:?} is missing in the object store")))
    }

    /// What is directly in a folder; nothing where there is none, or where a file is. Paths are as they are in the
    /// store.
    pub async fn list_artifacts(&self, folder: &str) -> Result<Vec<FileInfo>> {
        if !folder.is_empty() {
            artifact::check_path(folder)?;
        }
        let (files, folders) = store::list(&mut &self.db, folder).await?;
        let files =
            files.into_iter().map(|file| FileInfo { path: file.path, is_dir: false, file_size: Some(file.size_bytes) });
        let folders = folders.into_iter().map(|path| FileInfo { path, is_dir: true, file_size: None });
        let mut all: Vec<FileInfo> = files.chain(folders).collect();
        all.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(all)
    }

    /// Deletes a file, or a folder with all that is in it.
    pub async fn delete_artifact(&self, path: &str) -> Result<()> {
        let path = artifact::check_path(path)?;
        let mut tx = self.db.begin().await?;
        let (mut files, mut folders) = store::list_all(&mut tx, path).await?;
        files.extend(store::get(&mut tx, path).await?);
        if files.is_empty() && folders.is_empty() {
            return Err(not_found(path));
        }
        let mut touched: Vec<&str> = artifact::ancestors(path).collect();
        touched.extend(folders.iter().map(String::as_str));
        touched.extend(files.iter().map(|file| file.path.as_str()));
        for paths in touched.chunks(500) {
            check_not_registered(&mut tx, paths).await?;
            check_files_not_held(&mut tx, paths).await?;
        }
        folders.push(path.to_owned());
        store::delete(&mut tx, &files, &folders).await?;
        tx.commit().await?;
        self.remove_blobs(files.into_iter().map(|file| file.blob)).await;
        Ok(())
    }

    /// Removes blobs that nothing refers to any more. One that cannot be removed now is tried again at the next start.
    pub(super) async fn remove_blobs(&self, blobs: impl IntoIterator<Item = String>) {
        for blob in blobs {
            if let Err(error) = self.remove_blob(&blob).await {
                tracing::warn!(blob, error = error.chain(), "a replaced or deleted artifact stays in the object store");
            }
        }
    }

    async fn remove_blob(&self, blob: &str) -> Result<()> {
        self.blob.delete(blob).await?;
        let mut tx = self.db.begin().await?;
        store::forget(&mut tx, blob).await?;
        tx.commit().await
    }

    /// Removes what an earlier process left.
    pub async fn sweep(&self) -> Result<()> {
        loop {
            let garbage = store::garbage(&mut &self.db, SWEEP).await?;
            let (count, first) = (garbage.len() as i64, garbage.first().cloned());
            self.remove_blobs(garbage).await;
            // What cannot be removed now must not be tried for ever.
            if count < SWEEP || store::garbage(&mut &self.db, 1).await?.first() == first.as_ref() {
                break;
            }
        }
        self.give_up_uploads(self.env.now_ms() - ABANDONED_MS).await
    }

    /// The same, given up when the process stops.
    pub async fn sweep_until(&self, stop: &CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            swept = self.sweep() => {
                if let Err(error) = swept {
                    tracing::warn!(error = error.chain(), "cannot sweep the object store");
                }
            }
        }
    }
}
