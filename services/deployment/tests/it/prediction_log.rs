//! The prediction log under load, without the service around it: the small form of `cargo xtask bench prediction-log`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fishy_blob::{Blob, BlobOptions};
use fishy_config::Config;
use fishy_contracts::deployment::PredictionRecord;
use fishy_core::Env;
use fishy_deployment::{PredictionLog, Publish};
use futures::FutureExt;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::sinks::{Lake, sink};

const RECORDS: usize = 30_000;
/// Rows of a request.
const ROWS: usize = 50;

fn rows(request: usize) -> Vec<PredictionRecord> {
    let row = |row: usize| PredictionRecord {
        is_shadow: false,
        id: if row == 0 { format!("p-{request}") } else { format!("p-{request}/{row}") },
        deployment: "oxygen".into(),
        revision: 1,
        version: "1".into(),
        time_ms: 1,
        received_ms: 1,
        latency_us: 5,
        inputs: ["temperature", "salinity", "ph"].map(|name| (name.to_owned(), json!(11.25))).into(),
        outputs: BTreeMap::from([("y".to_owned(), json!(8.5))]),
        labels: BTreeMap::from([("pen".to_owned(), "4".to_owned())]),
    };
    (0..ROWS).map(row).collect()
}

async fn open(folder: &Path, lake: &Lake, max_bytes: u64, stop: &CancellationToken) -> PredictionLog {
    let mut config = Config::default();
    config.deployment.spool_max_bytes = max_bytes;
    config.deployment.sinks.insert("lake".into(), sink(json!({"url": lake.url(), "batch_records": 2_000})));
    let blob = Blob::open(&format!("file://{}", folder.join("parquet").display()), &BlobOptions::default()).unwrap();
    let publish: Publish = Arc::new(|_| async { Ok(()) }.boxed());
    let mut log = PredictionLog::open(folder, &config, &Env::system(), blob, publish).await.unwrap();
    log.run(stop);
    log
}

fn write(log: &PredictionLog) {
    for request in 0..RECORDS / ROWS {
        assert!(log.record(&rows(request)).unwrap());
    }
}

fn on_disk(folder: &Path) -> u64 {
    std::fs::read_dir(folder.join("spool")).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
}

/// Waits until the sink has passed everything; how many different records it has.
async fn drained(log: &PredictionLog, lake: &Lake) -> usize {
    while log.sinks()[0].waiting_records > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    lake.ids().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_while_a_sink_is_away_and_there_is_room() {
    let (folder, stop, lake) = (tempfile::tempdir().unwrap(), CancellationToken::new(), Lake::away().await);
    let log = open(folder.path(), &lake, 256 * 1024 * 1024, &stop).await;
    write(&log);
    assert_eq!(log.sinks()[0].waiting_records, RECORDS as u64);
    // The process ends without its sink, and another one goes on.
    stop.cancel();
    log.shutdown().await;
    let stop = CancellationToken::new();
    let log = open(folder.path(), &lake, 256 * 1024 * 1024, &stop).await;
    let _serving = lake.come().await;
    assert_eq!(drained(&log, &lake).await, RECORDS);
    let status = log.sinks().remove(0);
    assert_eq!((status.dropped, status.problem), (0, None));
    stop.cancel();
    log.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_the_bound_of_the_disk_every_record_is_either_sent_or_counted() {
    const BOUND: u64 = 4 * 1024 * 1024;
    let (folder, stop, lake) = (tempfile::tempdir().unwrap(), CancellationToken::new(), Lake::away().await);
    let log = open(folder.path(), &lake, BOUND, &stop).await;
    write(&log);
    assert!(on_disk(folder.path()) <= BOUND + 4096, "{}", on_disk(folder.path()));
    let dropped = log.sinks()[0].dropped;
    assert!(dropped > 0 && dropped < RECORDS as u64, "{dropped}");
    while log.problems().is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let problem = log.problems().remove(0);
    assert!(problem.contains(&format!("and {dropped} were dropped since the start")), "{problem}");
    let _serving = lake.come().await;
    let came = drained(&log, &lake).await;
    assert_eq!(came as u64 + dropped, RECORDS as u64, "a record was lost and not counted");
    assert_eq!(log.sinks()[0].dropped, dropped);
    stop.cancel();
    log.shutdown().await;
}
