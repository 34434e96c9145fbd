//! What the metrics count.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use axum::http::Method;
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

use crate::grpc::{request, send};
use crate::world::{INFER, INVOKE, columns, serving};

/// Counters by name and labels.
#[derive(Default)]
struct Counters(Mutex<BTreeMap<String, Arc<AtomicU64>>>);

impl Recorder for Counters {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let labels = key.labels().map(|label| format!("{}={}", label.key(), label.value()));
        let name = [key.name().to_owned()].into_iter().chain(labels).collect::<Vec<_>>().join(" ");
        Counter::from_arc(Arc::clone(self.0.lock().unwrap().entry(name).or_default()))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

impl Counters {
    fn requests(&self, deployment: &str, status: u16) -> u64 {
        let name = format!("fishy_inference_requests_total deployment={deployment} status={status}");
        self.0.lock().unwrap().get(&name).map_or(0, |count| count.load(Ordering::Relaxed))
    }
}

#[tokio::test]
async fn requests_are_counted_by_their_status_also_when_they_cannot_be_read() {
    let counters = Counters::default();
    let _guard = metrics::set_default_local_recorder(&counters);
    let (_world, app) = serving().await;
    assert_eq!(app.post(INFER, &columns("a", 10.0)).await.status, 200);
    assert_eq!(app.call(Method::POST, INFER, &[], "{").await.status, 400);
    assert_eq!(app.call(Method::POST, INVOKE, &[("content-type", "application/json")], "{").await.status, 400);
    let mut cut = request("b", 10.0);
    cut.raw[0].pop();
    assert_eq!(send(&app.client, &cut, &[]).await.0, 3);
    let own = |status| counters.requests("virtual-oxygen", status);
    assert_eq!((own(200), own(400)), (1, 3));

    let mut asked = request("c", 10.0);
    asked.model = "nobody".into();
    assert_eq!(send(&app.client, &asked, &[]).await.0, 5);
    assert_eq!(app.post("/v2/models/nobody/infer", &columns("d", 10.0)).await.status, 404);
    assert_eq!((counters.requests("unknown", 404), counters.requests("nobody", 404)), (2, 0));
}
