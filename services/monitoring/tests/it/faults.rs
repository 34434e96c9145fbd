use fishy_contracts::monitoring::{DatasetRequest, GroundTruth, GroundTruthItem};
use serde_json::{Value, json};

use crate::rig::{On, Rig, day, hour, on_both, record, record_with, temp};

on_both!(
    a_stuck_sensor_is_a_data_fault_and_no_drift,
    a_pen_of_its_own_has_faults_of_its_own,
    probes_are_compared_and_quiet_ones_and_clocks_found_where_it_is_asked_for,
);

async fn a_stuck_sensor_is_a_data_fault_and_no_drift(on: On) {
    let rig = Rig::start(on).await;
    rig.champion(1, "1", &[]).await;
    rig.monitor(json!({"ranges": {"temp": [-2.0, 40.0]}})).await;
    let records: Vec<Value> = (0..40 * 24)
        .map(|at| match at / 24 {
            20..32 => record_with(&format!("p-{at}"), at, "1", &json!(17.0)),
            _ => record(at, "1"),
        })
        .collect();
    rig.publish(&records).await;
    // The model errs while the sensor is stuck, and its truths come a week later.
    rig.label(0..20 * 24, 0.4).await;
    rig.label(20 * 24..32 * 24, 3.0).await;
    rig.label(32 * 24..40 * 24, 0.4).await;

    let status = rig.watermark(day(31)).await;
    assert_eq!(status.triggers, 0, "{status:?}");
    assert_eq!(status.open_faults.len(), 1);
    let fault = &status.open_faults[0];
    assert_eq!((&*fault.feature, &*fault.kind, fault.since_ms), ("temp", "stuck", hour(20 * 24)));
    let items = rig.triggers().await;
    let reasons: Vec<&str> = items.iter().map(|item| item["reason"].as_str().unwrap()).collect();
    assert!(reasons[0].starts_with("data fault, not model drift: temp (stuck since "), "{reasons:?}");
    let recorded: Vec<_> = items.iter().filter(|item| item.get("id").is_some()).collect();
    assert_eq!(recorded.len(), 1, "recorded once: {recorded:?}");
    assert_eq!(recorded[0]["fired"], false);
    assert_eq!(rig.emitted("fishy.monitoring.data_fault.changed.v1").await.len(), 1);
    assert_eq!(rig.emitted("fishy.monitoring.trigger.fired.v1").await.len(), 0);

    // The sensor is repaired on day 32; the error over its last days still stands, and now it counts.
    let status = rig.watermark(day(33)).await;
    assert_eq!(status.open_faults, []);
    let mut changes = rig.emitted("fishy.monitoring.data_fault.changed.v1").await;
    // The first readings of the repaired sensor look like spikes to a check that has seen nothing move for days.
    changes.retain(|change| change["kind"] == "stuck");
    assert_eq!(changes.len(), 2, "{changes:?}");
    assert_eq!(changes[0]["id"], changes[1]["id"], "the same fault, ended");
    assert_eq!(changes[1]["until_ms"], hour(32 * 24 - 1));
    assert_eq!(rig.client.faults("oxygen", true).await.unwrap().items, []);
    let mut faults = rig.client.faults("oxygen", false).await.unwrap().items;
    faults.retain(|fault| fault.kind != "spike");
    assert_eq!((faults.len(), &*faults[0].kind), (1, "stuck"));

    let request = |without_faults| DatasetRequest {
        as_of_ms: day(60),
        from_ms: day(0),
        to_ms: day(40),
        without_faults,
        newest: None,
    };
    let all = rig.client.dataset("oxygen", &request(false)).await.unwrap();
    let clean = rig.client.dataset("oxygen", &request(true)).await.unwrap();
    assert_eq!((all.len(), clean.len()), (40 * 24, 28 * 24));
    assert!(clean.iter().all(|row| row.inputs["temp"] != Some(17.0)));
    rig.end().await;
}

async fn a_pen_of_its_own_has_faults_of_its_own(on: On) {
    let rig = Rig::start(on).await;
    rig.monitor(json!({"series_label": "pen", "ranges": {"temp": [-2.0, 40.0]}})).await;
    let mut records = Vec::new();
    for at in 0..24 {
        for pen in ["pen-1", "pen-2"] {
            let value = if pen == "pen-2" && at >= 20 { 99.0 } else { temp(at) };
            let mut record = record_with(&format!("{pen}-{at}"), at, "1", &json!(value));
            record["labels"] = json!({"pen": pen});
            records.push(record);
        }
    }
    rig.publish(&records).await;
    let status = rig.watermark(day(1)).await;
    let faults: Vec<_> = status.open_faults.iter().map(|fault| (&*fault.series, &*fault.kind)).collect();
    assert_eq!(faults, [("pen-2", "range")]);
    assert_eq!(
        status.open_faults[0].message,
        "temp of pen-2: 99 is outside -2 to 40, 1 readings, from 2011-01-26T20:00:00.000Z"
    );
    rig.end().await;
}

async fn probes_are_compared_and_quiet_ones_and_clocks_found_where_it_is_asked_for(on: On) {
    let rig = Rig::start(on).await;
    rig.champion(1, "1", &[]).await;
    let probes = json!({"quiet": true, "clock": true, "neighbours": true});
    rig.monitor(json!({"series_label": "pen", "features": ["temp"], "probes": probes})).await;
    let mut records = Vec::new();
    for at in 0..50 * 24 {
        for (place, pen) in ["a", "b", "c", "d"].into_iter().enumerate() {
            let days = at / 24;
            let noise = ((at * 7 + place as i64 * 13) as f64 * 0.7).sin() * 0.05;
            let reading = match pen {
                // Fouled from day 30 to 40.
                "b" if (30..40).contains(&days) => temp(at) + noise - 1.0,
                // It only jitters.
                "c" if days >= 44 => 15.0 + (at % 3) as f64 * 0.001,
                _ => temp(at) + noise + place as f64 * 0.1,
            };
            let mut record = record_with(&format!("{pen}-{at}"), at, "1", &json!(reading));
            record["labels"] = json!({"pen": pen});
            // The clock of d is set forward by twenty minutes.
            let shift = if pen == "d" && at >= 20 * 24 { 20 * 60_000 } else { 0 };
            record["time_ms"] = json!(hour(at) + shift);
            records.push(record);
        }
    }
    for chunk in records.chunks(1_000) {
        rig.publish(chunk).await;
    }
    // Closed in two parts: what the checks know is kept in between.
    rig.watermark(day(35)).await;
    let open = rig.client.faults("oxygen", true).await.unwrap().items;
    let told: Vec<_> = open.iter().map(|fault| (fault.series.as_str(), fault.kind.as_str())).collect();
    assert_eq!(told, [("b", "apart")], "{open:?}");
    assert!(open[0].message.contains("less than its neighbours let expect"), "{}", open[0].message);
    let status = rig.watermark(day(50)).await;
    assert_eq!(status.triggers, 0);
    let all = rig.client.faults("oxygen", false).await.unwrap().items;
    let of = |kind: &str| -> Vec<(&str, i64, bool)> {
        let some = all.iter().filter(|fault| fault.kind == kind);
        some.map(|fault| (fault.series.as_str(), (fault.since_ms - day(0)) / 86_400_000, fault.until_ms.is_some()))
            .collect()
    };
    assert_eq!(of("clock"), [("d", 20, true)], "{all:?}");
    assert_eq!(of("quiet"), [("c", 44, false)], "{all:?}");
    assert!(of("apart").contains(&("b", 30, true)), "{all:?}");
    let alerts = rig.client.alerts(true).await.unwrap().items;
    assert!(
        alerts.iter().any(|alert| alert.summary.contains("Probe of c: temperature only jitters around")),
        "{alerts:?}"
    );
    // Rows of the fouled probe are not learnt from.
    let truth = |at: i64, pen: &str| GroundTruthItem {
        prediction_id: format!("{pen}-{at}"),
        value: 7.0,
        time_ms: Some(hour(at)),
    };
    let items = ["a", "b"].iter().flat_map(|pen| (800..824).map(|at| truth(at, pen))).collect();
    rig.client.ground_truth(&GroundTruth { items }).await.unwrap();
    let request = DatasetRequest { as_of_ms: day(60), from_ms: 0, to_ms: day(60), without_faults: true, newest: None };
    let rows = rig.client.dataset("oxygen", &request).await.unwrap();
    assert!(rows.len() == 24 && rows.iter().all(|row| row.id.starts_with("a-")), "{}", rows.len());
    rig.end().await;
}
