use crate::blob::{BlobMeta, BlobStream, Listing, TEMPORARY, blocking, not_found};
use crate::parts::Part;
use bytes::Bytes;
use fishy_core::{Error, Result};
use futures::{StreamExt, TryStreamExt};
use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};
use tempfile::NamedTempFile;
use tokio_util::io::ReaderStream;

const READ_BYTES: usize = 256 * 1024;
/// Leftovers of a process that was killed are removed when they are this old.
const LEFTOVER: Duration = Duration::from_hours(24);
/// A folder may be removed, as empty, between making it and moving a file into it; so it is made again, this often.
const ATTEMPTS: usize = 16;

/// Blobs as files below a folder.
///
/// Not `object_store`'s: that one follows symbolic links out of its root, and syncs neither files nor folders.
#[derive(Debug, Clone)]
pub(crate) struct FileBackend {
    root: Arc<Path>,
}

/// A temporary file; dropping it removes it.
pub(crate) struct FileUpload {
    backend: FileBackend,
    path: String,
    /// Away while a part is being written.
    file: Option<NamedTempFile>,
}

impl FileBackend {
    pub(crate) fn open(url: &str) -> Result<Self> {
        let wrong = || Error::invalid(format!("{url:?} does not name a folder: use file:///absolute/folder"));
        let root = match url.strip_prefix("file://") {
            Some(rest) if rest.starts_with('/') => url::Url::parse(url).ok().and_then(|url| url.to_file_path().ok()),
            _ => None,
        }
        .ok_or_else(wrong)?;
        let failed = |error: io::Error| Error::from(error).context(format_args!("cannot open the store {url:?}"));
        fs::create_dir_all(root.join(TEMPORARY)).map_err(failed)?;
        let backend = Self { root: root.canonicalize().map_err(failed)?.into() };
        if let Err(error) = backend.remove_leftovers() {
            tracing::warn!(error = %error, store = url, "cannot remove what unfinished writes left behind");
        }
        Ok(backend)
    }

    /// Judges age by the clock of the file system, which stamped the files: a network disk may have its own idea of time.
    fn remove_leftovers(&self) -> io::Result<()> {
        let folder = self.root.join(TEMPORARY);
        let now = NamedTempFile::new_in(&folder)?.as_file().metadata()?.modified()?;
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let age = entry.metadata().and_then(|meta| meta.modified()).map(|time| now.duration_since(time));
            if matches!(age, Ok(Ok(age)) if age > LEFTOVER) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    pub(crate) async fn put(&self, path: &str, content: Bytes) -> Result<()> {
        self.start(path).await?.write(Part { bytes: content, is_last: true }).await
    }

    pub(crate) async fn start(&self, path: &str) -> Result<FileUpload> {
        let (backend, path) = (self.clone(), path.to_owned());
        blocking(move || {
            let file = backend.new_file().map_err(|error| failed("write", &path, error))?;
            Ok(FileUpload { backend, path, file: Some(file) })
        })
        .await
    }

    fn new_file(&self) -> io::Result<NamedTempFile> {
        let folder = self.root.join(TEMPORARY);
        let make = || {
            // What the process would give any new file, not the 0600 of temporary ones.
            tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o666)).tempfile_in(&folder)
        };
        make().or_else(|error| match error.kind() {
            ErrorKind::NotFound => fs::create_dir_all(&folder).and_then(|()| make()),
            _ => Err(error),
        })
    }

    /// Moves a finished file to its place, so that it survives a loss of power from here on.
    fn place(&self, mut file: NamedTempFile, path: &str) -> Result<()> {
        let failed = |error| failed("write", path, error);
        file.as_file().sync_all().map_err(failed)?;
        let target = self.root.join(path);
        let mut attempt = 1;
        loop {
            self.refuse_links(path)?;
            let lost = match self.make_folders(path) {
                Ok(made) => match file.persist(&target) {
                    Ok(_) => return sync_folders(&target, made).map_err(failed),
                    Err(lost) => {
                        file = lost.file;
                        lost.error
                    }
                },
                Err(error) => error,
            };
            // "Already exists" is what making a folder says when it was there first and gone on the second look.
            let is_race = matches!(lost.kind(), ErrorKind::NotFound | ErrorKind::AlreadyExists);
            if !is_race || attempt >= ATTEMPTS {
                return Err(failed(lost));
            }
            attempt += 1;
        }
    }

    /// Makes the folders of a path and tells how many were missing.
    fn make_folders(&self, path: &str) -> io::Result<usize> {
        let target = self.root.join(path);
        let folders: Vec<&Path> = target.ancestors().skip(1).take_while(|folder| *folder != &*self.root).collect();
        let missing = folders.iter().take_while(|folder| !folder.exists()).count();
        if let Some(folder) = folders.first() {
            fs::create_dir_all(folder)?;
        }
        Ok(missing)
    }

    /// Refuses a path that goes through a symbolic link, wherever the link leads.
    fn refuse_links(&self, path: &str) -> Result<()> {
        let mut place = self.root.to_path_buf();
        for segment in path.split('/') {
            place.push(segment);
            match place.symlink_metadata() {
                Ok(meta) if meta.is_symlink() => {
                    return Err(Error::denied(format!(
                        "{path:?} goes through a symbolic link, which the store does not follow"
                    )));
                }
                Ok(_) => {}
                // What does not exist is no link; a name that is too long or unreadable is the caller's to find out.
                Err(_) => break,
            }
        }
        Ok(())
    }

    pub(crate) async fn get(&self, path: &str) -> Result<(BlobMeta, BlobStream)> {
        let (backend, name) = (self.clone(), path.to_owned());
        let (file, meta) = blocking(move || {
            backend.refuse_links(&name)?;
            let opened = File::open(backend.root.join(&name)).and_then(|file| Ok((file.metadata()?, file)));
            let (meta, file) = opened.map_err(|error| missing("read", &name, error))?;
            Ok((file, blob_meta(&name, &meta)?))
        })
        .await?;
        let name = path.to_owned();
        let stream = ReaderStream::with_capacity(tokio::fs::File::from_std(file), READ_BYTES)
            .map_err(move |error| failed("read", &name, error));
        Ok((meta, stream.boxed()))
    }

    pub(crate) async fn head(&self, path: &str) -> Result<BlobMeta> {
        let (backend, path) = (self.clone(), path.to_owned());
        blocking(move || {
            backend.refuse_links(&path)?;
            let meta = backend.root.join(&path).metadata().map_err(|error| missing("read", &path, error))?;
            blob_meta(&path, &meta)
        })
        .await
    }

    pub(crate) async fn list(&self, prefix: &str) -> Result<Listing> {
        let (backend, prefix) = (self.clone(), prefix.to_owned());
        blocking(move || {
            backend.refuse_links(&prefix)?;
            backend.list_folder(&prefix)
        })
        .await
    }

    pub(crate) async fn list_recursive(&self, prefix: &str) -> Result<Vec<BlobMeta>> {
        let (backend, prefix) = (self.clone(), prefix.to_owned());
        blocking(move || backend.walk(&prefix)).await
    }

    fn walk(&self, prefix: &str) -> Result<Vec<BlobMeta>> {
        self.refuse_links(prefix)?;
        let mut files = Vec::new();
        let mut folders = vec![prefix.to_owned()];
        while let Some(folder) = folders.pop() {
            let listing = self.list_folder(&folder)?;
            files.extend(listing.files);
            folders.extend(listing.dirs);
        }
        Ok(files)
    }

    /// What is in a folder, without links, unfinished files and names that are not UTF-8. Others may be deleting in it.
    fn list_folder(&self, prefix: &str) -> Result<Listing> {
        let failed = |error| failed("list", prefix, error);
        let mut listing = Listing::default();
        let entries = match fs::read_dir(self.root.join(prefix)) {
            Ok(entries) => entries,
            Err(error) if is_missing(&error) => return Ok(listing),
            Err(error) => return Err(failed(error)),
        };
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let Some(name) = name.to_str().filter(|name| !(prefix.is_empty() && *name == TEMPORARY)) else { continue };
            let path = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") };
            let meta = match entry.metadata() {
                Ok(meta) => meta,
                Err(error) if is_missing(&error) => continue,
                Err(error) => return Err(failed(error)),
            };
            if meta.is_dir() {
                listing.dirs.push(path);
            } else if meta.is_file() {
                listing.files.push(blob_meta(&path, &meta)?);
            }
        }
        Ok(listing)
    }

    pub(crate) async fn delete(&self, path: &str) -> Result<()> {
        let (backend, path) = (self.clone(), path.to_owned());
        blocking(move || {
            backend.refuse_links(&path)?;
            match fs::remove_file(backend.root.join(&path)) {
                Ok(()) => {}
                Err(error) if is_missing(&error) || error.kind() == ErrorKind::IsADirectory => return Ok(()),
                Err(error) => return Err(failed("delete", &path, error)),
            }
            backend.remove_empty_folders(&path);
            Ok(())
        })
        .await
    }

    pub(crate) async fn delete_prefix(&self, prefix: &str) -> Result<u64> {
        let (backend, prefix) = (self.clone(), prefix.to_owned());
        blocking(move || {
            let count = backend.walk(&prefix)?.len() as u64;
            match fs::remove_dir_all(backend.root.join(&prefix)) {
                Ok(()) => backend.remove_empty_folders(&prefix),
                Err(error) if is_missing(&error) => {}
                Err(error) => return Err(failed("delete", &prefix, error)),
            }
            Ok(count)
        })
        .await
    }

    /// Folders go with their last blob, as they do in object stores.
    fn remove_empty_folders(&self, path: &str) {
        let target = self.root.join(path);
        for folder in target.ancestors().skip(1).take_while(|folder| *folder != &*self.root) {
            // It is not empty, or somebody else was faster: both mean that there is nothing to do.
            if fs::remove_dir(folder).is_err() {
                break;
            }
        }
    }
}

impl FileUpload {
    pub(crate) async fn write(&mut self, part: Part) -> Result<()> {
        let Some(mut file) = self.file.take() else {
            return Err(Error::internal("a file was written to after a failure"));
        };
        let (backend, path) = (self.backend.clone(), self.path.clone());
        self.file = blocking(move || {
            write(file.as_file_mut(), &part.bytes, &path)?;
            if part.is_last {
                backend.place(file, &path)?;
                return Ok(None);
            }
            Ok(Some(file))
        })
        .await?;
        Ok(())
    }
}

fn write(file: &mut File, bytes: &[u8], path: &str) -> Result<()> {
    file.write_all(bytes).map_err(|error| failed("write", path, error))
}

/// A new name is safe once its folder is synced; a new folder once its own is.
fn sync_folders(target: &Path, made: usize) -> io::Result<()> {
    target.ancestors().skip(1).take(made + 1).try_for_each(|folder| match File::open(folder) {
        Ok(folder) => folder.sync_all(),
        // Somebody deleted the file, and the folder with it, in the meantime.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    })
}

fn blob_meta(path: &str, meta: &Metadata) -> Result<BlobMeta> {
    if !meta.is_file() {
        return Err(not_found(path));
    }
    let modified = meta.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let modified_ms = modified.map_or(0, |since| since.as_millis() as i64);
    Ok(BlobMeta { path: path.to_owned(), size_bytes: meta.len(), modified_ms })
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

fn missing(doing: &str, path: &str, error: io::Error) -> Error {
    if is_missing(&error) { not_found(path) } else { failed(doing, path, error) }
}

fn failed(doing: &str, path: &str, error: io::Error) -> Error {
    let error = match error.kind() {
        ErrorKind::NotADirectory
        | ErrorKind::IsADirectory
        | ErrorKind::DirectoryNotEmpty
        | ErrorKind::AlreadyExists => {
            Error::precondition("a file and a folder of the store cannot have the same path").with_source(error)
        }
        ErrorKind::InvalidFilename => Error::invalid("the name is too long for the file system").with_source(error),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            Error::exhausted("the disk of the store is full: make room and try again").with_source(error)
        }
        _ => Error::from(error),
    };
    error.context(format_args!("cannot {doing} {path:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use fishy_core::ErrorCode;

    #[test]
    fn a_full_disk_is_resource_exhausted() {
        let mut full = File::options().write(true).open("/dev/full").unwrap();
        assert_eq!(write(&mut full, b"x", "a").unwrap_err().code(), ErrorCode::ResourceExhausted);
    }

    #[test]
    fn leftovers_go_when_they_are_old() {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("file://{}", dir.path().display());
        let backend = FileBackend::open(&url).unwrap();
        let (old, young) = (backend.root.join(TEMPORARY).join("old"), backend.root.join(TEMPORARY).join("young"));
        let modified = File::create(&young).unwrap().metadata().unwrap().modified().unwrap();
        File::create(&old).unwrap().set_modified(modified - LEFTOVER - Duration::from_secs(5)).unwrap();
        FileBackend::open(&url).unwrap();
        assert_eq!((old.exists(), young.exists()), (false, true));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_folder_that_others_remove_as_empty_is_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("file://{}", dir.path().display());
        let put_and_delete = |name: &'static str| {
            let backend = FileBackend::open(&url).unwrap();
            tokio::spawn(async move {
                for _ in 0..500 {
                    backend.put(name, Bytes::new()).await?;
                    backend.delete(name).await?;
                }
                Ok::<_, Error>(())
            })
        };
        let (one, other) = tokio::join!(put_and_delete("a/b/1"), put_and_delete("a/b/2"));
        one.unwrap().unwrap();
        other.unwrap().unwrap();
    }
}
