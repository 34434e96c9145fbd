mod connection;
mod readers;
mod writer;

pub(crate) use writer::{Session, Writer};

use std::path::Path;

use fishy_core::{Error, Result};

use self::readers::Readers;
use crate::db::DbOptions;
use crate::statement::{Outcome, Statement};

/// Many readers and the one writer of a database file.
pub(crate) struct SqliteEngine {
    readers: Readers,
    pub writer: Writer,
    /// The folder of a throw-away database, removed with the last handle.
    _folder: Option<tempfile::TempDir>,
}

impl SqliteEngine {
    pub async fn connect(folder: &Path, schema: &str, options: &DbOptions) -> Result<Self> {
        std::fs::create_dir_all(folder).map_err(|error| Error::from(error).context(folder.display()))?;
        Self::open(&folder.join(format!("{schema}.db")), true, options, None).await
    }

    /// A throw-away database. It is a file all the same, so that tests meet the same readers and locks as production.
    pub async fn connect_throw_away(schema: &str, options: &DbOptions) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("fishy-db-").tempdir()?;
        let file = folder.path().join(format!("{schema}.db"));
        Self::open(&file, false, options, Some(folder)).await
    }

    async fn open(
        file: &Path,
        is_synchronous: bool,
        options: &DbOptions,
        folder: Option<tempfile::TempDir>,
    ) -> Result<Self> {
        let writer = Writer::open(file, is_synchronous, options.acquire_timeout).await?;
        let readers = Readers::new(file.to_owned(), options.max_connections, options.acquire_timeout);
        Ok(Self { readers, writer, _folder: folder })
    }

    pub async fn read(&self, statement: Statement) -> Result<Outcome> {
        self.readers.read(statement).await
    }

    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

/// Removes the files of a database that nobody has open.
pub(crate) async fn remove(folder: &Path, schema: &str) -> Result<()> {
    for suffix in ["", "-wal", "-shm"] {
        let file = folder.join(format!("{schema}.db{suffix}"));
        match tokio::fs::remove_file(&file).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::from(error).context(file.display()));
            }
            _ => {}
        }
    }
    Ok(())
}
