//! A candidate is asked what was asked live.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fishy_audit::Outcome;
use fishy_contracts::deployment::{AnswerKind, ReplayLatency, ReplayReport, ReplayRequest};
use fishy_contracts::monitoring::{LoggedPrediction, LoggedQuery};
use fishy_core::{Error, Result};
use serde_json::json;

use super::live::Live;
use super::{Service, no_deployment};
use crate::domain::replay::{self, Replayed, Rules, Tallies};
use crate::events;

/// A replay that takes longer ends with what it has.
const MAX_TIME: Duration = Duration::from_mins(10);
/// Predictions that are fetched at once.
const PAGE: u64 = 1_000;
/// Rows that are run at once, where the model takes several.
const BATCH_ROWS: usize = 128;
/// Reasons that are reported.
const MAX_FAILURES: usize = 5;

/// A replay under way.
struct Run {
    serving: Arc<Live>,
    candidate: Arc<Live>,
    /// The place of the output that is compared.
    place: usize,
    patience: Duration,
    tallies: Tallies,
    last_ms: Option<i64>,
    failures: BTreeSet<String>,
    serving_us: Vec<f64>,
    candidate_us: Vec<f64>,
}

impl Service {
    /// Asks a version what was asked live in a span, and compares. Nothing is recorded; a caller that goes away ends it.
    pub(crate) async fn replay(
        self: &Arc<Self>,
        actor: &str,
        name: &str,
        request: ReplayRequest,
    ) -> Result<ReplayReport> {
        replay::check(&request)?;
        let row = self.row(name).await?;
        let slot = self.slot(name).ok_or_else(|| no_deployment(name))?;
        let Ok(_one_at_a_time) = slot.replaying.try_lock() else {
            return Err(Error::exhausted(format!("a replay of {name} is under way: ask again when it has ended")));
        };
        let (_, serving) = self.serving(name, None).await?;
        self.memory.touch(&serving);
        let target = self.candidate_version(&row, &request.version, false).await?;
        let candidate = self.candidate(&slot, &row, &target).await?;

        let ends = Instant::now() + MAX_TIME;
        let mut query = LoggedQuery {
            deployment: name.to_owned(),
            from_ms: request.from_ms,
            to_ms: request.to_ms,
            page_token: String::new(),
            limit: PAGE.min(request.max_rows),
        };
        let mut page = self.monitoring.logged(&query).await?;
        let place = replay::compared_output(serving.layout.outputs(), &page.output)?;
        let output = candidate.layout.outputs().get(place).cloned();
        let output = output.ok_or_else(|| Error::precondition("the candidate lacks the output that is compared"))?;
        let kind = replay::kind_of(&output);
        let rules = Rules { kind, tolerance: request.tolerance, thresholds: request.thresholds.clone() };
        let tallies = Tallies::new(rules, &request.by);
        let mut run = Run {
            serving,
            candidate,
            place,
            patience: self.patience,
            tallies,
            last_ms: None,
            failures: BTreeSet::new(),
            serving_us: Vec::new(),
            candidate_us: Vec::new(),
        };
        let is_complete = loop {
            run.page(&page.items).await;
            let Some(token) = page.next_page_token else { break true };
            query.page_token = token;
            let left = request.max_rows.saturating_sub(run.tallies.rows());
            // Where no more may be asked, one more tells whether that was all.
            query.limit = PAGE.min(left).max(1);
            page = self.monitoring.logged(&query).await?;
            if page.items.is_empty() {
                break true;
            }
            if left == 0 || Instant::now() > ends {
                break false;
            }
        };
        let report = run.report(name, request, output.name, kind, is_complete);
        let details = json!({
            "version": report.version,
            "from_ms": report.request.from_ms,
            "to_ms": report.request.to_ms,
            "is_complete": report.is_complete,
            "figures": report.overall,
        });
        let audit = events::audit(&self.env, actor, "deployment:replay", name, Outcome::Done, details)?;
        self.store.emit(&audit).await?;
        tracing::info!(deployment = name, version = report.version, rows = report.overall.rows, "replayed");
        Ok(report)
    }
}

impl Run {
    async fn page(&mut self, items: &[LoggedPrediction]) {
        let is_several = self.candidate.layout.is_batched() && self.candidate.batcher.is_batchable();
        let size = if is_several { BATCH_ROWS } else { 1 };
        // Versions may have logged other features than those before them.
        let mut alike: BTreeMap<Vec<&str>, Vec<&LoggedPrediction>> = BTreeMap::new();
        for item in items {
            alike.entry(item.inputs.keys().map(String::as_str).collect()).or_default().push(item);
        }
        for rows in alike.values() {
            for batch in rows.chunks(size) {
                self.batch(batch).await;
                // Requests come first.
                tokio::task::yield_now().await;
            }
        }
        self.last_ms = items.last().map(|item| item.time_ms).or(self.last_ms);
    }

    async fn batch(&mut self, rows: &[&LoggedPrediction]) {
        if let Some(first) = rows.first() {
            self.time(first).await;
        }
        match self.answers(rows).await {
            Ok(answers) => rows.iter().zip(answers).for_each(|(row, answer)| self.add(row, answer)),
            // Which of them it is must be found out one by one.
            Err(_) if rows.len() > 1 => {
                for row in rows {
                    let answer = self.answers(&[row]).await;
                    self.add_one(row, answer);
                }
            }
            Err(error) => rows.iter().for_each(|row| self.fail(row, &error)),
        }
    }

    fn add_one(&mut self, row: &LoggedPrediction, answers: Result<Vec<Option<f64>>>) {
        match answers {
            Ok(answers) => self.add(row, answers.first().copied().flatten()),
            Err(error) => self.fail(row, &error),
        }
    }

    fn fail(&mut self, row: &LoggedPrediction, error: &Error) {
        if self.failures.len() < MAX_FAILURES {
            self.failures.insert(error.message().to_owned());
        }
        self.add(row, None);
    }

    fn add(&mut self, row: &LoggedPrediction, candidate: Option<f64>) {
        self.tallies.add(&row.labels, Replayed { recorded: row.answer, candidate, truth: row.value });
    }

    /// What the candidate answers.
    async fn answers(&self, rows: &[&LoggedPrediction]) -> Result<Vec<Option<f64>>> {
        let inputs: Vec<_> = rows.iter().map(|row| &row.inputs).collect();
        let prepared = self.candidate.layout.prepare_logged(&inputs)?;
        let ran = self.candidate.batcher.run(prepared.tensors, Instant::now() + self.patience).await?;
        replay::answers(ran.outputs.get(self.place), rows.len())
    }

    /// Lets both versions answer one row alone; where one cannot, neither is timed. Each is asked once before, and they take
    /// turns in being the first: else the first one would pay for cold caches.
    async fn time(&mut self, row: &LoggedPrediction) {
        let mut order = [(0, &self.serving), (1, &self.candidate)];
        if self.serving_us.len() % 2 == 1 {
            order.reverse();
        }
        let mut times = [0.0; 2];
        for (place, live) in order {
            for _ in 0..2 {
                let Ok(prepared) = live.layout.prepare_logged(&[&row.inputs]) else { return };
                let Ok(ran) = live.batcher.run(prepared.tensors, Instant::now() + self.patience).await else { return };
                // A row that ran together with requests was not alone.
                if ran.batch_rows > 1 {
                    return;
                }
                times[place] = ran.computed.as_secs_f64() * 1e6;
            }
        }
        self.serving_us.push(times[0]);
        self.candidate_us.push(times[1]);
    }

    fn report(
        self,
        name: &str,
        request: ReplayRequest,
        output: String,
        kind: AnswerKind,
        is_complete: bool,
    ) -> ReplayReport {
        let (overall, slices, unsliced) = self.tallies.figures();
        ReplayReport {
            deployment: name.to_owned(),
            version: self.candidate.revision.version.clone(),
            request,
            output,
            kind,
            is_complete,
            last_ms: self.last_ms,
            overall,
            slices,
            unsliced,
            latency: ReplayLatency {
                serving: replay::latency(self.serving_us),
                candidate: replay::latency(self.candidate_us),
            },
            failures: self.failures.into_iter().collect(),
        }
    }
}
