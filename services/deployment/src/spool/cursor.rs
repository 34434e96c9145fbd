use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Where a reader stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// Everything before this was passed on.
    pub(crate) position: u64,
    /// What was begun and is not known to have ended: the end of the batch and its name. After a crash the same batch
    /// is written again under the same name, so that it does not double.
    pub(crate) begun: Option<(u64, u128)>,
}

const SIZE: usize = 8 + 8 + 16 + 4;

impl Cursor {
    pub(crate) const fn at(position: u64) -> Self {
        Self { position, begun: None }
    }

    fn to_bytes(self) -> [u8; SIZE] {
        let (end, name) = self.begun.unwrap_or((0, 0));
        let mut bytes = [0; SIZE];
        bytes[..8].copy_from_slice(&self.position.to_le_bytes());
        bytes[8..16].copy_from_slice(&end.to_le_bytes());
        bytes[16..32].copy_from_slice(&name.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..32]);
        bytes[32..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; SIZE] = bytes.try_into().ok()?;
        let (body, crc) = bytes.split_at(32);
        if crc != crc32fast::hash(body).to_le_bytes() {
            return None;
        }
        let number = |at: usize| Some(u64::from_le_bytes(body.get(at..at + 8)?.try_into().ok()?));
        let end = number(8)?;
        let name = u128::from_le_bytes(body.get(16..32)?.try_into().ok()?);
        Some(Self { position: number(0)?, begun: (end > 0).then_some((end, name)) })
    }
}

/// A cursor and the file it is kept in: small enough that one write replaces it.
pub(super) struct CursorFile {
    file: File,
    pub(super) cursor: Cursor,
}

impl CursorFile {
    /// A file that is missing or damaged means the beginning: records are then passed on again, never left out.
    pub(super) fn open(path: &Path) -> std::io::Result<Self> {
        let existing = std::fs::read(path).unwrap_or_default();
        let cursor = Cursor::from_bytes(&existing).unwrap_or_else(|| {
            if !existing.is_empty() {
                tracing::warn!(path = %path.display(), "the cursor is damaged: reading from the oldest record");
            }
            Cursor::default()
        });
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
        Ok(Self { file, cursor })
    }

    pub(super) fn write(&mut self, cursor: Cursor) -> std::io::Result<()> {
        self.file.write_all_at(&cursor.to_bytes(), 0)?;
        self.cursor = cursor;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_kept_and_a_damaged_one_means_the_beginning() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cursor");
        let cursor = Cursor { position: 77, begun: Some((99, 5)) };
        CursorFile::open(&path).unwrap().write(cursor).unwrap();
        assert_eq!(CursorFile::open(&path).unwrap().cursor, cursor);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[3] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(CursorFile::open(&path).unwrap().cursor, Cursor::default());
    }
}
