use std::path::{Path, PathBuf};

use fishy_core::Result;
use tokio::fs::{File, OpenOptions};
use tokio::io::AsyncWriteExt;

/// A log keeps between this and twice this many of its newest bytes: 4 to 8 MB.
const HALF: u64 = 4 * 1024 * 1024;
/// What is kept in memory for an error's message.
const TAIL: usize = 2_000;

/// What a step's tries wrote, bounded in bytes: two files, of which the older one is dropped when the newer is full.
pub struct Log {
    path: PathBuf,
    file: File,
    size: u64,
    half: u64,
    tail: Vec<u8>,
}

impl Log {
    /// Opens a log, behind what it holds already.
    pub async fn open(path: &Path) -> Result<Self> {
        Self::open_with(path, HALF).await
    }

    async fn open_with(path: &Path, half: u64) -> Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path).await?;
        let size = file.metadata().await?.len();
        Ok(Self { path: path.to_owned(), file, size, half, tail: Vec::new() })
    }

    /// Adds bytes.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        if self.size + bytes.len() as u64 > self.half && self.size > 0 {
            self.rotate().await?;
        }
        self.file.write_all(bytes).await?;
        self.size += bytes.len() as u64;
        self.tail.extend_from_slice(bytes);
        self.tail.drain(..self.tail.len().saturating_sub(TAIL));
        Ok(())
    }

    async fn rotate(&mut self) -> Result<()> {
        self.file.flush().await?;
        let older = older(&self.path);
        if tokio::fs::try_exists(&older).await? {
            tokio::fs::write(dropped(&self.path), b"").await?;
        }
        tokio::fs::rename(&self.path, older).await?;
        self.file = OpenOptions::new().create(true).append(true).open(&self.path).await?;
        self.size = 0;
        Ok(())
    }

    /// Hands everything to the system.
    pub async fn flush(&mut self) -> Result<()> {
        Ok(self.file.flush().await?)
    }

    /// The last lines that this opening of the log has written, for a message.
    pub fn last_lines(&self, count: usize) -> String {
        let text = String::from_utf8_lossy(&self.tail);
        let lines: Vec<&str> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
        lines[lines.len().saturating_sub(count)..].join("\n")
    }
}

/// What a log holds, with a first line that says so when earlier output was dropped; `None` when there is none.
pub async fn read_log(path: &Path) -> Result<Option<Vec<u8>>> {
    let mut whole = Vec::new();
    if tokio::fs::try_exists(dropped(path)).await? {
        whole.extend_from_slice(b"[earlier output was dropped: only the newest bytes are kept]\n");
    }
    let mut is_there = false;
    for part in [older(path), path.to_owned()] {
        match tokio::fs::read(part).await {
            Ok(bytes) => {
                is_there = true;
                whole.extend(bytes);
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(is_there.then_some(whole))
}

fn older(path: &Path) -> PathBuf {
    path.with_extension("log.older")
}

fn dropped(path: &Path) -> PathBuf {
    path.with_extension("log.dropped")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_newest_bytes_are_kept_and_the_rest_is_said_to_be_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("train.log");
        assert_eq!(read_log(&path).await.unwrap(), None);
        for index in 0..100 {
            // Opened anew each time, as after a restart.
            let mut log = Log::open_with(&path, 100).await.unwrap();
            log.write(format!("line {index}\n").as_bytes()).await.unwrap();
            log.flush().await.unwrap();
            if index == 0 {
                assert_eq!(read_log(&path).await.unwrap().unwrap(), b"line 0\n");
            }
        }
        let text = String::from_utf8(read_log(&path).await.unwrap().unwrap()).unwrap();
        assert!(text.starts_with("[earlier output was dropped"), "{text}");
        assert!(text.ends_with("line 98\nline 99\n"), "{text}");
        assert!(text.len() < 300, "{}", text.len());
    }

    #[tokio::test]
    async fn the_last_lines_are_for_messages() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = Log::open(&folder.path().join("a.log")).await.unwrap();
        log.write(b"one\ntwo\n\nthree\n").await.unwrap();
        assert_eq!(log.last_lines(2), "two\nthree");
        log.write(&vec![b'x'; 100_000]).await.unwrap();
        assert_eq!(log.last_lines(5).len(), TAIL);
    }
}
