use std::pin::pin;

use fishy_contracts::monitoring::Watermark;
use serde_json::{Value, json};

use crate::rig::{On, Rig, day, on_both};

on_both!(a_restart_goes_on_where_it_was, a_closing_that_breaks_off_anywhere_loses_and_doubles_nothing);

async fn feed(rig: &Rig) {
    rig.champion(1, "1", &[]).await;
    rig.monitor(json!({})).await;
    rig.predict(0..32 * 24, "1").await;
    rig.label(0..20 * 24, 0.4).await;
    rig.label(20 * 24..32 * 24, 0.9).await;
}

async fn a_restart_goes_on_where_it_was(on: On) {
    let rig = Rig::start(on).await;
    feed(&rig).await;
    rig.watermark(day(28)).await;
    let rig = rig.restart().await;
    // The stream may bring again what was not confirmed.
    rig.predict(31 * 24..33 * 24, "1").await;
    let status = rig.watermark(day(30)).await;
    assert_eq!((status.predictions, status.labels, status.triggers), (33 * 24, 32 * 24, 1));
    assert_eq!(status.last_trigger.unwrap().as_of_ms, day(29));
    let rig = rig.restart().await;
    let status = rig.watermark(day(30)).await;
    assert_eq!(status.triggers, 1);
    assert_eq!(rig.emitted("fishy.monitoring.trigger.fired.v1").await.len(), 1);
    rig.end().await;
}

/// Polls a future so many times, then drops it where it stands.
async fn break_off<F: Future>(future: F, polls: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut polled = 0;
    std::future::poll_fn(|context| {
        polled += 1;
        if polled > polls {
            return std::task::Poll::Ready(None);
        }
        future.as_mut().poll(context).map(Some)
    })
    .await
}

async fn a_closing_that_breaks_off_anywhere_loses_and_doubles_nothing(on: On) {
    let expected = Rig::start(on).await;
    feed(&expected).await;
    expected.watermark(day(32)).await;

    let rig = Rig::start(on).await;
    feed(&rig).await;
    let mut polls = 1;
    while break_off(rig.client.watermark("oxygen", Watermark { time_ms: day(32) }), polls).await.is_none() {
        polls += 1;
    }
    assert!(polls > 3, "it was broken off several times");
    let figures = async |rig: &Rig| {
        let triggers: Vec<Value> =
            rig.triggers().await.iter().map(|item| json!([item["as_of_ms"], item["inputs"]])).collect();
        let days = rig.client.windows("oxygen", "day", 0, day(99)).await.unwrap().items;
        let hours = rig.client.windows("oxygen", "hour", 0, day(99)).await.unwrap().items;
        (triggers, days, hours, rig.emitted("fishy.monitoring.trigger.fired.v1").await.len())
    };
    let (a, b) = (figures(&expected).await, figures(&rig).await);
    assert_eq!(a.3, 1);
    assert_eq!(a, b);
    expected.end().await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replicas_close_each_day_once() {
    let rig = Rig::start(On::Postgres).await;
    feed(&rig).await;
    let replica = rig.replica().await;
    let watermark = Watermark { time_ms: day(32) };
    let (a, b) = tokio::join!(rig.client.watermark("oxygen", watermark), replica.client.watermark("oxygen", watermark));
    assert_eq!((a.unwrap().triggers, b.unwrap().triggers), (1, 1));
    assert_eq!(rig.emitted("fishy.monitoring.trigger.fired.v1").await.len(), 1);
    assert_eq!(rig.client.windows("oxygen", "day", 0, day(99)).await.unwrap().items.len(), 32);
    replica.close().await;
    rig.end().await;
}
