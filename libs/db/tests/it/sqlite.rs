use fishy_core::ErrorCode;
use fishy_db::{Db, DbOptions, Engine, args};
use futures::FutureExt;

use crate::fixture::{Fixture, ITEMS, count, insert, on_sqlite};

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_said_and_survived() {
    on_sqlite(async |fixture: Fixture| {
        let db = fixture.with_items().await.db;
        let mut tx = db.begin().await.unwrap();
        tx.query("pragma max_page_count = 40", args![]).await.unwrap();
        tx.execute("insert into items(id, owner) values (1, 'lost')", args![]).await.unwrap();
        let large = "x".repeat(1_000_000);
        let sql = "insert into items(id, owner, note) values (2, 'lost', $1)";
        let error = tx.execute(sql, args![large]).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::ResourceExhausted, "{}", error.chain());
        tx.commit().await.unwrap_err();
        insert(&db, 3).await;
        assert_eq!(count(&db, "items").await, 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_cannot_write_and_do_not_wait_for_writers() {
    on_sqlite(async |fixture: Fixture| {
        let db = fixture.with_items().await.db;
        let mut tx = db.begin().await.unwrap();
        tx.execute("insert into items(id, owner) values (1, 'x')", args![]).await.unwrap();
        assert_eq!(count(&db, "items").await, 0);
        assert!(db.query("delete from items returning id", args![]).await.is_err());
        tx.commit().await.unwrap();
    })
    .await;
}

/// One that queues behind another takes part in its COMMIT, and when that fails, nobody was told "committed".
#[tokio::test(flavor = "multi_thread")]
async fn a_shared_commit_that_fails_fails_every_member_and_the_next_goes_on() {
    on_sqlite(async |fixture: Fixture| {
        let db = fixture.with_items().await.db;
        // A foreign key that is checked at the outer COMMIT only is the one way to make it fail at will.
        let mut tx = db.begin().await.unwrap();
        let child = "create table child(id BIGINT REFERENCES items(id) DEFERRABLE INITIALLY DEFERRED)";
        tx.execute(child, args![]).await.unwrap();
        tx.commit().await.unwrap();
        // The two part where the machine is so slow that the first one's COMMIT is due before the second one's turn.
        for attempt in 0..50 {
            let mut good = db.begin().await.unwrap();
            good.execute("insert into items(id, owner) values ($1, 'x')", args![attempt]).await.unwrap();
            let mut waiting = db.begin().boxed();
            assert!(waiting.as_mut().now_or_never().is_none());
            let mut committing = good.commit().boxed();
            let early = committing.as_mut().now_or_never();
            let mut broken = waiting.await.unwrap();
            if early.is_some() || committing.as_mut().now_or_never().is_some() {
                continue;
            }
            broken.execute("insert into child(id) values (-1)", args![]).await.unwrap();
            broken.commit().await.unwrap_err();
            committing.await.unwrap_err();
            assert_eq!(count(&db, "child").await, 0);
            assert_eq!(count(&db, &format!("items where id = {attempt}")).await, 0);
            insert(&db, 1000).await;
            assert_eq!(count(&db, "items where id = 1000").await, 1);
            return;
        }
        panic!("no commit was shared");
    })
    .await;
}

/// A read that is not quick is stopped where it was begun, and answers all the same.
#[tokio::test]
async fn long_reads_hold_up_nobody_and_answer() {
    on_sqlite(async |fixture: Fixture| {
        let db = fixture.with_items().await.db;
        let counting = "with recursive n(i) as (select 1 union all select i + 1 from n where i < $1) \
                        select count(*) as n, max(i) as last from n";
        // The first read of a connection never runs where it was begun.
        db.ping().await.unwrap();
        for last in [10, 2_000_000, 20] {
            let mut read = db.query_opt(counting, args![last]).boxed();
            let first = read.as_mut().now_or_never();
            assert_eq!(first.is_some(), last == 10, "{last}: later ones of a text that was long begin elsewhere");
            let row = match first {
                Some(row) => row,
                None => read.await,
            };
            assert_eq!(row.unwrap().unwrap().get::<i64>("last").unwrap(), last);
        }
        // One that nobody waits for any more gives its connection back long before it could end.
        for _ in 0..20 {
            let mut endless = db.query_opt(counting, args![1_000_000_000_000_i64]).boxed();
            assert!(endless.as_mut().now_or_never().is_none());
        }
        assert_eq!(count(&db, "items").await, 0);
    })
    .await;
}

#[tokio::test]
async fn a_throw_away_database_is_empty_each_time() {
    for _ in 0..2 {
        let db = Db::connect("sqlite::memory:", "test", DbOptions::default()).await.unwrap();
        assert_eq!(db.engine(), Engine::Sqlite);
        assert_eq!(db.migrate(&[ITEMS]).await.unwrap(), [2]);
        insert(&db, 1).await;
        assert_eq!(count(&db, "items").await, 1);
    }
}

#[tokio::test]
async fn urls_and_names_are_checked() {
    for (url, schema) in [("mysql://x", "test"), ("sqlite::memory:", "a-b"), ("sqlite::memory:", "../x")] {
        let error = Db::connect(url, schema, DbOptions::default()).await.err().unwrap();
        assert_eq!(error.code(), ErrorCode::InvalidArgument);
    }
}
