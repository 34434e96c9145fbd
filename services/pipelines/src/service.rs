//! What can be done with pipelines and runs.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fishy_authz::RunTokens;
use fishy_config::{Config, Secret};
use fishy_contracts::events::TriggerFired;
use fishy_contracts::pipelines::{PipelineSpec, Run, RunStatus, StartRun};
use fishy_contracts::{DeploymentClient, GovernanceClient, List, MonitoringClient, RegistryClient};
use fishy_core::{Env, Error, Event, Result, TraceContext, check_name};
use fishy_db::{Engine as DbEngine, Tx};
use fishy_inference::Engine;
use serde_json::json;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::Deps;
use crate::domain::definition::Definition;
use crate::domain::schedule::Schedule;
use crate::events;
use crate::executor::Ticket;
use crate::runner;
use crate::store::{Fence, NewRun, Store, StoredPipeline, StoredRun};

/// How long a cancelled run may take to end before the caller gets the answer as it is.
const CANCEL_PATIENCE: Duration = Duration::from_secs(10);

/// The service: what its routes, its event handler and its scheduler share.
pub struct Service {
    pub(crate) env: Env,
    pub(crate) config: Config,
    pub(crate) store: Store,
    pub(crate) registry: RegistryClient,
    pub(crate) monitoring: MonitoringClient,
    pub(crate) deployment: DeploymentClient,
    pub(crate) governance: GovernanceClient,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) tracking_uri: String,
    pub(crate) run_tokens: Option<RunTokens>,
    pub(crate) step_environment: BTreeMap<String, Secret>,
    pub(crate) stop: CancellationToken,
    /// This process, among those that share the database.
    pub(crate) owner: String,
    /// Wakes the scheduler.
    pub(crate) wake: Notify,
    /// Runs that this process works on.
    pub(crate) active: Mutex<HashMap<String, Ticket>>,
    work_dir: PathBuf,
}

impl Service {
    /// The service on its database. A database of one file belongs to one process: then all older claims are void.
    pub async fn new(deps: Deps) -> Result<Arc<Self>> {
        let work_dir = match deps.config.pipelines.work_dir.as_str() {
            "" => Path::new(&deps.config.storage.data_dir).join("pipelines"),
            configured => PathBuf::from(configured),
        };
        let work_dir = std::path::absolute(work_dir)?;
        std::fs::create_dir_all(&work_dir).map_err(|error| {
            Error::from(error).context(format_args!("cannot make the pipelines' folder {}", work_dir.display()))
        })?;
        let store = Store::new(deps.db);
        if store.db().engine() == DbEngine::Sqlite {
            store.forget_claims().await?;
        }
        Ok(Arc::new(Self {
            owner: deps.env.new_id(),
            env: deps.env,
            config: deps.config,
            store,
            registry: deps.registry,
            monitoring: deps.monitoring,
            deployment: deps.deployment,
            governance: deps.governance,
            engine: deps.engine,
            tracking_uri: deps.tracking_uri,
            run_tokens: deps.run_tokens,
            step_environment: deps.step_environment,
            stop: deps.stop,
            wake: Notify::new(),
            active: Mutex::default(),
            work_dir,
        }))
    }

    /// The folder of a run's files.
    pub(crate) fn run_folder(&self, run_id: &str) -> PathBuf {
        self.work_dir.join("runs").join(run_id)
    }

    /// The log of a step.
    pub(crate) fn log_path(&self, run_id: &str, step: &str) -> PathBuf {
        self.run_folder(run_id).join("logs").join(format!("{step}.log"))
    }

    /// How often things are looked at, and the first pause before something is tried again.
    pub(crate) fn tick(&self) -> Duration {
        Duration::from_millis(self.config.pipelines.tick_ms.max(1))
    }

    pub(crate) fn fence(&self, run_id: &str) -> Fence {
        Fence { run_id: run_id.to_owned(), owner: self.owner.clone() }
    }

    /// Makes or changes a pipeline. Runs that have begun keep the definition they began with.
    pub async fn apply(&self, spec: PipelineSpec, actor: &str) -> Result<PipelineSpec> {
        check_name("pipeline", &spec.name)?;
        let definition = Definition::parse(&spec.definition)?;
        if definition.name != spec.name {
            let (name, defined) = (&spec.name, &definition.name);
            return Err(Error::invalid(format!("pipeline {name:?} is called {defined:?} in its definition")));
        }
        if !spec.folder.is_empty() && !Path::new(&spec.folder).is_absolute() {
            return Err(Error::invalid(format!("folder {:?} is not an absolute path", spec.folder)));
        }
        let now_ms = self.env.now_ms();
        let mut tx = self.store.db().begin().await?;
        self.store.put_pipeline(&mut tx, &spec, next_due_ms(&definition, now_ms)?, now_ms).await?;
        let steps: Vec<_> = definition.steps.iter().map(|step| json!([step.name(), step.kind()])).collect();
        let details = json!({"schedule": definition.schedule, "model": definition.model, "steps": steps});
        let resource = format!("pipelines/{}", spec.name);
        tx.emit(&events::audit(&self.env, actor, "pipelines:write", &resource, fishy_audit::Outcome::Done, details)?)
            .await?;
        tx.commit().await?;
        tracing::info!(pipeline = spec.name, actor, "pipeline applied");
        Ok(spec)
    }

    /// One pipeline.
    pub async fn pipeline(&self, name: &str) -> Result<StoredPipeline> {
        let found = self.store.pipeline(name).await?;
        found.ok_or_else(|| Error::not_found(format!("there is no pipeline {name:?}")))
    }

    /// Pipelines by name, a page at a time; the token is the last name of the page before.
    pub async fn pipelines(&self, after: &str, limit: usize) -> Result<List<PipelineSpec>> {
        let found = self.store.pipelines(after, limit).await?;
        let next_page_token = (found.len() == limit).then(|| found.last().map(|last| last.spec.name.clone())).flatten();
        Ok(List { items: found.into_iter().map(|pipeline| pipeline.spec).collect(), next_page_token })
    }

    /// Starts a run by hand. A trigger id that has started a run before answers that run.
    pub async fn start_run(&self, name: &str, start: StartRun, actor: &str) -> Result<Run> {
        let pipeline = self.pipeline(name).await?;
        let mut tx = self.store.db().begin().await?;
        let started = self.start_in(&mut tx, &pipeline, start, actor).await?;
        tx.commit().await?;
        self.wake.notify_one();
        match started {
            Started::New(id) => Ok(self.run(&id).await?.run),
            Started::Before(trigger_id) => self.run_of_trigger(&trigger_id).await,
        }
    }

    /// Starts the run of a trigger, once. A trigger that cannot be followed is said and recorded, not tried again.
    pub async fn handle_trigger(&self, event_id: &str, trigger: TriggerFired) -> Result<()> {
        const ACTOR: &str = "service:monitoring";
        let pipeline = self.store.pipeline(&trigger.pipeline).await?;
        let mut tx = self.store.db().begin().await?;
        if !tx.receive("pipelines.triggers", event_id).await? {
            return tx.commit().await;
        }
        let refused = match &pipeline {
            None => Some(format!("there is no pipeline {:?}", trigger.pipeline)),
            Some(pipeline) => {
                let start = StartRun {
                    as_of_ms: Some(trigger.as_of_ms),
                    reason: trigger.reason.clone(),
                    trigger_id: Some(trigger.id.clone()),
                    params: BTreeMap::new(),
                };
                match self.start_in(&mut tx, pipeline, start, ACTOR).await {
                    Ok(_) => None,
                    Err(error) if error.code() == fishy_core::ErrorCode::InvalidArgument => Some(error.to_string()),
                    Err(error) => return Err(error),
                }
            }
        };
        if let Some(why) = refused {
            tracing::error!(trigger_id = trigger.id, monitor = trigger.monitor, why, "a trigger started no run");
            let resource = format!("pipelines/{}", trigger.pipeline);
            let details = json!({"trigger_id": trigger.id, "monitor": trigger.monitor, "error": why});
            let failed = fishy_audit::Outcome::Failed;
            tx.emit(&events::audit(&self.env, ACTOR, "pipelines:start", &resource, failed, details)?).await?;
        }
        tx.commit().await?;
        self.wake.notify_one();
        Ok(())
    }

    /// Starts the runs whose schedule says so. A time that was missed is made up for once.
    pub async fn start_due(&self) -> Result<()> {
        let now_ms = self.env.now_ms();
        for pipeline in self.store.due_pipelines(now_ms).await? {
            let Some(due_ms) = pipeline.next_due_ms else { continue };
            let definition = Definition::parse(&pipeline.spec.definition)?;
            let mut tx = self.store.db().begin().await?;
            if self.store.take_due(&mut tx, &pipeline.spec.name, due_ms, next_due_ms(&definition, now_ms)?).await? {
                let start = StartRun {
                    as_of_ms: Some(now_ms),
                    reason: format!("schedule {}", definition.schedule.unwrap_or_default()),
                    trigger_id: None,
                    params: BTreeMap::new(),
                };
                self.start_in(&mut tx, &pipeline, start, "service:pipelines").await?;
            }
            tx.commit().await?;
        }
        Ok(())
    }

    async fn start_in(&self, tx: &mut Tx, pipeline: &StoredPipeline, start: StartRun, actor: &str) -> Result<Started> {
        let definition = Definition::parse(&pipeline.spec.definition)?;
        let now_ms = self.env.now_ms();
        let run = NewRun {
            id: self.env.new_id(),
            pipeline: pipeline.spec.name.clone(),
            as_of_ms: start.as_of_ms.unwrap_or(now_ms),
            reason: start.reason,
            trigger_id: start.trigger_id,
            params: definition.params_with(&start.params)?,
            definition: pipeline.spec.definition.clone(),
            folder: pipeline.spec.folder.clone(),
            actor: actor.to_owned(),
            traceparent: TraceContext::current().map(|trace| trace.traceparent()),
            steps: definition.steps.iter().map(|step| (step.name().to_owned(), step.kind())).collect(),
            created_ms: now_ms,
        };
        if self.store.insert_run(tx, &run).await? {
            tracing::info!(pipeline = run.pipeline, run_id = run.id, reason = run.reason, actor, "run queued");
            return Ok(Started::New(run.id));
        }
        Ok(Started::Before(run.trigger_id.unwrap_or_default()))
    }

    /// One run.
    pub async fn run(&self, id: &str) -> Result<StoredRun> {
        self.store.run(id).await?.ok_or_else(|| Error::not_found(format!("there is no pipeline run {id:?}")))
    }

    /// The run that a trigger started.
    pub async fn run_of_trigger(&self, trigger_id: &str) -> Result<Run> {
        let found = self.store.run_of_trigger(trigger_id).await?;
        found
            .map(|stored| stored.run)
            .ok_or_else(|| Error::not_found(format!("trigger {trigger_id:?} has started no pipeline run")))
    }

    /// Runs of a pipeline, newest first, a page at a time.
    pub async fn runs(&self, name: &str, page_token: Option<&str>, limit: usize) -> Result<List<Run>> {
        self.pipeline(name).await?;
        let before = match page_token {
            None => i64::MAX,
            Some(token) => {
                token.parse().map_err(|_| Error::invalid(format!("page_token {token:?} is none of ours")))?
            }
        };
        let found = self.store.runs(name, before, limit).await?;
        let next_page_token = (found.len() == limit).then(|| found.last().map(|last| last.seq.to_string())).flatten();
        Ok(List { items: found.into_iter().map(|stored| stored.run).collect(), next_page_token })
    }

    /// Stops a run. Answers it as it stands once it has stopped, or after a while.
    pub async fn cancel(&self, id: &str, actor: &str) -> Result<Run> {
        let stored = self.run(id).await?;
        let resource = format!("pipelines/{}/runs/{id}", stored.run.pipeline);
        let done = fishy_audit::Outcome::Done;
        let entry = events::audit(&self.env, actor, "pipelines:cancel", &resource, done, serde_json::Value::Null)?;
        if !self.store.request_cancel(id, &entry).await? {
            return Ok(self.run(id).await?.run);
        }
        tracing::info!(run_id = id, pipeline = stored.run.pipeline, actor, "run is being cancelled");
        let ticket = self.active().get(id).cloned();
        if let Some(ticket) = ticket {
            ticket.cancel();
            let _ = tokio::time::timeout(CANCEL_PATIENCE, ticket.is_done.cancelled()).await;
        }
        let stored = self.run(id).await?;
        // Nobody works on it: it ends here, unless another process takes it first and sees the wish.
        if !stored.run.status.is_final() && self.claim(id).await? {
            crate::executor::finish_cancelled(self, &stored, None).await?;
        }
        Ok(self.run(id).await?.run)
    }

    /// What a step wrote.
    pub async fn log(&self, id: &str, step: &str) -> Result<Vec<u8>> {
        let stored = self.run(id).await?;
        let Some(found) = stored.run.steps.iter().find(|known| known.name == step) else {
            let names: Vec<_> = stored.run.steps.iter().map(|step| step.name.as_str()).collect();
            return Err(Error::not_found(format!("run {id} has no step {step:?}: it has {}", names.join(", "))));
        };
        if found.kind != "command" {
            return Err(Error::not_found(format!(
                "step {step:?} is of kind {:?}: only commands have a log",
                found.kind
            )));
        }
        Ok(runner::read_log(&self.log_path(id, step)).await?.unwrap_or_default())
    }

    pub(crate) fn active(&self) -> std::sync::MutexGuard<'_, HashMap<String, Ticket>> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a run for this process.
    pub(crate) async fn claim(&self, id: &str) -> Result<bool> {
        let now_ms = self.env.now_ms();
        self.store.claim(id, &self.owner, now_ms, now_ms + crate::executor::LEASE_MS).await
    }

    /// The events of a run that has ended: what happened, and the entry of the audit trail.
    pub(crate) fn end_events(
        &self,
        stored: &StoredRun,
        status: RunStatus,
        details: serde_json::Value,
    ) -> Result<Vec<Event>> {
        events::run_finished(&self.env, stored, status, details)
    }
}

enum Started {
    /// The new run's id.
    New(String),
    /// The trigger that has a run already.
    Before(String),
}

fn next_due_ms(definition: &Definition, now_ms: i64) -> Result<Option<i64>> {
    let Some(pattern) = &definition.schedule else { return Ok(None) };
    Ok(Schedule::parse(pattern)?.next_ms(now_ms))
}
