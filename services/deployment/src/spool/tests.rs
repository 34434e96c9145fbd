use super::*;
use tempfile::TempDir;

#[derive(serde::Serialize)]
struct Record<'a> {
    id: &'a str,
    deployment: &'a str,
    filler: String,
}

const ROOMY: SpoolOptions = SpoolOptions { max_bytes: 64 * 1024 * 1024, when_full: SpoolFull::DropOldest };

fn frame_of(id: &str, filler: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    push_frame(&mut bytes, &Record { id, deployment: "d", filler: "x".repeat(filler) }).unwrap();
    bytes
}

fn append(spool: &Spool, id: &str, filler: usize) -> Result<Appended> {
    spool.append(Some(key_of("d", id)), &frame_of(id, filler), 1)
}

/// The ids from a position on, and where they end.
fn ids_from(spool: &Spool, mut at: u64) -> (Vec<String>, u64) {
    let mut ids = Vec::new();
    loop {
        let batch = spool.read(at, u64::MAX, 3, 10_000).unwrap();
        at = batch.next;
        if batch.records == 0 {
            return (ids, at);
        }
        for line in batch.lines.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
            let value: serde_json::Value = serde_json::from_slice(line).unwrap();
            ids.push(value["id"].as_str().unwrap().to_owned());
        }
    }
}

fn ids(spool: &Spool) -> Vec<String> {
    ids_from(spool, 0).0
}

fn segments_in(dir: &TempDir) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "seg"));
    paths.sort();
    paths
}

#[test]
fn records_come_back_in_order_across_segments_and_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let options = SpoolOptions { max_bytes: 1024 * 1024, ..ROOMY };
    let expected: Vec<String> = (0..300).map(|n| n.to_string()).collect();
    {
        let spool = Spool::open(dir.path(), options, &[]).unwrap();
        for id in &expected[..200] {
            assert_eq!(append(&spool, id, 1000).unwrap(), Appended::Recorded);
        }
    }
    assert!(segments_in(&dir).len() > 1, "the test wants several segments");
    let spool = Spool::open(dir.path(), options, &[]).unwrap();
    for id in &expected[200..] {
        append(&spool, id, 1000).unwrap();
    }
    assert_eq!(ids(&spool), expected);
}

#[test]
fn a_record_larger_than_a_batch_is_read_alone() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(dir.path(), ROOMY, &[]).unwrap();
    append(&spool, "small", 10).unwrap();
    append(&spool, "large", 50_000).unwrap();
    append(&spool, "last", 10).unwrap();
    assert_eq!(ids(&spool), ["small", "large", "last"]);
}

#[test]
fn a_torn_tail_is_cut_and_writing_goes_on_behind_what_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    {
        let spool = Spool::open(dir.path(), ROOMY, &[]).unwrap();
        append(&spool, "a", 10).unwrap();
        append(&spool, "b", 10).unwrap();
    }
    let segment = segments_in(&dir).pop().unwrap();
    let whole = std::fs::read(&segment).unwrap();
    let torn = frame_of("c", 10);
    for cut in 1..torn.len() {
        std::fs::write(&segment, [&whole[..], &torn[..cut]].concat()).unwrap();
        let spool = Spool::open(dir.path(), ROOMY, &[]).unwrap();
        append(&spool, "d", 10).unwrap();
        assert_eq!(ids(&spool), ["a", "b", "d"], "cut after {cut} bytes");
    }
}

#[test]
fn an_id_is_recorded_once_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let spool = Spool::open(dir.path(), ROOMY, &[]).unwrap();
        append(&spool, "a", 10).unwrap();
        assert_eq!(append(&spool, "a", 10).unwrap(), Appended::Repeated);
        assert_eq!(ids(&spool), ["a"]);
        // Read by everybody: the record stays for deduplication.
        let end = Cursor::at(spool.end());
        for reader in Reader::ALL {
            spool.set_cursor(reader, end).unwrap();
        }
    }
}

#[test]
fn a_full_spool_drops_the_oldest_and_stays_within_its_bound() {
    let dir = tempfile::tempdir().unwrap();
    let options = SpoolOptions { max_bytes: 64 * 1024, when_full: SpoolFull::DropOldest };
    let spool = Spool::open(dir.path(), options, &[]).unwrap();
    for n in 0..300 {
        assert_eq!(append(&spool, &n.to_string(), 1000).unwrap(), Appended::Recorded);
    }
    let on_disk: u64 = segments_in(&dir).iter().map(|path| path.metadata().unwrap().len()).sum();
    assert!(on_disk <= options.max_bytes, "{on_disk}");
    let left = ids(&spool);
    assert_eq!(left.last().unwrap(), "299");
    assert!(left.len() > 40 && left[0] != "0", "{} left from {}", left.len(), left[0]);
    assert_eq!(append(&spool, "huge", 70_000).unwrap(), Appended::Dropped);
    assert!(spool.problem().is_some());
    append(&spool, "next", 10).unwrap();
    assert_eq!(spool.problem(), None);
}

#[test]
fn a_full_spool_refuses_until_its_readers_make_room() {
    let dir = tempfile::tempdir().unwrap();
    let options = SpoolOptions { max_bytes: 64 * 1024, when_full: SpoolFull::Refuse };
    let spool = Spool::open(dir.path(), options, &[]).unwrap();
    let mut accepted = 0;
    let error = loop {
        match append(&spool, &accepted.to_string(), 1000) {
            Ok(_) => accepted += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error.code(), ErrorCode::ResourceExhausted);
    assert_eq!(ids(&spool).len(), accepted, "nothing that was accepted is lost");
    spool.set_cursor(Reader::Stream, Cursor::at(spool.end())).unwrap();
    assert!(append(&spool, "x", 1000).is_err(), "one of two readers is not enough");
    spool.set_cursor(Reader::Parquet, Cursor::at(spool.end())).unwrap();
    append(&spool, "x", 1000).unwrap();
    assert_eq!(spool.problem(), None);
}

#[test]
fn what_all_have_read_is_deleted_except_the_newest() {
    let dir = tempfile::tempdir().unwrap();
    let options = SpoolOptions { max_bytes: 256 * 1024, ..ROOMY };
    let spool = Spool::open(dir.path(), options, &[]).unwrap();
    for n in 0..240 {
        append(&spool, &n.to_string(), 1000).unwrap();
    }
    let size = || segments_in(&dir).iter().map(|path| path.metadata().unwrap().len()).sum::<u64>();
    let before = size();
    spool.set_cursor(Reader::Stream, Cursor::at(spool.end())).unwrap();
    assert_eq!(size(), before);
    spool.set_cursor(Reader::Parquet, Cursor::at(spool.end())).unwrap();
    let after = size();
    assert!(after < before && after >= options.max_bytes / 2, "{before} {after}");
    assert_eq!(append(&spool, "239", 10).unwrap(), Appended::Repeated);
}

#[test]
fn positions_are_not_given_twice_when_the_newest_records_were_lost() {
    let dir = tempfile::tempdir().unwrap();
    {
        let spool = Spool::open(dir.path(), ROOMY, &[]).unwrap();
        append(&spool, "a", 100).unwrap();
        append(&spool, "b", 100).unwrap();
        for reader in Reader::ALL {
            spool.set_cursor(reader, Cursor::at(spool.end())).unwrap();
        }
    }
    let segment = segments_in(&dir).pop().unwrap();
    let whole = std::fs::read(&segment).unwrap();
    std::fs::write(&segment, &whole[..whole.len() - 5]).unwrap();
    let spool = Spool::open(dir.path(), ROOMY, &[]).unwrap();
    append(&spool, "c", 10).unwrap();
    let unread = ids_from(&spool, spool.cursor(Reader::Stream).position).0;
    assert_eq!(unread, ["c"]);
}

#[test]
fn a_damaged_part_is_skipped_and_the_reader_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let options = SpoolOptions { max_bytes: 64 * 1024, ..ROOMY };
    let spool = Spool::open(dir.path(), options, &[]).unwrap();
    for n in 0..30 {
        append(&spool, &n.to_string(), 1000).unwrap();
    }
    let first = &segments_in(&dir)[0];
    let mut bytes = std::fs::read(first).unwrap();
    bytes[20] ^= 0xff;
    std::fs::write(first, bytes).unwrap();
    let left = ids(&spool);
    assert_eq!(left.last().unwrap(), "29");
    assert!(!left.contains(&"0".to_owned()));
}

#[test]
fn a_folder_has_one_spool() {
    let dir = tempfile::tempdir().unwrap();
    let _spool = Spool::open(dir.path(), ROOMY, &[]).unwrap();
    let error = Spool::open(dir.path(), ROOMY, &[]).err().unwrap();
    assert_eq!(error.code(), ErrorCode::FailedPrecondition);
}

#[test]
fn a_sink_has_its_own_cursor_and_holds_up_what_it_has_not_passed() {
    let dir = tempfile::tempdir().unwrap();
    let options = SpoolOptions { max_bytes: 256 * 1024, ..ROOMY };
    let sinks = ["lake", "queue"];
    let (lake, queue) = (Reader::Sink(0), Reader::Sink(1));
    let end = {
        let spool = Spool::open(dir.path(), options, &sinks).unwrap();
        for n in 0..200 {
            append(&spool, &n.to_string(), 1000).unwrap();
        }
        for reader in Reader::ALL.into_iter().chain([lake]) {
            spool.set_cursor(reader, Cursor::at(spool.end())).unwrap();
        }
        assert_eq!(ids(&spool).len(), 200, "one sink has not passed anything");
        assert_eq!(spool.lag(lake), Lag::default());
        let behind = spool.lag(queue);
        assert_eq!((behind.records, behind.bytes, behind.dropped), (200, spool.end(), 0));
        spool.end()
    };
    let spool = Spool::open(dir.path(), options, &sinks).unwrap();
    assert_eq!((spool.cursor(lake).position, spool.cursor(queue).position), (end, 0));
    spool.set_cursor(queue, Cursor::at(end)).unwrap();
    assert!(ids(&spool).len() < 200, "everybody has passed them");
    // Another sink gets what is still there.
    drop(spool);
    let spool = Spool::open(dir.path(), options, &["new", "lake"]).unwrap();
    assert!(spool.lag(Reader::Sink(0)).records > 0);
    assert_eq!(spool.lag(Reader::Sink(1)), Lag::default());
}

#[test]
fn what_is_dropped_is_counted_for_each_reader_that_had_not_passed_it() {
    let dir = tempfile::tempdir().unwrap();
    let options = SpoolOptions { max_bytes: 64 * 1024, ..ROOMY };
    let spool = Spool::open(dir.path(), options, &["fast", "slow"]).unwrap();
    let (fast, slow) = (Reader::Sink(0), Reader::Sink(1));
    for n in 0..500 {
        append(&spool, &n.to_string(), 1000).unwrap();
        if n == 4 {
            // In the middle of a segment.
            spool.set_cursor(slow, Cursor::at(spool.end())).unwrap();
        }
        for reader in Reader::ALL.into_iter().chain([fast]) {
            spool.set_cursor(reader, Cursor::at(spool.end())).unwrap();
        }
    }
    let left = ids_from(&spool, spool.cursor(slow).position).0.len() as u64;
    assert_eq!(spool.lag(slow).dropped, 500 - 5 - left);
    assert_eq!(spool.lag(slow).records, left);
    assert_eq!(spool.lag(fast), Lag::default());
    assert_eq!(spool.lag(Reader::Parquet).dropped, 0);
    // What never had room is lost to all.
    assert_eq!(append(&spool, "huge", 70_000).unwrap(), Appended::Dropped);
    assert_eq!(spool.lag(fast).dropped, 1);
}

/// A device on which every write fails for want of space.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_told_and_over_as_soon_as_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let full = || Arc::new(OpenOptions::new().write(true).open("/dev/full").unwrap());
    let spool = Spool::open(dir.path(), ROOMY, &[]).unwrap();
    append(&spool, "a", 10).unwrap();
    spool.lock().active = full();
    assert_eq!(append(&spool, "b", 10).unwrap(), Appended::Dropped);
    assert!(spool.problem().unwrap().contains("cannot be written"), "{:?}", spool.problem());
    assert_eq!(append(&spool, "b", 10).unwrap(), Appended::Recorded, "its id was not taken for recorded");
    assert_eq!((ids(&spool), spool.problem()), (vec!["a".to_owned(), "b".to_owned()], None));
    drop(spool);

    let refusing = SpoolOptions { when_full: SpoolFull::Refuse, ..ROOMY };
    let spool = Spool::open(dir.path(), refusing, &[]).unwrap();
    spool.lock().active = full();
    assert_eq!(append(&spool, "c", 10).unwrap_err().code(), ErrorCode::Unavailable);
    append(&spool, "d", 10).unwrap();
    assert_eq!(ids(&spool), ["a", "b", "d"]);
}
