use fishy_core::ErrorCode;
use fishy_db::{Migration, args};

use crate::fixture::{Fixture, count, on_both_engines};

const KINDS: Migration = Migration {
    version: 2,
    name: "kinds",
    sql: "create table kinds(n SERIAL_KEY, i BIGINT, f DOUBLE PRECISION, t TEXT, b BYTEA);",
};

on_both_engines!(values_come_back_as_they_went, nulls_have_types, many_rows_at_once, errors_have_codes);

async fn values_come_back_as_they_went(Fixture { db, .. }: Fixture) {
    db.migrate(&[KINDS]).await.unwrap();
    let mut tx = db.begin().await.unwrap();
    let insert = "insert into kinds(i, f, t, b) values ($1, $2, $3, $4) returning n";
    // A whole number in a DOUBLE PRECISION column, a text that looks like a number, bytes that are not text.
    let all = args![i64::MIN, 3.0, "007", vec![0_u8, 255]];
    assert_eq!(tx.query_opt(insert, all).await.unwrap().unwrap().get::<i64>("n").unwrap(), 1);
    tx.execute(insert, args![u64::MAX, f64::INFINITY, "ørret 🐟", Vec::<u8>::new()]).await.unwrap();
    tx.commit().await.unwrap();
    let sql = "select i, f, t, b, 1 as one, count(*) over () as total, t like 'Ø%' as liked from kinds order by n";
    let rows = db.query(sql, args![]).await.unwrap();
    assert_eq!(rows[0].get::<i64>("i").unwrap(), i64::MIN);
    assert_eq!(rows[0].get::<f64>("f").unwrap().to_bits(), 3.0_f64.to_bits());
    assert_eq!(rows[0].get::<String>("t").unwrap(), "007");
    assert_eq!(rows[0].get::<Vec<u8>>("b").unwrap(), [0, 255]);
    assert_eq!(rows[0].get::<i64>("one").unwrap(), 1);
    assert_eq!(rows[0].get::<i64>("total").unwrap(), 2);
    assert_eq!(rows[1].get::<i64>("i").unwrap() as u64, u64::MAX);
    assert!(rows[1].get::<f64>("f").unwrap().is_infinite());
    assert_eq!(rows[1].get::<String>("t").unwrap(), "ørret 🐟");
    assert_eq!(rows[1].get::<Vec<u8>>("b").unwrap(), [0_u8; 0]);
    assert!(!rows[1].get::<bool>("liked").unwrap(), "LIKE heeds upper and lower case on both engines");
    assert!(rows[0].get::<i64>("nowhere").unwrap_err().message().contains("no column \"nowhere\""));
    assert!(rows[0].get::<i64>("t").unwrap_err().message().contains("expected BIGINT, found TEXT"));
}

async fn nulls_have_types(Fixture { db, .. }: Fixture) {
    db.migrate(&[KINDS]).await.unwrap();
    let mut tx = db.begin().await.unwrap();
    let nulls = args![None::<i64>, None::<f64>, None::<String>, None::<Vec<u8>>];
    tx.execute("insert into kinds(i, f, t, b) values ($1, $2, $3, $4)", nulls).await.unwrap();
    tx.commit().await.unwrap();
    let sql = "select i, f, t, b from kinds where ($1 is null or t = $1) and coalesce(f, $2) = 2.5";
    let row = db.query_opt(sql, args![None::<&str>, 2.5]).await.unwrap().unwrap();
    assert_eq!(row.get::<Option<i64>>("i").unwrap(), None);
    assert_eq!(row.get::<Option<f64>>("f").unwrap(), None);
    assert_eq!(row.get::<Option<String>>("t").unwrap(), None);
    assert_eq!(row.get::<Option<Vec<u8>>>("b").unwrap(), None);
    assert!(row.get::<i64>("i").is_err());
}

async fn many_rows_at_once(Fixture { db, .. }: Fixture) {
    let wide = Migration { sql: "create table wide(a BIGINT PRIMARY KEY, b TEXT, c DOUBLE PRECISION);", ..KINDS };
    db.migrate(&[wide]).await.unwrap();
    let rows = |to: i64| (0..to).map(|a| args![a, format!("row {a}"), Some(0.5).filter(|_| a % 2 == 0)]);
    let mut tx = db.begin().await.unwrap();
    assert_eq!(tx.bulk("insert into wide(a, b, c)", "", rows(5000)).await.unwrap(), 5000);
    assert_eq!(tx.bulk("insert into wide(a, b, c)", "on conflict do nothing", rows(5050)).await.unwrap(), 50);
    assert_eq!(tx.bulk("insert into wide(a, b, c)", "", rows(0)).await.unwrap(), 0);
    tx.commit().await.unwrap();
    assert_eq!(count(&db, "wide").await, 5050);
    assert_eq!(count(&db, "wide where b <> 'row ' || cast(a as text) or (a % 2 = 0) <> (c is not null)").await, 0);
    let mut tx = db.begin().await.unwrap();
    let uneven = [args![9000, "x", 1.0], args![9001]];
    assert_eq!(tx.bulk("insert into wide(a, b, c)", "", uneven).await.unwrap_err().code(), ErrorCode::Internal);
}

async fn errors_have_codes(fixture: Fixture) {
    let db = fixture.with_items().await.db;
    let code = async |sql: &str, args| db.begin().await.unwrap().execute(sql, args).await.unwrap_err().code();
    let insert = "insert into items(id, owner) values ($1, $2)";
    crate::fixture::insert(&db, 1).await;
    assert_eq!(code(insert, args![1, "a"]).await, ErrorCode::AlreadyExists);
    assert_eq!(code(insert, args![2, None::<&str>]).await, ErrorCode::Internal);
    assert_eq!(code(insert, args![2, "a\0b"]).await, ErrorCode::InvalidArgument);
    assert_eq!(code("insert into nowhere values (1)", args![]).await, ErrorCode::Internal);
    let error = db.query("select nothing from items", args![]).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Internal);
    assert!(!error.message().contains("nothing"), "the driver's text is for the log: {error}");
    assert!(error.chain().contains("nothing"), "{}", error.chain());
    db.ping().await.unwrap();
}
