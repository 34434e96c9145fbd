use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fishy_core::{Env, Error, Event, Result};
use fishy_db::{Db, Relay, RelayOptions, args};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::fixture::{Fixture, count, event, on_both_engines};

on_both_engines!(
    events_arrive_in_order_and_only_when_committed,
    failures_are_retried_in_order_and_hopeless_ones_die,
    an_event_is_received_once,
);

const LIMIT: Duration = Duration::from_secs(20);

/// A poll so slow that only the commit's bell can explain what arrives.
pub fn quick() -> RelayOptions {
    RelayOptions {
        poll: Duration::from_mins(1),
        min_backoff: Duration::from_millis(1),
        max_backoff: Duration::from_millis(5),
        max_attempts: 3,
        ..RelayOptions::default()
    }
}

async fn emit(db: &Db, numbers: impl IntoIterator<Item = usize>) {
    let mut tx = db.begin().await.unwrap();
    for number in numbers {
        tx.emit(&event(number)).await.unwrap();
    }
    tx.commit().await.unwrap();
}

async fn take(arrived: &mut mpsc::UnboundedReceiver<String>, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for _ in 0..count {
        ids.push(timeout(LIMIT, arrived.recv()).await.unwrap().unwrap());
    }
    ids
}

fn publisher(sender: mpsc::UnboundedSender<String>) -> impl Fn(Event) -> BoxFuture<'static, Result<()>> {
    move |event| {
        let sender = sender.clone();
        async move { sender.send(event.id).map_err(|_| Error::internal("nobody listens")) }.boxed()
    }
}

async fn events_arrive_in_order_and_only_when_committed(fixture: Fixture) {
    let db = fixture.with_items().await.db;
    emit(&db, 0..100).await;
    let (sender, mut arrived) = mpsc::unbounded_channel();
    let shutdown = CancellationToken::new();
    let relay = Relay::spawn_with(db.clone(), publisher(sender), Env::system(), shutdown.clone(), quick());
    let expected = |range: std::ops::Range<usize>| range.map(|n| format!("e{n}")).collect::<Vec<_>>();
    assert_eq!(take(&mut arrived, 100).await, expected(0..100), "of before the start, over several batches");
    let mut lost = db.begin().await.unwrap();
    lost.emit(&event(1000)).await.unwrap();
    lost.rollback().await;
    for n in 100..105 {
        emit(&db, [n]).await;
        assert_eq!(take(&mut arrived, 1).await, expected(n..n + 1), "woken by the commit");
    }
    shutdown.cancel();
    timeout(LIMIT, relay).await.unwrap().unwrap();
    assert!(arrived.recv().await.is_none(), "nothing came twice");
    assert_eq!(count(&db, "outbox").await, 0);
}

async fn failures_are_retried_in_order_and_hopeless_ones_die(fixture: Fixture) {
    let db = fixture.with_items().await.db;
    emit(&db, 0..6).await;
    let (sender, mut arrived) = mpsc::unbounded_channel();
    let tries = Arc::new(Mutex::new(HashMap::<String, usize>::new()));
    let counted = Arc::clone(&tries);
    let publish = move |event: Event| {
        let tried = {
            let mut tries = counted.lock().unwrap();
            let tried = tries.entry(event.id.clone()).or_default();
            *tried += 1;
            *tried
        };
        let result = match (event.id.as_str(), tried) {
            // More often than max_attempts: an absent broker kills no event.
            ("e1", 1..=10) => Err(Error::unavailable("broker away")),
            ("e3", _) => Err(Error::invalid("hopeless")),
            _ => sender.send(event.id).map_err(|_| Error::internal("nobody listens")),
        };
        async move { result }.boxed()
    };
    let shutdown = CancellationToken::new();
    let relay = Relay::spawn_with(db.clone(), publish, Env::system(), shutdown.clone(), quick());
    assert_eq!(take(&mut arrived, 5).await, ["e0", "e1", "e2", "e4", "e5"]);
    shutdown.cancel();
    timeout(LIMIT, relay).await.unwrap().unwrap();
    assert_eq!(tries.lock().unwrap()["e1"], 11);
    assert_eq!(tries.lock().unwrap()["e3"], 3);
    assert_eq!(count(&db, "outbox").await, 0);
    let dead = db.query("select id, event, attempts, error from outbox_dead", args![]).await.unwrap();
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].get::<String>("id").unwrap(), "e3");
    assert_eq!(dead[0].get::<i64>("attempts").unwrap(), 3);
    assert_eq!(dead[0].get::<String>("error").unwrap(), "hopeless");
    assert_eq!(serde_json::from_str::<Event>(&dead[0].get::<String>("event").unwrap()).unwrap(), event(3));
}

async fn an_event_is_received_once(fixture: Fixture) {
    let db = fixture.with_items().await.db;
    let receive = async |consumer: &str, commit: bool| {
        let mut tx = db.begin().await.unwrap();
        let is_new = tx.receive(consumer, "e1").await.unwrap();
        if commit {
            tx.commit().await.unwrap();
        } else {
            tx.rollback().await;
        }
        is_new
    };
    assert!(receive("a", false).await);
    assert!(receive("a", true).await, "the one before was rolled back");
    assert!(!receive("a", true).await);
    assert!(receive("b", true).await, "each consumer has its own");
    assert_eq!(db.purge_inbox(0).await.unwrap(), 0);
    assert_eq!(db.purge_inbox(i64::MAX).await.unwrap(), 2);
    assert!(receive("a", true).await);
}
