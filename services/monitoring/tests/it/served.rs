//! Which version served.

use serde_json::{Value, json};

use crate::rig::{On, Rig, hour, on_both, record};

on_both!(the_last_answer_for_a_pen_names_its_version);

async fn the_last_answer_for_a_pen_names_its_version(on: On) {
    let rig = Rig::start(on).await;
    rig.monitor(json!({})).await;
    let mut records = Vec::new();
    for (at, version, pen) in [(0, "1", "7"), (1, "1", "8"), (2, "2", "8"), (3, "2", "7"), (3, "3", "a%_\\\"b")] {
        let mut one = record(at, version);
        one["id"] = json!(format!("s-{at}-{version}"));
        one["labels"] = json!({"pen": pen, "farm": "north"});
        records.push(one);
    }
    rig.publish(&records).await;
    let found = async |time_ms: i64, labels: &[(&str, &str)]| {
        let found = rig.client.served("oxygen", time_ms, labels).await.unwrap();
        found.map(|one| (one.id, one.version))
    };
    let is = |id: &str, version: &str| Some((id.to_owned(), version.to_owned()));
    assert_eq!(found(hour(2) + 5, &[("pen", "7")]).await, is("s-0-1", "1"));
    assert_eq!(found(hour(2), &[("pen", "8")]).await, is("s-2-2", "2"), "the time itself counts");
    assert_eq!(found(hour(2) - 1, &[("pen", "8")]).await, is("s-1-1", "1"));
    assert_eq!(found(hour(9), &[("farm", "north"), ("pen", "7")]).await, is("s-3-2", "2"));
    assert_eq!(found(hour(9), &[]).await, is("s-3-3", "3"));
    assert_eq!(found(hour(9), &[("pen", "a%_\\\"b")]).await, is("s-3-3", "3"));
    for nothing in [("pen", "9"), ("pen", "%"), ("PEN", "7"), ("farm", "7")] {
        assert_eq!(found(hour(9), &[nothing]).await, None, "{nothing:?}");
    }
    assert_eq!(found(hour(0) - 1, &[]).await, None);
    for query in
        ["", "?deployment=oxygen", "?deployment=oxygen&time_ms=noon", "?deployment=oxygen&time_ms=1&label=pen", "?x=1"]
    {
        let (status, answer): (u16, Value) = rig.send("GET", &format!("/api/v1/predictions/served{query}"), "").await;
        assert_eq!(status, 400, "{query}: {answer}");
    }
}
