//! Aliases: protection, events, audit, history.

use std::sync::atomic::Ordering;

use axum::http::Method;
use fishy_authz::Identity;
use fishy_contracts::events::{ALIAS_MOVED, AUDIT_ENTRY};
use fishy_contracts::registry::ProtectedAlias;
use serde_json::{Value, json};

use crate::server::{Server, on_both};

on_both!(
    a_protected_alias_moves_with_an_approved_promotion_alone,
    every_move_is_told_once_and_kept,
    what_was_when_is_known_and_can_be_again,
    every_tag_and_stage_has_a_history,
    any_alias_can_be_put_behind_the_gate,
);

const ALIAS: &str = "registered-models/alias";

async fn set(server: &Server, alias: &str, version: &str) -> (u16, Value) {
    server.post(ALIAS, json!({"name": "oxygen", "alias": alias, "version": version})).await
}

async fn champion(server: &Server) -> String {
    let (_, answer) = server.get("registered-models/alias?name=oxygen&alias=champion").await;
    answer["model_version"]["version"].as_str().unwrap_or("none").to_owned()
}

async fn a_protected_alias_moves_with_an_approved_promotion_alone(server: Server) {
    server.model("oxygen", 3).await;
    assert_eq!(set(&server, "champion", "1").await.0, 200);
    let alias = ProtectedAlias { model: "oxygen".into(), alias: "champion".into(), deployment: "live".into() };
    assert!(server.client().protect_alias(&alias).await.unwrap());
    assert!(server.client().protect_alias(&alias).await.unwrap(), "again is fine");

    let (status, answer) = set(&server, "champion", "2").await;
    assert_eq!((status, answer["error_code"].as_str()), (403, Some("PERMISSION_DENIED")));
    assert!(answer["message"].as_str().unwrap().contains("not better by 2 %"), "{answer}");
    server.allowed.store(-1, Ordering::SeqCst);
    assert_eq!(set(&server, "champion", "2").await.0, 503);
    assert_eq!(set(&server, "free", "2").await.0, 200, "other aliases need no governance");
    server.allowed.store(3, Ordering::SeqCst);
    assert_eq!(set(&server, "champion", "2").await.0, 403, "another version was approved");
    assert_eq!(champion(&server).await, "1");
    server.allowed.store(2, Ordering::SeqCst);
    assert_eq!(set(&server, "champion", "2").await.0, 200);
    assert_eq!(champion(&server).await, "2");

    let body = |value: Value| value.to_string();
    for (method, path, body) in [
        (Method::DELETE, ALIAS, body(json!({"name": "oxygen", "alias": "champion"}))),
        (Method::DELETE, "model-versions/delete", body(json!({"name": "oxygen", "version": "2"}))),
        (Method::DELETE, "registered-models/delete", body(json!({"name": "oxygen"}))),
        (Method::POST, "registered-models/rename", body(json!({"name": "oxygen", "new_name": "other"}))),
    ] {
        let (status, answer) = server.json(method, &format!("/ajax-api/2.0/mlflow/{path}"), body).await;
        assert_eq!((status, answer["error_code"].as_str()), (403, Some("PERMISSION_DENIED")), "{path}");
    }
    // Nor can another model's alias move in under the protected name.
    let alias = ProtectedAlias { model: "next".into(), ..alias };
    server.client().protect_alias(&alias).await.unwrap();
    server.done("registered-models/create", json!({"name": "spare"})).await;
    assert_eq!(server.post("registered-models/rename", json!({"name": "spare", "new_name": "next"})).await.0, 403);

    let entries: Vec<Value> =
        server.events().await.into_iter().filter(|e| e.kind == AUDIT_ENTRY).map(|e| e.data).collect();
    let of = |action: &str, outcome: &str| {
        entries.iter().filter(|entry| entry["action"] == action && entry["outcome"] == outcome).count()
    };
    assert_eq!((of("alias.set", "done"), of("alias.set", "denied")), (3, 2));
    assert_eq!((of("alias.protect", "done"), of("model_version.create", "done")), (2, 3));
    let last = entries.iter().rfind(|entry| entry["action"] == "alias.set" && entry["outcome"] == "done").unwrap();
    assert_eq!(last["details"], json!({"from": 1, "to": 2, "deployment": "live", "promotion_id": "p-1"}));
    assert_eq!(last["actor"], "user:local-admin");
}

async fn every_move_is_told_once_and_kept(server: Server) {
    server.model("oxygen", 2).await;
    for version in ["1", "1", "2"] {
        assert_eq!(set(&server, "champion", version).await.0, 200);
    }
    let delete = json!({"name": "oxygen", "version": "2"}).to_string();
    let path = "/api/2.0/mlflow/model-versions/delete";
    assert_eq!(server.json(Method::DELETE, path, delete).await.0, 200);
    let moved: Vec<Value> =
        server.events().await.into_iter().filter(|e| e.kind == ALIAS_MOVED).map(|e| e.data).collect();
    let one = |from: Option<&str>, to: Option<&str>| json!({"model": "oxygen", "alias": "champion", "from": from, "to": to, "actor": "user:local-admin"});
    assert_eq!(moved, [one(None, Some("1")), one(Some("1"), Some("2")), one(Some("2"), None)]);
    let history =
        server.json(Method::GET, "/api/v1/registry/models/oxygen/history?kind=alias&key=champion", "").await.1;
    let pairs: Vec<_> = history["items"].as_array().unwrap().iter().map(|m| (&m["from"], &m["to"])).collect();
    assert_eq!(pairs, [(&json!("2"), &Value::Null), (&json!("1"), &json!("2")), (&Value::Null, &json!("1"))]);
}

async fn own(server: &Server, path: &str) -> (u16, Value) {
    server.json(Method::GET, &format!("/api/v1/registry/models/oxygen/{path}"), "").await
}

async fn what_was_when_is_known_and_can_be_again(server: Server) {
    server.model("oxygen", 3).await;
    let start = 1_800_000_000_000_i64;
    for version in ["1", "2", "3"] {
        server.clock.advance_ms(1_000);
        assert_eq!(set(&server, "champion", version).await.0, 200);
    }
    let version_at = async |time: &str| {
        let (status, answer) = own(&server, &format!("aliases/champion/at?time={time}")).await;
        assert_eq!(status, 200, "{answer}");
        answer["version"].as_str().map(str::to_owned)
    };
    for (after_ms, expected) in
        [(999, None), (1_000, Some("1")), (1_999, Some("1")), (2_000, Some("2")), (9_000, Some("3"))]
    {
        assert_eq!(version_at(&(start + after_ms).to_string()).await.as_deref(), expected, "{after_ms}");
    }
    let time = fishy_core::time::rfc3339(start + 2_500);
    assert_eq!(version_at(&time).await.as_deref(), Some("2"));
    assert_eq!(own(&server, "aliases/champion/at?time=noon").await.0, 400);
    assert_eq!(own(&server, "aliases/champion/at").await.0, 400);

    let rollback = async |to: &str, reason: Value| {
        let body = json!({"to": to, "reason": reason}).to_string();
        server.json(Method::POST, "/api/v1/registry/models/oxygen/aliases/champion/rollback", body).await
    };
    server.clock.advance_ms(1_000);
    let (status, answer) = rollback(&time, json!("version 3 drifts")).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(
        (answer["from"].as_str(), answer["to"].as_str(), &answer["is_moved"]),
        (Some("3"), Some("2"), &json!(true))
    );
    assert_eq!(champion(&server).await, "2");
    assert_eq!(rollback(&time, Value::Null).await.1["is_moved"], false, "again changes nothing");
    let (_, history) = own(&server, "history?kind=alias&key=champion").await;
    assert_eq!(history["items"][0]["reason"], "version 3 drifts");
    assert_eq!(rollback(&start.to_string(), Value::Null).await.0, 412, "there was no alias then");

    // A gated alias rolls back with the gate's word alone, and the history says which gate that was.
    let alias = ProtectedAlias { model: "oxygen".into(), alias: "champion".into(), deployment: "live".into() };
    server.client().protect_alias(&alias).await.unwrap();
    let first = (start + 1_500).to_string();
    assert_eq!(rollback(&first, Value::Null).await.0, 403);
    assert_eq!(champion(&server).await, "2");
    server.allowed.store(1, Ordering::SeqCst);
    assert_eq!(rollback(&first, Value::Null).await.0, 200);
    assert_eq!(champion(&server).await, "1");
    let (_, history) = own(&server, "history?kind=alias&key=champion").await;
    let newest = &history["items"][0];
    assert_eq!(
        (&newest["gate"], &newest["promotion_id"], &newest["actor"]),
        (&json!("live"), &json!("p-1"), &json!("user:local-admin"))
    );
    assert!(newest["reason"].as_str().unwrap().starts_with("rolled back to 2027-01-15T08:00:01"), "{newest}");

    // What was deleted cannot come back.
    let delete = json!({"name": "oxygen", "version": "3"}).to_string();
    assert_eq!(server.json(Method::DELETE, "/api/2.0/mlflow/model-versions/delete", delete).await.0, 200);
    let (status, answer) = rollback(&(start + 3_500).to_string(), Value::Null).await;
    assert!(status == 412 && answer.to_string().contains("deleted since"), "{answer}");
}

async fn every_tag_and_stage_has_a_history(server: Server) {
    server.model("oxygen", 2).await;
    let tag = |value: &str| json!({"name": "oxygen", "version": "1", "key": "farm", "value": value});
    for value in ["north", "north", "south"] {
        server.clock.advance_ms(1);
        server.done("model-versions/set-tag", tag(value)).await;
    }
    server.clock.advance_ms(1);
    server.done("registered-models/set-tag", json!({"name": "oxygen", "key": "unit", "value": "mg/L"})).await;
    let request = axum::http::Request::builder()
        .method(Method::DELETE)
        .uri("/api/2.0/mlflow/model-versions/delete-tag")
        .header("x-fishy-reason", "wrong%20farm%20%C3%A4")
        .body(axum::body::Body::from(tag("").to_string()))
        .unwrap();
    server.clock.advance_ms(1);
    assert_eq!(tower::ServiceExt::oneshot(server.router.clone(), request).await.unwrap().status(), 200);
    for version in ["1", "2"] {
        server.clock.advance_ms(1);
        let body =
            json!({"name": "oxygen", "version": version, "stage": "Production", "archive_existing_versions": true});
        server.done("model-versions/transition-stage", body).await;
    }
    assert_eq!(set(&server, "x", "1").await.0, 200);
    let told = async |path: &str| {
        let (status, answer) = own(&server, path).await;
        assert_eq!(status, 200, "{answer}");
        let items = answer["items"].as_array().unwrap().clone();
        let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
        let line =
            |c: &Value| format!("{} {} {}>{}", text(&c["version"]), text(&c["key"]), text(&c["from"]), text(&c["to"]));
        (items.iter().map(line).collect::<Vec<_>>(), items)
    };
    let (tags, items) = told("history?kind=tag&key=farm").await;
    assert_eq!(tags, ["1 farm south>-", "1 farm north>south", "1 farm ->north"], "the same value again is no change");
    assert_eq!((&items[0]["reason"], &items[0]["actor"]), (&json!("wrong farm ä"), &json!("user:local-admin")));
    let (mut stages, _) = told("history?kind=stage").await;
    stages.sort();
    assert_eq!(stages, ["1 stage None>Production", "1 stage Production>Archived", "2 stage None>Production"]);
    assert_eq!(told("history?kind=tag&key=unit").await.0, ["- unit ->mg/L"]);
    assert_eq!(told("history?limit=2").await.0.len(), 2);
    assert_eq!(told("history").await.0.len(), 8);
    for bad in ["history?kind=other", "history?limit=0", "history?limit=x", "history?unknown=1"] {
        assert_eq!(own(&server, bad).await.0, 400, "{bad}");
    }
    let body = json!({"name": "oxygen"}).to_string();
    assert_eq!(server.json(Method::DELETE, "/api/2.0/mlflow/registered-models/delete", body).await.0, 200);
    assert_eq!(told("history").await.0.len(), 9, "it outlives the model");
}

async fn any_alias_can_be_put_behind_the_gate(server: Server) {
    const PROTECTED: &str = "/api/v1/registry/protected-aliases";
    server.model("oxygen", 3).await;
    assert_eq!(set(&server, "reviewed", "1").await.0, 200);
    let engineer = Identity::user("eva", ["ml_engineer"]);
    let as_engineer = async |method: Method, path: &str, body: Value| {
        server.at("", Some(&engineer), method, path, body.to_string()).await
    };
    // No deployment follows it: whoever may write may bind it.
    let alias = json!({"model": "oxygen", "alias": "reviewed"});
    assert_eq!(as_engineer(Method::PUT, PROTECTED, alias.clone()).await, (200, alias.clone()));
    assert_eq!(server.json(Method::GET, PROTECTED, "").await.1, json!({ "items": [alias] }));
    for bad in
        [json!({"model": "a/b", "alias": "x"}), json!({"model": "oxygen", "alias": "v1"}), json!({"model": "oxygen"})]
    {
        assert_eq!(server.json(Method::PUT, PROTECTED, bad.to_string()).await.0, 400, "{bad}");
    }
    // From then on it moves by the gate alone, for the administrator too.
    let (status, answer) = set(&server, "reviewed", "2").await;
    assert_eq!((status, &answer["error_code"]), (403, &json!("PERMISSION_DENIED")));
    let told = answer["message"].as_str().unwrap();
    assert!(told.contains("is protected and may not move to version 2: not better by 2 %"), "{told}");
    let rename = json!({"name": "oxygen", "new_name": "other"});
    assert_eq!(server.post("registered-models/rename", rename).await.0, 403);
    let delete = json!({"name": "oxygen", "alias": "reviewed"});
    let path = format!("/api/2.0/mlflow/{ALIAS}");
    assert_eq!(server.json(Method::DELETE, &path, delete.to_string()).await.0, 403);
    assert_eq!(server.asked.lock().unwrap().last().unwrap(), "oxygen");
    server.allowed.store(2, Ordering::SeqCst);
    assert_eq!(set(&server, "reviewed", "2").await.0, 200);
    let (_, history) = own(&server, "history?kind=alias&key=reviewed").await;
    let newest = &history["items"][0];
    assert_eq!((&newest["gate"], &newest["promotion_id"]), (&json!("protected"), &json!("p-1")));

    // Who binds it cannot loose it again: that is for compliance, with a reason.
    let mut free = json!({"model": "oxygen", "alias": "reviewed", "reason": "case 7"});
    assert_eq!(as_engineer(Method::DELETE, PROTECTED, free.clone()).await.0, 403);
    let officer = Identity::user("carl", ["compliance"]);
    let release =
        async |body: &Value| server.at("", Some(&officer), Method::DELETE, PROTECTED, body.to_string()).await.0;
    free["reason"] = json!(" ");
    assert_eq!(release(&free).await, 400);
    free["reason"] = json!("case 7");
    assert_eq!(release(&json!({"model": "oxygen", "alias": "other", "reason": "x"})).await, 404);
    assert_eq!(release(&free).await, 200);
    assert_eq!(release(&free).await, 404);
    assert_eq!(set(&server, "reviewed", "3").await.0, 200);
    let entries: Vec<Value> =
        server.events().await.into_iter().filter(|e| e.kind == AUDIT_ENTRY).map(|e| e.data).collect();
    let last = entries.iter().rfind(|entry| entry["action"] == "alias.unprotect").unwrap();
    assert_eq!((&last["actor"], &last["details"]["reason"]), (&json!("user:carl"), &json!("case 7")));
}
