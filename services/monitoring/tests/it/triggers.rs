use fishy_contracts::pipelines::RunStatus;
use serde_json::{Value, json};

use crate::rig::{On, Rig, day, on_both, record_with};

on_both!(
    a_rising_error_fires_once_and_says_why,
    a_setback_and_an_open_run_hold_the_next_one_back,
    days_closed_together_decide_as_if_closed_one_by_one,
    the_budget_bounds_how_often,
    without_a_pipeline_the_decision_is_only_recorded,
    conditions_look_at_alarms_labels_and_time,
);

/// Predictions and labels of a calm month, then of a bad one: labels come after a week.
async fn feed(rig: &Rig, until_day: i64) {
    rig.predict(0..until_day * 24, "1").await;
    let bad = 20.min(until_day);
    rig.label(0..bad * 24, 0.4).await;
    rig.label(bad * 24..until_day * 24, 0.9).await;
}

fn fired(items: &[Value]) -> Vec<i64> {
    let mut days: Vec<i64> = items
        .iter()
        .filter(|item| item["fired"] == true)
        .map(|item| (item["as_of_ms"].as_i64().unwrap() - day(0)) / 86_400_000)
        .collect();
    days.sort_unstable();
    days
}

async fn a_rising_error_fires_once_and_says_why(on: On) {
    let rig = Rig::start(on).await;
    rig.champion(1, "1", &[]).await;
    rig.monitor(json!({})).await;
    feed(&rig, 30).await;
    for midnight in 1..=28 {
        rig.watermark(day(midnight)).await;
    }
    assert_eq!(rig.triggers().await.len(), 1, "quiet so far: the newest evaluation alone");
    assert_eq!(rig.emitted("fishy.monitoring.trigger.fired.v1").await, Vec::<Value>::new());
    // Bad rows of day 20 arrive on day 27: on day 29 two of seven days are bad, 0.54 against 0.40.
    let status = rig.watermark(day(29)).await;
    assert_eq!(status.triggers, 1, "{:?}", rig.triggers().await);
    assert!((status.rolling_error.unwrap() - (5.0 * 0.4 + 2.0 * 0.9) / 7.0).abs() < 0.01, "{status:?}");
    assert!((status.baseline_error.unwrap() - 0.4).abs() < 1e-6);
    let emitted = rig.emitted("fishy.monitoring.trigger.fired.v1").await;
    assert_eq!(emitted.len(), 1);
    assert_eq!((&emitted[0]["pipeline"], &emitted[0]["as_of_ms"]), (&json!("retrain"), &json!(day(29))));
    assert_eq!(emitted[0]["inputs"]["rolling_labels"], 168);
    assert_eq!(status.last_trigger.unwrap().id, emitted[0]["id"]);
    let audit = rig.emitted("fishy.audit.entry.recorded.v1").await;
    let entries: Vec<_> = audit.iter().filter(|entry| entry["action"] == "monitoring:trigger").collect();
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0]["details"]["id"], emitted[0]["id"]);
    rig.watermark(day(29)).await;
    rig.watermark(day(12)).await;
    assert_eq!(rig.client.status("oxygen").await.unwrap().triggers, 1, "a watermark never goes back");
    rig.end().await;
}

async fn a_setback_and_an_open_run_hold_the_next_one_back(on: On) {
    let rig = Rig::start(on).await;
    rig.champion(1, "1", &[]).await;
    let trigger = json!({"cooldown_days": 1.0, "backoff_days": 5.0, "budget_days": 1.0, "budget_burst": 9.0});
    rig.monitor(json!({"trigger": trigger})).await;
    feed(&rig, 60).await;
    rig.watermark(day(33)).await;
    assert_eq!(fired(&rig.triggers().await), [29], "the run of day 29 has not finished");
    let newest = rig.triggers().await.remove(0);
    let held_back = newest["inputs"]["held_back_by"].clone();
    assert_eq!(held_back, json!(["the run of an earlier trigger has not finished"]));

    let id = rig.client.status("oxygen").await.unwrap().last_trigger.unwrap().id;
    rig.run_finished(&id, RunStatus::Rejected).await;
    rig.watermark(day(34)).await;
    assert_eq!(fired(&rig.triggers().await), [29, 34], "five days after the one that was rejected");
    let id = rig.client.status("oxygen").await.unwrap().last_trigger.unwrap().id;
    rig.run_finished(&id, RunStatus::Failed).await;
    rig.watermark(day(38)).await;
    assert_eq!(fired(&rig.triggers().await), [29, 34]);
    let newest = rig.triggers().await.remove(0);
    assert!(newest["inputs"]["held_back_by"][0].as_str().unwrap().starts_with("back-off"), "{newest}");
    rig.watermark(day(39)).await;
    let id = rig.client.status("oxygen").await.unwrap().last_trigger.unwrap().id;
    rig.run_finished(&id, RunStatus::Succeeded).await;
    rig.watermark(day(40)).await;
    assert_eq!(fired(&rig.triggers().await), [29, 34, 39, 40], "after a success only the cool-down counts");
    rig.end().await;
}

async fn days_closed_together_decide_as_if_closed_one_by_one(on: On) {
    let rig = Rig::start(on).await;
    rig.champion(1, "1", &[]).await;
    rig.monitor(json!({"trigger": {"pipeline": "", "cooldown_days": 2.0, "budget_days": 4.0}})).await;
    feed(&rig, 50).await;
    for midnight in 1..=50 {
        rig.watermark(day(midnight)).await;
    }
    let one_by_one = rig.triggers().await;
    rig.end().await;

    let rig = Rig::start(on).await;
    rig.champion(1, "1", &[]).await;
    rig.monitor(json!({"trigger": {"pipeline": "", "cooldown_days": 2.0, "budget_days": 4.0}})).await;
    feed(&rig, 50).await;
    rig.watermark(day(50)).await;
    let together = rig.triggers().await;
    assert!(fired(&together).len() > 3, "{:?}", fired(&together));
    let figures = |items: &[Value]| items.iter().map(|item| item["inputs"].clone()).collect::<Vec<_>>();
    assert_eq!(figures(&together), figures(&one_by_one));
    rig.end().await;
}

async fn the_budget_bounds_how_often(on: On) {
    let rig = Rig::start(on).await;
    rig.champion(1, "1", &[]).await;
    let trigger = json!({"pipeline": "", "cooldown_days": 0.0, "budget_days": 10.0, "budget_burst": 1.0});
    rig.monitor(json!({"trigger": trigger})).await;
    feed(&rig, 90).await;
    rig.watermark(day(75)).await;
    assert_eq!(fired(&rig.triggers().await), [29, 39, 49, 59, 69]);
    rig.end().await;
}

async fn without_a_pipeline_the_decision_is_only_recorded(on: On) {
    let rig = Rig::start(on).await;
    rig.champion(1, "1", &[]).await;
    rig.monitor(json!({"trigger": {"pipeline": ""}})).await;
    feed(&rig, 30).await;
    let status = rig.watermark(day(29)).await;
    assert_eq!(status.triggers, 1);
    assert_eq!(rig.emitted("fishy.monitoring.trigger.fired.v1").await, Vec::<Value>::new());
    rig.end().await;
}

async fn conditions_look_at_alarms_labels_and_time(on: On) {
    let rig = Rig::start(on).await;
    let check = json!({"name": "gaps", "features": ["temp"],
        "tests": {"missing": {"alert": {"kind": "constant", "limit": 0.5}}}});
    let gaps = json!({"kind": "alarm", "check": "gaps"});
    let condition = json!({"kind": "any", "of": [
        {"kind": "all", "of": [gaps, {"kind": "predictions", "at_least": 100}]},
        {"kind": "all", "of": [{"kind": "labels", "at_least": 24}, {"kind": "time", "days": 30.0}]},
    ]});
    let trigger = json!({"condition": condition, "only_condition": true, "budget_start": 2.0});
    rig.monitor(json!({"sensors": ["ph"], "checks": [check], "trigger": trigger})).await;
    rig.champion(1, "1", &[]).await;
    rig.predict(0..72, "1").await;
    let broken: Vec<_> = (72..120).map(|at| record_with(&format!("p-{at}"), at, "1", &json!(null))).collect();
    rig.publish(&broken).await;
    rig.watermark(day(5)).await;
    let fired =
        async || -> Vec<Value> { rig.triggers().await.into_iter().filter(|item| item["fired"] == true).collect() };
    let first = fired().await;
    assert_eq!(first.len(), 1, "{:?}", rig.triggers().await);
    assert_eq!(first[0]["as_of_ms"], day(5), "the alarm is of the fourth day, and known at the midnight after it");
    let reason = first[0]["reason"].as_str().unwrap();
    assert!(reason.starts_with("check gaps has 1 alarms of alert or worse and 120 answers"), "{reason}");
    assert_eq!(first[0]["inputs"]["condition"]["predictions"], 120);
    let audited = rig.emitted("fishy.audit.entry.recorded.v1").await;
    let entry = audited.iter().find(|entry| entry["action"] == "monitoring:trigger").unwrap();
    assert_eq!(entry["details"]["inputs"]["condition"]["alarms"][0]["check"], "gaps");

    rig.run_finished(first[0]["id"].as_str().unwrap(), RunStatus::Succeeded).await;
    rig.predict(120..40 * 24, "1").await;
    rig.label(120..200, 0.5).await;
    rig.watermark(day(40)).await;
    let second = fired().await.remove(0);
    assert_eq!(second["as_of_ms"], day(35), "thirty days later: {:?}", second["reason"]);
    let bad = json!({"name": "oxygen", "deployment": "oxygen", "trigger": {"condition": {"kind": "moon"}}});
    assert_eq!(rig.send("PUT", "/api/v1/monitors/oxygen", &bad.to_string()).await.0, 400);
    rig.end().await;
}
