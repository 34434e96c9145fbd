//! Service tokens: shown once, kept as a hash.

use axum::http::Method;
use fishy_authz::TokenHash;
use fishy_contracts::governance::TokenRequest;
use serde_json::json;

use crate::rig::{NOW_MS, Rig, on_both};

on_both!(a_token_lives_until_it_is_revoked, a_token_can_be_made_without_a_server);

async fn a_token_lives_until_it_is_revoked(rig: Rig) {
    let wish = json!({"name": "buoy-7", "roles": ["sensor"], "ttl_ms": 60_000});
    let made = rig.post("/api/v1/tokens", &wish).await.json();
    let token = made["token"].as_str().unwrap();
    let holder = format!("/api/v1/tokens/by-hash/{}", TokenHash::of(token).to_hex());
    let expected = json!({"name": "buoy-7", "roles": ["sensor"], "expires_ms": NOW_MS + 60_000});
    assert_eq!(rig.get(&holder).await.json(), expected);
    let endless = rig.post("/api/v1/tokens", &json!({"name": "buoy-8", "roles": ["sensor"]})).await.json();
    assert_ne!(endless["token"], made["token"]);

    rig.settle().await;
    for table in ["tokens", "audit_entries"] {
        let rows = rig.db.query(&format!("select * from {table}"), vec![]).await.unwrap();
        assert!(!rows.is_empty());
        let column = if table == "tokens" { "hash" } else { "entry" };
        for row in rows {
            let kept: String = row.get(column).unwrap();
            assert!(!kept.contains(token), "the text of a token is kept nowhere");
        }
    }

    let door = format!("/api/v1/tokens/{}", made["id"].as_str().unwrap());
    assert_eq!(rig.raw(None, Method::DELETE, &door, "").await.status, 200);
    assert_eq!(rig.get(&holder).await.code(), "NOT_FOUND");
    assert_eq!(rig.raw(None, Method::DELETE, &door, "").await.code(), "NOT_FOUND");
    assert_eq!(rig.get("/api/v1/tokens/by-hash/none").await.code(), "NOT_FOUND");
    let actions: Vec<String> = rig.audited().await.into_iter().map(|(action, _)| action).collect();
    assert_eq!(actions, ["token.created", "token.created", "token.revoked"]);
}

async fn a_token_can_be_made_without_a_server(rig: Rig) {
    let wish = TokenRequest { name: "first".into(), roles: vec!["admin".into()], ttl_ms: None };
    let made = fishy_governance::create_token_offline(&rig.db, &rig.env, &wish).await.unwrap();
    let holder = format!("/api/v1/tokens/by-hash/{}", TokenHash::of(&made.token).to_hex());
    assert_eq!(rig.get(&holder).await.json(), json!({"name": "first", "roles": ["admin"], "expires_ms": null}));
    assert_eq!(rig.audited().await, [("token.created".to_owned(), "done".to_owned())]);
}
