use fishy_core::{Error, Result};
use serde::Serialize;

/// Length and checksum, four bytes each, little-endian.
const HEADER: usize = 8;
/// A longer length than this is not one of ours.
const MAX_FRAME: usize = 256 * 1024 * 1024;

/// Adds a record as one frame.
pub(crate) fn push_frame<T: Serialize>(buffer: &mut Vec<u8>, record: &T) -> Result<()> {
    let begin = buffer.len();
    buffer.extend_from_slice(&[0; HEADER]);
    serde_json::to_writer(&mut *buffer, record)
        .map_err(|error| Error::internal("cannot write a prediction record").with_source(error))?;
    let payload = &buffer[begin + HEADER..];
    let (len, crc) = (payload.len() as u32, crc32fast::hash(payload));
    buffer[begin..begin + 4].copy_from_slice(&len.to_le_bytes());
    buffer[begin + 4..begin + HEADER].copy_from_slice(&crc.to_le_bytes());
    Ok(())
}

/// The first frame's payload; `Ok(None)` when the bytes end within it, `Err` when they are no frame.
fn first(bytes: &[u8]) -> Result<Option<&[u8]>, ()> {
    let Some((header, rest)) = bytes.split_first_chunk::<HEADER>() else { return Ok(None) };
    let [a, b, c, d, crc @ ..] = header;
    let len = u32::from_le_bytes([*a, *b, *c, *d]) as usize;
    if len == 0 || len > MAX_FRAME {
        return Err(());
    }
    let Some(payload) = rest.get(..len) else { return Ok(None) };
    if crc32fast::hash(payload) == u32::from_le_bytes(*crc) { Ok(Some(payload)) } else { Err(()) }
}

/// What lies at the beginning of some bytes.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub(super) lines: Vec<u8>,
    pub(super) records: usize,
    pub(super) bytes: usize,
    pub(super) is_damaged: bool,
}

/// Whole frames from the beginning, at most `max_records`, as lines.
pub(super) fn take(bytes: &[u8], max_records: usize) -> Taken {
    let mut taken = Taken::default();
    while taken.records < max_records {
        match first(&bytes[taken.bytes..]) {
            Ok(Some(payload)) => {
                taken.lines.extend_from_slice(payload);
                taken.lines.push(b'\n');
                taken.records += 1;
                taken.bytes += HEADER + payload.len();
            }
            Ok(None) => break,
            Err(()) => {
                taken.is_damaged = true;
                break;
            }
        }
    }
    taken
}

/// How many bytes and records of a file are whole.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Scanned {
    pub(super) bytes: u64,
    pub(super) records: u64,
}

pub(super) fn scan(bytes: &[u8]) -> Scanned {
    let mut scanned = Scanned::default();
    while let Ok(Some(payload)) = first(&bytes[scanned.bytes as usize..]) {
        scanned.bytes += (HEADER + payload.len()) as u64;
        scanned.records += 1;
    }
    scanned
}

/// The payloads of whole frames.
pub(super) fn payloads(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let payload = first(rest).ok()??;
        rest = &rest[HEADER + payload.len()..];
        Some(payload)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_that_is_cut_or_changed_is_not_read() {
        let mut bytes = Vec::new();
        push_frame(&mut bytes, &"one").unwrap();
        let whole = bytes.len();
        push_frame(&mut bytes, &"two").unwrap();
        assert_eq!(take(&bytes, 9).lines, b"\"one\"\n\"two\"\n");
        assert_eq!(take(&bytes, 1).bytes, whole);
        for cut in whole..bytes.len() {
            assert_eq!(scan(&bytes[..cut]), Scanned { bytes: whole as u64, records: 1 });
        }
        for changed in whole..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[changed] ^= 0x40;
            assert_eq!(scan(&damaged).records, 1, "byte {changed}");
        }
        assert_eq!(payloads(&bytes).count(), 2);
    }
}
