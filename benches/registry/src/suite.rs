//! All loads of one side with one database, in one order.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use bytes::Bytes;
use futures::StreamExt;

use crate::limit;
use crate::loads::{self, World};
use crate::measure::{self, CLIENTS, Load, Measured, measure};
use crate::report::{Better, Report};
use crate::seed;
use crate::server::{Database, Place, Server, Setting, Side};

/// How large everything is.
#[derive(Debug)]
pub struct Sizes {
    duration: Duration,
    /// Runs in the registry at each of the loads that show what they cost; the first is for both sides.
    stored: Vec<u64>,
    wide_runs: u64,
    history: u64,
    artifact_bytes: usize,
}

/// The size at which both sides are compared.
const COMPARED: u64 = 10_000;
const MIB: f64 = 1_048_576.0;

impl Sizes {
    pub fn of(arguments: &crate::Arguments) -> Self {
        let is_quick = arguments.quick;
        let most = arguments.most_runs.unwrap_or(if is_quick { 30_000 } else { 1_000_000 });
        Self {
            duration: Duration::from_secs_f64(arguments.seconds.unwrap_or(if is_quick { 3.0 } else { 8.0 })),
            stored: [COMPARED, 100_000, 1_000_000].into_iter().filter(|count| *count < most).chain([most]).collect(),
            wide_runs: if is_quick { 2_000 } else { 100_000 },
            history: if is_quick { 100_000 } else { 1_000_000 },
            artifact_bytes: 200 * 1_048_576,
        }
    }
}

struct Suite<'a> {
    place: Place<'a>,
    sizes: &'a Sizes,
    only: &'a [String],
    report: &'a mut Report,
}

/// Runs everything.
pub async fn run(setting: &Setting<'_>, sizes: &Sizes, only: &[String], report: &mut Report) -> Result<()> {
    let place = Place::new(*setting).await?;
    let mut suite = Suite { place, sizes, only, report };
    let result = suite.all().await;
    suite.place.remove().await?;
    result
}

/// 10000 as `10,000`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

impl Suite<'_> {
    fn who(&self) -> (Side, Database) {
        (self.place.setting.side, self.place.setting.database)
    }

    fn is_wanted(&self, load: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| load.contains(part.as_str()))
    }

    async fn all(&mut self) -> Result<()> {
        let server = self.start().await?;
        let world = loads::make(&server).await?;
        let side = self.place.setting.side;
        seed::runs(&self.place, &world.stored, 0, COMPARED).await?;
        self.load(&server, "log-metric", &world.log_metric()).await?;
        let batch = self.load(&server, "log-batch of 100 metrics", &world.log_batch()).await?;
        self.load(&server, "create run", &world.create_run()).await?;
        self.load(&server, "get run", &World::get_run(side, COMPARED)).await?;
        self.load(&server, "version by alias", &World::version_by_alias()).await?;
        self.load(&server, &format!("search of {} runs", grouped(COMPARED)), &world.search()).await?;
        self.artifacts(&server, &world).await?;
        self.chart(&server, &world).await?;
        if side == Side::Fishy {
            self.growing(&server, &world).await?;
            self.wide(&server, &world).await?;
        }
        server.stop();
        if let Some(batch) = batch
            && self.who() == (Side::Fishy, Database::Sqlite)
        {
            self.limit(&world, batch)?;
        }
        Ok(())
    }

    /// Starts twice: on an empty folder, and on what that left.
    async fn start(&mut self) -> Result<Server> {
        let who = self.who();
        let server = self.place.start().await?;
        self.report.add(who, "start to healthy, empty", "seconds", Better::Less, server.start_s);
        server.stop();
        let server = self.place.start().await?;
        self.report.add(who, "start to healthy", "seconds", Better::Less, server.start_s);
        tokio::time::sleep(Duration::from_secs(3)).await;
        let idle = server.usage()?;
        self.report.add(who, "idle", "resident MB", Better::Less, idle.resident_bytes / 1e6);
        self.report.add(who, "idle", "processes", Better::Less, idle.processes as f64);
        Ok(server)
    }

    async fn load(&mut self, server: &Server, name: &str, load: &Load) -> Result<Option<Measured>> {
        if !self.is_wanted(name) {
            return Ok(None);
        }
        let measured = measure(server, load, CLIENTS, self.sizes.duration).await?;
        let who = self.who();
        self.report.add(who, name, "CPU ms per request", Better::Less, measured.cpu_ms);
        self.report.add(who, name, "requests/s", Better::More, measured.per_second);
        self.report.add(who, name, "p50 ms", Better::Less, measured.p50_ms);
        self.report.add(who, name, "p99 ms", Better::Less, measured.p99_ms);
        Ok(Some(measured))
    }

    /// One after the other: the time of one request, with nobody else there.
    async fn alone(&mut self, server: &Server, name: &str, load: &Load) -> Result<()> {
        if self.is_wanted(name) {
            let measured = measure(server, load, 1, self.sizes.duration).await?;
            let who = self.who();
            self.report.add(who, name, "p50 ms, one client", Better::Less, measured.p50_ms);
            self.report.add(who, name, "p95 ms, one client", Better::Less, measured.p95_ms);
            self.report.add(who, name, "CPU ms, one client", Better::Less, measured.cpu_ms);
        }
        Ok(())
    }

    async fn artifacts(&mut self, server: &Server, world: &World) -> Result<()> {
        const TIMES: u32 = 3;
        let (up, down) = ("artifact of 200 MiB up", "artifact of 200 MiB down");
        if !self.is_wanted(up) && !self.is_wanted(down) {
            return Ok(());
        }
        let who = self.who();
        let size = self.sizes.artifact_bytes;
        // Not all one byte, and not slow to make.
        let content: Bytes = (0..size as u64).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let client = measure::client()?;
        let root = format!(
            "{}/api/2.0/mlflow-artifacts/artifacts/{}/{}/artifacts",
            server.url, world.experiment, world.runs[0]
        );
        let (mut seconds, mut cpu_s) = ([0.0; 2], [0.0; 2]);
        let before = server.usage()?;
        for number in 0..TIMES {
            let url = format!("{root}/large-{number}.bin");
            let (started, usage) = (Instant::now(), server.usage()?);
            client.put(&url).body(content.clone()).send().await?.error_for_status()?;
            seconds[0] += started.elapsed().as_secs_f64();
            cpu_s[0] += server.usage()?.cpu_s - usage.cpu_s;
            let (started, usage) = (Instant::now(), server.usage()?);
            let mut stream = client.get(&url).send().await?.error_for_status()?.bytes_stream();
            let mut received = 0;
            while let Some(part) = stream.next().await {
                received += part?.len();
            }
            seconds[1] += started.elapsed().as_secs_f64();
            cpu_s[1] += server.usage()?.cpu_s - usage.cpu_s;
            if received != size {
                bail!("{received} of {size} bytes came back");
            }
        }
        for (at, name) in [up, down].into_iter().enumerate() {
            self.report.add(who, name, "seconds", Better::Less, seconds[at] / f64::from(TIMES));
            self.report.add(who, name, "CPU seconds", Better::Less, cpu_s[at] / f64::from(TIMES));
        }
        let grown = (server.usage()?.peak_bytes - before.resident_bytes) / MIB;
        self.report.add(who, up, "MiB more memory, at most", Better::Less, grown);
        Ok(())
    }

    async fn chart(&mut self, server: &Server, world: &World) -> Result<()> {
        let name = format!("chart of {} points", grouped(self.sizes.history));
        if self.is_wanted(&name) {
            seed::history(&self.place, &world.runs[0], self.sizes.history).await?;
            self.alone(server, &name, &world.chart()).await?;
        }
        Ok(())
    }

    /// What is stored must cost nothing.
    async fn growing(&mut self, server: &Server, world: &World) -> Result<()> {
        let mut so_far = COMPARED;
        for stored in self.sizes.stored.clone() {
            let (search, log) = (
                format!("search of {} runs, growing", grouped(stored)),
                format!("log-metric at {} runs, growing", grouped(stored)),
            );
            if !self.is_wanted(&search) && !self.is_wanted(&log) {
                continue;
            }
            if stored > so_far {
                let started = Instant::now();
                seed::runs(&self.place, &world.stored, so_far, stored).await?;
                println!("  seeded up to {} runs in {:.0} s", grouped(stored), started.elapsed().as_secs_f64());
                so_far = stored;
            }
            self.alone(server, &search, &world.search()).await?;
            self.load(server, &log, &world.log_metric()).await?;
        }
        Ok(())
    }

    async fn wide(&mut self, server: &Server, world: &World) -> Result<()> {
        let name = format!("first page of {} runs x {} metrics", grouped(self.sizes.wide_runs), seed::WIDE);
        if self.is_wanted(&name) {
            let started = Instant::now();
            seed::wide_runs(&self.place, &world.wide, self.sizes.wide_runs).await?;
            println!(
                "  seeded {} wide runs in {:.0} s",
                grouped(self.sizes.wide_runs),
                started.elapsed().as_secs_f64()
            );
            self.alone(server, &name, &world.first_page()).await?;
        }
        Ok(())
    }

    fn limit(&mut self, world: &World, batch: Measured) -> Result<()> {
        let seconds = self.sizes.duration.as_secs_f64();
        let limit = limit::measure(&self.place.sqlite_file(), &world.runs[0], seconds)?;
        let (ours, name) = (batch.per_second * 100.0, "log-batch of 100 metrics");
        self.report.add_limited(Database::Sqlite, name, "metrics/s, limit: histories", ours, limit.history_per_second);
        self.report.add_limited(
            Database::Sqlite,
            name,
            "metrics/s, limit: + latest",
            ours,
            limit.with_latest_per_second,
        );
        Ok(())
    }
}
