//! What is wrong in itself is refused in the protocol's form, and nothing is written.

use axum::http::Method;
use serde_json::json;

use crate::promotions::request;
use crate::rig::{Rig, on_both};

on_both!(wrong_requests_write_nothing);

async fn wrong_requests_write_nothing(rig: Rig) {
    let promotion = |change| request("p1", change).to_string();
    let rules = |share: f64| json!({"rules": {"min_improvement": share}});
    let large = "x".repeat(100_000);
    let bodies = [
        ("promotions", String::new()),
        ("promotions", "{".to_owned()),
        ("promotions", "[]".to_owned()),
        ("promotions", "[".repeat(50_000)),
        ("promotions", promotion(json!({"surprise": 1}))),
        ("promotions", promotion(json!({"id": ""}))),
        ("promotions", promotion(json!({"model": "x".repeat(257)}))),
        ("promotions", promotion(json!({"model": "a\u{0}b"}))),
        ("promotions", promotion(json!({"evaluated_labels": -1}))),
        ("promotions", promotion(json!({"challenger_error": -0.5}))),
        ("promotions", promotion(json!({"challenger_error": "0.5"}))),
        ("promotions", promotion(json!({"champion_error": null}))),
        ("promotions", promotion(json!({"champion_version": null}))),
        ("promotions", promotion(rules(2.0))),
        ("promotions", promotion(json!({"rules": {"min_improvment": 0.1}}))),
        ("promotions", promotion(json!({"facts": large}))),
        ("promotions/p0/approval", json!({"is_approved": "yes"}).to_string()),
        ("promotions/p0/approval", json!({"is_approved": true, "by": "me"}).to_string()),
        ("tokens", json!({"name": "a b", "roles": ["sensor"]}).to_string()),
        ("tokens", json!({"name": "a", "roles": []}).to_string()),
        ("tokens", json!({"name": "a", "roles": ["service:pipelines"]}).to_string()),
        ("tokens", json!({"name": "a", "roles": ["sensor"], "ttl_ms": -1}).to_string()),
        ("tokens", json!({"name": "a", "roles": ["sensor"], "admin": true}).to_string()),
    ];
    for (door, body) in bodies {
        let shown: String = body.chars().take(120).collect();
        let answer = rig.raw(None, Method::POST, &format!("/api/v1/{door}"), body).await;
        assert!((400..500).contains(&answer.status), "{door} {shown}: {} {}", answer.status, answer.text());
        answer.code();
    }
    for body in [json!({}), json!({"policies": 1}), json!({"policies": "", "version": 7}), json!({"policies": large})] {
        let answer = rig.raw(None, Method::PUT, "/api/v1/policies/bundle", body.to_string()).await;
        assert!((400..500).contains(&answer.status), "{}", answer.text());
        answer.code();
    }
    for path in ["promotions", "promotions?model=a&x=1", "promotions/check?model=a", "audit/entries?from=-1"] {
        assert_eq!(rig.get(&format!("/api/v1/{path}")).await.code(), "INVALID_ARGUMENT", "{path}");
    }
    for path in ["promotions/%00", "promotions/check?model=%00&alias=a&version=1", "tokens/by-hash/%00"] {
        let answer = rig.get(&format!("/api/v1/{path}")).await;
        assert!((400..500).contains(&answer.status), "{path}: {}", answer.text());
    }
    for table in ["promotions", "tokens", "policy_bundles", "outbox", "audit_entries"] {
        assert_eq!(rig.count(table).await, 0, "{table}");
    }
}
