//! The gate: requests, approvals, and what an alias may name.

use fishy_authz::Identity;
use futures::future::join_all;
use serde_json::{Value, json};

use crate::rig::{On, Rig, compliance, on_both};

on_both!(
    decisions_are_recorded,
    each_failed_condition_is_named,
    a_repeated_id_is_answered_from_the_record,
    somebody_else_approves,
    a_rejection_by_hand_is_final,
    one_of_many_deciders_wins,
    an_alias_names_what_was_approved,
);

/// A request that passes, with some fields changed.
#[expect(clippy::needless_pass_by_value, reason = "reads better with json! at the call")]
pub fn request(id: &str, change: Value) -> Value {
    let mut request = json!({
        "id": id, "model": "oxygen", "version": "2", "champion_version": "1", "alias": "champion", "run_id": "run-1",
        "author": "user:ada", "challenger_error": 0.5, "champion_error": 0.6, "evaluated_labels": 100,
        "is_held_out": true, "open_data_faults": 0, "signature_matches": true, "facts": {"window": "may"},
        "rules": {"min_improvement": 0.02, "min_labels": 48, "needs_approval": false},
    });
    for (name, value) in change.as_object().unwrap() {
        request[name] = value.clone();
    }
    request
}

pub fn waiting(id: &str) -> Value {
    request(id, json!({"rules": {"min_improvement": 0.02, "min_labels": 48, "needs_approval": true}}))
}

async fn ask(rig: &Rig, request: &Value) -> Value {
    rig.post_as(Identity::service("pipelines"), "/api/v1/promotions", request).await.json()
}

async fn decide(rig: &Rig, who: Identity, id: &str, is_approved: bool) -> crate::rig::Answer {
    let word = json!({"is_approved": is_approved, "reason": "looked at it"});
    rig.post_as(who, &format!("/api/v1/promotions/{id}/approval"), &word).await
}

async fn decisions_are_recorded(rig: Rig) {
    let answer = ask(&rig, &request("p1", json!({}))).await;
    assert_eq!((&answer["status"], &answer["decided_ms"]), (&json!("approved"), &json!(crate::rig::NOW_MS)));
    assert_eq!(answer["request"], request("p1", json!({})), "with all its facts");
    assert_eq!(rig.get("/api/v1/promotions/p1").await.json(), answer);
    assert_eq!(rig.get("/api/v1/promotions?model=oxygen").await.json()["items"], json!([answer]));
    assert_eq!(rig.get("/api/v1/promotions?model=other").await.json()["items"], json!([]));
    assert_eq!(rig.get("/api/v1/promotions/p2").await.code(), "NOT_FOUND");
    rig.settle().await;
    let entries = rig.get("/api/v1/audit/entries").await.json();
    let entry = &entries["items"][0]["entry"];
    assert_eq!((&entry["actor"], &entry["action"]), (&json!("service:pipelines"), &json!("promotion.requested")));
    assert_eq!((&entry["outcome"], &entry["resource"]), (&json!("allowed"), &json!("models/oxygen@champion")));
    assert_eq!(entry["details"]["request"], request("p1", json!({})));
    // A person does not ask in the name of another, who could then not be told from the approver.
    let ada = Identity::user("ada", ["ml_engineer"]);
    let foreign = request("p3", json!({"author": "service:pipelines"}));
    assert_eq!(rig.post_as(ada.clone(), "/api/v1/promotions", &foreign).await.code(), "PERMISSION_DENIED");
    rig.post_as(ada, "/api/v1/promotions", &request("p3", json!({}))).await.json();
}

async fn each_failed_condition_is_named(rig: Rig) {
    let changes = [
        (json!({"challenger_error": 0.595}), "basis points"),
        (json!({"evaluated_labels": 47}), "47 labels"),
        (json!({"is_held_out": false}), "held-out"),
        (json!({"open_data_faults": 1}), "data fault"),
        (json!({"signature_matches": false}), "inputs or outputs"),
    ];
    for (number, (change, word)) in changes.into_iter().enumerate() {
        let answer = ask(&rig, &request(&format!("p{number}"), change)).await;
        assert_eq!(answer["status"], "rejected");
        let reasons = answer["reasons"].as_array().unwrap();
        assert!(reasons.len() == 1 && reasons[0].as_str().unwrap().contains(word), "{word}: {reasons:?}");
    }
    assert_eq!(rig.audited().await, vec![("promotion.requested".to_owned(), "denied".to_owned()); 5]);
}

async fn a_repeated_id_is_answered_from_the_record(rig: Rig) {
    let better = request("p1", json!({}));
    let answers = join_all((0..8).map(|_| ask(&rig, &better))).await;
    assert!(answers.iter().all(|answer| answer == &answers[0]), "{answers:?}");
    let worse = request("p1", json!({"challenger_error": 0.9}));
    assert_eq!(ask(&rig, &worse).await, answers[0], "also with other facts");
    assert_eq!(rig.audited().await.len(), 1);
}

async fn somebody_else_approves(rig: Rig) {
    assert_eq!(ask(&rig, &waiting("p1")).await["status"], "waiting_for_approval");
    let check = "/api/v1/promotions/check?model=oxygen&alias=champion&version=2";
    assert_eq!(rig.get(check).await.json()["is_allowed"], false);
    let author = decide(&rig, compliance("ada"), "p1", true).await;
    assert_eq!(author.code(), "PERMISSION_DENIED");
    let nobody = decide(&rig, Identity::user("sam", ["ml_engineer"]), "p1", true).await;
    assert_eq!(nobody.code(), "PERMISSION_DENIED");
    assert_eq!(rig.get("/api/v1/promotions/p1").await.json()["status"], "waiting_for_approval");
    let approved = decide(&rig, compliance("eve"), "p1", true).await.json();
    assert_eq!((&approved["status"], &approved["approver"]), (&json!("approved"), &json!("user:eve")));
    assert!(approved["reasons"].to_string().contains("approved by user:eve: looked at it"), "{approved}");
    assert_eq!(rig.get(check).await.json()["is_allowed"], true);
    assert_eq!(decide(&rig, compliance("bob"), "p1", false).await.code(), "FAILED_PRECONDITION");
    assert_eq!(decide(&rig, compliance("bob"), "p2", false).await.code(), "NOT_FOUND");
    let audited = rig.audited().await;
    let expected = [("promotion.requested", "done"), ("promotion.decided", "allowed")];
    assert_eq!(audited, expected.map(|(action, outcome)| (action.to_owned(), outcome.to_owned())));
}

async fn a_rejection_by_hand_is_final(rig: Rig) {
    ask(&rig, &waiting("p1")).await;
    let rejected = decide(&rig, compliance("eve"), "p1", false).await.json();
    assert_eq!(rejected["status"], "rejected");
    assert_eq!(rejected["reasons"], json!(["rejected by user:eve: looked at it"]));
    assert_eq!(decide(&rig, compliance("bob"), "p1", true).await.code(), "FAILED_PRECONDITION");
    assert_eq!(ask(&rig, &waiting("p1")).await, rejected);
}

async fn one_of_many_deciders_wins(rig: Rig) {
    ask(&rig, &waiting("p1")).await;
    let names: Vec<String> = (0..8).map(|number| format!("c{number}")).collect();
    let words = names.iter().enumerate().map(|(at, name)| decide(&rig, compliance(name), "p1", at % 2 == 0));
    let answers = join_all(words).await;
    let won: Vec<Value> = answers.iter().filter(|answer| answer.status == 200).map(crate::rig::Answer::json).collect();
    assert_eq!(won.len(), 1);
    assert_eq!(rig.get("/api/v1/promotions/p1").await.json(), won[0]);
    assert!(answers.iter().all(|answer| [200, 409, 412].contains(&answer.status)));
    assert_eq!(rig.audited().await.len(), 2);
}

async fn an_alias_names_what_was_approved(rig: Rig) {
    let check = async |version: &str| {
        let path = format!("/api/v1/promotions/check?model=oxygen&alias=champion&version={version}");
        let answer = rig.get(&path).await.json();
        (answer["is_allowed"] == true, answer["promotion_id"].as_str().map(str::to_owned))
    };
    assert_eq!(check("2").await, (false, None));
    ask(&rig, &request("bad", json!({"challenger_error": 0.9}))).await;
    assert_eq!(check("2").await, (false, Some("bad".to_owned())));
    ask(&rig, &request("good", json!({}))).await;
    assert_eq!(check("2").await, (true, Some("good".to_owned())));
    // A newer approval, and a later rejection of the same version: rolling back to it stays allowed.
    ask(&rig, &request("newer", json!({"version": "3", "champion_version": "2"}))).await;
    ask(&rig, &request("again", json!({"challenger_error": 0.9}))).await;
    assert_eq!(check("2").await, (true, Some("good".to_owned())));
    assert_eq!(check("3").await, (true, Some("newer".to_owned())));
    let other = rig.get("/api/v1/promotions/check?model=oxygen&alias=shadow&version=2").await.json();
    assert_eq!(other["is_allowed"], false, "an approval is for one alias");
}

#[tokio::test]
async fn a_file_has_the_policies_of_the_gate() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gate.cedar");
    let policies = r#"
        @id("fine") @reason("it is fine") permit (principal, action, resource);
        @id("flips") @reason("{replay_flips} decisions flip") forbid (principal, action, resource)
        when { context has replay_flips_bp && context.replay_flips_bp > 100 };"#;
    std::fs::write(&file, policies).unwrap();
    let path = file.display().to_string();
    let rig = Rig::with(On::Sqlite, |config| config.governance.gate_policies.clone_from(&path)).await;
    // The built-in policies would refuse it.
    let worse = json!({"challenger_error": 0.9});
    assert_eq!(ask(&rig, &request("p1", worse)).await["reasons"], json!(["it is fine"]));
    let replay =
        json!({"rows": 100, "compared": 100, "failed": 0, "changed": 2, "flips": 2, "labels": 0, "is_complete": true});
    let answer = ask(&rig, &request("p2", json!({"replay": replay}))).await;
    assert_eq!((&answer["status"], &answer["reasons"]), (&json!("rejected"), &json!(["2 decisions flip"])));
    assert_eq!(answer["request"]["replay"], replay, "recorded with the decision");
    let bad =
        json!({"rows": 1, "compared": 2, "failed": 0, "changed": 0, "flips": 0, "labels": 0, "is_complete": true});
    let path = "/api/v1/promotions";
    let refused = rig.post_as(Identity::service("pipelines"), path, &request("p3", json!({"replay": bad}))).await;
    assert_eq!(refused.code(), "INVALID_ARGUMENT");
    std::fs::write(&file, "permit (").unwrap();
    let error = Box::pin(rig.restart_with(|_| ())).await.err().unwrap();
    assert!(error.message().contains("governance.gate_policies"), "{error}");
}
