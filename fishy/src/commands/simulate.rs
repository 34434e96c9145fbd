use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use fishy_simulator::{Reading, Scenario, Sensor, Simulation};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Confirmation, Connection, ConnectionProperties};

/// Where the readings go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum To {
    /// JSON lines on standard output.
    Stdout,
    /// A CSV file (`--file`), or standard output.
    Csv,
    /// JSON lines by POST to `--url`, in batches.
    Http,
    /// One persistent message a reading to the queue `--queue` of the broker `--amqp`, each confirmed.
    Amqp,
}

/// `fishy simulate`
#[derive(Debug, Args)]
pub struct Simulate {
    /// calm, seasonal, stuck-probe, concept-drift or demo; or a TOML file.
    #[arg(long, default_value = "demo")]
    scenario: String,
    /// The same seed gives the same readings.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Readings at most; all of the scenario if not said.
    #[arg(long)]
    limit: Option<usize>,
    /// Where the readings go.
    #[arg(long, value_enum, default_value = "stdout")]
    to: To,
    /// The file of `--to csv`.
    #[arg(long)]
    file: Option<PathBuf>,
    /// The address of `--to http`.
    #[arg(long)]
    url: Option<String>,
    /// The broker of `--to amqp`.
    #[arg(long, default_value = "amqp://guest:guest@127.0.0.1:5672/%2f")]
    amqp: String,
    /// The queue of `--to amqp`.
    #[arg(long, default_value = "fishy.readings")]
    queue: String,
    /// Readings each second at most; as fast as possible if not said.
    #[arg(long)]
    rate: Option<f64>,
}

/// Readings of one HTTP request.
const BATCH: usize = 500;

/// A scenario by its name, or from a TOML file.
pub fn scenario(name: &str) -> Result<Scenario> {
    if std::path::Path::new(name).extension().is_some_and(|extension| extension == "toml") {
        let text = std::fs::read_to_string(name).with_context(|| format!("reading {name}"))?;
        return Scenario::from_toml(&text).with_context(|| format!("in {name}"));
    }
    Ok(Scenario::preset(name)?)
}

impl Simulate {
    /// Runs the command.
    pub async fn run(self) -> Result<()> {
        if self.rate.is_some_and(|rate| rate.is_nan() || rate <= 0.0) {
            bail!("--rate must be above 0");
        }
        let readings = Simulation::new(&scenario(&self.scenario)?, self.seed)?.take(self.limit.unwrap_or(usize::MAX));
        match self.to {
            To::Stdout => self.lines(readings).await,
            To::Csv => self.csv(readings).await,
            To::Http => self.http(readings).await,
            To::Amqp => self.amqp(readings).await,
        }
    }

    async fn pace(&self) {
        if let Some(rate) = self.rate {
            tokio::time::sleep(Duration::from_secs_f64(1.0 / rate)).await;
        }
    }

    async fn lines(&self, readings: impl Iterator<Item = Reading>) -> Result<()> {
        let mut out = BufWriter::new(std::io::stdout());
        for reading in readings {
            serde_json::to_writer(&mut out, &reading)?;
            out.write_all(b"\n")?;
            if self.rate.is_some() {
                out.flush()?;
            }
            self.pace().await;
        }
        Ok(out.flush()?)
    }

    async fn csv(&self, readings: impl Iterator<Item = Reading>) -> Result<()> {
        let mut out: Box<dyn Write> = match &self.file {
            Some(file) => {
                let open = std::fs::File::create(file).with_context(|| format!("writing {}", file.display()))?;
                Box::new(BufWriter::new(open))
            }
            None => Box::new(BufWriter::new(std::io::stdout())),
        };
        let columns: Vec<_> = Sensor::ALL.iter().map(|sensor| sensor.as_str()).collect();
        writeln!(out, "time,farm,pen,{},faults,changes", columns.join(","))?;
        for reading in readings {
            let values: Vec<String> = Sensor::ALL
                .iter()
                .map(|sensor| reading.value(*sensor).map(|value| format!("{value}")).unwrap_or_default())
                .collect();
            let faults: Vec<_> = reading.faults.iter().map(|fault| fault.sensor.as_str()).collect();
            writeln!(
                out,
                "{},{},{},{},{},{}",
                fishy_core::time::rfc3339(reading.time_ms),
                reading.farm,
                reading.pen,
                values.join(","),
                faults.join(" "),
                reading.changes.join(" ")
            )?;
            self.pace().await;
        }
        Ok(out.flush()?)
    }

    async fn http(&self, readings: impl Iterator<Item = Reading>) -> Result<()> {
        let url = self.url.as_deref().context("--to http needs --url")?;
        let http = reqwest::Client::builder().timeout(Duration::from_secs(30)).build()?;
        let mut sent = 0;
        let mut batch = String::new();
        let mut held = 0;
        let mut readings = readings.peekable();
        while let Some(reading) = readings.next() {
            batch.push_str(&serde_json::to_string(&reading)?);
            batch.push('\n');
            held += 1;
            if held == BATCH || readings.peek().is_none() || self.rate.is_some() {
                let answer = http
                    .post(url)
                    .header("content-type", "application/x-ndjson")
                    .body(std::mem::take(&mut batch))
                    .send();
                answer.await.with_context(|| format!("{url} cannot be reached"))?.error_for_status()?;
                sent += held;
                held = 0;
                self.pace().await;
            }
        }
        eprintln!("{sent} readings sent to {url}");
        Ok(())
    }

    async fn amqp(&self, readings: impl Iterator<Item = Reading>) -> Result<()> {
        let connection = Connection::connect(&self.amqp, ConnectionProperties::default());
        let connection = tokio::time::timeout(Duration::from_secs(10), connection)
            .await
            .context("the broker did not answer within 10 s")?
            .context("the broker cannot be reached")?;
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        channel.queue_declare(self.queue.as_str().into(), durable, FieldTable::default()).await?;
        let properties = BasicProperties::default().with_delivery_mode(2).with_content_type("application/json".into());
        let mut sent = 0;
        for reading in readings {
            let body = serde_json::to_vec(&reading)?;
            let confirm = channel
                .basic_publish(
                    "".into(),
                    self.queue.as_str().into(),
                    BasicPublishOptions::default(),
                    &body,
                    properties.clone(),
                )
                .await?
                .await?;
            if matches!(confirm, Confirmation::Nack(_)) {
                bail!("the broker refused reading {sent}");
            }
            sent += 1;
            self.pace().await;
        }
        connection.close(200, "done".into()).await?;
        eprintln!("{sent} readings sent to the queue {}", self.queue);
        Ok(())
    }
}
