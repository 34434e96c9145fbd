//! A migration that is killed in its middle leaves nothing, and the next start does it again.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fishy_db::{Db, DbOptions, Engine, Migration, OUTBOX, args};

use crate::fixture::{Fixture, ITEMS, count, on_both_engines};

on_both_engines!(a_migration_that_is_killed_is_done_by_the_next_start);

const URL: &str = "FISHY_DB_TEST_MIGRATION_URL";
const SCHEMA: &str = "FISHY_DB_TEST_MIGRATION_SCHEMA";

const WHOLE: Migration = Migration {
    version: 3,
    name: "half",
    sql: "alter table items add column size BIGINT;\ncreate table half(n BIGINT);\ninsert into half(n) values (1);",
};

/// The same, which stops in the middle for longer than anybody waits.
const fn stuck(engine: Engine) -> Migration {
    let sql = match engine {
        Engine::Sqlite => {
            "alter table items add column size BIGINT;\ncreate table half(n BIGINT);
insert into half(n) with recursive c(n) as (select 1 union all select n + 1 from c where n < 1000000000000) select max(n) from c;"
        }
        Engine::Postgres => {
            "alter table items add column size BIGINT;\ncreate table half(n BIGINT);\nselect pg_sleep(10);"
        }
    };
    Migration { sql, ..WHOLE }
}

#[expect(clippy::disallowed_methods, reason = "this is how a test tells its child process what to do")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Not a test of its own: the process that is killed.
#[tokio::test(flavor = "multi_thread")]
async fn killed_child() {
    let (Some(url), Some(schema)) = (variable(URL), variable(SCHEMA)) else { return };
    let db = Db::connect(&url, &schema, DbOptions::default()).await.unwrap();
    db.migrate(&[OUTBOX, ITEMS, stuck(db.engine())]).await.unwrap();
}

/// Whether the child is in the middle of the last migration.
async fn is_in_the_middle(db: &Db) -> bool {
    let sql = match db.engine() {
        Engine::Sqlite => "select version from schema_migrations where version = 2",
        Engine::Postgres => {
            "select pid from pg_stat_activity where state = 'active' and query = 'select pg_sleep(10)' || chr(10) \
             and application_name = 'fishy-' || current_schema()"
        }
    };
    // The table itself comes with the first migration.
    if !db.query(sql, args![]).await.is_ok_and(|rows| !rows.is_empty()) {
        return false;
    }
    // On SQLite, whoever migrates holds the only place to write: a write of ours cannot be had.
    db.engine() == Engine::Postgres
        || match db.begin().await {
            Err(_) => true,
            Ok(mut tx) => {
                let written = tx.execute("insert into items(id, owner) values (99, 'x')", args![]).await;
                tx.rollback().await;
                written.is_err()
            }
        }
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn a_migration_that_is_killed_is_done_by_the_next_start(fixture: Fixture) {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "killed_migration::killed_child", "--nocapture"])
        .env(URL, &fixture.url)
        .env(SCHEMA, &fixture.schema)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut child = Killed(child);
    let impatient = DbOptions { acquire_timeout: Duration::from_millis(200), ..DbOptions::default() };
    let watcher = Db::connect(&fixture.url, &fixture.schema, impatient).await.unwrap();
    let since = Instant::now();
    while !is_in_the_middle(&watcher).await {
        assert!(since.elapsed() < Duration::from_mins(1), "the child never came to the middle");
        assert!(child.0.try_wait().unwrap().is_none(), "the child ended by itself");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    child.0.kill().unwrap();
    child.0.wait().unwrap();
    watcher.close().await;

    let db = fixture.connect().await;
    let all = [OUTBOX, ITEMS, WHOLE];
    assert_eq!(db.pending(&all).await.unwrap(), [3], "what was whole stays, what was not is still to be done");
    assert!(db.query("select n from half", args![]).await.is_err(), "half a migration is none");
    assert_eq!(db.migrate(&all).await.unwrap(), [3]);
    assert_eq!(count(&db, "half").await, 1);
    assert_eq!(count(&db, "items").await, 0);
    assert_eq!(db.pending(&all).await.unwrap(), [0_i64; 0]);
    db.close().await;
}
