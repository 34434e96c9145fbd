//! Damage to the log shows: in an export, and in the database behind it.

use fishy_audit::ProblemKind;
use fishy_audit::ProblemKind::{CutOff, Edited, Forged, Head, Removed, Reordered};
use fishy_db::args;

use crate::rig::{On, Rig, event, on_both, verify};

on_both!(damaged_rows_show, a_log_set_back_overwrites_no_head);

/// Six entries, with heads of 2, 4 and 6.
async fn six(rig: &Rig) {
    for start in [0, 2, 4] {
        rig.deliver_some(start..start + 2).await;
        rig.export().await;
    }
}

fn kinds(lines: &[String], heads: &[String]) -> Vec<ProblemKind> {
    verify(lines, heads).problems.iter().map(|problem| problem.kind).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_lines_show() {
    let rig = Rig::new(On::Sqlite).await;
    six(&rig).await;
    let (export, heads) = (rig.export().await, rig.heads().await);
    assert_eq!((kinds(&export, &heads), heads.len(), export.len()), (vec![], 3, 10));
    let damaged = |damage: &dyn Fn(&mut Vec<String>)| {
        let mut lines = export.clone();
        damage(&mut lines);
        kinds(&lines, &heads)
    };
    // Header, 0, 1, head, 2, 3, head, 4, 5, head.
    assert!(damaged(&|lines| lines[4] = lines[4].replace("user:ada", "user:eve")).contains(&Edited));
    assert!(damaged(&|lines| drop(lines.remove(4))).contains(&Removed));
    assert!(damaged(&|lines| lines.swap(4, 5)).contains(&Reordered));
    assert!(damaged(&|lines| lines.truncate(7)).contains(&CutOff), "by the head kept outside");
}

async fn damaged_rows_show(rig: Rig) {
    six(&rig).await;
    let stored = rig.db.query("select idx, id, leaf, entry from audit_entries order by idx", vec![]).await.unwrap();
    let text = |at: usize, column: &str| stored[at].get::<String>(column).unwrap();
    let found = async || kinds(&rig.export().await, &[]);

    let forged = event("e2").data.to_string().replace("user:ada", "user:eve");
    rig.tamper("update audit_entries set entry = $1 where idx = 2", args![forged.clone()]).await;
    assert_eq!(found().await, [Edited]);
    let fitting = fishy_audit::leaf_hash(forged.as_bytes()).to_string();
    rig.tamper("update audit_entries set leaf = $1 where idx = 2", args![fitting]).await;
    assert_eq!(found().await, [Forged], "also with a hash that fits");
    rig.tamper("update audit_entries set leaf = 'none', entry = '' where idx = 2", vec![]).await;
    assert!(!found().await.is_empty(), "what is no entry does not end the export");
    rig.tamper(
        "update audit_entries set entry = $1, leaf = $2 where idx = 2",
        args![text(2, "entry"), text(2, "leaf")],
    )
    .await;
    assert_eq!(found().await, [], "mended");

    for (from, to) in [(2, 100), (3, 2), (100, 3)] {
        rig.tamper("update audit_entries set idx = $2 where idx = $1", args![from, to]).await;
    }
    assert!(!found().await.is_empty(), "reordered");
    for (from, to) in [(2, 100), (3, 2), (100, 3)] {
        rig.tamper("update audit_entries set idx = $2 where idx = $1", args![from, to]).await;
    }
    assert_eq!(found().await, [], "mended");

    rig.tamper("delete from audit_entries where idx >= 4", vec![]).await;
    assert!(found().await.contains(&CutOff), "cut off at a head");
    rig.tamper("delete from audit_entries where idx = 1", vec![]).await;
    assert!(!found().await.is_empty(), "removed");
}

async fn a_log_set_back_overwrites_no_head(rig: Rig) {
    rig.deliver_some(0..2).await;
    rig.export().await;
    let state = rig.db.query("select log from audit_state", vec![]).await.unwrap()[0].get::<String>("log").unwrap();
    rig.deliver_some(2..4).await;
    rig.export().await;
    let heads = rig.heads().await;
    // As after a backup of the database: two entries and their head are gone.
    rig.tamper("delete from audit_entries where idx >= 2", vec![]).await;
    rig.tamper("update audit_state set log = $1", args![state]).await;
    let report = verify(&rig.export().await, &heads);
    assert!(report.problems.iter().any(|problem| problem.kind == CutOff), "{report:?}");
    assert_eq!(rig.running.problems().await.len(), 1);
    rig.tamper("delete from audit_checkpoints where size > 2", vec![]).await;
    // Other entries take their places.
    rig.deliver_some(10..12).await;
    let report = verify(&rig.export().await, &heads);
    assert!(report.problems.iter().any(|problem| problem.kind == Head), "{report:?}");
    assert_eq!(rig.heads().await, heads, "what was kept outside stays");
    assert_eq!(rig.running.problems().await.len(), 1);
}
