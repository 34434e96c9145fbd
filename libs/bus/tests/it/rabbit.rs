use fishy_bus::Bus;
use fishy_core::{Env, Error, ErrorCode, Event};

use crate::fixture::{Broker, Fixture, event, on_rabbit, take, telling, until};

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_can_handle_is_kept_apart() {
    on_rabbit(async |fixture: Fixture| {
        let bus = fixture.bus;
        let (handler, mut handled) = telling(|id, _| match id {
            "hopeless" => Err(Error::invalid("never")),
            "always" => Err(Error::unavailable("always busy")),
            "panic" => panic!("a bug in a handler"),
            _ => Ok(()),
        });
        bus.subscribe("a", &["fishy.*"], handler).await.unwrap();
        let broker = Broker::connect(&fixture.options.prefix).await;
        let dead_id = |body: Vec<u8>| serde_json::from_slice::<Event>(&body).unwrap().id;

        for id in ["hopeless", "panic"] {
            bus.publish(event(id, "fishy.x.made.v1")).await.unwrap();
            assert_eq!(dead_id(broker.take_dead().await), id);
            assert_eq!(take(&mut handled, 1).await, [id], "tried once");
        }
        bus.publish(event("always", "fishy.x.made.v1")).await.unwrap();
        assert_eq!(dead_id(broker.take_dead().await), "always");
        let mut tries = 0;
        while handled.try_recv().is_ok() {
            tries += 1;
        }
        assert_eq!(tries, 33, "three times for each of eleven deliveries");
        broker.publish("fishy.x.made.v1", b"not json").await;
        assert_eq!(broker.take_dead().await, b"not json");

        bus.publish(event("good", "fishy.x.made.v1")).await.unwrap();
        assert_eq!(take(&mut handled, 1).await, ["good"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_wait_for_a_subscriber_that_is_away() {
    on_rabbit(async |fixture: Fixture| {
        let subscriber = fixture.connect().await;
        let (handler, mut handled) = telling(|_, _| Ok(()));
        subscriber.subscribe("a", &["fishy.*"], handler.clone()).await.unwrap();
        subscriber.close().await;
        for id in ["1", "2", "3"] {
            fixture.bus.publish(event(id, "fishy.x.made.v1")).await.unwrap();
        }
        let subscriber = fixture.connect().await;
        subscriber.subscribe("a", &["fishy.*"], handler).await.unwrap();
        assert_eq!(take(&mut handled, 3).await, ["1", "2", "3"]);
        subscriber.close().await;
        // Acknowledged, so they do not come again.
        let (handler, mut again) = telling(|_, _| Ok(()));
        fixture.bus.subscribe("a", &["fishy.*"], handler).await.unwrap();
        fixture.bus.publish(event("4", "fishy.x.made.v1")).await.unwrap();
        assert_eq!(take(&mut again, 1).await, ["4"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_whose_queue_is_deleted_makes_it_again() {
    on_rabbit(async |fixture: Fixture| {
        let (handler, mut handled) = telling(|_, _| Ok(()));
        fixture.bus.subscribe("a", &["fishy.*"], handler).await.unwrap();
        assert!(fixture.bus.is_healthy());
        Broker::connect(&fixture.options.prefix).await.delete("a").await;
        // Published until one arrives: while the queue is away, events for it go nowhere.
        let bus = fixture.bus.clone();
        let publisher = tokio::spawn(async move {
            loop {
                bus.publish(event("1", "fishy.x.made.v1")).await.unwrap();
            }
        });
        assert_eq!(take(&mut handled, 1).await, ["1"]);
        publisher.abort();
        until(|| fixture.bus.is_healthy()).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_of_another_kind_is_refused_at_the_start() {
    on_rabbit(async |fixture: Fixture| {
        Broker::connect(&fixture.options.prefix).await.declare_classic("a").await;
        let (handler, _) = telling(|_, _| Ok(()));
        let error = fixture.bus.subscribe("a", &["*"], handler).await.unwrap_err();
        assert!(error.chain().contains("inequivalent arg"), "{}", error.chain());
        assert!(fixture.bus.is_healthy(), "the connection and other subscriptions are not hurt");
    })
    .await;
}

#[tokio::test]
async fn a_wrong_url_is_refused_without_repeating_it() {
    for url in ["amqp//user:secret@host", "http://user:secret@host"] {
        let error = Bus::connect(url, Env::system()).await.err().unwrap();
        assert_eq!(error.code(), ErrorCode::InvalidArgument);
        assert!(!error.chain().contains("secret"), "{}", error.chain());
    }
}
