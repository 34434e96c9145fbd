use fishy_contracts::monitoring::{DatasetRequest, GroundTruth, Observation, Observations};
use serde_json::json;

use crate::rig::{On, Rig, answer, day, hour, inputs, on_both, record, record_with, truth};

on_both!(
    a_label_may_come_before_its_prediction,
    what_comes_twice_is_taken_once,
    a_correction_replaces_and_is_remembered,
    a_correction_may_come_before_the_prediction_too,
    fifty_thousand_true_values_are_taken_at_once_and_no_more,
    labels_and_predictions_that_cross_each_other_all_meet,
    history_is_taken_once,
);

async fn a_label_may_come_before_its_prediction(on: On) {
    let rig = Rig::start(on).await;
    rig.monitor(json!({})).await;
    rig.label(0..24, 0.5).await;
    assert_eq!(rig.client.status("oxygen").await.unwrap().labels, 0);
    rig.predict(0..24, "1").await;
    let status = rig.watermark(day(1)).await;
    assert_eq!((status.predictions, status.labels, status.watermark_ms), (24, 24, day(1)));
    let windows = rig.client.windows("oxygen", "day", 0, day(9)).await.unwrap().items;
    assert_eq!((windows.len(), windows[0].predictions, windows[0].labels), (1, 24, 24));
    assert!((windows[0].mae.unwrap() - 0.5).abs() < 1e-9);
    rig.end().await;
}

async fn what_comes_twice_is_taken_once(on: On) {
    let rig = Rig::start(on).await;
    rig.monitor(json!({})).await;
    rig.publish(&[record(0, "1"), record(1, "1"), record(0, "1")]).await;
    rig.publish(&[record(1, "1"), record(2, "1")]).await;
    let items = vec![truth(0, 5.0, None), truth(1, 6.0, None), truth(1, 6.0, None)];
    let receipt = rig.client.ground_truth(&GroundTruth { items: items.clone() }).await.unwrap();
    assert_eq!((receipt.accepted, receipt.duplicates), (2, 1));
    let receipt = rig.client.ground_truth(&GroundTruth { items }).await.unwrap();
    assert_eq!((receipt.accepted, receipt.duplicates), (0, 3));
    let status = rig.client.status("oxygen").await.unwrap();
    assert_eq!((status.predictions, status.labels), (3, 2));
    rig.end().await;
}

async fn a_correction_replaces_and_is_remembered(on: On) {
    let rig = Rig::start(on).await;
    rig.monitor(json!({})).await;
    rig.predict(0..24, "1").await;
    rig.label(0..24, 0.5).await;
    rig.watermark(day(8)).await;
    let wrong = GroundTruth { items: vec![truth(3, answer(3) + 12.5, Some(day(20)))] };
    assert_eq!(rig.client.ground_truth(&wrong).await.unwrap().accepted, 1);
    let status = rig.client.status("oxygen").await.unwrap();
    assert_eq!(status.labels, 24, "a correction is no new label");
    let windows = rig.client.windows("oxygen", "day", 0, day(1)).await.unwrap().items;
    assert!((windows[0].mae.unwrap() - 1.0).abs() < 1e-9, "{windows:?}");

    let value_as_of = async |as_of_ms| {
        let request =
            DatasetRequest { as_of_ms, from_ms: hour(3), to_ms: hour(4), without_faults: false, newest: None };
        let rows = rig.client.dataset("oxygen", &request).await.unwrap();
        rows.first().map(|row| row.value - answer(3))
    };
    assert_eq!(value_as_of(hour(3) + 7 * 86_400_000 - 1).await, None);
    assert!((value_as_of(day(19)).await.unwrap() - 0.5).abs() < 1e-9, "the old value until the new one arrived");
    assert!((value_as_of(day(20)).await.unwrap() - 12.5).abs() < 1e-9);
    let audit = rig.emitted("fishy.audit.entry.recorded.v1").await;
    let corrections: Vec<_> = audit.iter().filter(|entry| entry["action"] == "feedback:ground_truth").collect();
    assert_eq!(corrections.len(), 1);
    assert_eq!(corrections[0]["details"]["prediction_ids"], json!(["p-3"]));
    rig.end().await;
}

async fn a_correction_may_come_before_the_prediction_too(on: On) {
    let rig = Rig::start(on).await;
    rig.monitor(json!({})).await;
    for (error, arrived_ms) in [(0.5, day(7)), (2.0, day(9))] {
        let items = vec![truth(3, answer(3) + error, Some(arrived_ms))];
        assert_eq!(rig.client.ground_truth(&GroundTruth { items }).await.unwrap().accepted, 1);
    }
    rig.predict(0..24, "1").await;
    assert_eq!(rig.client.status("oxygen").await.unwrap().labels, 1);
    for (as_of_ms, error) in [(day(7), 0.5), (day(9), 2.0)] {
        let request = DatasetRequest { as_of_ms, from_ms: day(0), to_ms: day(1), without_faults: false, newest: None };
        let rows = rig.client.dataset("oxygen", &request).await.unwrap();
        assert_eq!(rows.len(), 1, "as of {as_of_ms}");
        assert!((rows[0].value - answer(3) - error).abs() < 1e-9, "as of {as_of_ms}");
        assert_eq!((rows[0].version.as_deref(), rows[0].prediction), (Some("1"), Some(answer(3))));
    }
    rig.end().await;
}

async fn fifty_thousand_true_values_are_taken_at_once_and_no_more(on: On) {
    let rig = Rig::start(on).await;
    rig.monitor(json!({})).await;
    rig.predict(0..100, "1").await;
    let mut items: Vec<_> = (0..50_000).map(|at| truth(at, 1.0, Some(day(1)))).collect();
    let receipt = rig.client.ground_truth(&GroundTruth { items: items.clone() }).await.unwrap();
    assert_eq!((receipt.accepted, receipt.duplicates), (50_000, 0));
    assert_eq!(rig.client.status("oxygen").await.unwrap().labels, 100);
    items.push(truth(60_000, 1.0, None));
    let error = rig.client.ground_truth(&GroundTruth { items }).await.unwrap_err();
    assert_eq!(error.code(), fishy_core::ErrorCode::ResourceExhausted, "{error}");
    assert!(error.message().contains("at most 50000"), "{error}");
    rig.end().await;
}

async fn labels_and_predictions_that_cross_each_other_all_meet(on: On) {
    let rig = std::sync::Arc::new(Rig::start(on).await);
    rig.monitor(json!({})).await;
    let mut tasks = Vec::new();
    for part in 0..20_i64 {
        let (a, b) = (rig.clone(), rig.clone());
        tasks.push(tokio::spawn(async move { a.predict(part * 30..(part + 1) * 30, "1").await }));
        tasks.push(tokio::spawn(async move { b.label(part * 30..(part + 1) * 30, 0.25).await }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let status = rig.watermark(day(25)).await;
    assert_eq!((status.predictions, status.labels), (600, 600));
    let windows = rig.client.windows("oxygen", "day", 0, day(30)).await.unwrap().items;
    assert_eq!(windows.iter().map(|window| window.labels).sum::<u64>(), 600);
    let hours = rig.client.windows("oxygen", "hour", 0, day(30)).await.unwrap().items;
    assert!(hours.len() == 600 && hours.iter().all(|window| window.labels == 1), "{}", hours.len());
    std::sync::Arc::into_inner(rig).unwrap().end().await;
}

async fn history_is_taken_once(on: On) {
    let rig = Rig::start(on).await;
    rig.monitor(json!({})).await;
    let items: Vec<Observation> = (0..48)
        .map(|at| Observation {
            id: format!("o-{at}"),
            time_ms: hour(at),
            arrived_ms: day(7) + hour(at) - hour(0),
            inputs: inputs(at),
            value: 6.0,
            labels: [("pen".to_owned(), "pen-1".to_owned())].into(),
        })
        .collect();
    let receipt = rig.client.observations("oxygen", &Observations { items: items.clone() }).await.unwrap();
    assert_eq!((receipt.accepted, receipt.duplicates), (48, 0));
    let receipt = rig.client.observations("oxygen", &Observations { items }).await.unwrap();
    assert_eq!((receipt.accepted, receipt.duplicates), (0, 48));
    rig.publish(&[record_with("live", 48, "1", &json!(null))]).await;
    let status = rig.client.status("oxygen").await.unwrap();
    assert_eq!((status.predictions, status.labels), (1, 48));
    rig.end().await;
}
