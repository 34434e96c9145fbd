//! What was asked and answered, page by page.

use fishy_contracts::monitoring::LoggedQuery;
use serde_json::json;

use crate::rig::{On, Rig, hour, on_both, record};

on_both!(predictions_come_in_pages_with_their_true_values);

async fn predictions_come_in_pages_with_their_true_values(on: On) {
    let rig = Rig::start(on).await;
    rig.monitor(json!({"output": "do_mgl"})).await;
    rig.predict(0..5, "1").await;
    let mut other = record(5, "2");
    other["labels"] = json!({"pen": "7"});
    other["outputs"] = json!({"a": 1.0, "do_mgl": 6.5});
    other["inputs"]["ph"] = json!(null);
    rig.publish(&[other]).await;
    rig.label(0..2, 0.5).await;

    let mut query = LoggedQuery {
        deployment: "oxygen".into(),
        from_ms: hour(1),
        to_ms: hour(6),
        page_token: String::new(),
        limit: 2,
    };
    let mut all = Vec::new();
    let mut pages = 0;
    loop {
        let page = rig.client.logged(&query).await.unwrap();
        assert_eq!(page.output, "do_mgl");
        assert!(page.items.len() <= 2);
        all.extend(page.items);
        pages += 1;
        match page.next_page_token {
            Some(token) => query.page_token = token,
            None => break,
        }
    }
    assert_eq!(pages, 3);
    let ids: Vec<&str> = all.iter().map(|one| one.id.as_str()).collect();
    assert_eq!(ids, ["p-1", "p-2", "p-3", "p-4", "p-5"]);
    let (first, last) = (&all[0], &all[4]);
    assert!((first.value.unwrap() - first.answer.unwrap() - 0.5).abs() < 1e-9);
    assert_eq!((first.time_ms, first.version.as_str(), first.labels.len()), (hour(1), "1", 0));
    assert!(first.inputs["temp"].is_some());
    assert_eq!((last.answer, last.value, last.inputs["ph"]), (Some(6.5), None, None));
    assert_eq!((last.version.as_str(), last.labels["pen"].as_str()), ("2", "7"));
    for query in [
        "",
        "?deployment=oxygen&from_ms=0",
        "?deployment=oxygen&from_ms=0&to_ms=1&limit=0",
        "?deployment=oxygen&from_ms=0&to_ms=1&limit=1001",
        "?deployment=oxygen&from_ms=0&to_ms=1&page_token=x",
    ] {
        let (status, said) = rig.send("GET", &format!("/api/v1/predictions{query}"), "").await;
        assert_eq!(status, 400, "{query}: {said}");
    }
    rig.end().await;
}
