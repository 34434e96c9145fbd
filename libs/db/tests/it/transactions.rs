use std::time::Duration;

use fishy_core::ErrorCode;
use fishy_db::{Batch, args};
use futures::FutureExt;
use tokio::task::JoinSet;

use crate::fixture::{Fixture, count, event, insert, on_both_engines};

on_both_engines!(
    a_commit_is_seen_and_a_drop_is_not,
    a_failed_statement_fails_the_whole,
    dropped_futures_block_nobody,
    writers_share_commits_and_roll_back_alone,
    a_batch_is_one_transaction,
    batches_share_commits_with_others_and_fail_alone,
);

async fn a_commit_is_seen_and_a_drop_is_not(fixture: Fixture) {
    let db = fixture.with_items().await.db;
    let mut tx = db.begin().await.unwrap();
    assert_eq!(tx.execute("insert into items(id, owner) values (1, 'a'), (2, 'a')", args![]).await.unwrap(), 2);
    assert_eq!(tx.query("select id from items", args![]).await.unwrap().len(), 2);
    assert_eq!(count(&db, "items").await, 0, "not before the commit");
    tx.commit().await.unwrap();
    assert_eq!(count(&db, "items").await, 2);

    let mut dropped = db.begin().await.unwrap();
    dropped.execute("delete from items", args![]).await.unwrap();
    drop(dropped);
    let mut undone = db.begin().await.unwrap();
    undone.execute("delete from items where id = 1", args![]).await.unwrap();
    undone.rollback().await;
    insert(&db, 3).await;
    assert_eq!(count(&db, "items").await, 3);
}

async fn a_failed_statement_fails_the_whole(fixture: Fixture) {
    let db = fixture.with_items().await.db;
    insert(&db, 1).await;
    let mut tx = db.begin().await.unwrap();
    tx.execute("insert into items(id, owner) values (2, 'a')", args![]).await.unwrap();
    let error = tx.execute("insert into items(id, owner) values (1, 'a')", args![]).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::AlreadyExists);
    let error = tx.execute("insert into items(id, owner) values (3, 'a')", args![]).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::FailedPrecondition);
    assert_eq!(tx.commit().await.unwrap_err().code(), ErrorCode::FailedPrecondition);
    insert(&db, 4).await;
    assert_eq!(count(&db, "items").await, 2);
}

/// Futures are polled a few times and dropped at whatever await they have come to.
async fn dropped_futures_block_nobody(fixture: Fixture) {
    let db = fixture.with_items().await.db;
    for polls in 0..40 {
        let mut begin = db.begin().boxed();
        for _ in 0..polls {
            if begin.as_mut().now_or_never().is_some() {
                begin = db.begin().boxed();
            }
            tokio::task::yield_now().await;
        }
    }
    // The one that waits in the queue behind an open transaction is dropped there.
    let open = db.begin().await.unwrap();
    for _ in 0..3 {
        let mut waiting = db.begin().boxed();
        let _ = waiting.as_mut().now_or_never();
    }
    open.rollback().await;
    for polls in 0..20 {
        let mut tx = db.begin().await.unwrap();
        tx.execute("insert into items(id, owner) values (7, 'lost')", args![]).await.unwrap();
        let mut halfway = tx.execute("insert into items(id, owner) values (8, 'lost')", args![]).boxed();
        let mut is_done = false;
        for _ in 0..=polls {
            is_done = is_done || halfway.as_mut().now_or_never().is_some();
            if is_done {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(halfway);
        if is_done {
            drop(tx);
        } else {
            let error = tx.commit().await.unwrap_err();
            assert_eq!(error.code(), ErrorCode::FailedPrecondition, "a half-done statement must not be committed");
        }
        // Waits for the undone rows' locks at most: nothing is left of them.
        tokio::time::timeout(Duration::from_secs(10), insert(&db, 100 + polls)).await.unwrap();
    }
    assert_eq!(count(&db, "items where owner = 'lost'").await, 0);
    assert_eq!(count(&db, "items").await, 20);
}

async fn writers_share_commits_and_roll_back_alone(fixture: Fixture) {
    const WRITERS: i64 = 32;
    const EACH: i64 = 20;
    let db = fixture.with_items().await.db;
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let db = db.clone();
        writers.spawn(async move {
            for n in 0..EACH {
                let mut tx = db.begin().await.unwrap();
                let id = writer * EACH + n;
                tx.execute("insert into items(id, owner, note) values ($1, 'x', $2)", args![id, n % 4]).await.err();
                drop(tx);
                let mut tx = db.begin().await.unwrap();
                let owner = format!("w{writer}");
                tx.execute("insert into items(id, owner) values ($1, $2)", args![id, &owner]).await.unwrap();
                match n % 4 {
                    0 => drop(tx),
                    1 => tx.rollback().await,
                    2 => {
                        tx.execute("insert into nowhere values (1)", args![]).await.unwrap_err();
                        tx.commit().await.unwrap_err();
                    }
                    _ => {
                        tx.commit().await.unwrap();
                        let found = db.query_opt("select owner from items where id = $1", args![id]).await.unwrap();
                        assert_eq!(found.unwrap().get::<String>("owner").unwrap(), owner, "acknowledged, so visible");
                    }
                }
            }
        });
    }
    while let Some(result) = writers.join_next().await {
        result.unwrap();
    }
    let rows = db.query("select id from items order by id", args![]).await.unwrap();
    let ids: Vec<i64> = rows.iter().map(|row| row.get("id").unwrap()).collect();
    let expected: Vec<i64> = (0..WRITERS * EACH).filter(|id| id % EACH % 4 == 3).collect();
    assert_eq!(ids, expected);
}

fn batch(id: i64, others: impl IntoIterator<Item = i64>) -> Batch {
    let mut batch = Batch::new();
    batch.execute("insert into items(id, owner) values ($1, 'one')", args![id]);
    let rows = others.into_iter().map(|id| args![id, "many"]);
    batch.bulk("insert into items(id, owner)", "on conflict do nothing", rows);
    batch.execute("update items set note = $2 where owner = $1 and id > $3", args!["many", "seen", id]);
    batch
}

async fn a_batch_is_one_transaction(fixture: Fixture) {
    let db = fixture.with_items().await.db;
    assert_eq!(db.write(batch(1, 2..250)).await.unwrap(), [1, 248, 248], "how many rows each part changed");
    assert_eq!(db.write(batch(300, [])).await.unwrap(), [1, 0, 0]);
    assert_eq!(db.write(Batch::new()).await.unwrap(), [0_u64; 0]);
    let mut twice = batch(303, [304]);
    twice.execute("insert into items(id, owner) values (1, 'again')", args![]);
    assert_eq!(db.write(twice).await.unwrap_err().code(), ErrorCode::AlreadyExists);
    assert_eq!(count(&db, "items where id in (303, 304)").await, 0, "all of it or nothing");

    let mut told = Batch::new();
    told.emit(&event(1)).unwrap();
    db.write(told).await.unwrap();
    assert_eq!(count(&db, "outbox").await, 1);

    let mut tx = db.begin().await.unwrap();
    assert_eq!(tx.apply(batch(400, [401])).await.unwrap()[..2], [1, 1]);
    tx.rollback().await;
    assert_eq!(count(&db, "items where id >= 400").await, 0, "a part of the transaction that it was applied in");
}

async fn batches_share_commits_with_others_and_fail_alone(fixture: Fixture) {
    let db = fixture.with_items().await.db;
    // Without an update of rows of others, which would wait for each other in a circle.
    let own = |id: i64, other: i64| {
        let mut own = Batch::new();
        own.bulk("insert into items(id, owner)", "", [args![other, "x"]]);
        own.execute("insert into items(id, owner) values ($1, 'x')", args![id]);
        own
    };
    let mut writers = JoinSet::new();
    for writer in 0..16_i64 {
        let db = db.clone();
        writers.spawn(async move {
            for n in 0..20 {
                let id = writer * 1_000 + n * 10;
                db.write(own(id, id + 1)).await.unwrap();
                db.write(own(id + 2, id + 3)).await.unwrap();
                assert_eq!(db.write(own(id, id + 5)).await.unwrap_err().code(), ErrorCode::AlreadyExists);
                insert(&db, id + 4).await;
            }
        });
    }
    while let Some(result) = writers.join_next().await {
        result.unwrap();
    }
    assert_eq!(count(&db, "items").await, 16 * 20 * 5);
    let failed = "items where id % 10 = 5";
    assert_eq!(count(&db, failed).await, 0, "those that failed left nothing");
}
