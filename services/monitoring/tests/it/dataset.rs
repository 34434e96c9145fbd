use fishy_contracts::monitoring::{DatasetRequest, Observation, Observations};
use fishy_core::time::DAY_MS;
use serde_json::json;

use crate::rig::{On, Rig, answer, day, hour, inputs, on_both};

on_both!(rows_come_in_order_and_none_before_its_label, many_pages_are_one_dataset);

fn request(as_of_ms: i64, newest: Option<u64>) -> DatasetRequest {
    DatasetRequest { as_of_ms, from_ms: day(-60), to_ms: day(60), without_faults: false, newest }
}

fn observations(hours: std::ops::Range<i64>) -> Observations {
    let one = |at: i64| Observation {
        id: format!("o-{at}"),
        time_ms: hour(at),
        arrived_ms: hour(at) + 7 * DAY_MS,
        inputs: inputs(at),
        value: 6.0,
        labels: std::collections::BTreeMap::new(),
    };
    Observations { items: hours.map(one).collect() }
}

async fn rows_come_in_order_and_none_before_its_label(on: On) {
    let rig = Rig::start(on).await;
    rig.monitor(json!({})).await;
    rig.client.observations("oxygen", &observations(-240..0)).await.unwrap();
    rig.predict(0..240, "3").await;
    rig.label(0..240, 0.5).await;

    let as_of = day(12);
    let rows = rig.client.dataset("oxygen", &request(as_of, None)).await.unwrap();
    assert!(rows.iter().all(|row| row.arrived_ms <= as_of));
    assert_eq!(rows.last().unwrap().time_ms, hour(5 * 24), "labels take seven days");
    assert_eq!(rows.len(), 240 + 5 * 24 + 1);
    assert!(rows.windows(2).all(|pair| pair[0].time_ms < pair[1].time_ms));
    let (first, last) = (&rows[0], rows.last().unwrap());
    assert_eq!((&*first.id, first.prediction, &first.version), ("o--240", None, &None));
    assert_eq!((&*last.id, last.prediction, last.version.as_deref()), ("p-120", Some(answer(120)), Some("3")));
    assert_eq!(last.inputs, inputs(120));

    let newest = rig.client.dataset("oxygen", &request(as_of, Some(130))).await.unwrap();
    assert_eq!(newest, rows[rows.len() - 130..]);
    let none = rig.client.dataset("oxygen", &request(day(-60), None)).await.unwrap();
    assert_eq!(none, []);
    rig.end().await;
}

async fn many_pages_are_one_dataset(on: On) {
    let rig = Rig::start(on).await;
    rig.monitor(json!({})).await;
    // More than one page of each, interleaved, and none of it twice.
    rig.client.observations("oxygen", &observations(0..12_000)).await.unwrap();
    for part in 0..4 {
        rig.predict(part * 2_000..(part + 1) * 2_000, "1").await;
        rig.label(part * 2_000..(part + 1) * 2_000, 0.5).await;
    }
    let whole = DatasetRequest { to_ms: day(1_000), ..request(day(2_000), None) };
    let rows = rig.client.dataset("oxygen", &whole).await.unwrap();
    assert_eq!(rows.len(), 20_000);
    assert!(rows.windows(2).all(|pair| (pair[0].time_ms, &pair[0].id) < (pair[1].time_ms, &pair[1].id)));
    let newest = DatasetRequest { newest: Some(15_001), ..whole };
    assert_eq!(rig.client.dataset("oxygen", &newest).await.unwrap(), rows[4_999..]);
    rig.end().await;
}
