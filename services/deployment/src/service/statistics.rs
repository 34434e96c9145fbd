use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How often something was done, and how long it took in all.
#[derive(Debug, Default)]
pub(crate) struct Timer {
    count: AtomicU64,
    ns: AtomicU64,
}

impl Timer {
    pub(crate) fn add(&self, took: Duration) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.ns.fetch_add(took.as_nanos() as u64, Ordering::Relaxed);
    }

    /// Count and nanoseconds.
    pub(crate) fn read(&self) -> (u64, u64) {
        (self.count.load(Ordering::Relaxed), self.ns.load(Ordering::Relaxed))
    }
}

/// What a loaded model did since it was loaded, as the statistics extension tells it.
#[derive(Debug, Default)]
pub(crate) struct Statistics {
    pub(crate) success: Timer,
    pub(crate) fail: Timer,
    pub(crate) queue: Timer,
    pub(crate) input: Timer,
    pub(crate) infer: Timer,
    pub(crate) output: Timer,
    /// Rows.
    pub(crate) inferences: AtomicU64,
    /// Runs of the model.
    pub(crate) executions: AtomicU64,
    pub(crate) last_ms: AtomicI64,
    /// Runs and their nanoseconds by number of rows.
    batches: Mutex<BTreeMap<usize, (u64, u64)>>,
}

/// What one answered request took.
pub(crate) struct Took {
    pub(crate) total: Duration,
    pub(crate) queue: Duration,
    pub(crate) input: Duration,
    pub(crate) infer: Duration,
    pub(crate) output: Duration,
    pub(crate) rows: usize,
    /// Rows of the run, told once a run.
    pub(crate) batch_rows: Option<usize>,
}

impl Statistics {
    pub(crate) fn add(&self, took: &Took, now_ms: i64) {
        self.success.add(took.total);
        self.queue.add(took.queue);
        self.input.add(took.input);
        self.infer.add(took.infer);
        self.output.add(took.output);
        self.inferences.fetch_add(took.rows as u64, Ordering::Relaxed);
        self.last_ms.store(now_ms, Ordering::Relaxed);
        if let Some(rows) = took.batch_rows {
            self.executions.fetch_add(1, Ordering::Relaxed);
            let mut batches = self.batches.lock().unwrap_or_else(PoisonError::into_inner);
            // Sizes differ without bound where requests bring many rows: then only powers of two are told apart.
            let rows = if rows <= 64 { rows } else { rows.next_power_of_two() };
            let (count, ns) = batches.entry(rows).or_default();
            *count += 1;
            *ns += took.infer.as_nanos() as u64;
        }
    }

    pub(crate) fn batches(&self) -> BTreeMap<usize, (u64, u64)> {
        self.batches.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Buckets of a quarter of an octave, from 1 µs to more than an hour.
const BUCKETS: usize = 132;

/// Requests, failures and latencies of one version while its traffic is watched.
#[derive(Debug)]
pub(crate) struct Meter {
    requests: AtomicU64,
    errors: AtomicU64,
    buckets: [AtomicU64; BUCKETS],
}

impl Default for Meter {
    fn default() -> Self {
        Self { requests: AtomicU64::new(0), errors: AtomicU64::new(0), buckets: [const { AtomicU64::new(0) }; BUCKETS] }
    }
}

impl Meter {
    pub(crate) fn succeeded(&self, took: Duration) {
        let octaves = (took.as_secs_f64() * 1e6).max(1.0).log2();
        let bucket = ((octaves * 4.0) as usize).min(BUCKETS - 1);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn failed(&self) {
        self.errors.fetch_add(1, Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    pub(crate) fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }

    /// A quantile of the latencies in microseconds, good to 19 % (the upper end of its bucket); 0 without any.
    pub(crate) fn quantile_us(&self, q: f64) -> f64 {
        let counts: Vec<u64> = self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).collect();
        let total: u64 = counts.iter().sum();
        let mut left = (total as f64 * q).ceil().max(1.0) as u64;
        for (bucket, count) in counts.into_iter().enumerate() {
            if count >= left && total > 0 {
                return ((bucket + 1) as f64 / 4.0).exp2();
            }
            left -= count.min(left);
        }
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_good_to_a_fifth() {
        let meter = Meter::default();
        assert!(meter.quantile_us(0.95).abs() < 1e-9);
        for ms in 1..=100 {
            meter.succeeded(Duration::from_millis(ms));
        }
        for (q, expected) in [(0.5, 50_000.0), (0.95, 95_000.0), (1.0, 100_000.0)] {
            let found = meter.quantile_us(q);
            assert!(found >= expected * 0.99 && found <= expected * 1.2, "{q}: {found}");
        }
        meter.failed();
        assert_eq!((meter.requests(), meter.errors()), (101, 1));
    }
}
