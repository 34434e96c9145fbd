use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwapOption;
use fishy_contracts::deployment::{EngineSettings, Revision};
use fishy_core::{Error, ErrorCode, Result};
use fishy_inference::{Batcher, Tensor};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use super::loader::LoadedModel;
use super::program::Program;
use super::statistics::Statistics;
use super::traffic::Traffic;
use crate::domain::Layout;

/// A revision that answers requests. Requests that hold it end on it, whatever is swapped in meanwhile.
pub(crate) struct Live {
    pub(crate) revision: Revision,
    pub(crate) batcher: Arc<Batcher>,
    pub(crate) layout: Layout,
    /// The inputs that came with the model, in the order of its own.
    pub(crate) example: Option<Vec<Tensor>>,
    /// What is asked in place of a model.
    pub(crate) program: Option<Arc<Program>>,
    pub(crate) statistics: Statistics,
    /// What it was loaded with.
    pub(crate) settings: EngineSettings,
    /// What it is taken to cost in memory.
    pub(crate) size_bytes: u64,
    /// When it was used last, in uses of any model since the start.
    pub(crate) last_used: AtomicU64,
}

impl Live {
    pub(crate) fn new(revision: Revision, loaded: LoadedModel, settings: EngineSettings) -> Self {
        let LoadedModel { batcher, layout, example, size_bytes, program } = loaded;
        Self {
            revision,
            batcher,
            layout,
            example,
            program,
            statistics: Statistics::default(),
            settings,
            size_bytes,
            last_used: AtomicU64::new(0),
        }
    }
}

/// A revision that serves and is not in memory.
#[derive(Clone)]
pub(crate) struct Asleep {
    pub(crate) revision: Revision,
    /// Why it could not be loaded when it was tried last.
    pub(crate) failure: Option<LoadFailure>,
}

/// A load that failed.
#[derive(Clone)]
pub(crate) struct LoadFailure {
    pub(crate) message: String,
    /// Not tried again before this.
    pub(crate) until_ms: i64,
}

/// The place of one deployment in this process.
pub(crate) struct Slot {
    name: Arc<str>,
    live: ArcSwapOption<Live>,
    /// What the next request loads; held while `live` is replaced.
    asleep: Mutex<Option<Asleep>>,
    /// One load for requests at a time.
    pub(crate) waking: Arc<tokio::sync::Mutex<()>>,
    traffic: ArcSwapOption<Traffic>,
    problem: Mutex<Option<String>>,
    /// Taken out of this process by the repository API; comes back only by it.
    is_unloaded: AtomicBool,
    /// Whether its revision is a program: it has no features.
    is_program: AtomicBool,
    /// The generation of the settings that this process has looked at.
    pub(crate) seen_settings: AtomicI64,
    /// One rollout at a time; never held by a request.
    pub(crate) rollout: tokio::sync::Mutex<RolloutState>,
    /// One replay at a time.
    pub(crate) replaying: tokio::sync::Mutex<()>,
    pub(crate) duration: metrics::Histogram,
    /// What a cluster scales by.
    pub(crate) queued: metrics::Histogram,
    pub(crate) answered: metrics::Counter,
    pub(crate) recorded: metrics::Counter,
}

/// What a rollout remembers for the next one.
#[derive(Default)]
pub(crate) struct RolloutState {
    /// The version that was found unfit, so that it is not fetched and loaded again at every poll.
    pub(crate) refused: Option<Refused>,
    /// No second attempt before this to load a revision that another replica made, or that failed to load.
    pub(crate) retry_at_ms: i64,
    /// The alias whose protection the registry has confirmed to this process.
    pub(crate) protected: Option<String>,
}

/// A version that will not be served as it is.
pub(crate) struct Refused {
    pub(crate) model: String,
    pub(crate) version: String,
    pub(crate) until_ms: i64,
    pub(crate) code: ErrorCode,
    pub(crate) message: String,
}

impl Refused {
    pub(crate) fn error(&self) -> Error {
        Error::new(self.code, self.message.clone())
    }
}

impl Slot {
    pub(crate) fn new(name: &str) -> Self {
        let deployment = name.to_owned();
        Self {
            name: name.into(),
            live: ArcSwapOption::empty(),
            asleep: Mutex::default(),
            waking: Arc::default(),
            traffic: ArcSwapOption::empty(),
            problem: Mutex::new(None),
            is_unloaded: AtomicBool::new(false),
            is_program: AtomicBool::new(false),
            seen_settings: AtomicI64::new(0),
            rollout: tokio::sync::Mutex::default(),
            replaying: tokio::sync::Mutex::default(),
            duration: metrics::histogram!("fishy_inference_request_duration_seconds", "deployment" => deployment.clone()),
            queued: metrics::histogram!("fishy_inference_queue_duration_seconds", "deployment" => deployment.clone()),
            answered: metrics::counter!("fishy_inference_requests_total", "deployment" => deployment.clone(), "status" => "200"),
            recorded: metrics::counter!("fishy_prediction_records_total", "deployment" => deployment),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn live(&self) -> Option<Arc<Live>> {
        self.live.load_full()
    }

    /// Where its requests go beside the revision that serves.
    pub(crate) fn traffic(&self) -> Option<Arc<Traffic>> {
        self.traffic.load_full()
    }

    pub(crate) fn set_traffic(&self, traffic: Option<Traffic>) {
        self.traffic.store(traffic.map(Arc::new));
    }

    pub(crate) fn is_unloaded(&self) -> bool {
        self.is_unloaded.load(Ordering::Acquire)
    }

    pub(crate) fn set_unloaded(&self, is_unloaded: bool) {
        self.is_unloaded.store(is_unloaded, Ordering::Release);
    }

    /// Whether its revision is a program, in memory or not.
    pub(crate) fn is_program(&self) -> bool {
        self.is_program.load(Ordering::Acquire)
    }

    fn tell_kind(&self, revision: &Revision) {
        self.is_program.store(revision.features.is_empty(), Ordering::Release);
    }

    /// From now on requests go to this revision.
    pub(crate) fn swap(&self, live: Live) {
        let number = live.revision.number;
        self.tell_kind(&live.revision);
        // In this order: nobody sees the new revision with the problem of the one before.
        self.set_problem(None);
        let mut asleep = self.lock_asleep();
        self.live.store(Some(Arc::new(live)));
        *asleep = None;
        drop(asleep);
        metrics::gauge!("fishy_deployment_revision", "deployment" => self.name.to_string()).set(number as f64);
        self.tell_loaded(true);
    }

    fn lock_asleep(&self) -> MutexGuard<'_, Option<Asleep>> {
        self.asleep.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell_loaded(&self, is_loaded: bool) {
        let gauge = metrics::gauge!("fishy_deployment_is_loaded", "deployment" => self.name.to_string());
        gauge.set(f64::from(u8::from(is_loaded)));
    }

    /// The revision that the next request loads.
    pub(crate) fn asleep(&self) -> Option<Asleep> {
        self.lock_asleep().clone()
    }

    /// The revision that serves, in memory or not.
    pub(crate) fn revision(&self) -> Option<Revision> {
        let asleep = self.lock_asleep();
        match self.live() {
            Some(live) => Some(live.revision.clone()),
            None => asleep.as_ref().map(|asleep| asleep.revision.clone()),
        }
    }

    /// Whether requests are answered, as far as is known.
    pub(crate) fn is_available(&self) -> bool {
        let asleep = self.lock_asleep();
        self.live.load().is_some() || asleep.as_ref().is_some_and(|asleep| asleep.failure.is_none())
    }

    /// What its models in memory are taken to cost, those of candidates included.
    pub(crate) fn loaded_bytes(&self) -> u64 {
        let candidates = self.traffic().map_or(0, |traffic| traffic.candidates().map(|live| live.size_bytes).sum());
        self.live().map_or(0, |live| live.size_bytes) + candidates
    }

    /// The next request loads this revision, which is not in memory.
    pub(crate) fn begin_asleep(&self, revision: Revision) {
        let number = revision.number;
        self.tell_kind(&revision);
        *self.lock_asleep() = Some(Asleep { revision, failure: None });
        metrics::gauge!("fishy_deployment_revision", "deployment" => self.name.to_string()).set(number as f64);
        self.tell_loaded(false);
    }

    /// Takes a revision out of memory, if it is still the one that serves. Requests that hold it end on it.
    pub(crate) fn put_to_sleep(&self, live: &Arc<Live>) -> bool {
        let mut asleep = self.lock_asleep();
        if !self.live().is_some_and(|now| Arc::ptr_eq(&now, live)) {
            return false;
        }
        *asleep = Some(Asleep { revision: live.revision.clone(), failure: None });
        self.live.store(None);
        drop(asleep);
        self.tell_loaded(false);
        true
    }

    /// From now on requests go to this revision, unless another change came in between.
    pub(crate) fn wake_up(&self, live: Live) -> Result<Arc<Live>> {
        let mut asleep = self.lock_asleep();
        if asleep.as_ref().is_none_or(|asleep| asleep.revision.number != live.revision.number) {
            drop(asleep);
            return self.live().ok_or_else(|| self.not_serving());
        }
        let live = Arc::new(live);
        self.live.store(Some(Arc::clone(&live)));
        *asleep = None;
        drop(asleep);
        self.set_problem(None);
        self.tell_loaded(true);
        Ok(live)
    }

    /// Remembers why a revision could not be loaded, and gives that as what requests are told.
    pub(crate) fn failed_to_wake(&self, number: i64, error: &Error, until_ms: i64) -> Error {
        let message = problem_text(error);
        let mut asleep = self.lock_asleep();
        if let Some(asleep) = asleep.as_mut().filter(|asleep| asleep.revision.number == number) {
            self.set_problem(Some(error));
            asleep.failure = Some(LoadFailure { message: message.clone(), until_ms });
        }
        Error::unavailable(message)
    }

    /// What a rollout ended with becomes the problem; a load into memory that failed while it ran stays told.
    pub(crate) fn end_rollout(&self, outcome: &Result<()>) {
        let asleep = self.lock_asleep();
        let has_failed = asleep.as_ref().is_some_and(|asleep| asleep.failure.is_some());
        if outcome.is_err() || !has_failed {
            self.set_problem(outcome.as_ref().err());
        }
    }

    /// What a request is told when no revision serves.
    pub(crate) fn not_serving(&self) -> Error {
        let why = self.problem().unwrap_or_else(|| "it has not been loaded yet".to_owned());
        Error::unavailable(format!("deployment {} does not serve: {why}", self.name))
    }

    pub(crate) fn retire(&self) {
        self.traffic.store(None);
        let mut asleep = self.lock_asleep();
        self.live.store(None);
        *asleep = None;
        drop(asleep);
        self.tell_loaded(false);
        let name = || self.name.to_string();
        metrics::gauge!("fishy_deployment_revision", "deployment" => name()).set(0.0);
        metrics::gauge!("fishy_deployment_has_problem", "deployment" => name()).set(0.0);
    }

    pub(crate) fn problem(&self) -> Option<String> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sets or clears the problem; a new one is logged once.
    pub(crate) fn set_problem(&self, error: Option<&Error>) {
        let text = error.map(problem_text);
        let has_problem = text.is_some();
        let before = std::mem::replace(&mut *self.problem.lock().unwrap_or_else(PoisonError::into_inner), text.clone());
        if before == text {
            return;
        }
        let gauge = metrics::gauge!("fishy_deployment_has_problem", "deployment" => self.name.to_string());
        gauge.set(f64::from(u8::from(has_problem)));
        if let Some(error) = error {
            let serves = self.live().map(|live| live.revision.number);
            tracing::warn!(deployment = &*self.name, serves, error = error.chain(), "deployment has a problem");
        } else {
            tracing::info!(deployment = &*self.name, "deployment has no problem any more");
        }
    }
}

fn problem_text(error: &Error) -> String {
    match error.code() {
        ErrorCode::Internal => "an internal error occurred; the server's log has its text".to_owned(),
        _ => error.message().to_owned(),
    }
}
