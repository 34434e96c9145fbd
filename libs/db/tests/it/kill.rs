use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use fishy_db::{Db, DbOptions, args};

use crate::fixture::ITEMS;

const FOLDER: &str = "FISHY_DB_TEST_KILLED_FOLDER";
const FIRST: &str = "FISHY_DB_TEST_KILLED_FIRST";

#[expect(clippy::disallowed_methods, reason = "this is how a test tells its child process what to do")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

async fn open(folder: &Path) -> Db {
    let db = Db::connect(&format!("sqlite://{}", folder.display()), "test", DbOptions::default()).await.unwrap();
    db.migrate(&[ITEMS]).await.unwrap();
    db
}

/// Not a test of its own: the process that is killed. Sixteen writers say which rows are committed.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn killed_child() {
    let (Some(folder), Some(first)) = (variable(FOLDER), variable(FIRST)) else { return };
    let db = open(Path::new(&folder)).await;
    let first: i64 = first.parse().unwrap();
    let writers = (0..16_i64).map(|writer| {
        let db = db.clone();
        tokio::spawn(async move {
            for id in (first + writer..).step_by(16) {
                let mut tx = db.begin().await.unwrap();
                tx.execute("insert into items(id, owner) values ($1, 'x')", args![id]).await.unwrap();
                tx.commit().await.unwrap();
                let mut out = std::io::stdout().lock();
                writeln!(out, "\ncommitted {id}").unwrap();
                out.flush().unwrap();
            }
        })
    });
    futures::future::join_all(writers).await;
}

#[tokio::test]
async fn what_was_acknowledged_survives_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged: Vec<i64> = Vec::new();
    for round in 0..3_i64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kill::killed_child", "--nocapture"])
            .env(FOLDER, folder.path())
            .env(FIRST, (round * 1_000_000).to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut seen = 0;
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let Ok(line) = line else { break };
            // The last line may be cut off by the kill: a shorter number was acknowledged before, or is not ours.
            if let Some(id) = line.strip_prefix("committed ").and_then(|id| id.parse().ok()) {
                acknowledged.push(id);
                seen += 1;
                if seen == 200 {
                    child.kill().unwrap();
                }
            }
        }
        assert!(!child.wait().unwrap().success(), "it was killed");
        assert!(seen >= 200, "the child ended early, after {seen} rows");
    }
    let db = open(folder.path()).await;
    let rows = db.query("select id from items", args![]).await.unwrap();
    let found: std::collections::HashSet<i64> = rows.iter().map(|row| row.get("id").unwrap()).collect();
    let lost: Vec<&i64> = acknowledged.iter().filter(|id| !found.contains(id)).collect();
    assert!(lost.is_empty(), "of {} acknowledged rows, lost: {lost:?}", acknowledged.len());
    let check = db.query_opt("pragma integrity_check", args![]).await.unwrap().unwrap();
    assert_eq!(check.get::<String>("integrity_check").unwrap(), "ok");
}
