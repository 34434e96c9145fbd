//! A sink: prediction records leave the spool as CloudEvents, over HTTP or to RabbitMQ, in order of batches, at least once.

mod http;
mod rabbit;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use fishy_config::{Config, PredictionSink};
use fishy_contracts::deployment::SinkStatus;
use fishy_core::{Env, Error, Result, check_name};
use tokio_util::sync::CancellationToken;

use self::http::HttpDoor;
use self::rabbit::RabbitDoor;
use super::{Health, pause};
use crate::domain::cloud_event::{CloudEvent, Head};
use crate::service::blocking;
use crate::spool::{Batch, Cursor, Reader, Spool};

/// How often the spool is looked at while there is nothing to pass on: records of this time go together.
const LOOK: Duration = Duration::from_millis(200);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A sink that asks to be left alone for longer is asked again after this.
const LONGEST_RETRY_AFTER: Duration = Duration::from_mins(5);
/// How long the last records may take when the process ends. What is left then goes after the next start.
const LAST_RECORDS: Duration = Duration::from_secs(5);
const MAX_BATCH_RECORDS: usize = 10_000;
const MAX_BYTES: usize = 1024 * 1024;
const TIMEOUTS_MS: std::ops::RangeInclusive<u64> = 100..=300_000;

/// Passes records on to one sink.
pub(crate) struct SinkExport {
    name: String,
    reader: Reader,
    spool: Arc<Spool>,
    env: Env,
    settings: PredictionSink,
    door: Door,
    health: Health,
    counts: Counts,
}

/// What became of events, since the start.
struct Counts {
    sent: AtomicU64,
    refused: AtomicU64,
    last_sent_ms: AtomicI64,
    sent_total: metrics::Counter,
    refused_total: metrics::Counter,
    waiting: metrics::Gauge,
}

/// How events leave.
enum Door {
    Http(HttpDoor),
    Rabbit(RabbitDoor),
}

/// What the other side made of some events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Taken {
    sent: u64,
    /// Too large for it, each by itself.
    refused: u64,
}

/// Why they have to be sent again.
#[derive(Debug)]
struct Failure {
    error: Error,
    /// When the sink wants to be asked again.
    after: Option<Duration>,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, after: None }
    }
}

impl SinkExport {
    /// The sink of this name, the reader at this place of the spool.
    pub(crate) async fn new(
        (name, place): (&str, usize),
        settings: PredictionSink,
        config: &Config,
        spool: Arc<Spool>,
        env: Env,
    ) -> Result<Self> {
        let checked = check(name, &settings);
        checked.map_err(|error| error.context(format_args!("deployment.sinks.{name}")))?;
        let door = Door::open(&settings, config, &env).await;
        let door = door.map_err(|error| error.context(format_args!("deployment.sinks.{name}")))?;
        let label = [("sink", name.to_owned())];
        let counts = Counts {
            sent: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            last_sent_ms: AtomicI64::new(0),
            sent_total: metrics::counter!("fishy_prediction_sink_events_total", &label),
            refused_total: metrics::counter!("fishy_prediction_sink_refused_total", &label),
            waiting: metrics::gauge!("fishy_prediction_sink_waiting_records", &label),
        };
        let (name, reader) = (name.to_owned(), Reader::Sink(place));
        Ok(Self { name, reader, spool, env, settings, door, health: Health::default(), counts })
    }

    /// Runs until `stop`; the last records are passed on by [`finish`](Self::finish) once no request is open any more.
    pub(crate) async fn run(&self, stop: CancellationToken) {
        let mut wait = FIRST_PAUSE;
        loop {
            let passed = tokio::select! {
                () = stop.cancelled() => return,
                passed = self.pass_on() => passed,
            };
            let length = match passed {
                Ok(is_more) => {
                    wait = FIRST_PAUSE;
                    if is_more { Duration::ZERO } else { LOOK }
                }
                Err(Failure { after, .. }) => {
                    let length = after.unwrap_or(wait).max(FIRST_PAUSE);
                    wait = (wait * 2).min(LONGEST_PAUSE);
                    length
                }
            };
            self.counts.waiting.set(self.spool.lag(self.reader).records as f64);
            if !pause(length, &stop).await {
                return;
            }
        }
    }

    /// Passes on what is there, as far as the sink takes it at once.
    pub(crate) async fn finish(&self) {
        let rest = async { while let Ok(true) = self.pass_on().await {} };
        if tokio::time::timeout(LAST_RECORDS, rest).await.is_err() {
            tracing::warn!(sink = self.name, "the last prediction records go to their sink after the next start");
        }
        if let Door::Rabbit(door) = &self.door {
            door.close().await;
        }
    }

    /// One batch; whether there was anything.
    async fn pass_on(&self) -> Result<bool, Failure> {
        let passed = self.try_pass_on().await;
        self.health.set(&self.what(), passed.as_ref().err().map(|failure| &failure.error));
        passed
    }

    async fn try_pass_on(&self) -> Result<bool, Failure> {
        let from = self.spool.cursor(self.reader).position;
        if from >= self.spool.end() {
            return Ok(false);
        }
        let (spool, records) = (Arc::clone(&self.spool), self.settings.batch_records);
        let Batch { lines, next, .. } = blocking(move || spool.read(from, u64::MAX, records, MAX_BYTES)).await?;
        let events = self.events(&lines)?;
        if !events.is_empty() {
            let taken = self.door.send(&events, self.env.now_ms()).await?;
            self.count(taken);
        }
        if next > from {
            self.spool.set_cursor(self.reader, Cursor::at(next))?;
        }
        Ok(next > from)
    }

    /// The events of the records that this sink wants.
    fn events<'a>(&self, lines: &'a [u8]) -> Result<Vec<CloudEvent<'a>>> {
        let PredictionSink { format, deployments, sample, .. } = &self.settings;
        let mut events = Vec::new();
        for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let head = match Head::parse(line) {
                Ok(head) => head,
                Err(error) => {
                    tracing::error!(
                        sink = self.name,
                        error = error.chain(),
                        "a record is left out of the prediction log"
                    );
                    continue;
                }
            };
            let is_wanted = deployments.is_empty() || deployments.iter().any(|name| *name == head.deployment);
            if is_wanted && head.is_sampled(*sample) {
                events.extend(head.events(line, *format, *sample)?);
            }
        }
        Ok(events)
    }

    fn count(&self, taken: Taken) {
        let counts = &self.counts;
        counts.sent.fetch_add(taken.sent, Ordering::Relaxed);
        counts.sent_total.increment(taken.sent);
        counts.last_sent_ms.store(self.env.now_ms(), Ordering::Relaxed);
        if taken.refused > 0 {
            counts.refused.fetch_add(taken.refused, Ordering::Relaxed);
            counts.refused_total.increment(taken.refused);
            tracing::error!(sink = self.name, events = taken.refused, "a sink takes no events of that size: left out");
        }
    }

    fn what(&self) -> String {
        format!("prediction sink {}", self.name)
    }

    /// What is wrong, in words: why the sink does not take records, and how many wait or were dropped.
    pub(crate) fn problem(&self) -> Option<String> {
        let problem = self.health.problem()?;
        let lag = self.spool.lag(self.reader);
        let dropped = match lag.dropped {
            0 => String::new(),
            dropped => format!(", and {dropped} were dropped since the start"),
        };
        Some(format!("{problem}: about {} records wait for it{dropped}", lag.records))
    }

    /// How it stands.
    pub(crate) fn status(&self) -> SinkStatus {
        let lag = self.spool.lag(self.reader);
        let last_sent_ms = self.counts.last_sent_ms.load(Ordering::Relaxed);
        SinkStatus {
            name: self.name.clone(),
            kind: match self.door {
                Door::Http(_) => "http",
                Door::Rabbit(_) => "rabbitmq",
            }
            .to_owned(),
            deployments: self.settings.deployments.clone(),
            sample: self.settings.sample,
            sent: self.counts.sent.load(Ordering::Relaxed),
            refused: self.counts.refused.load(Ordering::Relaxed),
            waiting_records: lag.records,
            waiting_bytes: lag.bytes,
            dropped: lag.dropped,
            last_sent_ms: (last_sent_ms > 0).then_some(last_sent_ms),
            problem: self.health.problem(),
        }
    }
}

impl Door {
    async fn open(settings: &PredictionSink, config: &Config, env: &Env) -> Result<Self> {
        let url = if settings.url.is_empty() { &config.bus.url } else { &settings.url };
        match url.expose().split_once("://").map(|(scheme, _)| scheme) {
            Some("http" | "https") => Ok(Self::Http(HttpDoor::new(url.expose(), settings)?)),
            Some("amqp" | "amqps") => {
                let door = RabbitDoor::connect(url.expose(), &config.bus.prefix, settings, env).await?;
                Ok(Self::Rabbit(door))
            }
            _ => Err(Error::invalid(
                "url begins with http://, https://, amqp:// or amqps://, or is empty for the broker at bus.url",
            )),
        }
    }

    async fn send(&self, events: &[CloudEvent<'_>], now_ms: i64) -> Result<Taken, Failure> {
        match self {
            Self::Http(door) => door.send(events, now_ms).await,
            Self::Rabbit(door) => Ok(door.send(events).await?),
        }
    }
}

/// What is wrong with the settings of a sink, whatever it speaks.
fn check(name: &str, settings: &PredictionSink) -> Result<()> {
    check_name("sink", name)?;
    let PredictionSink { sample, batch_records, timeout_ms, deployments, .. } = settings;
    if !(*sample > 0.0 && *sample <= 1.0) {
        return Err(Error::invalid(format!("sample is {sample}: it is a share above 0 and at most 1")));
    }
    if !(1..=MAX_BATCH_RECORDS).contains(batch_records) {
        return Err(Error::invalid(format!("batch_records is {batch_records}: it is from 1 to {MAX_BATCH_RECORDS}")));
    }
    if !TIMEOUTS_MS.contains(timeout_ms) {
        let (least, most) = (TIMEOUTS_MS.start(), TIMEOUTS_MS.end());
        return Err(Error::invalid(format!("timeout_ms is {timeout_ms}: it is from {least} to {most}")));
    }
    deployments.iter().try_for_each(|deployment| check_name("deployment", deployment).map(drop))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(json: serde_json::Value) -> PredictionSink {
        serde_json::from_value(json).unwrap()
    }

    #[tokio::test]
    async fn what_cannot_work_is_refused_in_words() {
        let config = Config::default();
        let open = async |json: serde_json::Value| {
            let settings = settings(json);
            check("lake", &settings)?;
            Door::open(&settings, &config, &Env::system()).await.map(drop)
        };
        let cases = [
            (serde_json::json!({"url": "http://127.0.0.1:1", "sample": 0.0}), "sample is 0"),
            (serde_json::json!({"url": "http://127.0.0.1:1", "sample": 1.5}), "sample is 1.5"),
            (serde_json::json!({"url": "http://127.0.0.1:1", "batch_records": 0}), "batch_records is 0"),
            (serde_json::json!({"url": "http://127.0.0.1:1", "timeout_ms": 1}), "timeout_ms is 1"),
            (serde_json::json!({"url": "http://127.0.0.1:1", "deployments": ["a b"]}), "\"a b\" is not a valid name"),
            (serde_json::json!({"url": "http://127.0.0.1:1", "queue": "q"}), "queue and exchange are for RabbitMQ"),
            (serde_json::json!({"url": "http://"}), "use http://host/path"),
            (serde_json::json!({"url": "ftp://host"}), "url begins with"),
            (serde_json::json!({}), "url begins with"),
            (serde_json::json!({"url": "amqp://127.0.0.1:1"}), "one of queue and exchange"),
            (
                serde_json::json!({"url": "amqp://127.0.0.1:1", "queue": "a", "exchange": "b"}),
                "one of queue and exchange",
            ),
            (serde_json::json!({"url": "amqp://127.0.0.1:1", "queue": "fishy.dead"}), "begins neither with amq. nor"),
            (serde_json::json!({"url": "amqp://127.0.0.1:1", "queue": "a", "mode": "batched"}), "batched is for HTTP"),
            (
                serde_json::json!({"url": "amqp://127.0.0.1:1", "queue": "a", "token": "t"}),
                "token and secret are for HTTP",
            ),
        ];
        for (json, expected) in cases {
            let error = open(json.clone()).await.err().unwrap_or_else(|| panic!("{json} was taken"));
            assert!(error.message().contains(expected), "{json}: {error}");
        }
        assert!(open(serde_json::json!({"url": "https://lake.example/events?token=x"})).await.is_ok());
    }
}
