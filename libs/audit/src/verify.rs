//! Verifies an export without a server, in one pass and bounded memory.

mod lines;

use std::collections::BTreeMap;
use std::io::BufRead;

use fishy_core::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::checkpoint::Checkpoint;
use crate::export::{CheckpointLine, FORMAT, Header, read_entry_line};
use crate::keys::Verifier;
use crate::merkle::{Hash, MerkleLog, leaf_hash};
use lines::{Line, read_line};

/// A log that was tampered with everywhere is known to be bad after this many problems.
const MAX_PROBLEMS: usize = 1000;

/// What an export is compared with. All of it comes from somewhere else than the export: what is in the file itself,
/// whoever changed the file could change too.
#[derive(Debug, Clone, Default)]
pub struct VerifyOptions {
    /// The key that signed the log. Without it the key in the export is taken, which proves only that the export is
    /// consistent in itself.
    pub trusted_key: Option<Verifier>,
    /// Signed checkpoints that were kept outside. They show a log that was cut off or written anew.
    pub heads: Vec<String>,
}

/// What kind of damage was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProblemKind {
    /// The export is signed by another key than the trusted one.
    Key,
    /// A line is not what the format allows.
    Malformed,
    /// The content of an entry does not have the entry's hash.
    Edited,
    /// An entry is missing.
    Removed,
    /// An entry stands at another place than its own.
    Reordered,
    /// Entries at the end are missing.
    CutOff,
    /// The entries of a stretch between two checkpoints are not those that were signed: something was edited, removed,
    /// added or exchanged, and its hashes and indexes were made to fit.
    Forged,
    /// A checkpoint is not signed by the key, is of another log, or stands where it does not belong.
    Checkpoint,
    /// A checkpoint that was kept outside does not fit the export.
    Head,
    /// Entries that no checkpoint covers: anyone could have added them.
    Unsigned,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// What kind of damage.
    pub kind: ProblemKind,
    /// The first entry it is about, counted from 0.
    pub index: u64,
    /// The last entry it is about; the same as `index` for a single one.
    pub last_index: u64,
    /// What was found, in a sentence.
    pub message: String,
}

/// What the verification of an export found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The name of the log.
    pub origin: String,
    /// The key that the checkpoints were verified with.
    pub public_key: String,
    /// Whether that key came from outside the export.
    pub is_key_trusted: bool,
    /// The index of the first entry: not 0 in an export of a part of the log.
    pub first: u64,
    /// How many entry lines there are.
    pub entries: u64,
    /// How many checkpoint lines there are.
    pub checkpoints: u64,
    /// How many of them are signed and fit all entries before them.
    pub checkpoints_ok: u64,
    /// How many of the checkpoints kept outside were found to fit.
    pub heads_ok: u64,
    /// The last checkpoint that fits: worth keeping outside.
    pub last_checkpoint: Option<Checkpoint>,
    /// Everything that is wrong, in the order it was found.
    pub problems: Vec<Problem>,
    /// How many more problems there were after the first 1,000.
    pub problems_omitted: u64,
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_ok(&self) -> bool {
        self.problems.is_empty()
    }
}

/// Verifies an export as [`ExportWriter`](crate::ExportWriter) writes it. An error means that it could not be read, or
/// is not an export at all; damage to an export is in the report.
pub fn verify_export(mut reader: impl BufRead, options: &VerifyOptions) -> Result<Report> {
    let mut line = Vec::new();
    let header: Header = match read_line(&mut reader, &mut line)? {
        Line::Read => serde_json::from_slice(&line).map_err(|error| {
            Error::invalid("the first line is not the header of an audit export").with_source(error)
        })?,
        Line::TooLong | Line::End => return Err(Error::invalid("this is not an audit export: it has no header line")),
    };
    if header.format != FORMAT {
        return Err(Error::invalid(format!("the export has the format {:.80?}, known is {FORMAT:?}", header.format)));
    }
    let mut state = State::new(header, options)?;
    loop {
        match read_line(&mut reader, &mut line)? {
            Line::End => break,
            Line::TooLong => state.malformed("is too long"),
            Line::Read => state.line(&line),
        }
    }
    Ok(state.finish())
}

struct State {
    verifier: Verifier,
    report: Report,
    log: MerkleLog,
    /// The index that the next entry should have.
    next: u64,
    /// Whether `log` is the true state at `next`: not after something was missing, until a checkpoint gives it back.
    is_whole: bool,
    /// Up to here everything is proven, or reported.
    settled: u64,
    /// One past the highest entry that was seen.
    seen: u64,
    /// Missing entries so far, as ranges from..to: they may still come, at a wrong place.
    gaps: Vec<(u64, u64)>,
    heads: BTreeMap<u64, Vec<Hash>>,
}

impl State {
    fn new(header: Header, options: &VerifyOptions) -> Result<Self> {
        let in_export = Verifier::parse(&header.public_key);
        let verifier = match (&options.trusted_key, &in_export) {
            (Some(trusted), _) => trusted.clone(),
            (None, Ok(key)) => key.clone(),
            (None, Err(error)) => {
                return Err(Error::invalid(format!("the export names no usable key: {error}")));
            }
        };
        let log = MerkleLog::from_parts(header.first, header.peaks)
            .map_err(|error| error.context("the header of the export is damaged"))?;
        let report = Report {
            origin: header.origin,
            public_key: verifier.to_string(),
            is_key_trusted: options.trusted_key.is_some(),
            first: header.first,
            entries: 0,
            checkpoints: 0,
            checkpoints_ok: 0,
            heads_ok: 0,
            last_checkpoint: None,
            problems: Vec::new(),
            problems_omitted: 0,
        };
        let first = header.first;
        let mut state = Self {
            verifier,
            report,
            log,
            next: first,
            is_whole: true,
            settled: first,
            seen: first,
            gaps: Vec::new(),
            heads: BTreeMap::new(),
        };
        if in_export.as_ref().ok() != Some(&state.verifier) {
            let message = format!("the export names the key {:.200}, trusted is {}", header.public_key, state.verifier);
            state.problem(ProblemKind::Key, first, first, message);
        }
        for note in &options.heads {
            // A head that is no head is a mistake of the caller, not damage to the export.
            let head =
                state.verifier.open(note).map_err(|error| error.context("a checkpoint kept outside is unusable"))?;
            if head.origin != state.report.origin {
                let message = format!(
                    "a checkpoint kept outside is of {:?}, the export of {:?}",
                    head.origin, state.report.origin
                );
                state.problem(ProblemKind::Head, first, first, message);
                continue;
            }
            state.heads.entry(head.size).or_default().push(head.root_hash);
        }
        state.compare_heads();
        Ok(state)
    }

    fn problem(&mut self, kind: ProblemKind, index: u64, last_index: u64, message: String) {
        if self.report.problems.len() < MAX_PROBLEMS {
            self.report.problems.push(Problem { kind, index, last_index, message });
        } else {
            self.report.problems_omitted += 1;
        }
    }

    fn line(&mut self, line: &[u8]) {
        if let Some((index, hash, entry)) = read_entry_line(line) {
            self.entry(index, hash, entry);
        } else if let Ok(line) = serde_json::from_slice::<CheckpointLine>(line) {
            self.checkpoint(&line);
        } else {
            self.malformed("is neither an entry nor a checkpoint");
        }
    }

    /// A damaged line is taken for the entry that should be there, so that it is reported once.
    fn malformed(&mut self, what: &str) {
        let index = self.next;
        self.problem(ProblemKind::Malformed, index, index, format!("the line where entry {index} should be {what}"));
        self.report.entries += 1;
        self.next += 1;
        self.seen = self.seen.max(self.next);
        self.is_whole = false;
    }

    fn entry(&mut self, index: u64, stated: Hash, entry: &[u8]) {
        self.report.entries += 1;
        let is_edited = leaf_hash(entry) != stated;
        if is_edited {
            let message = format!("the content of entry {index} was changed: it does not have the entry's hash");
            self.problem(ProblemKind::Edited, index, index, message);
        }
        if index < self.next {
            let was_missing = self.take_from_gap(index);
            let how = if was_missing { "stands after later entries" } else { "is there twice, or was renumbered" };
            self.problem(ProblemKind::Reordered, index, index, format!("entry {index} {how}"));
            return;
        }
        if index > self.next {
            self.missing(self.next, index);
        }
        self.next = index + 1;
        self.seen = self.next;
        if self.is_whole {
            // The stated hash: if it is the one that was signed, only this entry's content is in doubt.
            self.log.append(stated);
            self.compare_heads();
        }
    }

    fn missing(&mut self, from: u64, to: u64) {
        self.is_whole = false;
        if let Some(last) = self.gaps.last_mut().filter(|last| last.1 == from) {
            last.1 = to;
        } else if self.gaps.len() < MAX_PROBLEMS {
            self.gaps.push((from, to));
        } else {
            self.problem(ProblemKind::Removed, from, to - 1, describe_missing(from, to));
        }
    }

    fn take_from_gap(&mut self, index: u64) -> bool {
        let Some(at) = self.gaps.iter().position(|(from, to)| (*from..*to).contains(&index)) else { return false };
        let (from, to) = self.gaps.remove(at);
        let rest = [(from, index), (index + 1, to)];
        self.gaps.splice(at..at, rest.into_iter().filter(|(from, to)| from < to));
        true
    }

    fn checkpoint(&mut self, line: &CheckpointLine) {
        self.report.checkpoints += 1;
        let place = self.next.saturating_sub(1).max(self.report.first);
        let checkpoint = match self.verifier.open(&line.checkpoint) {
            Ok(checkpoint) => checkpoint,
            Err(error) => {
                let message = format!("the checkpoint after entry {place} is not to be trusted: {error}");
                return self.problem(ProblemKind::Checkpoint, place, place, message);
            }
        };
        if checkpoint.origin != self.report.origin {
            let message = format!("the checkpoint after entry {place} is of another log, {:?}", checkpoint.origin);
            return self.problem(ProblemKind::Checkpoint, place, place, message);
        }
        let size = checkpoint.size;
        if size < self.next {
            let (from, next) = (self.settled.min(size), self.next);
            let message = format!(
                "the checkpoint of {size} entries stands after {next}: it was moved, or entries were added before it"
            );
            return self.problem(ProblemKind::Checkpoint, from, next - 1, message);
        }
        if size > self.next {
            self.missing(self.next, size);
            self.next = size;
        }
        let is_proven = self.is_whole && self.log.root() == checkpoint.root_hash;
        if self.is_whole && !is_proven {
            let (from, to) = (self.settled, size);
            let message = match to.saturating_sub(from) {
                0 => format!("the state of the log before entry {from} is not the one that was signed"),
                1 => format!("entry {from} is not the one that was signed, and its hash was made to fit"),
                _ => format!(
                    "among the entries {from} to {} some are not those that were signed, and their hashes were made to fit",
                    to - 1
                ),
            };
            self.problem(ProblemKind::Forged, from, to.saturating_sub(1).max(from), message);
            self.is_whole = false;
        }
        self.settled = size;
        if is_proven {
            self.report.checkpoints_ok += 1;
            self.report.last_checkpoint = Some(checkpoint);
            return;
        }
        // The peaks hash to a signed root, so they are the true state, whatever happened before.
        match MerkleLog::from_parts(size, line.peaks.clone()) {
            Ok(log) if log.root() == checkpoint.root_hash => {
                self.log = log;
                self.is_whole = true;
                self.compare_heads();
            }
            _ => {}
        }
    }

    /// Compares the state with what was kept outside for this size.
    fn compare_heads(&mut self) {
        let size = self.next;
        if !self.is_whole || self.heads.is_empty() {
            return;
        }
        for expected in self.heads.remove(&size).unwrap_or_default() {
            if self.log.root() == expected {
                self.report.heads_ok += 1;
            } else {
                let message = format!(
                    "the first {size} entries are not those of the checkpoint kept outside: the log was written anew"
                );
                self.problem(
                    ProblemKind::Head,
                    self.settled.min(size.saturating_sub(1)),
                    size.saturating_sub(1),
                    message,
                );
            }
        }
    }

    fn finish(mut self) -> Report {
        for (from, to) in std::mem::take(&mut self.gaps) {
            let kind = if from >= self.seen { ProblemKind::CutOff } else { ProblemKind::Removed };
            self.problem(kind, from, to - 1, describe_missing(from, to));
        }
        if self.settled < self.next {
            let (from, last) = (self.settled, self.next - 1);
            let message = format!("no checkpoint covers the entries {from} to {last}: anyone could have added them");
            self.problem(ProblemKind::Unsigned, from, last, message);
        }
        let (first, next) = (self.report.first, self.next);
        for size in std::mem::take(&mut self.heads).into_keys() {
            if size > next {
                let message = format!("a checkpoint kept outside has {size} entries, the export ends after {next}");
                self.problem(ProblemKind::CutOff, next, size - 1, message);
            } else if size > first {
                let message = format!(
                    "the checkpoint kept outside of {size} entries could not be compared, since entries are missing"
                );
                self.problem(ProblemKind::Head, first, size - 1, message);
            }
        }
        self.report
    }
}

fn describe_missing(from: u64, to: u64) -> String {
    match to - from {
        1 => format!("entry {from} is missing"),
        count => format!("{count} entries are missing: {from} to {}", to - 1),
    }
}

#[cfg(test)]
mod tests;
