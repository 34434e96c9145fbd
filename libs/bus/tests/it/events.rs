use std::sync::Arc;

use fishy_bus::Handler;
use fishy_core::{Error, ErrorCode, TraceContext};
use futures::FutureExt;
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;

use crate::fixture::{Fixture, LIMIT, event, on_both_buses, take, telling};

on_both_buses!(
    events_go_to_the_patterns_that_match,
    subscribers_of_one_queue_share_its_events,
    a_failing_handler_gets_the_event_again,
    handlers_run_in_the_trace_of_the_event,
    closing_waits_for_handlers,
    names_are_checked,
);

async fn events_go_to_the_patterns_that_match(Fixture { bus, .. }: Fixture) {
    let (all, mut of_all) = telling(|_, _| Ok(()));
    let (some, mut of_some) = telling(|_, _| Ok(()));
    bus.subscribe("a", &["*"], all).await.unwrap();
    // The second pattern ends within a word, which RabbitMQ's own patterns cannot say.
    bus.subscribe("b", &["fishy.x.made.v1", "fishy.y.al*"], some).await.unwrap();
    for (id, kind) in [
        ("1", "fishy.x.made.v1"),
        ("2", "fishy.x.made.v2"),
        ("3", "fishy.y.alias.v1"),
        ("4", "fishy.y.other.v1"),
        ("5", "fishy.y.al"),
    ] {
        bus.publish(event(id, kind)).await.unwrap();
    }
    bus.publish(event("6", "fishy.x.made.v1")).await.unwrap();
    assert_eq!(take(&mut of_all, 6).await, ["1", "2", "3", "4", "5", "6"]);
    assert_eq!(take(&mut of_some, 4).await, ["1", "3", "5", "6"]);
    bus.close().await;
    assert!(of_some.try_recv().is_err(), "nothing else came");
}

async fn subscribers_of_one_queue_share_its_events(Fixture { bus, .. }: Fixture) {
    let (handler, mut handled) = telling(|_, _| Ok(()));
    bus.subscribe("a", &["fishy.*"], Arc::clone(&handler)).await.unwrap();
    bus.subscribe("a", &["fishy.*"], handler).await.unwrap();
    let mut expected = Vec::new();
    for number in 10..30 {
        expected.push(number.to_string());
        bus.publish(event(&number.to_string(), "fishy.x.made.v1")).await.unwrap();
    }
    let mut taken = take(&mut handled, 20).await;
    taken.sort();
    assert_eq!(taken, expected);
    bus.close().await;
    assert!(handled.try_recv().is_err(), "each came once");
}

async fn a_failing_handler_gets_the_event_again(Fixture { bus, .. }: Fixture) {
    let (handler, mut handled) =
        telling(|id, tried| if id == "1" && tried < 3 { Err(Error::unavailable("not yet")) } else { Ok(()) });
    bus.subscribe("a", &["*"], handler).await.unwrap();
    bus.publish(event("1", "fishy.x.made.v1")).await.unwrap();
    bus.publish(event("2", "fishy.x.made.v1")).await.unwrap();
    assert_eq!(take(&mut handled, 4).await, ["1", "1", "1", "2"]);
}

async fn handlers_run_in_the_trace_of_the_event(Fixture { bus, .. }: Fixture) {
    let (sender, mut traces) = mpsc::unbounded_channel();
    let handler: Handler = Arc::new(move |_| {
        let sender = sender.clone();
        async move {
            tokio::task::yield_now().await;
            sender.send(TraceContext::current()).map_err(|_| Error::internal("nobody listens"))
        }
        .boxed()
    });
    bus.subscribe("a", &["*"], handler).await.unwrap();
    let trace = TraceContext::new_root();
    let event = trace.scope(async { event("1", "fishy.x.made.v1") }).await;
    bus.publish(event).await.unwrap();
    let seen = take(&mut traces, 1).await.remove(0).unwrap();
    assert_eq!(seen.trace_id, trace.trace_id);
    assert_ne!(seen.span_id, trace.span_id, "one hop further");
}

async fn closing_waits_for_handlers(Fixture { bus, .. }: Fixture) {
    let (started, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (done, mut is_done) = mpsc::unbounded_channel();
    let handler: Handler = Arc::new({
        let (started, go_on) = (Arc::clone(&started), Arc::clone(&go_on));
        move |_| {
            let (started, go_on, done) = (Arc::clone(&started), Arc::clone(&go_on), done.clone());
            async move {
                started.notify_one();
                go_on.notified().await;
                done.send(()).map_err(|_| Error::internal("nobody listens"))
            }
            .boxed()
        }
    });
    bus.subscribe("a", &["*"], handler).await.unwrap();
    let publishing = tokio::spawn({
        let bus = bus.clone();
        async move { bus.publish(event("1", "fishy.x.made.v1")).await }
    });
    timeout(LIMIT, started.notified()).await.unwrap();
    let mut closing = Box::pin(bus.close());
    assert!(closing.as_mut().now_or_never().is_none(), "the handler is still at work");
    go_on.notify_one();
    timeout(LIMIT, closing).await.unwrap();
    assert!(is_done.try_recv().is_ok(), "handled before the bus was closed");
    publishing.await.unwrap().unwrap();
    assert!(!bus.is_healthy());
    let error = bus.publish(event("2", "fishy.x.made.v1")).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Unavailable);
}

async fn names_are_checked(Fixture { bus, .. }: Fixture) {
    for name in ["", "a b", "a#", "dead"] {
        let (handler, _) = telling(|_, _| Ok(()));
        let error = bus.subscribe(name, &["*"], handler).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidArgument, "{name:?}");
    }
    assert_eq!(bus.stream("a b").await.err().unwrap().code(), ErrorCode::InvalidArgument);
}
