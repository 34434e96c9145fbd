//! Which models are in memory: the least recently used idle ones go when they are too many, and come back with the next
//! request.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fishy_config::Deployment as Settings;
use fishy_contracts::deployment::EngineSettings;
use fishy_core::{Error, Result, TraceContext};
use tokio::sync::Semaphore;
use tokio::time::{timeout, timeout_at};

use super::Service;
use super::live::{Asleep, Live, Slot};
use crate::domain::{InMemory, choose_unloaded};
use crate::store::StoredTraffic;

/// So many models are loaded at once because requests wait for them.
const MAX_LOADS: usize = 4;
/// A model that failed to load is tried again by a request after this long; those before that hear what was wrong.
const RETRY_LOAD_MS: i64 = 10_000;

/// What bounds the models in memory.
pub(crate) struct Memory {
    /// 0 for no bound.
    budget_bytes: u64,
    load_at_start: bool,
    load_timeout: Duration,
    loads: Semaphore,
    /// Counts uses: who was used last has the highest.
    clock: AtomicU64,
}

impl Memory {
    pub(crate) fn new(settings: &Settings) -> Self {
        metrics::gauge!("fishy_deployment_memory_budget_bytes").set(settings.memory_budget_bytes as f64);
        Self {
            budget_bytes: settings.memory_budget_bytes,
            load_at_start: settings.load_at_start,
            load_timeout: Duration::from_millis(settings.load_timeout_ms.max(1)),
            loads: Semaphore::new(MAX_LOADS),
            clock: AtomicU64::new(0),
        }
    }

    /// Marks a revision as the one that was used last.
    pub(crate) fn touch(&self, live: &Live) {
        live.last_used.store(self.clock.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
    }
}

impl Service {
    /// Whether a deployment is loaded when the process starts: while there is room, and always when it is pinned or has
    /// candidates.
    pub(super) async fn is_loaded_at_start(&self, name: &str, settings: &EngineSettings) -> Result<bool> {
        if settings.is_pinned || (self.memory.load_at_start && self.has_room()) {
            return Ok(true);
        }
        let traffic = self.store.setting::<StoredTraffic>(name, "traffic").await?.unwrap_or_default();
        Ok(traffic != StoredTraffic::default())
    }

    fn has_room(&self) -> bool {
        let budget = self.memory.budget_bytes;
        budget == 0 || self.slots.load().values().map(|slot| slot.loaded_bytes()).sum::<u64>() < budget
    }

    /// Unloads idle models, the least recently used first, until the rest fits the budget; `keep` stays.
    pub(super) fn keep_budget(&self, keep: Option<&str>) {
        let slots = self.slots.load_full();
        let loaded: Vec<(&Arc<Slot>, Arc<Live>)> =
            slots.values().filter_map(|slot| Some((slot, slot.live()?))).collect();
        let figures: Vec<InMemory> = loaded
            .iter()
            .map(|(slot, live)| InMemory {
                bytes: slot.loaded_bytes(),
                last_used: live.last_used.load(Ordering::Relaxed),
                may_go: keep != Some(slot.name())
                    && !live.settings.is_pinned
                    && slot.traffic().is_none()
                    // The slot's and the one in `loaded`: every request in flight holds one more.
                    && Arc::strong_count(live) <= 2,
            })
            .collect();
        let mut used: u64 = figures.iter().map(|figure| figure.bytes).sum();
        let budget = self.memory.budget_bytes;
        let chosen = if budget == 0 { Vec::new() } else { choose_unloaded(&figures, budget) };
        for index in chosen {
            let (slot, live) = &loaded[index];
            if slot.put_to_sleep(live) {
                used -= figures[index].bytes;
                metrics::counter!("fishy_deployment_unloads_total", "deployment" => slot.name().to_owned())
                    .increment(1);
                tracing::info!(deployment = slot.name(), bytes = figures[index].bytes, "unloaded to save memory");
            }
        }
        metrics::gauge!("fishy_deployment_memory_bytes").set(used as f64);
    }

    /// Loads a revision that is not in memory. Requests that come meanwhile share the load, and count as predictions in
    /// flight while they wait. `Unavailable` when it fails or takes too long; a caller that goes away does not end it.
    pub(super) async fn wake(self: &Arc<Self>, slot: &Arc<Slot>, deadline: Instant) -> Result<Arc<Live>> {
        let _permit = self.admit()?;
        let late = || {
            Error::unavailable(format!(
                "deployment {} is still being loaded into memory: send the request again, or give it more time",
                slot.name()
            ))
        };
        let turn = timeout_at(deadline.into(), Arc::clone(&slot.waking).lock_owned()).await.map_err(|_| late())?;
        if let Some(live) = slot.live() {
            return Ok(live);
        }
        let (service, sleeping) = (Arc::clone(self), Arc::clone(slot));
        let load = async move {
            let _turn = turn;
            service.load_asleep(&sleeping).await
        };
        let trace = TraceContext::current().unwrap_or_else(TraceContext::new_root);
        let load = self.background.spawn(trace.scope(load));
        match timeout_at(deadline.into(), load).await {
            Ok(Ok(loaded)) => loaded,
            Ok(Err(error)) => Err(Error::internal("loading a model failed").with_source(error)),
            Err(_) => Err(late()),
        }
    }

    async fn load_asleep(&self, slot: &Slot) -> Result<Arc<Live>> {
        let Some(Asleep { revision, failure }) = slot.asleep() else {
            return slot.live().ok_or_else(|| slot.not_serving());
        };
        if let Some(failure) = failure.filter(|failure| self.env.now_ms() < failure.until_ms) {
            return Err(Error::unavailable(failure.message));
        }
        let begun = Instant::now();
        let work = async {
            let _one = self.memory.loads.acquire().await.map_err(|_| Error::unavailable("the service stops"))?;
            let settings: EngineSettings = self.store.setting(slot.name(), "engine").await?.unwrap_or_default();
            let loaded = self.load_revision(slot.name(), &revision, &settings).await?;
            Ok::<_, Error>(Live::new(revision.clone(), loaded, settings))
        };
        let limit = self.memory.load_timeout;
        let loaded = timeout(limit, work).await.unwrap_or_else(|_| {
            let ms = limit.as_millis();
            Err(Error::unavailable(format!("it took longer than {ms} ms (deployment.load_timeout_ms)")))
        });
        let count = |outcome: &'static str| {
            let labels = [("deployment", slot.name().to_owned()), ("outcome", outcome.to_owned())];
            metrics::counter!("fishy_deployment_loads_total", &labels).increment(1);
        };
        match loaded {
            Ok(live) => {
                self.memory.touch(&live);
                let live = slot.wake_up(live)?;
                count("loaded");
                tracing::info!(deployment = slot.name(), took_ms = begun.elapsed().as_millis() as u64, "loaded again");
                self.keep_budget(Some(slot.name()));
                Ok(live)
            }
            Err(error) => {
                count("failed");
                let error = error.context(format_args!("deployment {} cannot be loaded into memory", slot.name()));
                Err(slot.failed_to_wake(revision.number, &error, self.env.now_ms() + RETRY_LOAD_MS))
            }
        }
    }
}
