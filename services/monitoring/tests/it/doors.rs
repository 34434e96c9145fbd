use fishy_core::time::DAY_MS;
use serde_json::{Value, json};

use crate::rig::{On, Rig, day, on_both, record, spec};

on_both!(malformed_bodies_are_refused_and_write_nothing, monitors_are_made_changed_and_listed);

async fn malformed_bodies_are_refused_and_write_nothing(on: On) {
    let rig = Rig::start(on).await;
    rig.monitor(json!({})).await;
    rig.publish(&[record(0, "1")]).await;
    let before = (rig.client.status("oxygen").await.unwrap(), rig.emitted("fishy.audit.entry.recorded.v1").await.len());
    let truth = "/api/v1/feedback/ground-truth";
    let monitor = "/api/v1/monitors/oxygen";
    let item = |text: &str| format!(r#"{{"items":[{text}]}}"#);
    let cases = [
        ("POST", truth, "nonsense".to_owned(), 400),
        ("POST", truth, "{}".to_owned(), 400),
        ("POST", truth, item(r#"{"prediction_id":"p-0","value":"7"}"#), 400),
        ("POST", truth, item(r#"{"prediction_id":"p-0","value":NaN}"#), 400),
        ("POST", truth, item(r#"{"prediction_id":"p-0","value":1e999}"#), 400),
        ("POST", truth, item(r#"{"prediction_id":"p-0","value":null}"#), 400),
        ("POST", truth, item(r#"{"prediction_id":"p-0","value":1.0,"colour":"red"}"#), 400),
        ("POST", truth, item(r#"{"prediction_id":"","value":1.0}"#), 400),
        ("POST", truth, item(r#"{"prediction_id":"p\u0000","value":1.0}"#), 400),
        (
            "POST",
            truth,
            item(r#"{"prediction_id":"p-0","value":1.0},{"prediction_id":"q","value":1.0,"time_ms":-1}"#),
            400,
        ),
        ("POST", "/api/v1/monitors/nobody/watermark", r#"{"time_ms":1}"#.to_owned(), 404),
        ("POST", "/api/v1/monitors/oxygen/watermark", r#"{"time_ms":"now"}"#.to_owned(), 400),
        ("POST", "/api/v1/monitors/oxygen/watermark", format!(r#"{{"time_ms":{}}}"#, i64::MAX), 400),
        ("POST", "/api/v1/monitors/oxygen/watermark", format!(r#"{{"time_ms":{}}}"#, 200_000 * DAY_MS), 400),
        ("POST", "/api/v1/monitors/oxygen/observations", item(r#"{"id":"o"}"#), 400),
        ("POST", "/api/v1/monitors/nobody/observations", item(""), 404),
        (
            "POST",
            "/api/v1/monitors/oxygen/observations",
            item(r#"{"id":"o","time_ms":-1,"arrived_ms":1,"inputs":{},"value":1.0}"#),
            400,
        ),
        ("POST", "/api/v1/monitors/oxygen/dataset", r#"{"as_of_ms":1,"from_ms":9,"to_ms":1}"#.to_owned(), 400),
        ("POST", "/api/v1/monitors/oxygen/dataset", r#"{"as_of_ms":1}"#.to_owned(), 400),
        ("POST", "/api/v1/monitors/nobody/dataset", r#"{"as_of_ms":1,"from_ms":1,"to_ms":2}"#.to_owned(), 404),
        ("GET", "/api/v1/monitors/nobody", String::new(), 404),
        ("GET", "/api/v1/monitors/oxygen/windows?length=year", String::new(), 400),
        ("GET", "/api/v1/monitors/oxygen/windows?size=9", String::new(), 400),
        ("GET", "/api/v1/monitors/oxygen/faults?is_open=maybe", String::new(), 400),
        ("PUT", monitor, r#"{"name":"oxygen"}"#.to_owned(), 400),
        ("PUT", monitor, r#"{"name":"other","deployment":"oxygen"}"#.to_owned(), 400),
        ("PUT", monitor, r#"{"name":"oxygen","deployment":"oxygen","trigger":{"colour":"red"}}"#.to_owned(), 400),
        ("PUT", monitor, r#"{"name":"oxygen","deployment":"oxygen","trigger":{"budget_days":0}}"#.to_owned(), 400),
        ("PUT", monitor, r#"{"name":"oxygen","deployment":"elsewhere"}"#.to_owned(), 412),
        ("PUT", "/api/v1/monitors/b", r#"{"name":"b","deployment":"oxygen","output":"other"}"#.to_owned(), 412),
    ];
    for (method, path, body, expected) in cases {
        let (status, answer) = rig.send(method, path, &body).await;
        assert_eq!(status, expected, "{method} {path} {body}: {answer}");
        assert!(answer["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{path} {body}: {answer}");
    }
    let after = (rig.client.status("oxygen").await.unwrap(), rig.emitted("fishy.audit.entry.recorded.v1").await.len());
    assert_eq!(before, after);
    let large = format!(r#"{{"items":[],"x":"{}"}}"#, "x".repeat(rig.config.server.max_body_bytes));
    assert_eq!(rig.send("POST", truth, &large).await.0, 429);
    rig.end().await;
}

async fn monitors_are_made_changed_and_listed(on: On) {
    let rig = Rig::start(on).await;
    let made = rig.monitor(json!({})).await;
    assert_eq!((made.predictions, made.watermark_ms, made.champion_version), (0, 0, None));
    rig.monitor(json!({})).await;
    let changed = rig.monitor(json!({"trigger": {"error_ratio": 2.0}})).await;
    assert!((changed.spec.trigger.error_ratio - 2.0).abs() < 1e-9);
    let mut second = spec(&json!({}));
    second.name = "second".into();
    rig.client.apply(&second).await.unwrap();
    let names: Vec<String> =
        rig.client.list().await.unwrap().items.into_iter().map(|status| status.spec.name).collect();
    assert_eq!(names, ["oxygen", "second"]);
    let audit = rig.emitted("fishy.audit.entry.recorded.v1").await;
    assert_eq!(audit.len(), 3, "what changes nothing is no entry");
    assert_eq!((&audit[1]["actor"], &audit[1]["resource"]), (&json!("user:local-admin"), &json!("monitors/oxygen")));
    assert_eq!(audit[1]["details"]["after"]["trigger"]["error_ratio"], 2.0);

    // Both look at the same predictions.
    rig.predict(0..24, "1").await;
    rig.watermark(day(1)).await;
    let (_, windows) = rig.send("GET", "/api/v1/monitors/second/windows?length=day", "").await;
    assert_eq!(windows["items"], Value::Array(vec![]), "the second has a watermark of its own");
    rig.client.watermark("second", fishy_contracts::monitoring::Watermark { time_ms: day(1) }).await.unwrap();
    let (_, windows) = rig.send("GET", "/api/v1/monitors/second/windows?length=day", "").await;
    assert_eq!(windows["items"][0]["predictions"], 24);
    rig.end().await;
}
