use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::entry::{Entry, Outcome};
use crate::export::ExportWriter;
use crate::keys::Signer;

const ORIGIN: &str = "fish.example/audit";

fn signer() -> Signer {
    Signer::from_random(ORIGIN, [9; 32]).unwrap()
}

fn entry(index: u64) -> Entry {
    Entry {
        id: format!("e-{index}"),
        time: fishy_core::time::rfc3339(index as i64 * 1000),
        service: "registry".to_owned(),
        actor: "user:ada".to_owned(),
        action: "registry:write".to_owned(),
        resource: format!("models/oxygen/versions/{index}"),
        outcome: Outcome::Done,
        details: json!({"error": 0.5, "number": index}),
        traceparent: None,
    }
}

/// An honest log of `size` entries with a checkpoint after every `every` and at the end.
struct Log {
    export: Vec<String>,
    heads: Vec<String>,
}

fn log_with(size: u64, every: u64, from: u64) -> Log {
    let signer = signer();
    let mut log = MerkleLog::new();
    let mut before = MerkleLog::new();
    let mut heads = Vec::new();
    let mut lines = Vec::new();
    for index in 0..size {
        let text = entry(index).canonical().unwrap();
        let hash = leaf_hash(text.as_bytes());
        log.append(hash);
        if index < from {
            before = log.clone();
        } else {
            lines.push((text, hash));
        }
        let note = signer.sign(&Checkpoint {
            origin: ORIGIN.to_owned(),
            size: index + 1,
            root_hash: log.root(),
            time: Some(entry(index).time),
        });
        heads.push(note.unwrap());
    }
    let mut writer = ExportWriter::new(Vec::new(), ORIGIN, &signer.verifier(), before).unwrap();
    for (text, hash) in lines {
        writer.entry(&text, hash).unwrap();
        if writer.size().is_multiple_of(every) || writer.size() == size {
            writer.checkpoint(&heads[writer.size() as usize - 1]).unwrap();
        }
    }
    let text = String::from_utf8(writer.finish().unwrap()).unwrap();
    Log { export: text.lines().map(str::to_owned).collect(), heads }
}

fn verify_with(lines: &[String], heads: &[String]) -> Report {
    let options = VerifyOptions { trusted_key: Some(signer().verifier()), heads: heads.to_vec() };
    verify_export(lines.join("\n").as_bytes(), &options).unwrap()
}

fn verify(lines: &[String]) -> Report {
    verify_with(lines, &[])
}

/// Kind, first and last index of each problem.
fn found(report: &Report) -> Vec<(ProblemKind, u64, u64)> {
    report.problems.iter().map(|problem| (problem.kind, problem.index, problem.last_index)).collect()
}

/// The place of an entry among the lines.
fn line_of(lines: &[String], index: u64) -> usize {
    lines.iter().position(|line| line.starts_with(&format!("{{\"index\":{index},"))).unwrap()
}

/// Rewrites indexes and hashes so that each line is consistent in itself: what a careful forger does.
fn made_to_fit(lines: &[String]) -> Vec<String> {
    let mut index = 0;
    let fit = |line: &String| {
        let entry = line.split_once("\",\"entry\":").and_then(|(_, entry)| entry.strip_suffix('}'));
        let Some(entry) = entry else { return line.clone() };
        let line = format!("{{\"index\":{index},\"hash\":\"{}\",\"entry\":{entry}}}", leaf_hash(entry.as_bytes()));
        index += 1;
        line
    };
    lines.iter().map(fit).collect()
}

#[test]
fn an_honest_export_has_no_problem() {
    let log = log_with(25, 10, 0);
    let report = verify_with(&log.export, &[log.heads[24].clone(), log.heads[6].clone(), log.heads[9].clone()]);
    assert_eq!(found(&report), []);
    assert!(report.is_ok() && report.is_key_trusted);
    assert_eq!((report.entries, report.checkpoints, report.checkpoints_ok, report.heads_ok), (25, 3, 3, 3));
    assert_eq!(report.last_checkpoint.unwrap().size, 25);
    let untrusted = verify_export(log.export.join("\n").as_bytes(), &VerifyOptions::default()).unwrap();
    assert!(untrusted.is_ok() && !untrusted.is_key_trusted);
}

#[test]
fn an_export_of_a_part_verifies_too() {
    let log = log_with(25, 10, 10);
    let report = verify_with(&log.export, &[log.heads[3].clone(), log.heads[9].clone(), log.heads[19].clone()]);
    assert_eq!(found(&report), []);
    assert_eq!((report.first, report.entries, report.checkpoints_ok, report.heads_ok), (10, 15, 2, 2));
    // Another state before the first entry.
    let mut lines = log.export.clone();
    let at = lines[0].find("\"peaks\":[\"").unwrap() + 10;
    let digit = if lines[0][at..].starts_with('0') { "1" } else { "0" };
    lines[0].replace_range(at..=at, digit);
    assert_eq!(found(&verify(&lines)), [(ProblemKind::Forged, 10, 19)]);
}

#[test]
fn an_empty_log_is_fine() {
    assert!(verify(&log_with(0, 1, 0).export).is_ok());
}

#[test]
fn an_edited_entry_is_named() {
    let log = log_with(25, 10, 0);
    let mut lines = log.export.clone();
    let at = line_of(&lines, 13);
    lines[at] = lines[at].replace("user:ada", "user:eve");
    let report = verify(&lines);
    assert_eq!(found(&report), [(ProblemKind::Edited, 13, 13)]);
    assert_eq!(report.checkpoints_ok, 3, "all other entries are still proven");
    let mut lines = log.export.clone();
    lines[at] = lines[at].replace("\"number\":13", "\"number\": 13");
    assert_eq!(found(&verify(&lines)), [(ProblemKind::Edited, 13, 13)], "not even a space");
}

#[test]
fn an_edited_entry_whose_hash_was_made_to_fit_is_in_its_stretch() {
    let log = log_with(25, 10, 0);
    let mut lines = log.export.clone();
    let at = line_of(&lines, 13);
    lines[at] = lines[at].replace("user:ada", "user:eve");
    let report = verify(&made_to_fit(&lines));
    assert_eq!(found(&report), [(ProblemKind::Forged, 10, 19)]);
    assert_eq!(report.checkpoints_ok, 2);
    let every = log_with(25, 1, 0);
    let mut lines = every.export;
    for index in [4, 20] {
        let at = line_of(&lines, index);
        lines[at] = lines[at].replace("user:ada", "user:eve");
    }
    let report = verify(&made_to_fit(&lines));
    assert_eq!(
        found(&report),
        [(ProblemKind::Forged, 4, 4), (ProblemKind::Forged, 20, 20)],
        "with a checkpoint for each, exactly"
    );
}

#[test]
fn a_removed_entry_is_named() {
    let log = log_with(25, 10, 0);
    let mut lines = log.export.clone();
    lines.remove(line_of(&lines, 13));
    let report = verify(&lines);
    assert_eq!(found(&report), [(ProblemKind::Removed, 13, 13)]);
    assert_eq!(report.checkpoints_ok, 2);
    for index in [3, 4, 5, 9, 10] {
        lines.remove(line_of(&lines, index));
    }
    assert_eq!(
        found(&verify(&lines)),
        [(ProblemKind::Removed, 3, 5), (ProblemKind::Removed, 9, 10), (ProblemKind::Removed, 13, 13)]
    );
}

#[test]
fn a_removed_entry_whose_gap_was_closed_is_in_its_stretch() {
    let log = log_with(25, 10, 0);
    let mut lines = log.export.clone();
    lines.remove(line_of(&lines, 13));
    let report = verify(&made_to_fit(&lines));
    assert!(!report.is_ok());
    assert!(report.problems.iter().all(|problem| problem.index >= 10), "{:?}", found(&report));
    assert_eq!(report.checkpoints_ok, 1);
}

#[test]
fn a_reordered_entry_is_named() {
    let log = log_with(25, 10, 0);
    let mut lines = log.export.clone();
    let (a, b) = (line_of(&lines, 13), line_of(&lines, 14));
    lines.swap(a, b);
    assert_eq!(found(&verify(&lines)), [(ProblemKind::Reordered, 13, 13)]);
    let report = verify(&made_to_fit(&lines));
    assert_eq!(found(&report), [(ProblemKind::Forged, 10, 19)]);
    let mut lines = log.export.clone();
    let moved = lines.remove(line_of(&lines, 3));
    lines.insert(line_of(&lines, 22), moved);
    assert_eq!(found(&verify(&lines)), [(ProblemKind::Reordered, 3, 3)]);
    let mut lines = log.export.clone();
    lines.insert(line_of(&lines, 7), lines[line_of(&lines, 5)].clone());
    assert_eq!(found(&verify(&lines)), [(ProblemKind::Reordered, 5, 5)], "a repeated one too");
}

#[test]
fn an_added_entry_shows() {
    let log = log_with(25, 10, 0);
    let mut lines = log.export.clone();
    let added = lines[line_of(&lines, 13)].replace("user:ada", "user:eve");
    lines.insert(line_of(&lines, 14), added);
    let report = verify(&made_to_fit(&lines));
    assert_eq!(found(&report)[0], (ProblemKind::Checkpoint, 10, 20));
    assert_eq!(report.checkpoints_ok, 1);
}

#[test]
fn a_log_that_was_cut_off_shows_by_a_later_checkpoint() {
    let log = log_with(25, 10, 0);
    let mut lines = log.export.clone();
    // The last entries are gone, their checkpoint is still there.
    lines.drain(line_of(&lines, 22)..lines.len() - 1);
    assert_eq!(found(&verify(&lines)), [(ProblemKind::CutOff, 22, 24)]);
    // The checkpoint is gone too: only what was kept outside knows.
    lines.pop();
    assert_eq!(found(&verify(&lines)), [(ProblemKind::Unsigned, 20, 21)]);
    lines.truncate(line_of(&lines, 20));
    assert!(verify(&lines).is_ok(), "nothing in the file tells");
    let report = verify_with(&lines, &[log.heads[24].clone()]);
    assert_eq!(found(&report), [(ProblemKind::CutOff, 20, 24)]);
    let nothing = [log.export[0].clone()];
    assert_eq!(found(&verify_with(&nothing, &[log.heads[24].clone()])), [(ProblemKind::CutOff, 0, 24)]);
}

#[test]
fn a_log_cut_within_a_line_shows() {
    let log = log_with(25, 10, 0);
    let text = log.export.join("\n");
    let cut = &text[..text.find("{\"index\":13").unwrap() + 90];
    let options = VerifyOptions { trusted_key: Some(signer().verifier()), heads: vec![log.heads[24].clone()] };
    let report = verify_export(cut.as_bytes(), &options).unwrap();
    assert_eq!(
        found(&report),
        [(ProblemKind::Malformed, 13, 13), (ProblemKind::Unsigned, 10, 13), (ProblemKind::CutOff, 14, 24)]
    );
}

#[test]
fn entries_after_the_last_checkpoint_prove_nothing() {
    let log = log_with(25, 10, 0);
    let mut lines = log.export.clone();
    lines.pop();
    assert_eq!(found(&verify(&lines)), [(ProblemKind::Unsigned, 20, 24)]);
    lines.retain(|line| !line.starts_with("{\"checkpoint\""));
    assert_eq!(found(&verify(&lines)), [(ProblemKind::Unsigned, 0, 24)]);
}

#[test]
fn a_checkpoint_that_was_forged_or_moved_shows() {
    let log = log_with(25, 10, 0);
    let at = log.export.iter().position(|line| line.starts_with("{\"checkpoint\"")).unwrap();
    let mut lines = log.export.clone();
    lines[at] = lines[at].replace("\\n10\\n", "\\n11\\n");
    assert_eq!(found(&verify(&lines)), [(ProblemKind::Checkpoint, 9, 9)]);
    let mut lines = log.export.clone();
    let moved = lines.remove(at);
    lines.insert(at + 1, moved);
    assert_eq!(found(&verify(&lines)), [(ProblemKind::Checkpoint, 0, 10)]);
    // Signed by the right key, but of another log.
    let other = Checkpoint { origin: "other".to_owned(), ..Checkpoint::peek(&log.heads[9]).unwrap() };
    let mut lines = log.export.clone();
    lines[at] =
        serde_json::to_string(&CheckpointLine { checkpoint: signer().sign(&other).unwrap(), peaks: vec![] }).unwrap();
    assert_eq!(found(&verify(&lines)), [(ProblemKind::Checkpoint, 9, 9)]);
}

#[test]
fn a_log_written_anew_with_another_key_shows_by_the_trusted_key() {
    let log = log_with(3, 10, 0);
    let eve = Signer::from_random(ORIGIN, [66; 32]).unwrap();
    let mut lines = log.export.clone();
    lines[0] = lines[0].replace(&signer().verifier().to_string(), &eve.verifier().to_string());
    let last = lines.len() - 1;
    let line: CheckpointLine = serde_json::from_str(&lines[last]).unwrap();
    let note = eve.sign(&Checkpoint::peek(&line.checkpoint).unwrap()).unwrap();
    lines[last] = serde_json::to_string(&CheckpointLine { checkpoint: note, ..line }).unwrap();
    let naive = verify_export(lines.join("\n").as_bytes(), &VerifyOptions::default()).unwrap();
    assert!(naive.is_ok() && !naive.is_key_trusted, "consistent in itself");
    let kinds: Vec<_> = found(&verify(&lines)).into_iter().map(|(kind, ..)| kind).collect();
    assert_eq!(kinds, [ProblemKind::Key, ProblemKind::Checkpoint, ProblemKind::Unsigned]);
}

#[test]
fn a_log_written_anew_with_the_stolen_key_shows_by_what_was_kept_outside() {
    let log = log_with(25, 10, 0);
    let mut writer = ExportWriter::new(Vec::new(), ORIGIN, &signer().verifier(), MerkleLog::new()).unwrap();
    let mut forged = MerkleLog::new();
    for index in 0..25 {
        let mut entry = entry(index);
        if index == 13 {
            entry.actor = "user:eve".to_owned();
        }
        let text = entry.canonical().unwrap();
        forged.append(leaf_hash(text.as_bytes()));
        writer.entry(&text, leaf_hash(text.as_bytes())).unwrap();
    }
    let checkpoint = Checkpoint { origin: ORIGIN.to_owned(), size: 25, root_hash: forged.root(), time: None };
    writer.checkpoint(&signer().sign(&checkpoint).unwrap()).unwrap();
    let text = String::from_utf8(writer.finish().unwrap()).unwrap();
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    assert!(verify(&lines).is_ok());
    let report = verify_with(&lines, &[log.heads[12].clone(), log.heads[19].clone()]);
    assert_eq!(found(&report), [(ProblemKind::Head, 0, 19)]);
    assert_eq!(report.heads_ok, 1, "the first 13 entries are the old ones");
}

#[test]
fn what_is_no_export_is_an_error() {
    let trusted = VerifyOptions { trusted_key: Some(signer().verifier()), heads: vec![] };
    for bad in ["", "\n\n", "hello", "{}", r#"{"format":"fishy-audit-export/2","origin":"o","public_key":"k"}"#] {
        assert!(verify_export(bad.as_bytes(), &trusted).is_err(), "{bad}");
    }
    let export = log_with(3, 10, 0).export.join("\n");
    let heads = vec!["nonsense".to_owned()];
    assert!(verify_export(export.as_bytes(), &VerifyOptions { heads, ..trusted }).is_err());
}

#[test]
fn a_badly_damaged_log_gives_a_bounded_report() {
    let mut lines = log_with(1, 1, 0).export;
    lines.extend(std::iter::repeat_n("garbage".to_owned(), 5000));
    let report = verify(&lines);
    assert_eq!(report.problems.len(), 1000);
    assert!(report.problems_omitted >= 4000);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever single thing is done to the lines between header and last checkpoint, it shows.
    #[test]
    fn any_change_of_a_line_shows(size in 2_u64..40, every in 1_u64..12, place in any::<prop::sample::Index>(), byte in any::<prop::sample::Index>(), how in 0..4) {
        let log = log_with(size, every, 0);
        let mut lines = log.export.clone();
        let entries: Vec<usize> = (1..lines.len()).filter(|at| lines[*at].starts_with("{\"index\"")).collect();
        let at = entries[place.index(entries.len())];
        match how {
            0 => {
                let mut bytes = lines[at].clone().into_bytes();
                let at_byte = byte.index(bytes.len());
                bytes[at_byte] = if bytes[at_byte] == b'7' { b'8' } else { b'7' };
                lines[at] = String::from_utf8(bytes).unwrap();
            }
            1 => { lines.remove(at); }
            2 => { let line = lines[at].clone(); lines.insert(at, line); }
            _ => {
                let other = entries[byte.index(entries.len())];
                prop_assume!(other != at);
                lines.swap(at, other);
            }
        }
        prop_assert!(!verify(&lines).is_ok());
        prop_assert!(!verify(&made_to_fit(&lines)).is_ok() || how == 0, "made to fit");
    }
}
