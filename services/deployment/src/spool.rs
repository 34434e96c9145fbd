//! The prediction spool: an append-only log on disk, bounded in bytes, that holds records from the moment of the answer
//! until every reader has passed on what it reads.
//!
//! - A record is in the kernel's hands when [`Spool::append`] returns: it survives `kill -9`. A background task calls
//!   [`Spool::sync`] each second, so that a loss of power costs at most about that.
//! - Positions are byte offsets that only grow. Segment files are named by the position of their first byte.
//! - Each reader (Parquet, the stream, each sink) keeps a cursor on disk. Segments that all readers have passed are deleted, except the newest
//!   [`KEEP_BYTES`], out of which the ids for deduplication are rebuilt at start.

mod cursor;
mod frame;
mod recent;
mod recovery;

pub(crate) use cursor::Cursor;
pub(crate) use frame::push_frame;
pub(crate) use recent::key_of;

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fishy_config::SpoolFull;
use fishy_core::{Error, ErrorCode, Result};
use tokio::sync::Notify;

use cursor::CursorFile;
use recent::Recent;

/// What is kept after all readers have passed it.
const KEEP_BYTES: u64 = 16 * 1024 * 1024;
const MAX_SEGMENT_BYTES: u64 = 4 * 1024 * 1024;
const MIN_SEGMENT_BYTES: u64 = 4 * 1024;

/// Who reads the spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reader {
    /// The hourly Parquet files.
    Parquet,
    /// The prediction stream.
    Stream,
    /// A sink of CloudEvents, by its place among those that the spool was opened with.
    Sink(usize),
}

impl Reader {
    /// The readers that every spool has.
    #[cfg(test)]
    pub(crate) const ALL: [Self; 2] = [Self::Parquet, Self::Stream];

    const fn place(self) -> usize {
        match self {
            Self::Parquet => 0,
            Self::Stream => 1,
            Self::Sink(place) => 2 + place,
        }
    }
}

/// How far a reader is behind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Lag {
    /// Records before it: exact to the segment it stands in, about within that.
    pub(crate) records: u64,
    /// Bytes before it.
    pub(crate) bytes: u64,
    /// Records that were dropped before it had passed them, since the start.
    pub(crate) dropped: u64,
}

/// What became of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Appended {
    /// They are in the spool.
    Recorded,
    /// A request of that id is in it already.
    Repeated,
    /// There was no room; they were counted as dropped.
    Dropped,
}

/// Records in their order, as JSON lines.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) lines: Vec<u8>,
    pub(crate) records: usize,
    /// The position behind the last of them.
    pub(crate) next: u64,
}

/// How the spool is bounded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SpoolOptions {
    pub(crate) max_bytes: u64,
    pub(crate) when_full: SpoolFull,
}

pub(crate) struct Spool {
    dir: PathBuf,
    options: SpoolOptions,
    segment_bytes: u64,
    keep_bytes: u64,
    inner: Mutex<Inner>,
    /// Told after every append; the stream's exporter waits for it.
    pub(crate) appended: Notify,
    /// Its size on disk, as a metric.
    size: metrics::Gauge,
    /// Held as long as the spool is: a second process on the same folder would destroy it.
    _lock: File,
}

#[derive(Debug, Clone)]
struct Segment {
    base: u64,
    len: u64,
    records: u64,
}

impl Segment {
    const fn end(&self) -> u64 {
        self.base + self.len
    }

    /// How many of its records lie behind a position.
    fn records_behind(&self, position: u64, path: &Path) -> u64 {
        match position.saturating_sub(self.base) {
            0 => self.records,
            passed if passed >= self.len => 0,
            // Rare: only the segment that a reader stands in.
            passed => std::fs::read(path)
                .map_or(self.records, |bytes| frame::scan(bytes.get(passed as usize..).unwrap_or_default()).records),
        }
    }
}

struct Inner {
    /// Never empty; the last one is written.
    segments: VecDeque<Segment>,
    active: Arc<File>,
    is_dirty: bool,
    /// Segments that were closed and not synced since.
    unsynced: Vec<Arc<File>>,
    /// By [`Reader::place`].
    readers: Vec<ReaderState>,
    recent: Recent,
    problem: Option<String>,
}

/// A reader as the spool knows it.
struct ReaderState {
    file: CursorFile,
    dropped: u64,
    /// Of a sink, which has a metric of its own.
    counter: Option<metrics::Counter>,
}

impl ReaderState {
    fn lose(&mut self, records: u64) {
        self.dropped += records;
        if let Some(counter) = &self.counter {
            counter.increment(records);
        }
    }
}

impl Inner {
    fn total(&self) -> u64 {
        self.segments.iter().map(|segment| segment.len).sum()
    }

    fn end(&self) -> u64 {
        self.segments.back().map_or(0, Segment::end)
    }

    fn slowest(&self) -> u64 {
        self.readers.iter().map(|reader| reader.file.cursor.position).min().unwrap_or(0)
    }
}

fn segment_path(dir: &Path, base: u64) -> PathBuf {
    dir.join(format!("{base:020}.seg"))
}

fn create_segment(dir: &Path, base: u64) -> std::io::Result<File> {
    OpenOptions::new().create(true).append(true).read(true).open(segment_path(dir, base))
}

impl Spool {
    /// Opens the spool of a folder, which these sinks read too: cuts a torn tail, reads the cursors, and remembers the
    /// newest ids. A sink that is new begins with the oldest record that is there.
    pub(crate) fn open(dir: &Path, options: SpoolOptions, sinks: &[&str]) -> Result<Self> {
        let in_dir =
            |error: std::io::Error| Error::from(error).context(format_args!("prediction spool {}", dir.display()));
        std::fs::create_dir_all(dir).map_err(in_dir)?;
        let lock = File::create(dir.join("LOCK")).map_err(in_dir)?;
        if lock.try_lock().is_err() {
            return Err(Error::precondition(format!(
                "the prediction spool {} is used by another process: each process needs its own storage.data_dir",
                dir.display()
            )));
        }
        let inner = recovery::recover(dir, sinks).map_err(in_dir)?;
        let spool = Self {
            dir: dir.to_owned(),
            options,
            segment_bytes: (options.max_bytes / 8).clamp(MIN_SEGMENT_BYTES, MAX_SEGMENT_BYTES),
            keep_bytes: KEEP_BYTES.min(options.max_bytes / 2),
            inner: Mutex::new(inner),
            appended: Notify::new(),
            size: metrics::gauge!("fishy_prediction_spool_bytes"),
            _lock: lock,
        };
        spool.trim(&mut spool.lock());
        Ok(spool)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the frames of one request with one call of the kernel. `key` is the request's id, when its caller brought it.
    ///
    /// `ResourceExhausted` or `Unavailable` when there is no room and the policy is to refuse.
    pub(crate) fn append(&self, key: Option<u128>, frames: &[u8], records: u64) -> Result<Appended> {
        let mut inner = self.lock();
        if key.is_some_and(|key| inner.recent.contains(key)) {
            return Ok(Appended::Repeated);
        }
        if inner.segments.back().is_some_and(|active| active.len >= self.segment_bytes) {
            self.roll(&mut inner);
        }
        let size = frames.len() as u64;
        if !self.make_room(&mut inner, size) {
            return self.no_room(&mut inner, records, ErrorCode::ResourceExhausted, "the prediction spool is full");
        }
        let mut written = (&*inner.active).write_all(frames);
        if let Err(error) = &written
            && error.kind() == std::io::ErrorKind::StorageFull
            && self.options.when_full == SpoolFull::DropOldest
            && inner.segments.len() > 1
        {
            self.drop_oldest(&mut inner);
            let len = inner.segments.back().map_or(0, |active| active.len);
            written = inner.active.set_len(len).and_then(|()| (&*inner.active).write_all(frames));
        }
        if let Err(error) = written {
            if inner.active.set_len(inner.segments.back().map_or(0, |active| active.len)).is_err() {
                // What was written in part cannot be taken back: nothing may follow it.
                self.roll(&mut inner);
            }
            let what = format!("the prediction spool cannot be written: {error}");
            return self.no_room(&mut inner, records, ErrorCode::Unavailable, &what);
        }
        if let Some(active) = inner.segments.back_mut() {
            active.len += size;
            active.records += records;
        }
        inner.is_dirty = true;
        inner.problem = None;
        if let Some(key) = key {
            inner.recent.insert(key);
        }
        drop(inner);
        self.size.increment(size as f64);
        self.appended.notify_one();
        Ok(Appended::Recorded)
    }

    fn no_room(&self, inner: &mut Inner, records: u64, code: ErrorCode, what: &str) -> Result<Appended> {
        let is_new = inner.problem.as_deref() != Some(what);
        inner.problem = Some(what.to_owned());
        match self.options.when_full {
            SpoolFull::DropOldest => {
                if is_new {
                    tracing::error!(problem = what, "prediction records are dropped");
                }
                count_dropped(records);
                inner.readers.iter_mut().for_each(|reader| reader.lose(records));
                Ok(Appended::Dropped)
            }
            SpoolFull::Refuse => {
                if is_new {
                    tracing::error!(problem = what, "predictions are refused");
                }
                Err(Error::new(code, format!("{what}: no prediction is answered that cannot be recorded")))
            }
        }
    }

    /// Starts a new segment; when none can be made, the old one goes on.
    fn roll(&self, inner: &mut Inner) {
        let base = inner.end();
        match create_segment(&self.dir, base) {
            Ok(file) => {
                let closed = std::mem::replace(&mut inner.active, Arc::new(file));
                if inner.is_dirty {
                    inner.unsynced.push(closed);
                }
                inner.segments.push_back(Segment { base, len: 0, records: 0 });
                self.trim(inner);
            }
            Err(error) => tracing::warn!(%error, "cannot start a new spool segment"),
        }
    }

    /// Deletes what all readers have passed, beyond what is kept.
    fn trim(&self, inner: &mut Inner) {
        let slowest = inner.slowest();
        while let Some(oldest) = inner.segments.front()
            && inner.segments.len() > 1
            && oldest.end() <= slowest
            && inner.total() - oldest.len >= self.keep_bytes
        {
            self.drop_oldest(inner);
        }
        self.size.set(inner.total() as f64);
    }

    fn make_room(&self, inner: &mut Inner, size: u64) -> bool {
        while inner.total() + size > self.options.max_bytes {
            let is_empty = inner.total() == 0;
            let is_passed = inner.segments.front().is_some_and(|oldest| oldest.end() <= inner.slowest());
            if is_empty || !(is_passed || self.options.when_full == SpoolFull::DropOldest) {
                return false;
            }
            if inner.segments.len() == 1 {
                self.roll(inner);
            }
            if inner.segments.len() == 1 {
                return false;
            }
            self.drop_oldest(inner);
        }
        true
    }

    /// Deletes the oldest segment, and counts what a reader had not passed.
    fn drop_oldest(&self, inner: &mut Inner) {
        let Some(oldest) = inner.segments.pop_front() else { return };
        let path = segment_path(&self.dir, oldest.base);
        let mut most = 0;
        for reader in &mut inner.readers {
            let lost = oldest.records_behind(reader.file.cursor.position, &path);
            reader.lose(lost);
            most = most.max(lost);
        }
        if most > 0 {
            count_dropped(most);
            tracing::error!(records = most, "the prediction spool is full: the oldest records are dropped");
        }
        if let Err(error) = std::fs::remove_file(&path) {
            tracing::warn!(%error, path = %path.display(), "cannot delete a spool segment");
        }
    }

    /// What a reader has before it, up to the position `until`: at most `max_records`, and about `max_bytes`. Empty when
    /// it has read everything.
    pub(crate) fn read(&self, from: u64, until: u64, max_records: usize, max_bytes: usize) -> Result<Batch> {
        let mut from = from;
        loop {
            let (segment, is_last) = {
                let inner = self.lock();
                let Some(index) = inner.segments.iter().position(|segment| segment.end() > from) else {
                    return Ok(Batch { next: from, ..Batch::default() });
                };
                (inner.segments[index].clone(), index + 1 == inner.segments.len())
            };
            let begin = from.max(segment.base);
            let end = segment.end().min(until);
            if begin >= end {
                return Ok(Batch { next: until, ..Batch::default() });
            }
            let file = match File::open(segment_path(&self.dir, segment.base)) {
                Ok(file) => file,
                // It was dropped in the meantime: what comes after it is next.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    from = segment.end();
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let left = (end - begin) as usize;
            let mut bytes = vec![0; left.min(max_bytes)];
            file.read_exact_at(&mut bytes, begin - segment.base)?;
            let mut taken = frame::take(&bytes, max_records);
            if taken.records == 0 && !taken.is_damaged && bytes.len() < left {
                // One record that is larger than a batch.
                bytes.resize(left, 0);
                file.read_exact_at(&mut bytes, begin - segment.base)?;
                taken = frame::take(&bytes, 1);
            }
            if taken.records == 0 {
                // Disks do lose bytes; the reader must not stand still for ever.
                tracing::error!(
                    segment = segment.base,
                    at = begin,
                    "a damaged part of the prediction spool is skipped"
                );
                metrics::counter!("fishy_prediction_spool_damaged_total").increment(1);
                from = segment.end();
                if is_last {
                    return Ok(Batch { next: from, ..Batch::default() });
                }
                continue;
            }
            return Ok(Batch { lines: taken.lines, records: taken.records, next: begin + taken.bytes as u64 });
        }
    }

    /// Where a reader stands.
    pub(crate) fn cursor(&self, reader: Reader) -> Cursor {
        self.lock().readers.get(reader.place()).map(|state| state.file.cursor).unwrap_or_default()
    }

    /// How far a reader is behind, and what was dropped before it.
    pub(crate) fn lag(&self, reader: Reader) -> Lag {
        let inner = self.lock();
        let Some(state) = inner.readers.get(reader.place()) else { return Lag::default() };
        let position = state.file.cursor.position;
        let mut lag = Lag { dropped: state.dropped, ..Lag::default() };
        for segment in inner.segments.iter().filter(|segment| segment.end() > position) {
            let bytes = segment.end() - position.max(segment.base);
            lag.bytes += bytes;
            lag.records += (segment.records * bytes).div_ceil(segment.len.max(1));
        }
        lag
    }

    /// Moves a reader's cursor, on disk first.
    pub(crate) fn set_cursor(&self, reader: Reader, cursor: Cursor) -> Result<()> {
        let mut inner = self.lock();
        let state = inner.readers.get_mut(reader.place());
        state.ok_or_else(|| Error::internal("a reader that the spool was not opened with"))?.file.write(cursor)?;
        self.trim(&mut inner);
        Ok(())
    }

    /// The position behind the newest record.
    pub(crate) fn end(&self) -> u64 {
        self.lock().end()
    }

    /// Gives what was written to the disk itself. Blocks.
    pub(crate) fn sync(&self) -> std::io::Result<()> {
        let files: Vec<Arc<File>> = {
            let mut inner = self.lock();
            let mut files = std::mem::take(&mut inner.unsynced);
            if std::mem::take(&mut inner.is_dirty) {
                files.push(Arc::clone(&inner.active));
            }
            files
        };
        files.iter().try_for_each(|file| file.sync_data())
    }

    /// What is wrong, in words.
    pub(crate) fn problem(&self) -> Option<String> {
        self.lock().problem.clone()
    }
}

fn count_dropped(records: u64) {
    metrics::counter!("fishy_prediction_records_dropped_total").increment(records);
}

#[cfg(test)]
mod tests;
