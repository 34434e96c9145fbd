use fishy_core::{Error, ErrorCode};

use crate::fixture::{Fixture, event, in_process, take, telling};

#[tokio::test]
async fn publishing_answers_when_every_subscriber_has_handled_the_event() {
    in_process(async |Fixture { bus, .. }: Fixture| {
        let (good, mut handled) = telling(|_, _| Ok(()));
        let (bad, mut refused) = telling(|id, tried| match (id, tried) {
            ("hopeless", _) => Err(Error::invalid("never")),
            ("later", 1..=3) => Err(Error::unavailable("not yet")),
            ("panic", 1) => panic!("a bug in a handler"),
            _ => Ok(()),
        });
        bus.publish(event("nobody", "fishy.x.made.v1")).await.unwrap();
        bus.subscribe("a", &["*"], good).await.unwrap();
        bus.subscribe("b", &["*"], bad).await.unwrap();
        bus.publish(event("1", "fishy.x.made.v1")).await.unwrap();
        assert_eq!(handled.try_recv().unwrap(), "1", "before the answer");
        assert_eq!(refused.try_recv().unwrap(), "1");

        let error = bus.publish(event("hopeless", "fishy.x.made.v1")).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidArgument);
        assert_eq!(take(&mut refused, 1).await, ["hopeless"]);
        assert!(refused.try_recv().is_err(), "not tried again");

        let error = bus.publish(event("later", "fishy.x.made.v1")).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::Unavailable);
        assert_eq!(take(&mut refused, 3).await.len(), 3);
        bus.publish(event("later", "fishy.x.made.v1")).await.unwrap();

        let error = bus.publish(event("panic", "fishy.x.made.v1")).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::Internal);
        bus.publish(event("panic", "fishy.x.made.v1")).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_batch_without_a_consumer_waits_and_is_unavailable_then() {
    in_process(async |Fixture { bus, .. }: Fixture| {
        let stream = bus.stream("s").await.unwrap();
        let error = stream.publish("early".into()).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::Unavailable);
        assert!(error.message().contains("has no consumer"), "{error}");

        let (handler, mut handled) = crate::fixture::telling_batches(|_| Ok(()));
        let waiting = tokio::spawn({
            let stream = stream.clone();
            async move { stream.publish("waiting".into()).await }
        });
        stream.consume("c", None, handler).await.unwrap();
        waiting.await.unwrap().unwrap();
        assert_eq!(handled.try_recv().unwrap().1, "waiting", "handled before the answer");
    })
    .await;
}
