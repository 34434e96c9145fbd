#![doc = include_str!("../README.md")]
#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]

mod process;
mod report;
mod sink;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Parser;
use fishy_blob::{Blob, BlobOptions};
use fishy_config::Config;
use fishy_contracts::deployment::PredictionRecord;
use fishy_core::Env;
use fishy_deployment::{PredictionLog, Publish};
use futures::FutureExt;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use report::Report;
use sink::Sink;

/// The prediction log while its sink is away.
#[derive(Debug, Parser)]
struct Arguments {
    /// Records of each load; 1,800,000, or 60,000 with --quick.
    #[arg(long)]
    records: Option<u64>,
    /// Fewer records: to see that it works.
    #[arg(long)]
    quick: bool,
    /// Where the rows are written.
    #[arg(long, default_value = "target/bench/prediction-log.json")]
    out: PathBuf,
}

/// How often memory and disk are looked at, in records.
const LOOK: u64 = 20_000;
const ROOMY: u64 = 1 << 40;
const BOUND: u64 = 64 * 1024 * 1024;
const MB: f64 = 1e6;

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let records = arguments.records.unwrap_or(if arguments.quick { 60_000 } else { 1_800_000 });
    let mut report = Report::default();
    run(&mut report, &format!("{records} records, room on disk"), records, ROOMY).await?;
    // A tenth of the records and less.
    let bound = BOUND.min(records * 35);
    run(&mut report, &format!("{records} records, bound of {} MB", bound / 1_048_576), records, bound).await?;
    report.write(&arguments.out)?;
    println!("\n{}", arguments.out.display());
    Ok(())
}

async fn run(report: &mut Report, load: &str, records: u64, bound: u64) -> Result<()> {
    println!("\n{load}");
    let folder = tempfile::tempdir()?;
    let sink = Sink::away(records).await?;
    let stop = CancellationToken::new();
    let log = open(folder.path(), &sink, bound, &stop).await?;
    let mut add = |metric, value| report.add(load, metric, value);

    let (before, mut largest, mut on_disk) = (process::resident_bytes()?, 0, 0);
    let (started, cpu) = (Instant::now(), process::cpu_seconds()?);
    for number in 0..records {
        log.record(&[record(number)])?;
        if number % LOOK == 0 {
            largest = largest.max(process::resident_bytes()?);
            on_disk = on_disk.max(size_of(&folder.path().join("spool"))?);
            // The readers have their turn also on one core.
            tokio::task::yield_now().await;
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    add("records/s written", records as f64 / seconds);
    add("CPU µs per record", (process::cpu_seconds()? - cpu) / records as f64 * 1e6);
    add("MB grown while writing", largest.saturating_sub(before) as f64 / MB);
    add("MB on disk at most", on_disk as f64 / MB);
    let dropped = log.sinks().first().map_or(0, |status| status.dropped);
    add("records dropped, counted", dropped as f64);
    ensure!(on_disk <= bound.saturating_add(4_096), "the spool had {on_disk} bytes, and its bound is {bound}");
    ensure!(bound < ROOMY || dropped == 0, "{dropped} records were dropped while there was room");

    let serving = sink.come().await?;
    let (started, mut largest) = (Instant::now(), 0);
    while log.sinks().first().is_some_and(|status| status.waiting_records > 0) {
        largest = largest.max(process::resident_bytes()?);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let seconds = started.elapsed().as_secs_f64();
    let came = sink.different();
    add("records the sink has", came as f64);
    add("events that came twice", (sink.events() - came) as f64);
    add("records/s caught up", came as f64 / seconds);
    add("MB grown while catching up", largest.saturating_sub(before) as f64 / MB);
    let lost = records as i64 - came as i64 - dropped as i64;
    add("records lost, not counted", lost as f64);
    ensure!(lost == 0, "{came} came and {dropped} were counted as dropped, of {records}");
    stop.cancel();
    log.shutdown().await;
    serving.abort();
    Ok(())
}

async fn open(folder: &Path, sink: &Sink, bound: u64, stop: &CancellationToken) -> Result<PredictionLog> {
    let mut config = Config::default();
    config.deployment.spool_max_bytes = bound;
    let settings = json!({"url": sink.url(), "batch_records": 5_000});
    config.deployment.sinks.insert("sink".to_owned(), serde_json::from_value(settings)?);
    let blob = Blob::open(&format!("file://{}", folder.join("parquet").display()), &BlobOptions::default())?;
    let publish: Publish = Arc::new(|_| async { Ok(()) }.boxed());
    let mut log = PredictionLog::open(folder, &config, &Env::system(), blob, publish).await?;
    log.run(stop);
    Ok(log)
}

/// What a deployment of the farm's oxygen model records.
fn record(number: u64) -> PredictionRecord {
    let inputs = ["temperature", "salinity", "ph", "turbidity", "chlorophyll"];
    let value = |place: usize| json!(8.0 + ((number + place as u64) % 97) as f64 * 0.05);
    PredictionRecord {
        is_shadow: false,
        id: format!("p-{number}"),
        deployment: "oxygen".to_owned(),
        revision: 3,
        version: "7".to_owned(),
        time_ms: 1_700_000_000_000 + number as i64 * 2,
        received_ms: 1_700_000_000_000 + number as i64 * 2,
        latency_us: 12,
        inputs: inputs.iter().enumerate().map(|(place, name)| ((*name).to_owned(), value(place))).collect(),
        outputs: BTreeMap::from([("oxygen".to_owned(), json!(8.5))]),
        labels: BTreeMap::from([("pen".to_owned(), (number % 12).to_string())]),
    }
}

fn size_of(folder: &Path) -> Result<u64> {
    let mut size = 0;
    for entry in std::fs::read_dir(folder)? {
        // A segment may be deleted meanwhile.
        size += entry?.metadata().map_or(0, |metadata| metadata.len());
    }
    Ok(size)
}
