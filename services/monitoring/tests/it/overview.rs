//! What a span looks like.

use std::collections::BTreeMap;

use fishy_contracts::monitoring::{Observation, Observations};
use fishy_core::time::DAY_MS;
use serde_json::json;

use crate::rig::{On, Rig, day, hour, inputs, on_both, record_with, temp, training};

on_both!(an_overview_compares_counts_and_tells_slices_apart, a_span_without_data_is_empty_and_a_wrong_one_refused);

async fn an_overview_compares_counts_and_tells_slices_apart(on: On) {
    let rig = Rig::start(on).await;
    rig.monitor(json!({"features": ["ph", "temp"]})).await;
    let history = (-20 * 24..0).map(|at| Observation {
        id: format!("o-{at}"),
        time_ms: hour(at),
        arrived_ms: hour(at),
        inputs: inputs(at),
        value: 6.0,
        labels: BTreeMap::new(),
    });
    rig.client.observations("oxygen", &Observations { items: history.collect() }).await.unwrap();
    rig.champion(1, "1", &training(-20, 0)).await;
    let mut records = Vec::new();
    for at in 0..48 {
        let warmer = if at < 24 { json!(temp(at) + 10.0) } else { json!(null) };
        let mut record = record_with(&format!("p-{at}"), at, if at < 12 { "1" } else { "2" }, &warmer);
        record["labels"] = json!({"pen": if at % 2 == 0 { "a" } else { "b" }});
        records.push(record);
    }
    rig.publish(&records).await;
    rig.label(0..24, 0.5).await;
    rig.watermark(day(3)).await;

    let found = rig.client.overview("oxygen", day(0), day(2)).await.unwrap();
    assert_eq!((found.predictions, found.labels, found.rows), (48, 24, 48));
    let versions: Vec<_> =
        found.versions.iter().map(|one| (one.version.as_str(), one.predictions, one.first_ms, one.last_ms)).collect();
    assert_eq!(versions, [("1", 12, hour(0), hour(11)), ("2", 36, hour(12), hour(47))]);
    let reference = found.reference.unwrap();
    assert_eq!((reference.from_ms, reference.to_ms, reference.rows), (day(-20), day(0), 480));
    let names: Vec<_> = found.distributions.iter().map(|one| one.feature.as_str()).collect();
    assert_eq!(names, ["ph", "temp", "$output", "$truth", "$error"]);

    let warm = &found.distributions[1];
    assert_eq!((warm.current.readings, warm.current.without), (24, 24));
    let sums = warm.bins.iter().fold((0, 0), |(before, now), bin| (before + bin.reference, now + bin.current));
    assert_eq!(sums, (480, 24), "every reading is in a bin");
    assert!(warm.bins.iter().all(|bin| bin.reference == 0 || bin.current == 0), "ten degrees apart: {:?}", warm.bins);
    assert!((warm.current.mean.unwrap() - warm.reference.as_ref().unwrap().mean.unwrap() - 10.0).abs() < 1.0);

    let slices: Vec<_> = found.slices.iter().map(|one| (one.slice.as_str(), one.rows, one.labels)).collect();
    assert_eq!(slices, [("pen=a", 24, 12), ("pen=b", 24, 12)]);
    assert!(found.slices.iter().all(|one| (one.mae.unwrap() - 0.5).abs() < 1e-9 && one.bias.unwrap() < 0.0));
    let delay = found.label_delay.unwrap();
    assert_eq!((delay.median_hours, delay.greatest_hours), (7 * 24, 7 * 24));
    assert_eq!(delay.histogram, [(7 * 24, 24)]);

    let half = rig.client.overview("oxygen", hour(12), day(2)).await.unwrap();
    assert_eq!((half.predictions, half.labels, half.versions.len()), (36, 12, 1), "the span is kept to");
    rig.end().await;
}

async fn a_span_without_data_is_empty_and_a_wrong_one_refused(on: On) {
    let rig = Rig::start(on).await;
    rig.monitor(json!({})).await;
    let found = rig.client.overview("oxygen", day(0), day(2)).await.unwrap();
    assert_eq!((found.predictions, found.labels), (0, 0));
    assert!(found.distributions.is_empty() && found.slices.is_empty() && found.versions.is_empty());
    assert_eq!((found.reference, found.label_delay), (None, None));
    let long = format!("?from_ms=0&to_ms={}", 4_000 * DAY_MS);
    let cases = [
        ("", 400),
        ("?from_ms=5&to_ms=5", 400),
        ("?from_ms=-1&to_ms=5", 400),
        ("?from_ms=1&to_ms=2&x=1", 400),
        (long.as_str(), 429),
    ];
    for (query, expected) in cases {
        let (status, answer) = rig.send("GET", &format!("/api/v1/monitors/oxygen/overview{query}"), "").await;
        assert_eq!(status, expected, "{query}: {answer}");
    }
    let (status, _) = rig.send("GET", "/api/v1/monitors/nobody/overview?from_ms=1&to_ms=2", "").await;
    assert_eq!(status, 404);
    rig.end().await;
}
