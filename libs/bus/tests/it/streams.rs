use std::sync::atomic::{AtomicUsize, Ordering};

use fishy_core::{Error, ErrorCode};

use crate::fixture::{Broker, Fixture, on_both_buses, on_rabbit, take, telling_batches};

on_both_buses!(batches_come_in_order_and_again_after_a_failure, every_consumer_gets_every_batch);

fn texts(taken: Vec<(u64, String)>) -> Vec<String> {
    taken.into_iter().map(|(_, text)| text).collect()
}

async fn batches_come_in_order_and_again_after_a_failure(Fixture { bus, .. }: Fixture) {
    let failures = AtomicUsize::new(0);
    // A failure that is not retryable, and more often than events are tried: a stream's order is kept all the same.
    let (handler, mut handled) = telling_batches(move |text| {
        let fails = text == "2" && failures.fetch_add(1, Ordering::SeqCst) < 6;
        if fails { Err(Error::internal("a bug")) } else { Ok(()) }
    });
    let stream = bus.stream("s").await.unwrap();
    stream.consume("c", None, handler).await.unwrap();
    for number in 1..=4 {
        stream.publish(number.to_string().into()).await.unwrap();
    }
    let taken = take(&mut handled, 10).await;
    let offsets: Vec<u64> = taken.iter().map(|(offset, _)| *offset).collect();
    assert_eq!(offsets, [0, 1, 1, 1, 1, 1, 1, 1, 2, 3]);
    assert_eq!(texts(taken).concat(), "1222222234");
    bus.close().await;
    assert_eq!(stream.publish("5".into()).await.unwrap_err().code(), ErrorCode::Unavailable);
}

async fn every_consumer_gets_every_batch(Fixture { bus, .. }: Fixture) {
    let (first, mut of_first) = telling_batches(|_| Ok(()));
    let (second, mut of_second) = telling_batches(|_| Ok(()));
    let stream = bus.stream("s").await.unwrap();
    stream.consume("c", None, first).await.unwrap();
    stream.consume("d", None, second).await.unwrap();
    for number in 0..100 {
        stream.publish(format!("{number} ").into()).await.unwrap();
    }
    let expected = (0..100).map(|number| format!("{number} ")).collect::<Vec<_>>().concat();
    assert_eq!(texts(take(&mut of_first, 100).await).concat(), expected);
    assert_eq!(texts(take(&mut of_second, 100).await).concat(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_goes_on_after_the_offset_it_names() {
    on_rabbit(async |fixture: Fixture| {
        let stream = fixture.bus.stream("s").await.unwrap();
        for number in 0..50 {
            stream.publish(number.to_string().into()).await.unwrap();
        }
        for (after, first) in [(None, 0), (Some(0), 1), (Some(19), 20), (Some(48), 49)] {
            let bus = fixture.connect().await;
            let (handler, mut handled) = telling_batches(|_| Ok(()));
            bus.stream("s").await.unwrap().consume("c", after, handler).await.unwrap();
            let expected: Vec<(u64, String)> = (first..50).map(|number| (number, number.to_string())).collect();
            assert_eq!(take(&mut handled, expected.len()).await, expected, "after {after:?}");
            bus.close().await;
        }
        // At the end, only what is new comes.
        let (handler, mut handled) = telling_batches(|_| Ok(()));
        stream.consume("c", Some(49), handler).await.unwrap();
        stream.publish("50".into()).await.unwrap();
        assert_eq!(take(&mut handled, 1).await, [(50, "50".to_owned())]);
    })
    .await;
}

/// An operator may delete a stream: its consumers' offsets are then beyond the new one's end.
#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_stream_is_made_again_and_read_from_its_start() {
    on_rabbit(async |fixture: Fixture| {
        let stream = fixture.bus.stream("s").await.unwrap();
        for number in 0..20 {
            stream.publish(number.to_string().into()).await.unwrap();
        }
        Broker::connect(&fixture.options.prefix).await.delete("stream.s").await;
        assert_eq!(stream.publish("lost".into()).await.unwrap_err().code(), ErrorCode::Unavailable);
        stream.publish("new".into()).await.unwrap();
        let (handler, mut handled) = telling_batches(|_| Ok(()));
        stream.consume("c", Some(19), handler).await.unwrap();
        assert_eq!(take(&mut handled, 1).await, [(0, "new".to_owned())]);
    })
    .await;
}
