use std::io::Write;

use fishy_core::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::checkpoint::Checkpoint;
use crate::keys::Verifier;
use crate::merkle::{Hash, MerkleLog};

/// The name and version of the export format.
pub const FORMAT: &str = "fishy-audit-export/1";

/// The first line of an export.
#[derive(Serialize, Deserialize)]
pub(crate) struct Header {
    pub format: String,
    pub origin: String,
    pub public_key: String,
    /// The index of the first entry: not 0 in an export of a part of the log.
    #[serde(default)]
    pub first: u64,
    /// The state of the log before that entry.
    #[serde(default)]
    pub peaks: Vec<Hash>,
}

/// The line of a checkpoint: it stands directly after the entry that makes the log as long as it says.
#[derive(Serialize, Deserialize)]
pub(crate) struct CheckpointLine {
    pub checkpoint: String,
    /// The state of the log at that size. It hashes to the signed root, so it needs no trust; a verifier goes on from
    /// it after a damaged stretch, and so finds every damaged stretch instead of the first one.
    #[serde(default)]
    pub peaks: Vec<Hash>,
}

/// Writes an export, line by line: a header, then the entries in their order with the checkpoints between them. See the
/// crate's documentation for the format.
pub struct ExportWriter<W: Write> {
    out: W,
    log: MerkleLog,
}

impl<W: Write> ExportWriter<W> {
    /// Begins an export. `before` is the state of the log before the first entry that is written: an empty log for a
    /// whole export, the state at a checkpoint for a part.
    pub fn new(mut out: W, origin: &str, key: &Verifier, before: MerkleLog) -> Result<Self> {
        let header = Header {
            format: FORMAT.to_owned(),
            origin: origin.to_owned(),
            public_key: key.to_string(),
            first: before.size(),
            peaks: before.peaks().to_vec(),
        };
        write_line(&mut out, &header)?;
        Ok(Self { out, log: before })
    }

    /// Writes the next entry: its canonical bytes and its leaf hash, both as they are stored. The hash is not computed
    /// here on purpose: where the stored bytes were changed, the export shows which entry it was.
    pub fn entry(&mut self, canonical: &str, stored_hash: Hash) -> Result<()> {
        if canonical.contains(['\n', '\r']) || canonical.is_empty() {
            return Err(Error::invalid("a canonical entry is one line of JSON"));
        }
        let index = self.log.append(stored_hash).index;
        writeln!(self.out, "{{\"index\":{index},\"hash\":\"{stored_hash}\",\"entry\":{canonical}}}")?;
        Ok(())
    }

    /// Writes a signed checkpoint, which must be of the size reached by now. An export ends with one: entries after the
    /// last checkpoint prove nothing.
    pub fn checkpoint(&mut self, note: &str) -> Result<()> {
        let size = Checkpoint::peek(note)?.size;
        if size != self.log.size() {
            return Err(Error::invalid(format!(
                "a checkpoint of {size} entries cannot stand after {}",
                self.log.size()
            )));
        }
        write_line(&mut self.out, &CheckpointLine { checkpoint: note.to_owned(), peaks: self.log.peaks().to_vec() })
    }

    /// How many entries the log has up to here.
    pub fn size(&self) -> u64 {
        self.log.size()
    }

    /// Flushes, and gives the writer back.
    pub fn finish(mut self) -> Result<W> {
        self.out.flush()?;
        Ok(self.out)
    }
}

fn write_line(out: &mut impl Write, line: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string(line)
        .map_err(|error| Error::internal("an export line cannot be written as JSON").with_source(error))?;
    writeln!(out, "{text}")?;
    Ok(())
}

/// An entry's line taken apart without parsing the entry: its bytes are what was hashed.
pub(crate) fn read_entry_line(line: &[u8]) -> Option<(u64, Hash, &[u8])> {
    let rest = line.strip_prefix(b"{\"index\":")?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let index = std::str::from_utf8(rest.get(..digits)?).ok()?.parse().ok()?;
    let rest = rest.get(digits..)?.strip_prefix(b",\"hash\":\"")?;
    let hash = std::str::from_utf8(rest.get(..64)?).ok()?.parse().ok()?;
    let entry = rest.get(64..)?.strip_prefix(b"\",\"entry\":")?.strip_suffix(b"}")?;
    (!entry.is_empty()).then_some((index, hash, entry))
}
