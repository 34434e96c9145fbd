//! The client: readings, true values, midnights.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use fishy_contracts::deployment::DeploymentSpec;
use fishy_contracts::events::TriggerFired;
use fishy_contracts::monitoring::{
    DataFault, ExpertSpec, GroundTruth, GroundTruthItem, MonitorSpec, MonitorStatus, Observation, Observations,
    ProbeChecks, Watermark,
};
use fishy_contracts::pipelines::{Run, RunStatus, StartRun};
use fishy_contracts::{DeploymentClient, GovernanceClient, MonitoringClient, PipelinesClient, segment};
use fishy_core::ErrorCode;
use fishy_core::time::{DAY_MS, HOUR_MS};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use serde_json::{Value, json};

use super::plan::{Plan, Row};
use super::server::Server;
use crate::commands::Server as Url;

/// How long one thing is tried again while the server is away.
const PATIENCE: Duration = Duration::from_mins(2);
/// How long a training may take, with all that follows.
const RUN_LIMIT: Duration = Duration::from_mins(10);
/// Rows of one request of history or ground truth.
const CHUNK: usize = 2000;

/// One run of the pipeline as it ended.
#[derive(Debug, Clone, Serialize)]
pub struct Decision {
    /// Event time.
    pub as_of_ms: i64,
    /// How it ended.
    pub status: RunStatus,
    /// Why it was started.
    pub reason: String,
    /// The error of challenger and champion on the evaluation window.
    pub evaluation: Value,
    /// Why the gate said what it said.
    pub gate: Value,
    /// What went wrong.
    pub error: Option<String>,
    /// How long it took.
    pub seconds: f64,
}

/// What came out.
pub struct Outcome {
    /// Answers in the order of the plan's replayed rows.
    pub answers: Vec<f64>,
    /// All runs but the first training.
    pub decisions: Vec<Decision>,
    /// Requests that were repeated because the server was away.
    pub repeated: u64,
    /// Requests that failed for good.
    pub failed: u64,
    /// How often the server was killed.
    pub kills: u32,
    /// Predictions, labels and audit entries that were acknowledged and cannot be found.
    pub lost: BTreeMap<String, i64>,
    /// Data faults that the monitor reported.
    pub faults: Vec<DataFault>,
    /// Time spent in prediction requests.
    pub predicting: Duration,
    /// Time spent in trainings, gate and promotion.
    pub training: Duration,
    /// The verdict on the audit log.
    pub audit: String,
    /// The monitor at the end.
    pub monitor: MonitorStatus,
}

/// Drives a plan through a server.
pub struct Driver<'a> {
    plan: &'a Plan,
    url: Url,
    server: &'a Server,
    kills: u32,
    seed: u64,
    http: reqwest::Client,
    deployment: DeploymentClient,
    monitoring: MonitoringClient,
    pipelines: PipelinesClient,
    governance: GovernanceClient,
    repeated: AtomicU64,
}

impl<'a> Driver<'a> {
    /// A driver for a plan and a server.
    pub fn new(plan: &'a Plan, url: Url, server: &'a Server, kills: u32, seed: u64) -> Result<Self> {
        Ok(Self {
            plan,
            server,
            kills,
            seed,
            http: reqwest::Client::builder().timeout(Duration::from_secs(30)).build()?,
            deployment: url.deployment()?,
            monitoring: url.monitoring()?,
            pipelines: url.pipelines()?,
            governance: url.governance()?,
            repeated: AtomicU64::new(0),
            url,
        })
    }

    /// The whole replay.
    pub async fn run(&self) -> Result<Outcome> {
        let plan = self.plan;
        self.set_up().await?;
        let first = self.first_training().await?;
        eprintln!("first model: version {} trained, judged and deployed in {:.1} s", first.1, first.0);

        let replayed = &plan.rows[plan.first_replayed()..];
        let bar = progress(replayed.len());
        let mut outcome = Outcome {
            answers: Vec::with_capacity(replayed.len()),
            decisions: Vec::new(),
            repeated: 0,
            failed: 0,
            kills: 0,
            lost: BTreeMap::new(),
            faults: Vec::new(),
            predicting: Duration::ZERO,
            training: Duration::ZERO,
            audit: String::new(),
            monitor: self.status().await?,
        };
        let mut kill_at: Vec<usize> =
            (1..=self.kills).map(|kill| replayed.len() * kill as usize / (self.kills as usize + 1)).collect();
        let mut midnight_ms = plan.train_until_ms.div_euclid(DAY_MS) * DAY_MS + DAY_MS;
        let mut labelled = 0;
        for (place, row) in replayed.iter().enumerate() {
            while row.time_ms >= midnight_ms {
                labelled = self.midnight(midnight_ms, replayed, labelled, place, &mut outcome, &bar).await?;
                midnight_ms += DAY_MS;
            }
            let started = Instant::now();
            let answer = if kill_at.first() == Some(&place) {
                kill_at.remove(0);
                outcome.kills += 1;
                bar.println(format!("  SIGKILL at row {place}, and a new start"));
                // In the middle of the request, so that nobody knows whether it was recorded: the client asks again
                // with the same id, also where an answer came just before the end.
                let (answer, restarted) = tokio::join!(self.predict(row), self.server.kill_and_restart());
                restarted?;
                self.repeated.fetch_add(1, Ordering::Relaxed);
                answer.and(self.predict(row).await)
            } else {
                self.predict(row).await
            };
            outcome.predicting += started.elapsed();
            match answer {
                Ok(answer) => outcome.answers.push(answer),
                Err(error) => {
                    bar.println(format!("  {}: {error:#}", row.id));
                    outcome.failed += 1;
                    outcome.answers.push(f64::NAN);
                }
            }
            bar.inc(1);
        }
        let last_ms = replayed.last().map_or(midnight_ms, |row| row.time_ms) + plan.delay_ms;
        while midnight_ms <= last_ms + DAY_MS {
            labelled = self.midnight(midnight_ms, replayed, labelled, replayed.len(), &mut outcome, &bar).await?;
            midnight_ms += DAY_MS;
        }
        bar.finish_and_clear();
        outcome.repeated = self.repeated.load(Ordering::Relaxed);
        self.account(&mut outcome, replayed.len()).await?;
        Ok(outcome)
    }

    async fn set_up(&self) -> Result<()> {
        let plan = self.plan;
        self.patiently("pipeline", || self.pipelines.apply(&plan.pipeline)).await?;
        let monitor = MonitorSpec {
            name: plan.name.clone(),
            deployment: plan.name.clone(),
            output: String::new(),
            features: plan.features.clone(),
            sensors: plan.sensors.clone(),
            ranges: plan.ranges.clone(),
            series_label: plan.series_label.clone(),
            lateness_ms: HOUR_MS,
            trigger: plan.trigger.clone(),
            checks: Vec::new(),
            probes: ProbeChecks::default(),
            experts: ExpertSpec::default(),
        };
        self.patiently("monitor", || self.monitoring.apply(&monitor)).await?;
        for rows in plan.rows[..plan.first_replayed()].chunks(CHUNK) {
            let items = rows.iter().map(|row| self.observation(row)).collect();
            let history = Observations { items };
            self.patiently("history", || self.monitoring.observations(&plan.name, &history)).await?;
        }
        let spec = DeploymentSpec {
            name: plan.name.clone(),
            model: format!("models:/{}@champion", plan.model),
            is_gated: true,
        };
        self.patiently("deployment", || self.deployment.apply(&spec)).await?;
        Ok(())
    }

    fn observation(&self, row: &Row) -> Observation {
        let inputs = self.plan.features.iter().cloned().zip(row.inputs.iter().map(|value| Some(*value))).collect();
        // History is handed over when the first model is made: by then all of it is known.
        let arrived_ms = (row.time_ms + self.plan.delay_ms).min(self.plan.train_until_ms);
        let labels = labels(self.plan, row);
        Observation { id: row.id.clone(), time_ms: row.time_ms, arrived_ms, inputs, value: row.target, labels }
    }

    async fn first_training(&self) -> Result<(f64, String)> {
        let started = Instant::now();
        let start = StartRun {
            as_of_ms: Some(self.plan.train_until_ms),
            reason: "the first model".to_owned(),
            trigger_id: Some(format!("first-{}", self.plan.name)),
            params: BTreeMap::from([("seed".to_owned(), self.seed.to_string())]),
        };
        let run = self.patiently("first training", || self.pipelines.start(&self.plan.name, &start)).await?;
        let run = self.until_final(&run.id).await?;
        if run.status != RunStatus::Succeeded {
            let steps: Vec<_> = run.steps.iter().filter_map(|step| step.error.clone()).collect();
            bail!("the first training ended {:?}: {}", run.status, run.error.unwrap_or_else(|| steps.join("; ")));
        }
        let version = self.until_adopted().await?;
        Ok((started.elapsed().as_secs_f64(), version))
    }

    /// Everything that happens at midnight: true values that became known, the monitor's look at the day, and, when it
    /// asks for one, a training to its end. Answers how many rows have their true value sent.
    async fn midnight(
        &self,
        midnight_ms: i64,
        rows: &[Row],
        mut labelled: usize,
        predicted: usize,
        outcome: &mut Outcome,
        bar: &ProgressBar,
    ) -> Result<usize> {
        let arrived = |row: &Row| row.time_ms + self.plan.delay_ms <= midnight_ms;
        let until = labelled + rows[labelled..predicted].iter().take_while(|row| arrived(row)).count();
        for chunk in rows[labelled..until].chunks(CHUNK) {
            let items = chunk
                .iter()
                .map(|row| GroundTruthItem {
                    prediction_id: row.id.clone(),
                    value: row.target,
                    time_ms: Some(row.time_ms + self.plan.delay_ms),
                })
                .collect();
            let truth = GroundTruth { items };
            self.patiently("ground truth", || self.monitoring.ground_truth(&truth)).await?;
        }
        labelled = until;
        let sent = (outcome.answers.len() as u64).saturating_sub(outcome.failed);
        self.until("the monitor has all predictions", PATIENCE, || async move {
            let status = self.status().await?;
            Ok((status.predictions >= sent).then_some(()))
        })
        .await?;
        let watermark = Watermark { time_ms: midnight_ms };
        let status = self.patiently("watermark", || self.monitoring.watermark(&self.plan.name, watermark)).await?;
        if let Some(trigger) = status.last_trigger.filter(|trigger| trigger.as_of_ms == midnight_ms) {
            self.training(&trigger, outcome, bar).await?;
        }
        Ok(labelled)
    }

    async fn training(&self, trigger: &TriggerFired, outcome: &mut Outcome, bar: &ProgressBar) -> Result<()> {
        let started = Instant::now();
        bar.set_message("training");
        let run = self
            .until("the trigger started a run", PATIENCE, || async move {
                match self.pipelines.run_of_trigger(&trigger.id).await {
                    Ok(run) => Ok(Some(run)),
                    Err(error) if error.code() == ErrorCode::NotFound => Ok(None),
                    Err(error) => Err(error),
                }
            })
            .await?;
        let run = self.until_final(&run.id).await?;
        if run.status == RunStatus::Succeeded {
            self.until_adopted().await?;
        }
        let outputs = |kind: &str| {
            run.steps.iter().find(|step| step.kind == kind).map(|step| step.outputs.clone()).unwrap_or_default()
        };
        let decision = Decision {
            as_of_ms: trigger.as_of_ms,
            status: run.status,
            reason: trigger.reason.clone(),
            evaluation: outputs("evaluate"),
            gate: outputs("gate"),
            error: run.error.clone(),
            seconds: started.elapsed().as_secs_f64(),
        };
        let date = fishy_core::time::rfc3339(trigger.as_of_ms);
        bar.println(format!(
            "  {}  {:<10} {}",
            &date[..10],
            format!("{:?}", run.status).to_lowercase(),
            trigger.reason
        ));
        outcome.training += started.elapsed();
        outcome.decisions.push(decision);
        bar.set_message("");
        Ok(())
    }

    async fn until_final(&self, id: &str) -> Result<Run> {
        self.until("the run has ended", RUN_LIMIT, || async move {
            let run = self.pipelines.run(id).await?;
            Ok(run.status.is_final().then_some(run))
        })
        .await
    }

    /// Waits until the deployment serves what was promoted and the monitor has taken notice; answers the version.
    async fn until_adopted(&self) -> Result<String> {
        let name = &self.plan.name;
        self.until("the monitor knows the champion", PATIENCE, || async move {
            let served = self.deployment.get(name).await?.current.map(|revision| revision.version);
            let known = self.status().await?.champion_version;
            Ok(if served.is_some() && served == known { served } else { None })
        })
        .await
    }

    async fn status(&self) -> fishy_core::Result<MonitorStatus> {
        self.monitoring.status(&self.plan.name).await
    }

    async fn predict(&self, row: &Row) -> Result<f64> {
        let url = format!("{}/v2/models/{}/infer", self.url.url, segment(&self.plan.name));
        // By name: the order of a model's columns is the model's business.
        let inputs: Vec<Value> = (self.plan.features.iter().zip(&row.inputs))
            .map(|(name, value)| json!({"name": name, "shape": [1, 1], "datatype": "FP32", "data": [value]}))
            .collect();
        let body = json!({
            "id": row.id,
            "parameters": {"event_time": row.time_ms, "labels": labels(self.plan, row)},
            "inputs": inputs,
        });
        let started = Instant::now();
        loop {
            let mut request = self.http.post(&url).json(&body);
            if let Some(token) = &self.url.token {
                request = request.bearer_auth(token);
            }
            let problem = match request.send().await {
                Ok(answer) if answer.status().is_success() => match answer.json::<Value>().await {
                    Ok(body) => return body["outputs"][0]["data"][0].as_f64().context("an answer without a number"),
                    Err(error) => format!("the answer broke off: {error}"),
                },
                Ok(answer) if answer.status().is_client_error() && answer.status().as_u16() != 429 => {
                    bail!("{}: {}", answer.status(), answer.text().await.unwrap_or_default());
                }
                Ok(answer) => answer.status().to_string(),
                Err(error) => error.to_string(),
            };
            if started.elapsed() > PATIENCE {
                bail!("no answer within {} s: {problem}", PATIENCE.as_secs());
            }
            self.repeated.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Tries again while the server is away; what the server refuses is final.
    async fn patiently<T, F: Future<Output = fishy_core::Result<T>>>(
        &self,
        what: &str,
        call: impl Fn() -> F,
    ) -> Result<T> {
        let started = Instant::now();
        loop {
            match call().await {
                Ok(value) => return Ok(value),
                Err(error) if error.is_retryable() && started.elapsed() < PATIENCE => {
                    self.repeated.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(error) => return Err(anyhow::Error::new(error).context(what.to_owned())),
            }
        }
    }

    /// Asks until there is something, or the time is up.
    async fn until<T, F: Future<Output = fishy_core::Result<Option<T>>>>(
        &self,
        what: &str,
        limit: Duration,
        ask: impl Fn() -> F,
    ) -> Result<T> {
        let started = Instant::now();
        let mut pause = Duration::from_millis(1);
        loop {
            match ask().await {
                Ok(Some(value)) => return Ok(value),
                Err(error) if !error.is_retryable() => return Err(anyhow::Error::new(error).context(what.to_owned())),
                Ok(None) | Err(_) if started.elapsed() > limit => {
                    bail!("waited {} s in vain until {what}", limit.as_secs());
                }
                Ok(None) | Err(_) => {}
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(100));
        }
    }

    /// Counts what must be there.
    async fn account(&self, outcome: &mut Outcome, replayed: usize) -> Result<()> {
        outcome.monitor = self.status().await?;
        outcome.faults = self.monitoring.faults(&self.plan.name, false).await?.items;
        let sent = replayed as i64 - outcome.failed as i64;
        outcome.lost.insert("predictions".to_owned(), sent - outcome.monitor.predictions as i64);
        let labels = (self.plan.first_replayed() + replayed) as i64 - outcome.failed as i64;
        outcome.lost.insert("labels".to_owned(), labels - outcome.monitor.labels as i64);

        // The audit log: verified without the server, and every run and promotion has its entries.
        let file = std::env::temp_dir().join(format!("fishy-audit-{}.jsonl", std::process::id()));
        let runs = self.pipelines.runs(&self.plan.name).await?.items;
        let promotions = self.governance.promotions(&self.plan.model).await?.items;
        let missing = self
            .until("all decisions are on the audit trail", Duration::from_secs(20), || {
                let (file, runs, promotions) = (&file, &runs, &promotions);
                async move {
                    crate::commands::audit::export(&self.url, file)
                        .await
                        .map_err(|error| fishy_core::Error::unavailable(format!("{error:#}")))?;
                    let text = std::fs::read_to_string(file)?;
                    let ids = runs.iter().map(|run| &run.id).chain(promotions.iter().map(|one| &one.request.id));
                    let missing = ids.filter(|id| !text.contains(id.as_str())).count() as i64;
                    Ok((missing == 0).then_some(missing))
                }
            })
            .await
            .unwrap_or(1);
        outcome.lost.insert("audit entries".to_owned(), missing);
        let open = std::io::BufReader::new(std::fs::File::open(&file)?);
        let report = fishy_audit::verify_export(open, &fishy_audit::VerifyOptions::default())?;
        let _ = std::fs::remove_file(&file);
        outcome.audit = if report.is_ok() {
            format!("intact: {} entries, {} signed checkpoints", report.entries, report.checkpoints_ok)
        } else {
            outcome.lost.insert("audit log problems".to_owned(), report.problems.len() as i64);
            format!("DAMAGED: {}", report.problems.first().map(|problem| problem.message.clone()).unwrap_or_default())
        };
        Ok(())
    }
}

fn labels(plan: &Plan, row: &Row) -> BTreeMap<String, String> {
    if plan.series_label.is_empty() {
        return BTreeMap::new();
    }
    BTreeMap::from([(plan.series_label.clone(), row.series.clone())])
}

fn progress(rows: usize) -> ProgressBar {
    let bar = ProgressBar::new(rows as u64);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} hours  {per_sec}  {elapsed}  {msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
