//! Data that an older version has kept.

use fishy_contracts::monitoring::{DatasetRequest, GroundTruth};
use serde_json::json;

use crate::rig::{On, Rig, answer, day, hour, on_both, record, temp, truth};

on_both!(true_values_that_were_kept_with_their_predictions_are_kept);

/// The tables as the eighth migration left them: of four predictions `p-0` to `p-2` one has a true value, one a corrected one,
/// one none; the prediction of `p-3` has not come.
fn kept() -> Vec<String> {
    let prediction = |at: i64, truth: &str, is_corrected: i64| {
        format!(
            "insert into predictions(prediction_id, deployment, version, time_ms, inputs, labels, output, value, arrived_ms,
               is_corrected)
             values ('p-{at}', 'oxygen', '1', {}, '{{\"temp\":{}}}', '', {}, {truth}, {is_corrected})",
            hour(at),
            temp(at),
            answer(at)
        )
    };
    let known = |at: i64, value: f64, arrived_ms: i64, is_joined: i64| {
        format!(
            "insert into ground_truth(prediction_id, value, arrived_ms, received_ms, actor, is_joined)
             values ('p-{at}', {value}, {arrived_ms}, {}, 'a', {is_joined})",
            // By the clock of the tests: one that waits for too long is forgotten.
            day(2_999)
        )
    };
    let (first, second, waiting) = (answer(0) + 0.5, answer(1) + 2.5, answer(3) + 1.0);
    vec![
        prediction(0, &format!("{first}, {}", day(7)), 0),
        prediction(1, &format!("{second}, {}", day(9)), 1),
        prediction(2, "null, null", 0),
        known(0, first, day(7), 1),
        known(1, second, day(9), 1),
        known(3, waiting, day(8), 0),
        format!(
            "insert into ground_truth_history(prediction_id, value, arrived_ms, actor, replaced_ms)
             values ('p-1', {}, {}, 'a', {})",
            answer(1) + 0.5,
            day(7),
            day(9)
        ),
        format!(
            "insert into deployments(deployment, newest_ms, predictions, labels) values ('oxygen', {}, 3, 2)",
            hour(2)
        ),
    ]
}

async fn true_values_that_were_kept_with_their_predictions_are_kept(on: On) {
    let rig = Rig::start_over(on, 8, &kept()).await;
    rig.monitor(json!({})).await;
    let errors_as_of = async |as_of_ms| {
        let request = DatasetRequest { as_of_ms, from_ms: day(0), to_ms: day(1), without_faults: false, newest: None };
        let rows = rig.client.dataset("oxygen", &request).await.unwrap();
        let tenths = |error: f64| (error * 10.0).round() / 10.0;
        rows.iter().map(|row| (row.id.clone(), tenths(row.value - row.prediction.unwrap()))).collect::<Vec<_>>()
    };
    let named = |id: &str, error: f64| (id.to_owned(), error);
    assert_eq!(errors_as_of(day(8)).await, [named("p-0", 0.5), named("p-1", 0.5)], "before the correction");
    assert_eq!(errors_as_of(day(9)).await, [named("p-0", 0.5), named("p-1", 2.5)]);

    rig.publish(&[record(3, "1")]).await;
    rig.client.ground_truth(&GroundTruth { items: vec![truth(2, answer(2), Some(day(9)))] }).await.unwrap();
    let status = rig.watermark(day(1)).await;
    assert_eq!((status.predictions, status.labels), (4, 4), "a label and a prediction that the other waited for");
    let windows = rig.client.windows("oxygen", "day", 0, day(9)).await.unwrap().items;
    assert_eq!((windows.len(), windows[0].predictions, windows[0].labels), (1, 4, 4));
    assert!((windows[0].mae.unwrap() - 1.0).abs() < 1e-9, "{windows:?}");
    rig.end().await;
}
