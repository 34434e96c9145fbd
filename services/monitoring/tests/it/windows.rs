use fishy_contracts::monitoring::{Observation, Observations};
use fishy_core::time::HOUR_MS;
use serde_json::json;

use crate::rig::{On, Rig, answer, day, hour, inputs, on_both, record, record_with, temp, training, truth};

on_both!(
    late_data_change_exactly_their_windows,
    hours_close_by_the_data_themselves,
    drift_is_measured_against_the_training_data,
    what_was_kept_before_the_monitor_gets_its_windows,
    rubbish_in_the_stream_does_no_harm,
    another_output_can_be_chosen_later,
    what_is_too_old_is_forgotten,
);

async fn late_data_change_exactly_their_windows(on: On) {
    let rig = Rig::start(on).await;
    rig.monitor(json!({})).await;
    rig.predict(0..72, "1").await;
    rig.watermark(day(3)).await;
    let before = rig.client.windows("oxygen", "day", 0, day(9)).await.unwrap().items;
    let hours = rig.client.windows("oxygen", "hour", 0, day(9)).await.unwrap().items;
    assert_eq!((before.len(), hours.len()), (3, 72));
    assert!(before.iter().all(|window| window.predictions == 24 && window.labels == 0 && window.mae.is_none()));

    rig.publish(&[record_with("late", 30, "1", &json!(null))]).await;
    rig.client
        .ground_truth(&fishy_contracts::monitoring::GroundTruth { items: vec![truth(31, answer(31) + 2.0, None)] })
        .await
        .unwrap();
    let after = rig.client.windows("oxygen", "day", 0, day(9)).await.unwrap().items;
    assert_eq!((&after[0], &after[2]), (&before[0], &before[2]));
    assert_eq!((after[1].predictions, after[1].labels), (25, 1));
    assert!((after[1].mae.unwrap() - 2.0).abs() < 1e-9 && (after[1].rmse.unwrap() - 2.0).abs() < 1e-9);
    assert!((after[1].missing["temp"] - 0.04).abs() < 1e-9);
    let hours_after = rig.client.windows("oxygen", "hour", 0, day(9)).await.unwrap().items;
    let changed: Vec<i64> = hours.iter().zip(&hours_after).filter(|(a, b)| a != b).map(|(a, _)| a.start_ms).collect();
    assert_eq!(changed, [hour(30), hour(31)]);
    rig.end().await;
}

async fn hours_close_by_the_data_themselves(on: On) {
    let rig = Rig::start(on).await;
    rig.monitor(json!({"lateness_ms": 2 * HOUR_MS})).await;
    rig.predict(0..30, "1").await;
    let hours = rig.client.windows("oxygen", "hour", 0, day(9)).await.unwrap().items;
    assert_eq!(hours.last().unwrap().start_ms, hour(26), "the newest is hour 29, two hours are waited for");
    assert_eq!(hours.len(), 27);
    assert_eq!(rig.client.windows("oxygen", "day", 0, day(9)).await.unwrap().items.len(), 1);
    assert_eq!(rig.client.status("oxygen").await.unwrap().watermark_ms, hour(27));
    // A clock that runs ahead by years closes nothing.
    rig.publish(&[record(24 * 4_000, "1")]).await;
    assert_eq!(rig.client.status("oxygen").await.unwrap().watermark_ms, hour(27));
    rig.end().await;
}

async fn drift_is_measured_against_the_training_data(on: On) {
    let rig = Rig::start(on).await;
    rig.monitor(json!({"trigger": {"psi_above": 0.5}})).await;
    let items = (-60 * 24..0)
        .map(|at| Observation {
            id: format!("o-{at}"),
            time_ms: hour(at),
            arrived_ms: hour(at),
            inputs: inputs(at),
            value: 6.0,
            labels: std::collections::BTreeMap::new(),
        })
        .collect();
    rig.client.observations("oxygen", &Observations { items }).await.unwrap();
    rig.champion(1, "1", &training(-60, 0)).await;
    rig.predict(0..10 * 24, "1").await;
    let status = rig.watermark(day(10)).await;
    assert_eq!(status.champion_version.as_deref(), Some("1"));
    let windows = rig.client.windows("oxygen", "day", 0, day(99)).await.unwrap().items;
    assert_eq!(windows.iter().map(|window| window.psi.len() + window.ks.len()).sum::<usize>(), 40);
    let evaluation = rig.triggers().await.remove(0);
    assert_eq!(evaluation["fired"], false);
    let psi = evaluation["inputs"]["psi"]["temp"].as_f64().unwrap();
    assert!(psi < 0.2, "the same water: {psi}");

    let warm: Vec<_> = (240..320).map(|at| record_with(&format!("p-{at}"), at, "1", &json!(temp(at) + 2.0))).collect();
    rig.publish(&warm).await;
    rig.watermark(day(13)).await;
    let fired: Vec<_> = rig.triggers().await.into_iter().filter(|item| item["fired"] == true).collect();
    assert_eq!(fired.len(), 1, "{:?}", rig.triggers().await);
    assert!(fired[0]["reason"].as_str().unwrap().starts_with("PSI of temp is "), "{}", fired[0]["reason"]);

    // A champion that has learnt the warm water is compared with it, also for days that were closed before.
    rig.champion(2, "2", &training(10, 13)).await;
    rig.publish(
        &(320..336).map(|at| record_with(&format!("p-{at}"), at, "2", &json!(temp(at) + 2.0))).collect::<Vec<_>>(),
    )
    .await;
    rig.watermark(day(14)).await;
    let evaluation = rig.triggers().await.remove(0);
    assert_eq!(evaluation["inputs"]["champion_version"], "2");
    let psi = evaluation["inputs"]["psi"]["temp"].as_f64().unwrap();
    assert!(psi > 0.5, "three of the seven days are cold: {psi}");
    rig.end().await;
}

async fn what_was_kept_before_the_monitor_gets_its_windows(on: On) {
    let rig = Rig::start(on).await;
    rig.predict(0..48, "1").await;
    rig.label(0..24, 0.5).await;
    rig.champion(1, "1", &[("fishy.evaluation.mae", "0.1".to_owned())]).await;
    let spec = json!({"trigger": {"error_ratio": 1.5}});
    let status = rig.monitor(spec).await;
    assert_eq!((status.predictions, status.labels, status.champion_version.as_deref()), (48, 24, Some("1")));
    rig.watermark(day(2)).await;
    let windows = rig.client.windows("oxygen", "day", 0, day(9)).await.unwrap().items;
    assert_eq!(windows.iter().map(|window| window.labels).collect::<Vec<_>>(), [24, 0]);
    assert_eq!(rig.client.windows("oxygen", "hour", 0, day(9)).await.unwrap().items.len(), 48);
    rig.end().await;
}

async fn rubbish_in_the_stream_does_no_harm(on: On) {
    let rig = Rig::start(on).await;
    rig.monitor(json!({})).await;
    let mut nameless = record(1, "1");
    nameless["deployment"] = json!("");
    let mut late = record(2, "1");
    late["time_ms"] = json!(-5);
    rig.publish(&[json!("rubbish"), json!({"id": 7}), nameless, late, record(3, "1")]).await;
    let status = rig.client.status("oxygen").await.unwrap();
    assert_eq!(status.predictions, 1);
    rig.end().await;
}

async fn another_output_can_be_chosen_later(on: On) {
    let rig = Rig::start(on).await;
    let mut two = record(0, "1");
    two["outputs"] = json!({"a": 1.0, "b": 4.0});
    rig.publish(&[two]).await;
    rig.monitor(json!({})).await;
    let items = vec![truth(0, 2.0, None)];
    rig.client.ground_truth(&fishy_contracts::monitoring::GroundTruth { items }).await.unwrap();
    rig.watermark(day(1)).await;
    let mae = async || rig.client.windows("oxygen", "day", 0, day(1)).await.unwrap().items[0].mae.unwrap();
    assert!((mae().await - 1.0).abs() < 1e-9);
    rig.monitor(json!({"output": "b"})).await;
    assert!((mae().await - 2.0).abs() < 1e-9);
    // The error that triggers look at is that of what is kept with the true value.
    let kept = rig.db.query("select output from ground_truth", vec![]).await.unwrap();
    assert!((kept[0].get::<f64>("output").unwrap() - 4.0).abs() < 1e-9);
    rig.end().await;
}

async fn what_is_too_old_is_forgotten(on: On) {
    let mut config = fishy_config::Config::default();
    config.monitoring.retention_days = 10;
    let rig = Rig::start_with(on, config).await;
    rig.monitor(json!({})).await;
    let history = Observation {
        id: "o".into(),
        time_ms: hour(0),
        arrived_ms: hour(0),
        inputs: inputs(0),
        value: 6.0,
        labels: std::collections::BTreeMap::new(),
    };
    rig.client.observations("oxygen", &Observations { items: vec![history] }).await.unwrap();
    rig.predict(0..48, "1").await;
    rig.label(0..48, 0.5).await;
    rig.predict(24 * 11..24 * 11 + 1, "1").await;
    // The background deletes after each batch; its turn is over when the rows are gone.
    let count = async |table: &str| {
        let rows = rig.db.query(&format!("select count(*) as n from {table}"), vec![]).await.unwrap();
        rows[0].get::<i64>("n").unwrap()
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), async {
        while count("predictions").await != 25 || count("observations").await != 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    assert_eq!(count("ground_truth").await, 24);
    rig.end().await;
}
