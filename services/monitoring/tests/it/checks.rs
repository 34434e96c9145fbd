use fishy_contracts::monitoring::{CheckWindow, GroundTruth, Observation, Observations, Severity};
use serde_json::{Value, json};

use crate::rig::{On, Rig, answer, day, hour, inputs, on_both, record_with, temp, training, truth};

on_both!(
    windows_tumble_and_slide_against_the_training_data,
    late_data_change_exactly_the_windows_of_checks,
    slices_are_bounded_and_alarm_for_themselves,
    references_move_as_they_are_asked_to,
    a_broken_probe_is_no_drift,
    errors_are_judged_by_the_past_and_estimated_before_the_truth,
    a_changed_check_begins_anew,
    two_replicas_write_a_window_once,
    the_pen_that_moves_an_alarm_is_named,
    a_replay_gives_the_same_numbers,
    a_long_reference_is_thinned_evenly,
);

fn check(change: &Value) -> Value {
    let mut check = json!({
        "name": "drift", "features": ["temp"],
        "tests": {"ks": {"warning": {"kind": "constant", "limit": 0.4}, "alert": {"kind": "constant", "limit": 0.7}}},
    });
    check.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    check
}

async fn history(rig: &Rig, hours: std::ops::Range<i64>) {
    let observation = |at| Observation {
        id: format!("o-{at}"),
        time_ms: hour(at),
        arrived_ms: hour(at),
        inputs: inputs(at),
        value: 6.0,
        labels: std::collections::BTreeMap::new(),
    };
    rig.client.observations("oxygen", &Observations { items: hours.map(observation).collect() }).await.unwrap();
}

async fn windows(rig: &Rig, check: &str) -> Vec<CheckWindow> {
    rig.client.checks("oxygen", check, 0, day(9_000)).await.unwrap().items
}

/// Predictions of a pen, with water so much warmer.
fn pen(hours: std::ops::Range<i64>, pen: &str, warmer: f64) -> Vec<Value> {
    let one = |at| {
        let mut record = record_with(&format!("{pen}-{at}"), at, "1", &json!(temp(at) + warmer));
        record["labels"] = json!({"pen": pen});
        record
    };
    hours.map(one).collect()
}

async fn windows_tumble_and_slide_against_the_training_data(on: On) {
    let rig = Rig::start(on).await;
    let sliding = check(&json!({"name": "sliding", "window_hours": 48, "every_hours": 12}));
    rig.monitor(json!({"checks": [check(&json!({})), sliding]})).await;
    history(&rig, -20 * 24..0).await;
    rig.champion(1, "1", &training(-20, 0)).await;
    rig.publish(&pen(0..72, "a", 0.0)).await;
    rig.publish(&pen(72..96, "a", 5.0)).await;
    rig.watermark(day(4)).await;

    let daily = windows(&rig, "drift").await;
    let ends: Vec<i64> = daily.iter().map(|window| window.end_ms).collect();
    assert_eq!(ends, [day(1), day(2), day(3), day(4)]);
    assert!(daily.iter().all(|window| window.rows == 24 && window.start_ms == window.end_ms - 24 * 3_600_000));
    let used = daily[0].reference.as_ref().unwrap();
    assert_eq!((used.from_ms, used.to_ms, used.version.as_deref(), used.rows), (day(-20), day(0), Some("1"), 480));
    let severities: Vec<_> = daily.iter().map(|window| window.figures[0].severity).collect();
    assert_eq!(severities, [None, None, None, Some(Severity::Alert)], "{daily:?}");
    assert!(daily[3].figures[0].p_value.unwrap() < 1e-6);

    let sliding = windows(&rig, "sliding").await;
    let ends: Vec<i64> = sliding.iter().map(|window| (window.end_ms - day(0)) / 3_600_000).collect();
    assert_eq!(ends, [12, 24, 36, 48, 60, 72, 84, 96]);
    let rows: Vec<u64> = sliding.iter().map(|window| window.rows).collect();
    assert_eq!(rows, [12, 24, 36, 48, 48, 48, 48, 48]);
    assert!(sliding[0].figures.is_empty() && sliding[0].not_tested["ks temp"].contains("12 readings"));
    assert_eq!(sliding[7].figures[0].severity, Some(Severity::Warning), "half of it is warm");

    let alarms = rig.client.alarms("oxygen", true).await.unwrap().items;
    let open: Vec<_> = alarms.iter().map(|alarm| (alarm.check.as_str(), alarm.severity, alarm.since_ms)).collect();
    assert_eq!(open.len(), 2, "{open:?}");
    assert!(
        open.contains(&("drift", Severity::Alert, day(4))) && open.contains(&("sliding", Severity::Warning, day(4)))
    );
    assert_eq!(rig.emitted("fishy.monitoring.alarm.changed.v1").await.len(), 2);

    rig.publish(&pen(96..120, "a", 0.0)).await;
    rig.watermark(day(5)).await;
    let alarms = rig.client.alarms("oxygen", false).await.unwrap().items;
    let ended = alarms.iter().find(|alarm| alarm.check == "drift").unwrap();
    assert_eq!(ended.until_ms, Some(day(5)));
    rig.end().await;
}

async fn late_data_change_exactly_the_windows_of_checks(on: On) {
    let rig = Rig::start(on).await;
    let missing = json!({"missing": {"alert": {"kind": "constant", "limit": 0.5}}, "mae": {}});
    rig.monitor(
        json!({"checks": [check(&json!({"window_hours": 24, "every_hours": 8, "tests": missing, "min_rows": 2}))]}),
    )
    .await;
    rig.predict(0..96, "1").await;
    rig.watermark(day(4)).await;
    let before = windows(&rig, "drift").await;
    rig.publish(&[record_with("late", 40, "1", &json!(null))]).await;
    rig.client.ground_truth(&GroundTruth { items: vec![truth(41, answer(41) + 2.0, None)] }).await.unwrap();
    let after = windows(&rig, "drift").await;
    assert_eq!(before.len(), after.len());
    let changed: Vec<i64> = before
        .iter()
        .zip(&after)
        .filter(|(before, after)| before != after)
        .map(|(_, after)| (after.end_ms - day(0)) / 3_600_000)
        .collect();
    assert_eq!(changed, [48, 56, 64], "the windows that hold hours 40 and 41");
    let one = after.iter().find(|window| window.end_ms == hour(48)).unwrap();
    assert_eq!((one.rows, one.labels), (25, 1));
    assert!((one.figures[0].value - 1.0 / 25.0).abs() < 1e-12, "{:?}", one.figures);
    rig.end().await;
}

async fn slices_are_bounded_and_alarm_for_themselves(on: On) {
    let rig = Rig::start(on).await;
    let fixed = json!({"kind": "fixed", "from": "2011-01-26", "to": "2011-01-28"});
    let sliced = json!({"slices": ["pen"], "max_slices": 2, "reference": fixed, "correction": "holm",
        "tests": {"ks": {"alert": {"kind": "p_value", "below": 0.001}}}});
    rig.monitor(json!({"series_label": "pen", "checks": [check(&sliced)]})).await;
    rig.publish(&[pen(0..72, "a", 0.0), pen(0..48, "b", 0.0), pen(48..72, "b", 4.0), pen(0..70, "c", 0.0)].concat())
        .await;
    rig.watermark(day(3)).await;
    let last = windows(&rig, "drift").await.pop().unwrap();
    let of = |slice: &str| last.figures.iter().find(|figure| figure.slice == slice).cloned().unwrap();
    let slices: Vec<&str> = last.figures.iter().map(|figure| figure.slice.as_str()).collect();
    assert_eq!(slices, ["", "pen=a", "pen=b", "pen=other"]);
    assert!((last.other_share["pen"] - 22.0 / 70.0).abs() < 1e-9);
    assert_eq!((of("pen=a").severity, of("pen=b").severity), (None, Some(Severity::Alert)));
    let (raw, corrected) = (of("pen=b").p_value.unwrap(), of("pen=b").p_corrected.unwrap());
    assert!(corrected > raw && corrected < 1e-6, "{raw} {corrected}");
    let alarms = rig.client.alarms("oxygen", true).await.unwrap().items;
    assert!(alarms.iter().any(|alarm| alarm.slice == "pen=b"), "{alarms:?}");
    assert!(alarms.iter().all(|alarm| alarm.slice != "pen=a"));
    rig.end().await;
}

async fn references_move_as_they_are_asked_to(on: On) {
    let rig = Rig::start(on).await;
    let rolling = check(&json!({"name": "rolling", "reference": {"kind": "rolling", "days": 3}}));
    let season = check(&json!({"name": "season", "reference": {"kind": "last_year", "days": 2}}));
    rig.monitor(json!({"checks": [rolling, season]})).await;
    // Warm summers, cold winters: only what is unlike the same season is news.
    rig.publish(&pen(0..8 * 24, "a", 6.0)).await;
    rig.publish(&pen(365 * 24..367 * 24, "a", 6.0)).await;
    rig.publish(&pen(367 * 24..368 * 24, "a", 12.0)).await;
    rig.watermark(day(368)).await;
    let rolling = windows(&rig, "rolling").await;
    let at = |days: i64| rolling.iter().find(|window| window.end_ms == day(days)).unwrap();
    assert!(at(1).reference.is_none() && at(1).not_tested["ks temp"].contains("nothing to compare with"));
    assert_eq!(at(5).reference.as_ref().map(|used| (used.from_ms, used.to_ms)), Some((day(1), day(4))));
    assert_eq!(at(5).figures[0].severity, None);
    assert_eq!(at(368).figures[0].severity, Some(Severity::Alert));
    let season = windows(&rig, "season").await;
    let at = |days: i64| season.iter().find(|window| window.end_ms == day(days)).unwrap();
    assert_eq!(at(367).reference.as_ref().map(|used| (used.from_ms, used.to_ms)), Some((day(-1), day(4))));
    assert_eq!((at(367).figures[0].severity, at(368).figures[0].severity), (None, Some(Severity::Alert)));
    // A late row of last year changes what this year was compared with.
    let before = windows(&rig, "season").await;
    rig.publish(&[record_with("late", 75, "1", &json!(40.0))]).await;
    let after = windows(&rig, "season").await;
    let changed: Vec<i64> = before
        .iter()
        .zip(&after)
        .filter(|(before, after)| before != after)
        .map(|(_, after)| (after.end_ms - day(0)) / 86_400_000)
        .collect();
    assert_eq!(changed, [4, 367, 368], "days with rows whose span or reference holds the hour");
    rig.end().await;
}

async fn a_broken_probe_is_no_drift(on: On) {
    let rig = Rig::start(on).await;
    let fixed = json!({"kind": "fixed", "from": "2011-01-26", "to": "2011-01-29"});
    let two = json!({"reference": fixed, "features": ["temp", "ph"], "min_rows": 5});
    rig.monitor(json!({"ranges": {"temp": [0.0, 40.0]}, "checks": [check(&two)]})).await;
    rig.predict(0..96, "1").await;
    let broken: Vec<Value> = (96..120).map(|at| record_with(&format!("p-{at}"), at, "1", &json!(99.0))).collect();
    rig.publish(&broken).await;
    rig.watermark(day(5)).await;
    let faults = rig.client.faults("oxygen", true).await.unwrap().items;
    assert!(faults.iter().any(|fault| fault.kind == "range"), "{faults:?}");
    let last = windows(&rig, "drift").await.pop().unwrap();
    assert_eq!(last.rows, 24);
    assert!(last.not_tested["ks temp"].contains("0 readings without a data fault"), "{last:?}");
    assert!(last.figures.iter().any(|figure| figure.feature == "ph"), "the other probe is looked at");
    let alarms = rig.client.alarms("oxygen", false).await.unwrap().items;
    assert!(alarms.iter().all(|alarm| alarm.feature != "temp"), "{alarms:?}");
    rig.end().await;
}

async fn errors_are_judged_by_the_past_and_estimated_before_the_truth(on: On) {
    let rig = Rig::start(on).await;
    let past = json!({"kind": "standard_deviation", "times": 4, "windows": 10});
    let learnt = json!({"kind": "resampled", "quantile": 0.99, "resamples": 50});
    let errors =
        check(&json!({"name": "errors", "tests": {"mae": {"alert": past, "warning": learnt}, "estimated_mae": {}},
        "features": [], "reference": {"kind": "fixed", "from": "2011-01-26", "to": "2011-02-05"}}));
    rig.monitor(json!({"features": ["temp", "ph"], "checks": [errors]})).await;
    rig.predict(0..18 * 24, "1").await;
    let items = |hours: std::ops::Range<i64>, error: f64| {
        let one = |at: i64| truth(at, answer(at) + error + 0.1 * (at as f64).sin(), Some(hour(at)));
        GroundTruth { items: hours.map(one).collect() }
    };
    rig.client.ground_truth(&items(0..15 * 24, 0.5)).await.unwrap();
    rig.client.ground_truth(&items(15 * 24..16 * 24, 2.0)).await.unwrap();
    rig.watermark(day(18)).await;
    let all = windows(&rig, "errors").await;
    let figure = |days: i64, test: &str| {
        let window = all.iter().find(|window| window.end_ms == day(days)).unwrap();
        window.figures.iter().find(|figure| figure.test.as_str() == test).cloned()
    };
    assert_eq!(figure(5, "mae").unwrap().alert_limit, None, "too few windows to know");
    let usual = figure(15, "mae").unwrap();
    assert!(usual.alert_limit.unwrap() < 0.6 && usual.warning_limit.unwrap() < 0.6, "{usual:?}");
    assert_ne!(usual.severity, Some(Severity::Alert), "{usual:?}");
    assert_eq!(figure(16, "mae").unwrap().severity, Some(Severity::Alert));
    assert_eq!(figure(18, "mae"), None, "no labels yet");
    let estimated = figure(18, "estimated_mae").unwrap().value;
    assert!((estimated - 0.5).abs() < 0.1, "as it erred in the reference: {estimated}");
    // The realised figure lies in the band of its estimate while the model errs as it did, and far above it when not.
    let band = |days: i64| figure(days, "estimated_mae").unwrap().band.unwrap();
    for days in [5, 14] {
        let (band, realised) = (band(days), figure(days, "mae").unwrap().value);
        assert!(band.holds(realised) && band.upper - band.lower < 0.3, "day {days}: {realised} {band:?}");
    }
    assert!(!band(16).holds(figure(16, "mae").unwrap().value), "{:?}", band(16));
    assert_eq!(figure(15, "mae").unwrap().band, None, "what is known has none");

    // A correction of what came in late moves the limits of the windows after it.
    let before = figure(15, "mae").unwrap().alert_limit.unwrap();
    rig.client.ground_truth(&items(9 * 24..10 * 24, 0.9)).await.unwrap();
    let all = windows(&rig, "errors").await;
    let window = all.iter().find(|window| window.end_ms == day(15)).unwrap();
    let after = window.figures.iter().find(|figure| figure.test.as_str() == "mae").unwrap().alert_limit.unwrap();
    assert!(after > before + 0.2, "{before} {after}");
    rig.end().await;
}

async fn a_changed_check_begins_anew(on: On) {
    let rig = Rig::start(on).await;
    let share = |limit: f64| {
        let tests = json!({"missing": {"alert": {"kind": "constant", "limit": limit}}});
        json!({"checks": [check(&json!({"tests": tests}))]})
    };
    rig.monitor(share(0.5)).await;
    let gaps: Vec<Value> = (0..48).map(|at| record_with(&format!("p-{at}"), at, "1", &json!(null))).collect();
    rig.publish(&gaps).await;
    rig.watermark(day(2)).await;
    assert_eq!(rig.client.alarms("oxygen", true).await.unwrap().items.len(), 1);
    rig.monitor(share(2.0)).await;
    let after = windows(&rig, "drift").await;
    assert_eq!(after.iter().map(|window| window.figures[0].severity).collect::<Vec<_>>(), [None, None]);
    assert!(rig.client.alarms("oxygen", true).await.unwrap().items.is_empty());
    rig.monitor(share(0.5)).await;
    assert_eq!(windows(&rig, "drift").await.len(), 2);
    assert_eq!(rig.client.alarms("oxygen", true).await.unwrap().items.len(), 1);
    rig.monitor(json!({})).await;
    let (status, body) = rig.send("GET", "/api/v1/monitors/oxygen/checks?check=drift", "").await;
    assert_eq!(status, 404, "{body}");
    assert!(windows(&rig, "").await.is_empty());
    assert!(rig.client.alarms("oxygen", true).await.unwrap().items.is_empty(), "an alarm ends with its check");
    let (status, body) = rig.send("GET", "/api/v1/monitors/oxygen/checks?to_ms=x", "").await;
    assert_eq!(status, 400, "{body}");
    rig.end().await;
}

async fn two_replicas_write_a_window_once(on: On) {
    if matches!(on, On::Sqlite) {
        return;
    }
    let rig = Rig::start(on).await;
    let other = rig.replica().await;
    let missing = json!({"missing": {"alert": {"kind": "constant", "limit": 0.5}}});
    rig.monitor(json!({"checks": [check(&json!({"tests": missing, "window_hours": 24, "every_hours": 6}))]})).await;
    let gaps: Vec<Value> = (0..240).map(|at| record_with(&format!("p-{at}"), at, "1", &json!(null))).collect();
    rig.publish(&gaps).await;
    let watermark = fishy_contracts::monitoring::Watermark { time_ms: day(10) };
    let (one, two) =
        tokio::join!(rig.client.watermark("oxygen", watermark), other.client.watermark("oxygen", watermark));
    one.unwrap();
    two.unwrap();
    assert_eq!(windows(&rig, "drift").await.len(), 40);
    assert_eq!(rig.client.alarms("oxygen", false).await.unwrap().items.len(), 1);
    assert_eq!(rig.emitted("fishy.monitoring.alarm.changed.v1").await.len(), 1);
    other.close().await;
    rig.end().await;
}

async fn the_pen_that_moves_an_alarm_is_named(on: On) {
    let rig = Rig::start(on).await;
    let fixed = json!({"kind": "fixed", "from": "2011-01-26", "to": "2011-02-05"});
    let sliced = check(
        &json!({"slices": ["pen"], "reference": fixed, "tests": {"psi": {"alert": {"kind": "constant", "limit": 3.0}}}}),
    );
    rig.monitor(json!({"checks": [sliced]})).await;
    rig.publish(&[pen(0..288, "a", 0.0), pen(0..264, "b", 0.0), pen(264..288, "b", 3.0)].concat()).await;
    // The error rises with the drift.
    let error = |at: i64| if at < 264 { 0.1 } else { 2.0 };
    let items = (0..288)
        .flat_map(|at| ["a", "b"].map(|pen| (at, pen)))
        .map(|(at, pen)| fishy_contracts::monitoring::GroundTruthItem {
            prediction_id: format!("{pen}-{at}"),
            value: answer(at) + error(at),
            time_ms: Some(hour(at)),
        })
        .collect();
    rig.client.ground_truth(&GroundTruth { items }).await.unwrap();
    rig.watermark(day(12)).await;
    let explanation = rig.client.explain("oxygen").await.unwrap();
    let test = &explanation.tests[0];
    assert_eq!((test.check.as_str(), test.end_ms, test.severity), ("drift", day(12), Severity::Alert));
    assert_eq!((test.parts[0].slice.as_str(), test.parts[0].feature.as_str()), ("pen=b", "temp"));
    assert!(test.parts[0].share > 0.9, "{:?}", test.parts);
    let correlation = &explanation.correlations[0];
    assert_eq!((correlation.feature.as_str(), correlation.windows), ("temp", 12));
    assert!((-1.0..=1.0).contains(&correlation.correlation), "{correlation:?}");
    assert_eq!(rig.send("GET", "/api/v1/monitors/unknown/explanation", "").await.0, 404);
    rig.end().await;
}

async fn a_replay_gives_the_same_numbers(on: On) {
    let rig = Rig::start(on).await;
    let past = json!({"kind": "standard_deviation", "times": 3, "windows": 10});
    let tests = json!({"ks": {"alert": past, "warning": {"kind": "resampled", "quantile": 0.9, "resamples": 20}}, "mae": {}, "mmd": {}});
    let rolling = check(&json!({"name": "rolling", "window_hours": 48, "every_hours": 12, "slices": ["pen"],
        "reference": {"kind": "rolling", "days": 4}, "features": ["temp", "ph"], "tests": tests}));
    rig.monitor(json!({"series_label": "pen", "checks": [check(&json!({})), rolling]})).await;
    history(&rig, -20 * 24..0).await;
    rig.champion(1, "1", &training(-20, 0)).await;
    // Day by day, with a late row and a correction in between.
    for days in 0..12 {
        rig.publish(&pen(days * 24..(days + 1) * 24, "a", 0.2 * days as f64)).await;
        rig.watermark(day(days + 1)).await;
        if days == 8 {
            rig.publish(&[record_with("late", 100, "1", &json!(17.0))]).await;
            let label = |at: i64, error: f64| fishy_contracts::monitoring::GroundTruthItem {
                prediction_id: format!("a-{at}"),
                value: answer(at) + error,
                time_ms: Some(hour(at)),
            };
            let items = (60..160).map(|at| label(at, 0.5)).collect();
            rig.client.ground_truth(&GroundTruth { items }).await.unwrap();
            rig.client.ground_truth(&GroundTruth { items: vec![label(70, 2.0)] }).await.unwrap();
        }
        if days == 9 {
            rig.champion(2, "2", &training(0, 6)).await;
        }
    }
    let replay = rig.client.replay("oxygen", day(0), day(12)).await.unwrap();
    assert_eq!((replay.differences, replay.without_rows), (Vec::new(), 0));
    // Hours, days, daily windows, and half-daily ones.
    assert_eq!((replay.windows, replay.equal), (12 * 24 + 12 + 12 + 24, 12 * 24 + 12 + 12 + 24));
    // After a restart nothing is left in memory that could make them equal.
    let rig = rig.restart().await;
    let replay = rig.client.replay("oxygen", day(0), day(12)).await.unwrap();
    assert_eq!((replay.windows, replay.differences), (replay.equal, Vec::new()));

    // Somebody who changes a row behind its back is found out.
    let mut tx = rig.db.begin().await.unwrap();
    tx.execute("update predictions set inputs = '{\"temp\":99.0}' where prediction_id = 'a-130'", vec![])
        .await
        .unwrap();
    tx.commit().await.unwrap();
    let replay = rig.client.replay("oxygen", day(4), day(8)).await.unwrap();
    let changed: std::collections::BTreeSet<&str> =
        replay.differences.iter().map(|difference| difference.window.as_str()).collect();
    assert!(changed.contains("day") && changed.contains("drift") && changed.contains("rolling"), "{changed:?}");
    assert!(replay.equal < replay.windows);
    for bad in ["from_ms=5&to_ms=5", "from_ms=0&to_ms=99999999999999", "from_ms=1"] {
        let (status, said) = rig.send("GET", &format!("/api/v1/monitors/oxygen/replay?{bad}"), "").await;
        assert!((400..500).contains(&status), "{bad}: {status} {said}");
    }
    rig.end().await;
}

/// Of 5,001 to 10,000 rows every other one is looked at, beginning with the first.
async fn a_long_reference_is_thinned_evenly(on: On) {
    let rig = Rig::start(on).await;
    // Every other reading is far away, and so is the window: it looks like drift unless it is those that are taken.
    let minute = |at: i64| {
        let mut record = record_with(&format!("r-{at:05}"), 0, "1", &json!(f64::from(u8::from(at % 2 == 0)) * 40.0));
        record["time_ms"] = json!(day(0) + at * 60_000);
        record
    };
    let records: Vec<Value> = (0..5_760).map(minute).collect();
    for part in records.chunks(1_000) {
        rig.publish(part).await;
    }
    let warm: Vec<Value> = (96..120).map(|at| record_with(&format!("w-{at}"), at, "1", &json!(40.0))).collect();
    rig.publish(&warm).await;
    let fixed = json!({"kind": "fixed", "from": "2011-01-26", "to": "2011-01-30"});
    rig.monitor(json!({"sensors": ["ph"], "checks": [check(&json!({"reference": fixed}))]})).await;
    rig.watermark(day(5)).await;
    let windows = windows(&rig, "drift").await;
    let last = windows.iter().find(|window| window.end_ms == day(5)).unwrap();
    assert_eq!(last.reference.as_ref().unwrap().rows, 2_880);
    assert_eq!(last.figures[0].value.to_bits(), 0.0_f64.to_bits(), "{last:?}");
    let first = windows.iter().find(|window| window.end_ms == day(1)).unwrap();
    assert!((first.figures[0].value - 0.5).abs() < 1e-9, "{first:?}");
    rig.end().await;
}
