use std::sync::Arc;

use fishy_bus::Bus;
use fishy_core::{Env, ErrorCode};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::fixture::{Fixture, amqp_url, event, on_rabbit, take, telling, telling_batches, until};

/// A way to the broker that can be cut.
pub struct Proxy {
    pub url: String,
    is_open: Arc<watch::Sender<bool>>,
}

impl Proxy {
    pub async fn start(is_open: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let target = amqp_url();
        let (before, host) = target.rsplit_once('@').unwrap();
        let (host, vhost) = host.split_once('/').map_or((host, String::new()), |(host, v)| (host, format!("/{v}")));
        let (url, host) = (format!("{before}@{address}{vhost}"), host.to_owned());
        let is_open = Arc::new(watch::Sender::new(is_open));
        let open = is_open.subscribe();
        tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut client, _)) = listener.accept().await {
                let (mut open, host) = (open.clone(), host.clone());
                connections.spawn(async move {
                    if !*open.borrow() {
                        return;
                    }
                    let mut broker = TcpStream::connect(host).await.unwrap();
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut client, &mut broker) => {}
                        _ = open.wait_for(|open| !open) => {}
                    }
                });
            }
        });
        Self { url, is_open }
    }

    pub fn cut(&self) {
        self.is_open.send_replace(false);
    }

    pub fn mend(&self) {
        self.is_open.send_replace(true);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_broker_is_found_again_and_nothing_is_lost() {
    on_rabbit(async |fixture: Fixture| {
        let proxy = Proxy::start(true).await;
        let bus = Bus::connect_with(&proxy.url, fixture.options.clone(), Env::system()).await.unwrap();
        let (handler, mut handled) = telling(|_, _| Ok(()));
        let (batch_handler, mut batches) = telling_batches(|_| Ok(()));
        bus.subscribe("a", &["fishy.*"], handler).await.unwrap();
        let stream = bus.stream("s").await.unwrap();
        stream.consume("c", None, batch_handler).await.unwrap();
        for round in 0..3 {
            let (before, during) = (format!("before {round}"), format!("during {round}"));
            bus.publish(event(&before, "fishy.x.made.v1")).await.unwrap();
            stream.publish(before.clone().into()).await.unwrap();
            assert_eq!(take(&mut handled, 1).await[0], before);
            assert_eq!(take(&mut batches, 1).await[0].1, before);

            proxy.cut();
            until(|| !bus.is_healthy()).await;
            let error = bus.publish(event("lost", "fishy.x.made.v1")).await.unwrap_err();
            assert_eq!(error.code(), ErrorCode::Unavailable);
            assert_eq!(stream.publish("lost".into()).await.unwrap_err().code(), ErrorCode::Unavailable);
            fixture.bus.publish(event(&during, "fishy.x.made.v1")).await.unwrap();
            fixture.bus.stream("s").await.unwrap().publish(during.clone().into()).await.unwrap();

            proxy.mend();
            until(|| bus.is_healthy()).await;
            // The acknowledgement of the one before may have been lost with the connection: then it comes again.
            loop {
                let id = take(&mut handled, 1).await.remove(0);
                if id == during {
                    break;
                }
                assert_eq!(id, before);
            }
            assert_eq!(take(&mut batches, 1).await[0].1, during, "a stream goes on exactly where it was");
        }
        bus.close().await;
    })
    .await;
}

/// Publishers repeat what was not confirmed, as the outbox does; the way is cut again and again under load.
#[tokio::test(flavor = "multi_thread")]
async fn everything_arrives_while_the_connection_is_cut_under_load() {
    on_rabbit(async |fixture: Fixture| {
        let proxy = Proxy::start(true).await;
        let bus = Bus::connect_with(&proxy.url, fixture.options.clone(), Env::system()).await.unwrap();
        let (handler, mut handled) = telling(|_, _| Ok(()));
        bus.subscribe("a", &["fishy.*"], handler).await.unwrap();
        let publisher = tokio::spawn({
            let bus = bus.clone();
            async move {
                for number in 0..500 {
                    while bus.publish(event(&number.to_string(), "fishy.x.made.v1")).await.is_err() {
                        tokio::task::yield_now().await;
                    }
                }
            }
        });
        let mut seen = std::collections::HashSet::new();
        let mut cuts = 0;
        while seen.len() < 500 {
            seen.insert(take(&mut handled, 1).await.remove(0));
            if seen.len() > (cuts + 1) * 100 {
                cuts += 1;
                proxy.cut();
                until(|| !bus.is_healthy()).await;
                proxy.mend();
            }
        }
        publisher.await.unwrap();
        assert_eq!(cuts, 4);
        bus.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_away_at_the_start_is_awaited() {
    on_rabbit(async |fixture: Fixture| {
        let proxy = Proxy::start(false).await;
        let bus = Bus::connect_with(&proxy.url, fixture.options.clone(), Env::system()).await.unwrap();
        assert!(!bus.is_healthy());
        let (handler, mut handled) = telling(|_, _| Ok(()));
        let (batch_handler, mut batches) = telling_batches(|_| Ok(()));
        bus.subscribe("a", &["fishy.*"], handler).await.unwrap();
        let stream = bus.stream("s").await.unwrap();
        stream.consume("c", None, batch_handler).await.unwrap();
        let error = bus.publish(event("1", "fishy.x.made.v1")).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::Unavailable);
        proxy.mend();
        until(|| bus.is_healthy()).await;
        bus.publish(event("2", "fishy.x.made.v1")).await.unwrap();
        stream.publish("2".into()).await.unwrap();
        assert_eq!(take(&mut handled, 1).await, ["2"]);
        assert_eq!(take(&mut batches, 1).await, [(0, "2".to_owned())]);
        bus.close().await;
    })
    .await;
}
