//! The use cases: apply, look at, delete, roll out, predict.

mod cache;
mod candidates;
mod explain;
mod follow;
mod graph;
mod graph_run;
mod live;
mod loader;
mod memory;
mod predict;
mod program;
mod replay;
mod repository;
mod rollout;
mod statistics;
mod traffic;

pub(crate) use cache::{ModelCache, blocking};
pub(crate) use explain::{ExplainSettings, Explained, MAX_EXPLANATIONS};
pub(crate) use follow::{follow, subscribe};
pub(crate) use graph::Graph;
pub(crate) use live::{Live, Slot};
pub(crate) use loader::Loader;
pub(crate) use memory::Memory;
pub(crate) use predict::Answer;
pub(crate) use program::ProgramRequest;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use fishy_audit::Outcome;
use fishy_contracts::deployment::{Deployment, DeploymentSpec, Revision};
use fishy_contracts::{GovernanceClient, MonitoringClient, RegistryClient};
use fishy_core::{Env, Error, Result, TraceContext, check_name};
use serde_json::json;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use crate::domain::ModelUri;
use crate::events;
use crate::export::SinkExport;
use crate::spool::Spool;
use crate::store::{DeploymentRow, Store};

/// How many revisions of each deployment keep their files in the local cache.
const CACHED_REVISIONS: i64 = 3;

/// The deployment service of one process.
pub(crate) struct Service {
    pub(crate) env: Env,
    pub(crate) store: Store,
    pub(crate) registry: RegistryClient,
    pub(crate) governance: GovernanceClient,
    pub(crate) monitoring: MonitoringClient,
    pub(crate) loader: Arc<Loader>,
    pub(crate) cache: ModelCache,
    pub(crate) spool: Arc<Spool>,
    pub(crate) sinks: Arc<[SinkExport]>,
    pub(crate) slots: ArcSwap<HashMap<String, Arc<Slot>>>,
    /// Held while the map of slots is replaced.
    pub(crate) slots_change: Mutex<()>,
    /// Inference graphs by name.
    pub(crate) graphs: ArcSwap<HashMap<String, Arc<Graph>>>,
    /// Held while they are read anew.
    pub(crate) graphs_change: tokio::sync::Mutex<()>,
    pub(crate) permits: Semaphore,
    pub(crate) max_concurrent: usize,
    pub(crate) memory: Memory,
    /// Explanations ask the model thousands of times: few at once.
    pub(crate) explaining: Semaphore,
    /// How long a request may take that does not say itself.
    pub(crate) patience: Duration,
    /// The largest body, also after it was unpacked.
    pub(crate) max_body_bytes: usize,
    /// What goes on after an answer: shadows, canaries that are taken back, and the processes of models and programs.
    pub(crate) background: TaskTracker,
    /// The deployments that this process serves; empty: all of them.
    pub(crate) only: HashSet<String>,
    /// Whether every deployment has been looked at once since the start.
    pub(crate) is_settled: AtomicBool,
}

impl Service {
    /// The place of a deployment in this process, if it is known here.
    pub(crate) fn slot(&self, name: &str) -> Option<Arc<Slot>> {
        self.slots.load().get(name).cloned()
    }

    pub(crate) fn ensure_slot(&self, name: &str) -> Arc<Slot> {
        if let Some(slot) = self.slot(name) {
            return slot;
        }
        let _change = self.slots_change.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = self.slot(name) {
            return slot;
        }
        let slot = Arc::new(Slot::new(name));
        let mut slots = HashMap::clone(&self.slots.load());
        slots.insert(name.to_owned(), Arc::clone(&slot));
        self.slots.store(Arc::new(slots));
        slot
    }

    pub(crate) fn remove_slot(&self, name: &str) {
        let _change = self.slots_change.lock().unwrap_or_else(PoisonError::into_inner);
        let mut slots = HashMap::clone(&self.slots.load());
        if let Some(slot) = slots.remove(name) {
            slot.retire();
            self.slots.store(Arc::new(slots));
        }
    }

    /// Makes or changes a deployment, and tries to serve what it should.
    pub(crate) async fn apply(self: &Arc<Self>, actor: &str, spec: &DeploymentSpec) -> Result<Deployment> {
        check_name("deployment", &spec.name)?;
        let uri = ModelUri::parse(&spec.model)?;
        if spec.is_gated && uri.alias().is_none() {
            return Err(Error::invalid(format!(
                "a gated deployment follows an alias: {} is one version, so there is nothing for the gate to decide",
                spec.model
            )));
        }
        let details = json!({"model": spec.model, "is_gated": spec.is_gated});
        let audit = events::audit(&self.env, actor, "deployment:write", &spec.name, Outcome::Done, details)?;
        self.store.apply(spec, self.env.now_ms(), &audit).await?;
        tracing::info!(deployment = spec.name, model = spec.model, is_gated = spec.is_gated, "deployment applied");
        self.ensure_slot(&spec.name);
        self.refresh(&spec.name).await
    }

    /// Looks the alias up now, and rolls out what it names if nothing speaks against it.
    pub(crate) async fn refresh(self: &Arc<Self>, name: &str) -> Result<Deployment> {
        self.row(name).await?;
        self.ensure_slot(name);
        // On a task of its own: a caller that goes away does not leave a rollout half done.
        let (service, task_name) = (Arc::clone(self), name.to_owned());
        let rollout = async move { service.roll_out(&task_name, true).await };
        let trace = TraceContext::current().unwrap_or_else(TraceContext::new_root);
        tokio::spawn(trace.scope(rollout))
            .await
            .map_err(|error| Error::internal("a rollout failed").with_source(error))??;
        self.get(name).await
    }

    pub(crate) async fn delete(&self, actor: &str, name: &str) -> Result<()> {
        let audit = events::audit(&self.env, actor, "deployment:write", name, Outcome::Done, json!({"deleted": true}))?;
        if !self.store.delete(name, self.env.now_ms(), &audit).await? {
            return Err(no_deployment(name));
        }
        self.remove_slot(name);
        self.sync_graphs().await?;
        tracing::info!(deployment = name, "deployment deleted");
        Ok(())
    }

    pub(crate) async fn get(&self, name: &str) -> Result<Deployment> {
        Ok(self.view(self.row(name).await?))
    }

    pub(crate) async fn list(&self) -> Result<Vec<Deployment>> {
        Ok(self.store.deployments().await?.into_iter().map(|row| self.view(row)).collect())
    }

    pub(crate) async fn revisions(&self, name: &str) -> Result<Vec<Revision>> {
        self.row(name).await?;
        Ok(self.store.revisions(name, 1000).await?.into_iter().map(|row| row.revision).collect())
    }

    pub(crate) async fn row(&self, name: &str) -> Result<DeploymentRow> {
        match self.store.deployment(name).await? {
            Some(row) => Ok(row),
            None if self.store.graph(name).await?.is_some() => Err(graph::is_a_graph(name)),
            None => Err(no_deployment(name)),
        }
    }

    /// Why there is no model's deployment of that name in this process.
    fn missing(&self, name: &str) -> Error {
        if self.graph(name).is_some() { graph::is_a_graph(name) } else { no_deployment(name) }
    }

    /// A deployment as this process serves it.
    fn view(&self, row: DeploymentRow) -> Deployment {
        let slot = self.slot(&row.spec.name);
        let current = slot.as_ref().and_then(|slot| slot.revision());
        let is_loaded = slot.as_ref().is_some_and(|slot| slot.live().is_some());
        let problem = slot.and_then(|slot| slot.problem());
        Deployment { spec: row.spec, current, is_loaded, problem, created_ms: row.created_ms }
    }

    /// Whether this process is one of those that serve a deployment.
    pub(crate) fn is_mine(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.contains(name)
    }

    /// The deployments that this process serves, as they are recorded.
    pub(crate) async fn mine(&self) -> Result<Vec<DeploymentRow>> {
        let mut rows = self.store.deployments().await?;
        rows.retain(|row| self.is_mine(&row.spec.name));
        Ok(rows)
    }

    /// Whether requests can be sent here. A process that has just started waits until it has tried to load everything; after
    /// that one deployment that does not load takes nothing away from the others.
    pub(crate) fn can_serve(&self) -> bool {
        let slots = self.slots.load();
        let serves = |name: &str| slots.get(name).is_some_and(|slot| slot.is_available() || slot.is_unloaded());
        if !self.only.is_empty() {
            return self.only.iter().any(|name| serves(name));
        }
        slots.keys().all(|name| serves(name)) || self.is_settled.load(Ordering::Relaxed)
    }

    /// Whether every deployment serves some revision, but for those that were unloaded.
    pub(crate) fn is_ready(&self) -> bool {
        self.slots.load().values().all(|slot| slot.is_available() || slot.is_unloaded())
    }

    /// What is wrong with any deployment, in words.
    pub(crate) fn problems(&self) -> Vec<String> {
        let slots = self.slots.load();
        let mut problems: Vec<String> = slots
            .values()
            // What was unloaded on purpose is no problem of the process.
            .filter(|slot| !slot.is_unloaded())
            .filter_map(|slot| Some(format!("deployment {}: {}", slot.name(), slot.problem()?)))
            .collect();
        problems.sort();
        problems
    }
}

pub(crate) fn no_deployment(name: &str) -> Error {
    Error::not_found(format!("there is no deployment {name:?}"))
}
