use std::time::Duration;

use fishy_core::{Env, Error, ErrorCode};
use fishy_db::{Relay, args};
use futures::FutureExt;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::fixture::{Fixture, count, event, insert, on_postgres};
use crate::relay::quick;

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_is_unavailable_and_replaced() {
    on_postgres(async |fixture: Fixture| {
        let fixture = fixture.with_items().await;
        let (db, other) = (fixture.db.clone(), fixture.connect().await);
        let mut tx = db.begin().await.unwrap();
        tx.execute("insert into items(id, owner) values (1, 'lost')", args![]).await.unwrap();
        let row = tx.query_opt("select pg_backend_pid() as pid", args![]).await.unwrap().unwrap();
        let sql = "select pg_terminate_backend(cast($1 as int), 5000) as ended";
        let pid: i64 = row.get("pid").unwrap();
        assert!(other.query_opt(sql, args![pid]).await.unwrap().unwrap().get::<bool>("ended").unwrap());
        let error = tx.execute("insert into items(id, owner) values (2, 'lost')", args![]).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::Unavailable, "{}", error.chain());
        drop(tx);
        insert(&db, 3).await;
        assert_eq!(count(&db, "items").await, 1);
        other.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_serialization_failure_is_a_conflict() {
    on_postgres(async |fixture: Fixture| {
        let db = fixture.with_items().await.db;
        insert(&db, 1).await;
        let mut tx = db.begin().await.unwrap();
        tx.execute("set transaction isolation level repeatable read", args![]).await.unwrap();
        tx.query("select id from items", args![]).await.unwrap();
        let mut other = db.begin().await.unwrap();
        other.execute("update items set owner = 'other'", args![]).await.unwrap();
        other.commit().await.unwrap();
        let error = tx.execute("update items set owner = 'mine'", args![]).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::Conflict);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_replica_relays_and_another_takes_over() {
    on_postgres(async |fixture: Fixture| {
        let fixture = fixture.with_items().await;
        let (sender, mut arrived) = mpsc::unbounded_channel();
        let mut replicas = Vec::new();
        let options = fishy_db::RelayOptions { poll: Duration::from_millis(20), ..quick() };
        for replica in ['a', 'b', 'c'] {
            let (db, shutdown, sender) = (fixture.connect().await, CancellationToken::new(), sender.clone());
            let publish = move |event: fishy_core::Event| {
                let sent = sender.send((replica, event.id)).map_err(|_| Error::internal("nobody listens"));
                async move { sent }.boxed()
            };
            let relay = Relay::spawn_with(db.clone(), publish, Env::system(), shutdown.clone(), options.clone());
            replicas.push((replica, db, shutdown, relay));
        }
        let mut first_number = 0;
        while !replicas.is_empty() {
            let mut tx = fixture.db.begin().await.unwrap();
            for number in first_number..first_number + 200 {
                tx.emit(&event(number)).await.unwrap();
            }
            tx.commit().await.unwrap();
            let mut leader = None;
            for number in first_number..first_number + 200 {
                let (replica, id) = timeout(Duration::from_secs(20), arrived.recv()).await.unwrap().unwrap();
                assert_eq!(id, format!("e{number}"), "in order, once");
                assert_eq!(*leader.get_or_insert(replica), replica);
            }
            first_number += 200;
            let at = replicas.iter().position(|(replica, ..)| Some(*replica) == leader).expect("a stopped one relayed");
            let (_, db, shutdown, relay) = replicas.swap_remove(at);
            shutdown.cancel();
            relay.await.unwrap();
            db.close().await;
        }
        assert_eq!(count(&fixture.db, "outbox").await, 0);
    })
    .await;
}
