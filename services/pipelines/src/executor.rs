//! Takes one run from the first step that has not ended to its end, or to where it must wait.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use fishy_contracts::pipelines::RunStatus;
use fishy_core::{Error, ErrorCode, Result, TraceContext};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::dataset::{self, Manifest};
use crate::domain::definition::{Definition, StepSpec};
use crate::domain::progress::{backoff, next_step};
use crate::events;
use crate::runner;
use crate::service::Service;
use crate::steps::{self, Outcome, StepContext};
use crate::store::{Renewal, StepEnd, StoredRun, status_text};

/// How long a claim holds without being renewed.
pub const LEASE_MS: i64 = 10_000;
/// How often it is renewed.
const RENEWAL: Duration = Duration::from_secs(3);
/// A step that was begun so often beyond its retries has taken the process down with it each time.
const MOST_RESTARTS: u32 = 10;

/// Why work on a run stops before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The process ends; the run goes on at the next start.
    Shutdown,
    /// A person wants it.
    Cancelled,
    /// Another process has it.
    Lost,
}

/// The handle of a run that is being worked on.
#[derive(Clone)]
pub struct Ticket {
    /// Cancelled when the work shall stop.
    pub token: CancellationToken,
    /// Cancelled when it has stopped.
    pub is_done: CancellationToken,
    /// Whether it counts against `pipelines.max_running`.
    pub has_slot: bool,
    why: Arc<Mutex<Why>>,
}

impl Ticket {
    /// A ticket that stops with the service.
    pub fn new(stop: &CancellationToken, has_slot: bool) -> Self {
        let why = Arc::new(Mutex::new(Why::Shutdown));
        Self { token: stop.child_token(), is_done: CancellationToken::new(), has_slot, why }
    }

    /// Stops the work because a person wants it.
    pub fn cancel(&self) {
        self.stop(Why::Cancelled);
    }

    fn stop(&self, why: Why) {
        *self.why.lock().unwrap_or_else(PoisonError::into_inner) = why;
        self.token.cancel();
    }

    fn why(&self) -> Why {
        *self.why.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a run was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// It has ended, or another process has it.
    Ended,
    /// It can go on as soon as there is room.
    Again,
    /// It waits for something outside.
    Waiting {
        /// Whether that something cannot be reached at all.
        is_away: bool,
    },
}

/// Claims a run and works on it, if nobody else does.
pub async fn work_on(service: &Service, run_id: &str, ticket: &Ticket) -> Left {
    match service.claim(run_id).await {
        Ok(true) => {}
        Ok(false) => return Left::Ended,
        Err(error) => {
            tracing::warn!(run_id, error = error.chain(), "a run could not be claimed");
            return Left::Waiting { is_away: true };
        }
    }
    let drive = async {
        let stored = service.run(run_id).await?;
        let trace = stored.traceparent.as_deref().and_then(TraceContext::parse);
        let trace = trace.map_or_else(TraceContext::new_root, TraceContext::child);
        trace.scope(Drive { service, ticket, stored }.go()).await
    };
    let result = tokio::select! {
        result = drive => result,
        () = keep_claim(service, run_id, ticket) => Ok(Left::Ended),
    };
    result.unwrap_or_else(|error| {
        tracing::error!(run_id, error = error.chain(), "a run could not go on: it is taken up again later");
        Left::Waiting { is_away: true }
    })
}

/// Renews the claim for as long as it is polled; tells the ticket what it learns.
async fn keep_claim(service: &Service, run_id: &str, ticket: &Ticket) {
    loop {
        tokio::time::sleep(RENEWAL).await;
        match service.store.renew(run_id, &service.owner, service.env.now_ms() + LEASE_MS).await {
            Ok(Renewal::Held) => {}
            Ok(Renewal::CancelRequested) => ticket.cancel(),
            Ok(Renewal::Lost) => {
                tracing::warn!(run_id, "another process has taken over this run");
                ticket.stop(Why::Lost);
            }
            Err(error) => tracing::warn!(run_id, error = error.chain(), "a claim could not be renewed"),
        }
    }
}

/// Ends a run that a person has cancelled; `running` is the step it was at.
pub async fn finish_cancelled(service: &Service, stored: &StoredRun, running: Option<usize>) -> Result<()> {
    let is_begun = |status| matches!(status, RunStatus::Running | RunStatus::Waiting);
    let running = running.or_else(|| stored.run.steps.iter().position(|step| is_begun(step.status)));
    let end = running.map(|position| StepEnd {
        position,
        status: RunStatus::Cancelled,
        outputs: Value::Null,
        error: None,
        at_ms: service.env.now_ms(),
    });
    finish(service, stored, end, RunStatus::Cancelled, None).await
}

async fn finish(
    service: &Service,
    stored: &StoredRun,
    end: Option<StepEnd>,
    status: RunStatus,
    error: Option<String>,
) -> Result<()> {
    let run = &stored.run;
    let mut outputs = serde_json::Map::new();
    for (position, step) in run.steps.iter().enumerate() {
        let last = end.as_ref().filter(|end| end.position == position).map(|end| &end.outputs);
        let shown = last.unwrap_or(&step.outputs);
        if step.kind != "command" && !shown.is_null() {
            outputs.insert(step.kind.clone(), shown.clone());
        }
    }
    let dataset_sha256 = stored.dataset.as_ref().map(Manifest::sha256).transpose()?;
    let details = json!({
        "status": status, "error": error, "as_of_ms": run.as_of_ms, "trigger_id": run.trigger_id,
        "dataset": stored.dataset, "dataset_sha256": dataset_sha256, "steps": outputs,
    });
    let events = service.end_events(stored, status, details)?;
    let (fence, store, now_ms) = (service.fence(&run.id), &service.store, service.env.now_ms());
    persist(service, || store.finish(&fence, end.as_ref(), status, error.as_deref(), now_ms, &events)).await?;
    let labels = [("pipeline", run.pipeline.clone()), ("status", status_text(status).to_owned())];
    metrics::counter!("fishy_pipeline_runs_total", &labels).increment(1);
    let (pipeline, run_id, status) = (&run.pipeline, &run.id, status_text(status));
    if let Some(error) = error {
        tracing::error!(pipeline, run_id, status, error, "run ended");
    } else {
        tracing::info!(pipeline, run_id, status, "run ended");
    }
    Ok(())
}

/// Writes, for as long as the database cannot be reached: what a step took an hour for must not be lost to a restart of it.
async fn persist<F: Future<Output = Result<()>>>(service: &Service, mut write: impl FnMut() -> F) -> Result<()> {
    let mut failures = 0;
    loop {
        match write().await {
            Err(error) if error.is_retryable() && !service.stop.is_cancelled() => {
                failures += 1;
                tracing::warn!(failures, error = error.chain(), "the state of a run could not be kept: trying again");
                tokio::time::sleep(backoff(service.tick(), failures)).await;
            }
            result => return result,
        }
    }
}

struct Drive<'a> {
    service: &'a Service,
    ticket: &'a Ticket,
    stored: StoredRun,
}

/// What to do after a step.
enum After {
    /// The next one.
    Next,
    /// Leave the run.
    Leave(Left),
}

impl Drive<'_> {
    async fn go(mut self) -> Result<Left> {
        let (service, run_id) = (self.service, self.stored.run.id.clone());
        if self.stored.is_cancel_requested {
            finish_cancelled(service, &self.stored, None).await?;
            return Ok(Left::Ended);
        }
        let definition = match Definition::parse(&self.stored.definition) {
            Ok(definition) => definition,
            Err(error) => return self.fail(None, &error).await,
        };
        if self.stored.started_ms.is_some() {
            let id = run_id.clone();
            dataset::blocking(move || runner::kill_leftover(&id)).await?;
        }
        let is_first = self.stored.started_ms.is_none();
        let started = if is_first { vec![events::run_started(&service.env, &self.stored)?] } else { Vec::new() };
        let (fence, now_ms) = (service.fence(&run_id), service.env.now_ms());
        persist(service, || service.store.mark_running(&fence, now_ms, &started)).await?;
        while let Some(position) = next_step(&self.stored.run.steps) {
            if self.ticket.token.is_cancelled() {
                return self.stopped(None).await;
            }
            match self.step(&definition, position).await? {
                After::Next => self.stored = service.run(&run_id).await?,
                After::Leave(left) => return Ok(left),
            }
        }
        finish(service, &self.stored, None, RunStatus::Succeeded, None).await?;
        Ok(Left::Ended)
    }

    /// One step to its end, its retries included.
    async fn step(&mut self, definition: &Definition, position: usize) -> Result<After> {
        let (service, run_id) = (self.service, self.stored.run.id.clone());
        let fence = service.fence(&run_id);
        let Some(spec) = definition.steps.get(position) else {
            return Err(Error::internal(format!("run {run_id} has more steps than its definition")));
        };
        let retries = match spec {
            StepSpec::Command(command) => command.retries,
            _ => 2,
        };
        if matches!(spec, StepSpec::Command(_)) && !self.ticket.has_slot {
            // After an approval: a command needs room like any other.
            persist(service, || service.store.park(&fence, RunStatus::Queued, None)).await?;
            return Ok(After::Leave(Left::Again));
        }
        let mut failures = 0;
        loop {
            let begun_before = self.stored.run.steps[position].attempts + failures;
            if matches!(spec, StepSpec::Command(_)) && begun_before > retries + MOST_RESTARTS {
                let error = Error::precondition(format!("was begun {begun_before} times and never ended"));
                return self.fail(Some(position), &error).await.map(After::Leave);
            }
            let begun = Instant::now();
            let data = match spec {
                StepSpec::Command(_) | StepSpec::Evaluate { .. } => self.ensure_dataset(definition).await,
                _ => Ok(()),
            };
            let tried = match data {
                Ok(()) => {
                    let now_ms = service.env.now_ms();
                    persist(service, || service.store.begin_step(&fence, position, now_ms)).await?;
                    self.attempt(definition, spec, position, failures + 1).await
                }
                Err(error) if error.is_retryable() => Err(error.context("the run's data")),
                Err(error) => return self.fail(Some(position), &error).await.map(After::Leave),
            };
            let labels = [("pipeline", definition.name.clone()), ("step", spec.name().to_owned())];
            metrics::histogram!("fishy_pipeline_step_duration_seconds", &labels).record(begun.elapsed().as_secs_f64());
            match tried {
                Ok(Outcome::Done(outputs)) => {
                    tracing::info!(run_id, step = spec.name(), seconds = begun.elapsed().as_secs_f64(), "step ended");
                    let end = self.end(position, RunStatus::Succeeded, outputs, None);
                    persist(service, || service.store.end_step(&fence, &end)).await?;
                    return Ok(After::Next);
                }
                Ok(Outcome::Rejected(outputs)) => {
                    let end = self.end(position, RunStatus::Rejected, outputs, None);
                    finish(service, &self.stored, Some(end), RunStatus::Rejected, None).await?;
                    return Ok(After::Leave(Left::Ended));
                }
                Ok(Outcome::Waiting(outputs)) => {
                    let end = self.end(position, RunStatus::Waiting, outputs, None);
                    persist(service, || service.store.park(&fence, RunStatus::Waiting, Some(&end))).await?;
                    return Ok(After::Leave(Left::Waiting { is_away: false }));
                }
                Ok(Outcome::Stopped) => return self.stopped(Some(position)).await.map(After::Leave),
                // What is needed of another service will come back.
                Err(error) if error.code() == ErrorCode::Unavailable => {
                    tracing::warn!(run_id, step = spec.name(), error = error.chain(), "step waits");
                    let end = self.end(position, RunStatus::Waiting, Value::Null, Some(error.to_string()));
                    persist(service, || service.store.park(&fence, RunStatus::Waiting, Some(&end))).await?;
                    return Ok(After::Leave(Left::Waiting { is_away: true }));
                }
                Err(error) => {
                    failures += 1;
                    let may_help = matches!(spec, StepSpec::Command(_)) || error.is_retryable();
                    if failures > retries || !may_help {
                        return self.fail(Some(position), &error).await.map(After::Leave);
                    }
                    tracing::warn!(run_id, step = spec.name(), failures, error = error.chain(), "step is tried again");
                    persist(service, || service.store.note_failure(&fence, position, error.message())).await?;
                    tokio::select! {
                        () = tokio::time::sleep(backoff(service.tick(), failures)) => {}
                        () = self.ticket.token.cancelled() => {
                            return self.stopped(Some(position)).await.map(After::Leave);
                        }
                    }
                }
            }
        }
    }

    /// One try of a step.
    async fn attempt(&self, definition: &Definition, spec: &StepSpec, position: usize, number: u32) -> Result<Outcome> {
        let stop = &self.ticket.token;
        let context = StepContext { service: self.service, definition, stored: &self.stored, stop };
        steps::run(&context, spec, position, number).await
    }

    /// Before the first step the rows are fetched; later they must still be there as they were.
    async fn ensure_dataset(&mut self, definition: &Definition) -> Result<()> {
        let Some(data) = &definition.data else { return Ok(()) };
        let service = self.service;
        let folder = service.run_folder(&self.stored.run.id);
        if let Some(manifest) = &self.stored.dataset
            && dataset::is_intact(manifest, &folder).await?
        {
            return Ok(());
        }
        let as_of_ms = self.stored.run.as_of_ms;
        let is_first = !definition.model.is_empty()
            && service.registry.version_by_alias(&definition.model, &definition.alias).await?.is_none();
        let data = if is_first { data.of_first() } else { *data };
        let made = dataset::materialise(&service.monitoring, definition, &data, as_of_ms, &folder);
        let manifest = tokio::select! {
            made = made => made?,
            // The step that follows sees the same token and ends the run as it should be ended.
            () = self.ticket.token.cancelled() => return Ok(()),
        };
        let has_been_used = self.stored.run.steps.iter().any(|step| step.status == RunStatus::Succeeded);
        match &self.stored.dataset {
            Some(before) if has_been_used && *before != manifest => {
                return Err(Error::precondition(
                    "the run's data were lost, and what monitoring has for that time now is not the same: start a new run",
                ));
            }
            _ => {
                let fence = service.fence(&self.stored.run.id);
                persist(service, || service.store.set_dataset(&fence, &manifest)).await?;
            }
        }
        self.stored.dataset = Some(manifest);
        Ok(())
    }

    fn end(&self, position: usize, status: RunStatus, outputs: Value, error: Option<String>) -> StepEnd {
        StepEnd { position, status, outputs, error, at_ms: self.service.env.now_ms() }
    }

    async fn fail(&self, position: Option<usize>, error: &Error) -> Result<Left> {
        if error.code() == ErrorCode::Internal {
            tracing::error!(run_id = self.stored.run.id, error = error.chain(), "a step failed for a reason of ours");
        }
        let step = position.and_then(|position| self.stored.run.steps.get(position));
        let told = match step {
            Some(step) => format!("step {:?}: {error}", step.name),
            None => error.to_string(),
        };
        let end = position.map(|position| self.end(position, RunStatus::Failed, Value::Null, Some(error.to_string())));
        finish(self.service, &self.stored, end, RunStatus::Failed, Some(told)).await?;
        Ok(Left::Ended)
    }

    async fn stopped(&self, position: Option<usize>) -> Result<Left> {
        let (service, run_id) = (self.service, &self.stored.run.id);
        match self.ticket.why() {
            Why::Cancelled => finish_cancelled(service, &self.stored, position).await?,
            // It stays as it is in the database, and another start goes on with it at once.
            Why::Shutdown => service.store.release(run_id, &service.owner).await?,
            Why::Lost => {}
        }
        Ok(Left::Ended)
    }
}
