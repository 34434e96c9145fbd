use fishy_core::ErrorCode;
use fishy_db::{Migration, OUTBOX, args};

use crate::fixture::{Fixture, ITEMS, count, insert, on_both_engines};

on_both_engines!(
    applied_once_and_in_order,
    a_changed_one_is_refused,
    a_failing_one_leaves_nothing_and_can_be_repaired,
    replicas_may_start_together,
    a_part_beside_has_its_own_tables_and_can_go,
);

async fn applied_once_and_in_order(Fixture { db, .. }: Fixture) {
    assert_eq!(db.pending(&[ITEMS, OUTBOX]).await.unwrap(), [1, 2]);
    assert_eq!(db.migrate(&[ITEMS, OUTBOX]).await.unwrap(), [1, 2]);
    assert_eq!(db.pending(&[ITEMS, OUTBOX]).await.unwrap(), [0_i64; 0]);
    assert_eq!(db.migrate(&[OUTBOX, ITEMS]).await.unwrap(), [0_i64; 0]);
    let rows = db.query("select version, name from schema_migrations order by version", args![]).await.unwrap();
    let names: Vec<String> = rows.iter().map(|row| row.get("name").unwrap()).collect();
    assert_eq!(names, ["outbox", "items"]);
}

async fn a_changed_one_is_refused(Fixture { db, .. }: Fixture) {
    db.migrate(&[OUTBOX, ITEMS]).await.unwrap();
    let changed = Migration { sql: "create table items(id BIGINT);", ..ITEMS };
    for result in [db.migrate(&[OUTBOX, changed]).await, db.pending(&[OUTBOX, changed]).await] {
        let error = result.unwrap_err();
        assert_eq!(error.code(), ErrorCode::FailedPrecondition);
        assert!(error.message().contains("migration 2 (items) was changed"), "{error}");
    }
    let twin = Migration { version: 1, ..ITEMS };
    assert!(db.migrate(&[OUTBOX, twin]).await.unwrap_err().message().contains("two migrations have version 1"));
}

async fn a_failing_one_leaves_nothing_and_can_be_repaired(Fixture { db, .. }: Fixture) {
    let broken = Migration { sql: "create table items(id BIGINT);\ninsert into nowhere values (1);\n", ..ITEMS };
    let error = db.migrate(&[OUTBOX, broken]).await.unwrap_err();
    assert!(error.message().starts_with("migration 2 (items)"), "{error}");
    assert!(db.query("select id from items", args![]).await.is_err(), "the first statement must be undone");
    assert_eq!(count(&db, "outbox").await, 0, "the migration before it stays");
    assert_eq!(db.migrate(&[OUTBOX, ITEMS]).await.unwrap(), [2]);
}

async fn replicas_may_start_together(fixture: Fixture) {
    let other = fixture.connect().await;
    let (a, b) = tokio::join!(fixture.db.migrate(&[OUTBOX, ITEMS]), other.migrate(&[OUTBOX, ITEMS]));
    let mut applied = [a.unwrap(), b.unwrap()].concat();
    applied.sort_unstable();
    assert_eq!(applied, [1, 2]);
    other.close().await;
}

async fn a_part_beside_has_its_own_tables_and_can_go(Fixture { db, .. }: Fixture) {
    db.migrate(&[OUTBOX, ITEMS]).await.unwrap();
    insert(&db, 1).await;
    let beside = db.connect_beside("w7", 2).await.unwrap();
    assert_eq!(beside.migrate(&[OUTBOX, ITEMS]).await.unwrap(), [1, 2]);
    assert_eq!((count(&db, "items").await, count(&beside, "items").await), (1, 0));
    insert(&beside, 1).await;
    insert(&beside, 2).await;
    beside.close().await;
    let beside = db.connect_beside("w7", 2).await.unwrap();
    assert_eq!(count(&beside, "items").await, 2, "it is the same one again");
    beside.close().await;
    for _ in 0..2 {
        db.drop_beside("w7").await.unwrap();
    }
    let beside = db.connect_beside("w7", 2).await.unwrap();
    assert!(beside.query("select id from items", args![]).await.is_err(), "nothing of it is left");
    beside.close().await;
    db.drop_beside("w7").await.unwrap();
    assert_eq!(count(&db, "items").await, 1);
    let error = db.connect_beside("No-Suffix", 2).await.err().unwrap();
    assert_eq!(error.code(), ErrorCode::InvalidArgument);
}
