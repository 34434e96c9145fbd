//! Access policies: validated, in force at once, kept.

use axum::http::Method;
use fishy_authz::Identity;
use serde_json::{Value, json};

use crate::rig::{Answer, On, Rig, on_both};

on_both!(policies_are_replaced_and_kept, an_invalid_bundle_changes_nothing, a_new_file_counts_up_from_the_record);

/// The built-in policies and one more.
fn more(rig_policies: &Value, id: &str) -> String {
    let old = rig_policies["policies"].as_str().unwrap();
    format!(
        "{old}\n@id(\"{id}\")\npermit (principal, action == Action::\"audit:read\", resource) when {{ principal.roles.contains(\"{id}\") }};\n"
    )
}

async fn put(rig: &Rig, policies: &str) -> Answer {
    rig.raw(None, Method::PUT, "/api/v1/policies/bundle", json!({ "policies": policies }).to_string()).await
}

async fn reads_audit(rig: &Rig, role: &str) -> u16 {
    let who = Identity::user("ada", [role]);
    rig.raw(Some(who), Method::GET, "/api/v1/audit/summary", "").await.status
}

async fn policies_are_replaced_and_kept(rig: Rig) {
    let built_in = rig.get("/api/v1/policies/bundle").await.json();
    assert_eq!((&built_in["version"], rig.running.bundle().await.unwrap()), (&json!(0), None));
    assert_eq!(reads_audit(&rig, "auditor").await, 403);
    let first = put(&rig, &more(&built_in, "auditor")).await.json();
    assert_eq!((&first["version"], reads_audit(&rig, "auditor").await), (&json!(1), 200));
    let second = put(&rig, &more(&first, "inspector")).await.json();
    assert_eq!(second["version"], 2);
    assert_eq!(rig.get("/api/v1/policies/bundle").await.json(), second);
    assert_eq!(rig.audited().await, vec![("policies.replaced".to_owned(), "done".to_owned()); 2]);
    let rig = rig.restart().await;
    assert_eq!(rig.get("/api/v1/policies/bundle").await.json(), second);
    assert_eq!((reads_audit(&rig, "inspector").await, rig.authorizer.bundle().version), (200, 2));
}

async fn an_invalid_bundle_changes_nothing(rig: Rig) {
    let before = rig.get("/api/v1/policies/bundle").await.json();
    let unknown = "@id(\"x\")\npermit (principal, action == Action::\"no:such\", resource);";
    for policies in
        ["permit (", unknown, "@id(\"x\")\npermit (principal, action, resource) when { principal.shoe == 1 };"]
    {
        assert_eq!(put(&rig, policies).await.code(), "INVALID_ARGUMENT", "{policies}");
    }
    assert_eq!(rig.get("/api/v1/policies/bundle").await.json(), before);
    assert_eq!((rig.count("policy_bundles").await, rig.count("outbox").await), (0, 0));
    let ada = Identity::user("ada", ["ml_engineer"]);
    let body = json!({"policies": before["policies"]}).to_string();
    assert_eq!(rig.raw(Some(ada), Method::PUT, "/api/v1/policies/bundle", body).await.code(), "PERMISSION_DENIED");
}

async fn a_new_file_counts_up_from_the_record(rig: Rig) {
    let built_in = rig.get("/api/v1/policies/bundle").await.json();
    let file = rig.folder.path().join("policies.cedar");
    for version in 1..=3 {
        let put = put(&rig, &more(&built_in, &format!("r{version}"))).await.json();
        assert_eq!(put["version"], version);
    }
    std::fs::write(&file, more(&built_in, "auditor")).unwrap();
    let path = file.display().to_string();
    let rig = Box::pin(rig.restart_with(|config| config.governance.policies = path)).await.unwrap();
    assert_eq!(rig.get("/api/v1/policies/bundle").await.json()["version"], 4);
    assert_eq!(reads_audit(&rig, "auditor").await, 200);
    let rig = rig.restart().await;
    assert_eq!(rig.get("/api/v1/policies/bundle").await.json()["version"], 4, "the same file is no new bundle");
    assert_eq!(rig.audited().await.len(), 4);
}

#[tokio::test]
async fn a_file_that_is_not_valid_stops_the_start() {
    let rig = Rig::new(On::Sqlite).await;
    let file = rig.folder.path().join("policies.cedar");
    std::fs::write(&file, "permit (").unwrap();
    let path = file.display().to_string();
    let error = Box::pin(rig.restart_with(|config| config.governance.policies = path)).await.err().unwrap();
    assert_eq!(error.code(), fishy_core::ErrorCode::InvalidArgument);
}
