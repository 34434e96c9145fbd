use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::io;
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;

use super::cursor::CursorFile;
use super::recent::{Recent, key_of};
use super::{Inner, KEEP_BYTES, ReaderState, Segment, create_segment, frame, segment_path};

/// The two members of a record that make its key.
#[derive(Deserialize)]
struct Identified<'a> {
    #[serde(borrow)]
    id: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    deployment: std::borrow::Cow<'a, str>,
}

/// The readers in the order of their places.
fn readers(dir: &Path, sinks: &[&str]) -> io::Result<Vec<ReaderState>> {
    let cursor = |name: &str| CursorFile::open(&dir.join(format!("cursor-{name}")));
    let mut readers = Vec::new();
    for name in ["parquet", "stream"] {
        readers.push(ReaderState { file: cursor(name)?, dropped: 0, counter: None });
    }
    for name in sinks {
        let counter = metrics::counter!("fishy_prediction_sink_dropped_total", "sink" => (*name).to_owned());
        readers.push(ReaderState { file: cursor(&format!("sink-{name}"))?, dropped: 0, counter: Some(counter) });
    }
    Ok(readers)
}

/// Reads a folder as a crash may have left it.
pub(super) fn recover(dir: &Path, sinks: &[&str]) -> io::Result<Inner> {
    let readers = readers(dir, sinks)?;
    let mut bases = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name();
        bases.extend(name.to_str().and_then(|name| name.strip_suffix(".seg")?.parse::<u64>().ok()));
    }
    bases.sort_unstable();
    let sizes: Vec<u64> = bases
        .iter()
        .map(|base| std::fs::metadata(segment_path(dir, *base)).map(|metadata| metadata.len()))
        .collect::<io::Result<_>>()?;
    let mut behind: u64 = sizes.iter().sum();
    let mut segments: VecDeque<Segment> = VecDeque::new();
    let mut recent = Recent::new();
    for (base, size) in bases.into_iter().zip(sizes) {
        let path = segment_path(dir, base);
        let bytes = std::fs::read(&path)?;
        let whole = frame::scan(&bytes);
        if whole.bytes < size {
            tracing::warn!(bytes = size - whole.bytes, segment = base, "cut a torn tail off the prediction spool");
            OpenOptions::new().write(true).open(&path)?.set_len(whole.bytes)?;
        }
        if behind - size < KEEP_BYTES {
            for payload in frame::payloads(&bytes) {
                if let Ok(record) = serde_json::from_slice::<Identified<'_>>(payload)
                    && !record.id.contains('/')
                {
                    recent.insert(key_of(&record.deployment, &record.id));
                }
            }
        }
        behind -= size;
        segments.push_back(Segment { base, len: whole.bytes, records: whole.records });
    }
    // A loss of power can take records that a reader has passed already. Positions must not be given twice.
    let end = segments.back().map_or(0, Segment::end);
    let base = readers.iter().map(|reader| reader.file.cursor.position).fold(end, u64::max);
    if segments.is_empty() || base > end {
        segments.push_back(Segment { base, len: 0, records: 0 });
    }
    let base = segments.back().map_or(base, |segment| segment.base);
    let active = Arc::new(create_segment(dir, base)?);
    Ok(Inner { segments, active, is_dirty: false, unsynced: Vec::new(), readers, recent, problem: None })
}
