//! The audit log: one sequence, signed heads, exports that verify.

use std::os::unix::fs::PermissionsExt;

use fishy_audit::{Verifier, VerifyOptions, verify_export};
use fishy_core::Event;
use futures::future::join_all;
use serde_json::json;

use crate::rig::{On, Rig, event, on_both, verify};

on_both!(
    entries_are_sequenced_once,
    concurrent_entries_get_one_place_each,
    heads_are_signed_and_kept_outside,
    a_restart_goes_on_with_the_same_log,
    a_head_that_could_not_be_kept_is_tried_again,
    pages_follow_each_other,
);

async fn entries_are_sequenced_once(rig: Rig) {
    rig.deliver_some(0..3).await;
    // The same entry again, as an event of another id too: the outbox sends at least once.
    rig.deliver("e1").await.unwrap();
    rig.bus.publish(Event { id: "other".to_owned(), ..event("e1") }).await.unwrap();
    let items = rig.get("/api/v1/audit/entries").await.json()["items"].clone();
    let places: Vec<_> = items.as_array().unwrap().iter().map(|item| (&item["index"], &item["entry"]["id"])).collect();
    assert_eq!(json!(places), json!([[0, "e0"], [1, "e1"], [2, "e2"]]));
    assert_eq!(items[1]["entry"], event("e1").data);
    let summary = rig.get("/api/v1/audit/summary").await.json();
    assert_eq!(
        summary,
        json!({"size": 3, "by_action": [{"service": "registry", "action": "alias.moved", "entries": 3}]})
    );
    let nonsense = Event { id: "n".to_owned(), data: json!({"id": "n"}), ..event("n") };
    assert!(rig.bus.publish(nonsense).await.is_err(), "the outbox keeps what is no entry");
    assert_eq!(rig.count("audit_entries").await, 3);
}

async fn concurrent_entries_get_one_place_each(rig: Rig) {
    // Also the very first ones, and each of them twice.
    let ids: Vec<String> = (0..40).map(|number| format!("e{}", number % 20)).collect();
    for delivered in join_all(ids.iter().map(|id| rig.deliver(id))).await {
        delivered.unwrap();
    }
    let report = verify(&rig.export().await, &rig.heads().await);
    assert_eq!((report.entries, report.checkpoints_ok, report.heads_ok), (20, 1, 1), "{report:?}");
    assert!(report.is_ok(), "{report:?}");
}

async fn heads_are_signed_and_kept_outside(rig: Rig) {
    assert_eq!(rig.get("/api/v1/audit/checkpoint").await.code(), "NOT_FOUND");
    assert!(verify(&rig.export().await, &[]).is_ok(), "an empty log");
    rig.deliver_some(0..3).await;
    let first = rig.get("/api/v1/audit/checkpoint").await.text();
    assert_eq!(rig.get("/api/v1/audit/checkpoint").await.text(), first, "nothing new, nothing signed");
    rig.deliver_some(3..5).await;
    let second = rig.get("/api/v1/audit/checkpoint").await.text();
    assert_eq!(rig.heads().await, [first.clone(), second]);
    assert!(rig.blob.exists("audit/checkpoints/000000000003.txt").await.unwrap());
    assert!(first.starts_with("fishy-watch/audit\n3\n"), "{first}");

    let key = rig.folder.path().join("data/governance/audit-key.pem");
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    let pem = std::fs::read_to_string(&key).unwrap();
    let trusted = fishy_audit::Signer::from_pem("fishy-watch/audit", &pem).unwrap().verifier();
    let export = rig.export().await;
    let options = VerifyOptions { trusted_key: Some(trusted), heads: rig.heads().await };
    let report = verify_export(export.join("\n").as_bytes(), &options).unwrap();
    assert!(report.is_ok(), "{report:?}");
    assert_eq!((report.entries, report.checkpoints_ok, report.heads_ok), (5, 2, 2));
    let stranger = fishy_audit::Signer::from_random("fishy-watch/audit", [7; 32]).unwrap().verifier();
    let options = VerifyOptions { trusted_key: Some(Verifier::parse(&stranger.to_string()).unwrap()), heads: vec![] };
    assert!(!verify_export(export.join("\n").as_bytes(), &options).unwrap().is_ok());
}

async fn a_restart_goes_on_with_the_same_log(rig: Rig) {
    rig.deliver_some(0..3).await;
    let key = rig.export().await.remove(0);
    // Stopping signs what came in last.
    rig.deliver_some(3..5).await;
    let rig = rig.restart().await;
    assert_eq!(rig.heads().await.len(), 2);
    rig.deliver("e2").await.unwrap();
    rig.deliver_some(5..7).await;
    let export = rig.export().await;
    assert_eq!(export[0], key, "the same name and key");
    let report = verify(&export, &rig.heads().await);
    assert_eq!((report.entries, report.checkpoints_ok, report.heads_ok), (7, 3, 3));
    assert!(report.is_ok() && rig.running.problems().await.is_empty(), "{report:?}");
}

async fn a_head_that_could_not_be_kept_is_tried_again(rig: Rig) {
    rig.deliver_some(0..2).await;
    let blobs = rig.folder.path().join("blobs");
    std::fs::create_dir_all(&blobs).unwrap();
    // A file where the folder should be.
    std::fs::write(blobs.join("audit"), "in the way").unwrap();
    assert!(rig.get("/api/v1/audit/checkpoint").await.status >= 400);
    assert_eq!(rig.running.problems().await.len(), 1);
    std::fs::remove_file(blobs.join("audit")).unwrap();
    assert_eq!(rig.get("/api/v1/audit/checkpoint").await.status, 200);
    assert_eq!((rig.heads().await.len(), rig.running.problems().await.len()), (1, 0));
}

async fn pages_follow_each_other(rig: Rig) {
    rig.deliver_some(0..5).await;
    let mut seen = Vec::new();
    let mut from = "0".to_owned();
    loop {
        let page = rig.get(&format!("/api/v1/audit/entries?limit=2&from={from}")).await.json();
        seen.extend(page["items"].as_array().unwrap().iter().map(|item| item["index"].as_u64().unwrap()));
        let Some(next) = page["next_page_token"].as_str() else { break };
        next.clone_into(&mut from);
    }
    assert_eq!(seen, [0, 1, 2, 3, 4]);
    let beyond = rig.get(&format!("/api/v1/audit/entries?from={}", u64::MAX)).await.json();
    assert_eq!(beyond["items"], json!([]));
    for limit in ["0", "1001", "-1", "x"] {
        assert_eq!(rig.get(&format!("/api/v1/audit/entries?limit={limit}")).await.code(), "INVALID_ARGUMENT");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_is_signed_after_so_many_entries() {
    let rig = Rig::with(On::Sqlite, |config| config.governance.checkpoint_every_entries = 3).await;
    rig.deliver_some(0..3).await;
    let signed = async {
        while rig.heads().await.is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_mins(1), signed).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_verifies_while_entries_come_in() {
    let rig = Rig::new(On::Sqlite).await;
    rig.deliver_some(0..5).await;
    let more = rig.deliver_some(5..200);
    let exports = async {
        for _ in 0..10 {
            let report = verify(&rig.export().await, &[]);
            assert!(report.is_ok(), "{report:?}");
        }
    };
    futures::join!(more, exports);
    assert_eq!(verify(&rig.export().await, &rig.heads().await).entries, 200);
}
