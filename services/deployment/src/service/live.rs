use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwapOption;
use fishy_contracts::deployment::{EngineSettings, Revision};
use fishy_core::{Error, ErrorCode};
use fishy_inference::{Batcher, Tensor};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use super::cache::LoadedModel;
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
    pub(crate) statistics: Statistics,
    /// What it was loaded with.
    pub(crate) settings: EngineSettings,
}

impl Live {
    pub(crate) fn new(revision: Revision, loaded: LoadedModel, settings: EngineSettings) -> Self {
        let LoadedModel { batcher, layout, example } = loaded;
        Self { revision, batcher, layout, example, statistics: Statistics::default(), settings }
    }
}

/// The place of one deployment in this process.
pub(crate) struct Slot {
    name: Arc<str>,
    live: ArcSwapOption<Live>,
    traffic: ArcSwapOption<Traffic>,
    problem: Mutex<Option<String>>,
    /// Taken out of this process by the repository API; comes back only by it.
    is_unloaded: AtomicBool,
    /// The generation of the settings that this process has looked at.
    pub(crate) seen_settings: AtomicI64,
    /// One rollout at a time; never held by a request.
    pub(crate) rollout: tokio::sync::Mutex<RolloutState>,
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
            traffic: ArcSwapOption::empty(),
            problem: Mutex::new(None),
            is_unloaded: AtomicBool::new(false),
            seen_settings: AtomicI64::new(0),
            rollout: tokio::sync::Mutex::default(),
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

    /// From now on requests go to this revision.
    pub(crate) fn swap(&self, live: Live) {
        let number = live.revision.number;
        // In this order: nobody sees the new revision with the problem of the one before.
        self.set_problem(None);
        self.live.store(Some(Arc::new(live)));
        metrics::gauge!("fishy_deployment_revision", "deployment" => self.name.to_string()).set(number as f64);
    }

    pub(crate) fn retire(&self) {
        self.traffic.store(None);
        self.live.store(None);
        let name = || self.name.to_string();
        metrics::gauge!("fishy_deployment_revision", "deployment" => name()).set(0.0);
        metrics::gauge!("fishy_deployment_has_problem", "deployment" => name()).set(0.0);
    }

    pub(crate) fn problem(&self) -> Option<String> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sets or clears the problem; a new one is logged once.
    pub(crate) fn set_problem(&self, error: Option<&Error>) {
        let text = error.map(|error| match error.code() {
            ErrorCode::Internal => "an internal error occurred; the server's log has its text".to_owned(),
            _ => error.message().to_owned(),
        });
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
