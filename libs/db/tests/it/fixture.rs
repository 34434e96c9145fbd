use fishy_core::{Event, Ids, RandomIds};
use fishy_db::{Db, DbOptions, Migration, OUTBOX, args};

/// The table that most tests write to.
pub const ITEMS: Migration = Migration {
    version: 2,
    name: "items",
    sql: "create table items(id BIGINT PRIMARY KEY, owner TEXT NOT NULL, note TEXT);",
};

/// A database of its own, and how to connect to it again as another process would.
#[derive(Clone)]
pub struct Fixture {
    pub url: String,
    pub schema: String,
    pub db: Db,
}

impl Fixture {
    pub async fn connect(&self) -> Db {
        Db::connect(&self.url, &self.schema, DbOptions::default()).await.unwrap()
    }

    pub async fn with_items(self) -> Self {
        self.db.migrate(&[OUTBOX, ITEMS]).await.unwrap();
        self
    }
}

/// Runs a test on a file in a temporary folder.
pub async fn on_sqlite<F: Future<Output = ()> + Send + 'static>(test: impl FnOnce(Fixture) -> F) {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().display());
    let db = Db::connect(&url, "test", DbOptions::default()).await.unwrap();
    let fixture = Fixture { url, schema: "test".into(), db: db.clone() };
    let result = tokio::spawn(test(fixture)).await;
    db.close().await;
    result.unwrap();
}

/// Runs a test in a schema of its own, which is dropped at the end, also of a failed test.
pub async fn on_postgres<F: Future<Output = ()> + Send + 'static>(test: impl FnOnce(Fixture) -> F) {
    let url = postgres_url();
    let schema = format!("t_{}", RandomIds.new_id().replace('-', ""));
    let db = Db::connect(&url, &schema, DbOptions::default()).await.unwrap();
    let fixture = Fixture { url: url.clone(), schema: schema.clone(), db: db.clone() };
    let result = tokio::spawn(test(fixture)).await;
    db.close().await;
    let cleaner = Db::connect(&url, &schema, DbOptions::default()).await.unwrap();
    let mut tx = cleaner.begin().await.unwrap();
    tx.execute(&format!("drop schema {schema} cascade"), args![]).await.unwrap();
    tx.commit().await.unwrap();
    cleaner.close().await;
    result.unwrap();
}

#[expect(clippy::disallowed_methods, reason = "tests find their services by environment")]
fn postgres_url() -> String {
    std::env::var("FISHY_TEST_POSTGRES").unwrap_or_else(|_| "postgres://postgres@127.0.0.1:5432/test".into())
}

pub async fn count(db: &Db, table: &str) -> i64 {
    let row = db.query_opt(&format!("select count(*) as n from {table}"), args![]).await.unwrap().unwrap();
    row.get("n").unwrap()
}

pub async fn insert(db: &Db, id: i64) {
    let mut tx = db.begin().await.unwrap();
    tx.execute("insert into items(id, owner) values ($1, 'x')", args![id]).await.unwrap();
    tx.commit().await.unwrap();
}

pub fn event(number: usize) -> Event {
    Event::new(format!("e{number}"), "test", "fishy.test.item.made.v1", "item", 0, serde_json::json!({"n": number}))
}

/// Makes each `async fn name(fixture: Fixture)` of a module a test on both engines.
macro_rules! on_both_engines {
    ($($name:ident),* $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() { crate::fixture::on_sqlite(super::$name).await; })*
        }
        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() { crate::fixture::on_postgres(super::$name).await; })*
        }
    };
}
pub(crate) use on_both_engines;
