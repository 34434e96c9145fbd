//! Which artifacts there are, and which blob has the content of each. A blob is written under a name of its own before
//! its row is, so that readers see the old content or the new one, never a mixture.

use fishy_core::Result;
use fishy_db::{Row, Tx, args};

use super::Read;
use crate::domain::artifact;

/// An artifact.
#[derive(Debug, Clone)]
pub(crate) struct Artifact {
    pub path: String,
    pub size_bytes: i64,
    pub sha256: String,
    pub blob: String,
}

fn artifact_of(row: &Row) -> Result<Artifact> {
    Ok(Artifact {
        path: row.get("path")?,
        size_bytes: row.get("size_bytes")?,
        sha256: row.get("sha256")?,
        blob: row.get("blob")?,
    })
}

/// One artifact.
pub(crate) async fn get(read: &mut impl Read, path: &str) -> Result<Option<Artifact>> {
    let sql = "SELECT path, size_bytes, sha256, blob FROM artifacts WHERE path = $1";
    read.row(sql, args![path]).await?.as_ref().map(artifact_of).transpose()
}

/// Writes an artifact; the blob that it had before becomes garbage.
pub(crate) async fn put(tx: &mut Tx, artifact: &Artifact, now_ms: i64) -> Result<Option<String>> {
    let before = get(tx, &artifact.path).await?;
    let (folder, _) = artifact::split(&artifact.path);
    let sql = "INSERT INTO artifacts(path, folder, size_bytes, sha256, blob, modified_time) \
               VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (path) DO UPDATE SET size_bytes = excluded.size_bytes, \
               sha256 = excluded.sha256, blob = excluded.blob, modified_time = excluded.modified_time";
    let args = args![&artifact.path, folder, artifact.size_bytes, &artifact.sha256, &artifact.blob, now_ms];
    tx.execute(sql, args).await?;
    let folders = artifact::ancestors(folder).map(|path| args![path, artifact::split(path).0]);
    tx.bulk("INSERT INTO artifact_folders(path, folder)", "ON CONFLICT DO NOTHING", folders).await?;
    let Some(before) = before else { return Ok(None) };
    let sql = "INSERT INTO blob_garbage(blob) VALUES ($1) ON CONFLICT DO NOTHING";
    tx.execute(sql, args![&before.blob]).await?;
    Ok(Some(before.blob))
}

/// The files and folders directly in a folder, `""` for the root.
pub(crate) async fn list(read: &mut impl Read, folder: &str) -> Result<(Vec<Artifact>, Vec<String>)> {
    let sql = "SELECT path, size_bytes, sha256, blob FROM artifacts WHERE folder = $1 ORDER BY path";
    let files = read.rows(sql, args![folder]).await?.iter().map(artifact_of).collect::<Result<_>>()?;
    let sql = "SELECT path FROM artifact_folders WHERE folder = $1 ORDER BY path";
    let folders = read.rows(sql, args![folder]).await?.iter().map(|row| row.get("path")).collect::<Result<_>>()?;
    Ok((files, folders))
}

/// All files in a folder and below, and all folders below.
pub(crate) async fn list_all(read: &mut impl Read, folder: &str) -> Result<(Vec<Artifact>, Vec<String>)> {
    let (mut files, mut folders) = (Vec::new(), Vec::new());
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        let (more, below) = list(read, &folder).await?;
        files.extend(more);
        folders.extend(below.iter().cloned());
        open.extend(below);
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok((files, folders))
}

/// Deletes files and folders; the blobs become garbage.
pub(crate) async fn delete(tx: &mut Tx, files: &[Artifact], folders: &[String]) -> Result<()> {
    for file in files {
        tx.execute("DELETE FROM artifacts WHERE path = $1", args![&file.path]).await?;
    }
    let rows = files.iter().map(|file| args![&file.blob]);
    tx.bulk("INSERT INTO blob_garbage(blob)", "ON CONFLICT DO NOTHING", rows).await?;
    for folder in folders {
        tx.execute("DELETE FROM artifact_folders WHERE path = $1", args![folder]).await?;
    }
    Ok(())
}

/// Makes a blob that nothing refers to garbage.
pub(crate) async fn discard(tx: &mut Tx, blob: &str) -> Result<()> {
    tx.execute("INSERT INTO blob_garbage(blob) VALUES ($1) ON CONFLICT DO NOTHING", args![blob]).await.map(drop)
}

/// Blobs that can go.
pub(crate) async fn garbage(read: &mut impl Read, limit: i64) -> Result<Vec<String>> {
    let rows = read.rows("SELECT blob FROM blob_garbage LIMIT $1", args![limit]).await?;
    rows.iter().map(|row| row.get("blob")).collect()
}

/// Forgets a blob that is gone.
pub(crate) async fn forget(tx: &mut Tx, blob: &str) -> Result<()> {
    tx.execute("DELETE FROM blob_garbage WHERE blob = $1", args![blob]).await.map(drop)
}
