//! Where requests go beside the revision that serves: splits with a canary's rule, and a shadow.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use fishy_contracts::deployment::{CanaryRule, Shadow, ShadowReport, TrafficReport, TrafficSpec, VersionReport};
use fishy_core::{Error, Result};
use fishy_inference::{Params, Ran, Tensor, TensorData};
use tokio::sync::Semaphore;

use super::live::Live;
use super::statistics::Meter;
use crate::domain::{compare, spread};

/// So many requests are mirrored at the same time at most.
const MAX_MIRRORED: usize = 64;

/// The traffic of one deployment in this process, while its specification stays as it is.
pub(crate) struct Traffic {
    pub(crate) spec: TrafficSpec,
    splits: Vec<Candidate>,
    pub(crate) shadow: Option<Arc<Mirror>>,
    pub(crate) champion: Meter,
    /// Steps through the shares where there is no sticky key.
    counter: AtomicU64,
    has_failed: AtomicBool,
    pub(crate) rolled_back: Option<String>,
    pub(crate) problem: Option<String>,
}

pub(crate) struct Candidate {
    pub(crate) live: Arc<Live>,
    /// Its share ends here, in percent from 0.
    until: f64,
    pub(crate) meter: Meter,
}

/// A shadow.
pub(crate) struct Mirror {
    pub(crate) live: Arc<Live>,
    settings: Shadow,
    meter: Meter,
    permits: Arc<Semaphore>,
    skipped: AtomicU64,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    compared: u64,
    agreed: u64,
    max_difference: f64,
    sum_difference: f64,
    numbers: u64,
}

/// Checks what can be checked without looking anything up.
pub(crate) fn check_spec(spec: &TrafficSpec) -> Result<()> {
    let is_share = |percent: f64| percent > 0.0 && percent <= 100.0;
    let all: f64 = spec.splits.iter().map(|split| split.percent).sum();
    let shadow = spec.shadow.as_ref().map(|shadow| shadow.percent);
    if let Some(percent) =
        spec.splits.iter().map(|split| split.percent).chain(shadow).find(|percent| !is_share(*percent))
    {
        return Err(Error::invalid(format!("a share of {percent} percent: it is above 0 and at most 100")));
    }
    if all > 100.0 {
        return Err(Error::invalid(format!(
            "the splits take {all} percent of the requests: at most 100 can be given away"
        )));
    }
    if spec.shadow.as_ref().is_some_and(|shadow| shadow.tolerance.is_nan() || shadow.tolerance < 0.0) {
        return Err(Error::invalid("the tolerance of a shadow is a number from 0"));
    }
    if spec.canary.is_some() && spec.splits.is_empty() {
        return Err(Error::invalid("a canary rule without splits judges nothing: add a split"));
    }
    match &spec.canary {
        Some(rule) if !(0.0..=1.0).contains(&rule.max_error_rate) || rule.min_requests == 0 => {
            Err(Error::invalid("a canary rule has a max_error_rate from 0 to 1 and min_requests from 1"))
        }
        _ => Ok(()),
    }
}

impl Traffic {
    pub(crate) fn new(
        spec: TrafficSpec,
        splits: Vec<(Arc<Live>, f64)>,
        shadow: Option<Arc<Live>>,
        rolled_back: Option<String>,
        problem: Option<String>,
    ) -> Self {
        let mut until = 0.0;
        let splits = splits.into_iter().map(|(live, percent)| {
            until += percent;
            Candidate { live, until, meter: Meter::default() }
        });
        let splits = splits.collect();
        let shadow = shadow.zip(spec.shadow.clone()).map(|(live, settings)| {
            Arc::new(Mirror {
                live,
                settings,
                meter: Meter::default(),
                permits: Arc::new(Semaphore::new(MAX_MIRRORED)),
                skipped: AtomicU64::new(0),
                seen: Mutex::default(),
            })
        });
        Self {
            spec,
            splits,
            shadow,
            champion: Meter::default(),
            counter: AtomicU64::new(0),
            has_failed: AtomicBool::new(false),
            rolled_back,
            problem,
        }
    }

    /// The candidate that answers a request; `None` for the revision that serves.
    pub(crate) fn choose(&self, deployment: &str, sticky_key: Option<&str>) -> Option<&Candidate> {
        if self.splits.is_empty() || self.has_failed.load(Ordering::Acquire) {
            return None;
        }
        let ticket = ticket(&self.counter, deployment, sticky_key);
        self.splits.iter().find(|candidate| ticket < candidate.until)
    }

    /// The candidate that serves a version.
    pub(crate) fn of_version(&self, version: &str) -> Option<&Arc<Live>> {
        let shadow = self.shadow.iter().map(|mirror| &mirror.live);
        self.splits.iter().map(|split| &split.live).chain(shadow).find(|live| live.revision.version == version)
    }

    /// The versions that are loaded for it.
    pub(crate) fn candidates(&self) -> impl Iterator<Item = &Arc<Live>> {
        self.splits.iter().map(|split| &split.live).chain(self.shadow.iter().map(|mirror| &mirror.live))
    }

    /// Takes all splits back, once; tells why when it was this call that did.
    pub(crate) fn judge(&self, candidate: &Candidate) -> Option<String> {
        let rule = self.spec.canary.as_ref()?;
        let reason = judge(rule, &candidate.meter, &self.champion)?;
        let is_first = !self.has_failed.swap(true, Ordering::AcqRel);
        is_first.then(|| format!("version {} was taken back: {reason}", candidate.live.revision.version))
    }

    pub(crate) fn report(&self, champion: Option<&Live>) -> TrafficReport {
        TrafficReport {
            spec: self.spec.clone(),
            champion: champion.map(|live| version_report(live, &self.champion)),
            splits: self.splits.iter().map(|split| version_report(&split.live, &split.meter)).collect(),
            shadow: self.shadow.as_ref().map(|mirror| mirror.report()),
            rolled_back: self.rolled_back.clone(),
            problem: self.problem.clone(),
        }
    }
}

/// A number from 0 to 100 for a request: by its sticky key, or spread evenly.
pub(super) fn ticket(counter: &AtomicU64, deployment: &str, sticky_key: Option<&str>) -> f64 {
    if let Some(key) = sticky_key {
        return spread(&[deployment, key]) * 100.0;
    }
    // Multiples of the golden ratio leave no gap anywhere, however few requests there are.
    let step = counter.fetch_add(1, Ordering::Relaxed);
    step.wrapping_mul(0x9e37_79b9_7f4a_7c15) as f64 / u64::MAX as f64 * 100.0
}

fn judge(rule: &CanaryRule, candidate: &Meter, champion: &Meter) -> Option<String> {
    let (requests, errors) = (candidate.requests(), candidate.errors());
    if requests < rule.min_requests {
        return None;
    }
    let rate = errors as f64 / requests as f64;
    if rate > rule.max_error_rate {
        return Some(format!(
            "it failed in {errors} of {requests} requests, and at most a share of {} may fail",
            rule.max_error_rate
        ));
    }
    // Percentiles cost a walk through the buckets; one request in 16 pays for it.
    if !requests.is_multiple_of(16) && requests != rule.min_requests {
        return None;
    }
    let p95_us = candidate.quantile_us(0.95);
    if let Some(max_ms) = rule.max_p95_ms.filter(|max_ms| p95_us > max_ms * 1e3) {
        return Some(format!("its 95th percentile is {:.3} ms, and {max_ms} ms are allowed", p95_us / 1e3));
    }
    let of_champion = champion.quantile_us(0.95);
    let ratio = rule.max_latency_ratio.filter(|_| champion.requests() >= rule.min_requests)?;
    (p95_us > of_champion * ratio).then(|| {
        format!(
            "its 95th percentile is {:.3} ms, and {ratio} times the {:.3} ms of the one that serves are allowed",
            p95_us / 1e3,
            of_champion / 1e3
        )
    })
}

fn version_report(live: &Live, meter: &Meter) -> VersionReport {
    VersionReport {
        version: live.revision.version.clone(),
        requests: meter.requests(),
        errors: meter.errors(),
        p50_us: meter.quantile_us(0.5),
        p95_us: meter.quantile_us(0.95),
    }
}

impl Mirror {
    /// Whether a request is mirrored; the permit bounds how many are at the same time.
    pub(crate) fn admit(&self, traffic: &Traffic) -> Option<tokio::sync::OwnedSemaphorePermit> {
        if self.settings.percent < 100.0 && ticket(&traffic.counter, "", None) >= self.settings.percent {
            return None;
        }
        let permit = Arc::clone(&self.permits).try_acquire_owned().ok();
        if permit.is_none() {
            self.skipped.fetch_add(1, Ordering::Relaxed);
        }
        permit
    }

    /// Whether its answers go into the prediction log.
    pub(crate) const fn is_recorded(&self) -> bool {
        self.settings.is_recorded
    }

    /// Asks the shadow what the other has answered, and compares. Nothing, where it fails.
    pub(crate) async fn ask(
        &self,
        inputs: Vec<Tensor>,
        params: Option<Arc<Params>>,
        answered: &[(String, TensorData)],
        patience: Duration,
    ) -> Option<Ran> {
        let started = Instant::now();
        match self.live.batcher.run_with(inputs, params, started + patience).await {
            Ok(ran) => {
                self.meter.succeeded(started.elapsed());
                let difference = compare::outputs(answered, &ran.outputs, self.settings.tolerance);
                let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
                seen.compared += 1;
                seen.agreed += u64::from(difference.is_agreed);
                seen.max_difference = seen.max_difference.max(difference.max);
                seen.sum_difference += difference.sum;
                seen.numbers += difference.numbers;
                drop(seen);
                Some(ran)
            }
            Err(error) => {
                self.meter.failed();
                tracing::debug!(error = error.chain(), version = self.live.revision.version, "a shadow failed");
                None
            }
        }
    }

    fn report(&self) -> ShadowReport {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        ShadowReport {
            version: version_report(&self.live, &self.meter),
            compared: seen.compared,
            agreed: seen.agreed,
            skipped: self.skipped.load(Ordering::Relaxed),
            max_abs_difference: seen.max_difference,
            mean_abs_difference: if seen.numbers == 0 { 0.0 } else { seen.sum_difference / seen.numbers as f64 },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tickets_are_spread_evenly_and_stick_to_their_key() {
        let traffic = Traffic::new(TrafficSpec::default(), Vec::new(), None, None, None);
        let below = |tickets: &[f64], percent: f64| tickets.iter().filter(|ticket| **ticket < percent).count();
        let free: Vec<f64> = (0..1000).map(|_| ticket(&traffic.counter, "d", None)).collect();
        let sticky: Vec<f64> = (0..10_000).map(|n| ticket(&traffic.counter, "d", Some(&format!("pen-{n}")))).collect();
        for percent in [1.0, 10.0, 50.0, 90.0] {
            assert!((below(&free, percent) as f64 / 10.0 - percent).abs() < 1.0, "{percent}");
            assert!((below(&sticky, percent) as f64 / 100.0 - percent).abs() < 1.5, "{percent}");
        }
        assert!(sticky.iter().chain(&free).all(|ticket| (0.0..=100.0).contains(ticket)));
        let again = ticket(&traffic.counter, "d", Some("pen-7"));
        assert!((again - sticky[7]).abs() < 1e-12);
        assert!(
            (again - ticket(&traffic.counter, "e", Some("pen-7"))).abs() > 1e-12,
            "deployments split each in their own way"
        );
    }

    #[test]
    fn a_rule_waits_for_enough_requests_and_says_what_is_wrong() {
        let rule =
            CanaryRule { min_requests: 10, max_error_rate: 0.1, max_latency_ratio: Some(2.0), max_p95_ms: Some(50.0) };
        let meter = |errors: usize, fine: usize, ms: u64| {
            let meter = Meter::default();
            (0..errors).for_each(|_| meter.failed());
            (0..fine).for_each(|_| meter.succeeded(Duration::from_millis(ms)));
            meter
        };
        let champion = meter(0, 20, 10);
        assert_eq!(judge(&rule, &meter(9, 0, 1), &champion), None, "too early to say");
        assert_eq!(judge(&rule, &meter(1, 9, 10), &champion), None);
        let failed = judge(&rule, &meter(2, 8, 10), &champion).unwrap();
        assert!(failed.contains("2 of 10 requests"), "{failed}");
        assert!(judge(&rule, &meter(0, 16, 30), &champion).unwrap().contains("2 times"));
        assert!(judge(&rule, &meter(0, 16, 90), &champion).unwrap().contains("50 ms are allowed"));
        assert_eq!(judge(&rule, &meter(0, 16, 30), &meter(0, 5, 10)), None, "the champion has too few to compare with");
    }
}
