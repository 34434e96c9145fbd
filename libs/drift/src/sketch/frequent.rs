use std::collections::BTreeMap;

use fishy_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// Most counters that a sketch may have.
const MOST_COUNTERS: usize = 65_536;

/// One of the frequent values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frequent {
    /// The value.
    pub value: String,
    /// It came at least so often.
    pub at_least: u64,
    /// It came at most so often.
    pub at_most: u64,
}

/// Frequent values of a stream in bounded memory: Misra and Gries 1982, in the form that merges (Agarwal et al. 2013).
///
/// With `k` counters no count is too high, and none is too low by more than the total over `k + 1`, which is guaranteed;
/// every value that came more often than that is held. It keeps at most `2 k` values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrequentSketch {
    k: usize,
    total: u64,
    /// What every counter may lack.
    lacking: u64,
    counters: BTreeMap<String, u64>,
}

impl FrequentSketch {
    /// An empty sketch with `k` counters, 1 to 65,536.
    pub fn new(k: usize) -> Result<Self> {
        if (1..=MOST_COUNTERS).contains(&k) {
            Ok(Self { k, total: 0, lacking: 0, counters: BTreeMap::new() })
        } else {
            Err(Error::invalid(format!(
                "a frequent sketch has between 1 and {MOST_COUNTERS} counters, and this one {k}"
            )))
        }
    }

    /// Adds a value that came `times` times.
    pub fn push(&mut self, value: &str, times: u64) {
        if times == 0 {
            return;
        }
        self.total += times;
        if let Some(counter) = self.counters.get_mut(value) {
            *counter += times;
        } else {
            self.counters.insert(value.to_owned(), times);
            self.reduce(2 * self.k);
        }
    }

    /// Adds another window. The error stays that of the fewer counters of the two.
    pub fn merge(&mut self, other: &Self) {
        self.k = self.k.min(other.k);
        self.total += other.total;
        self.lacking += other.lacking;
        for (value, times) in &other.counters {
            *self.counters.entry(value.clone()).or_insert(0) += times;
        }
        self.reduce(self.k);
    }

    /// Values counted.
    pub const fn total(&self) -> u64 {
        self.total
    }

    /// What every count may lack: at most the total over `k + 1`.
    pub const fn error(&self) -> u64 {
        self.lacking
    }

    /// Every value that may have come at least so often, the most frequent first: none is forgotten, and those whose
    /// `at_least` is below the bound may not belong. The bound must be above [`error`](Self::error) for that.
    pub fn at_least(&self, times: u64) -> Vec<Frequent> {
        let mut found: Vec<Frequent> = self
            .counters
            .iter()
            .map(|(value, count)| Frequent { value: value.clone(), at_least: *count, at_most: count + self.lacking })
            .filter(|frequent| frequent.at_most >= times)
            .collect();
        found.sort_by(|a, b| b.at_least.cmp(&a.at_least).then_with(|| a.value.cmp(&b.value)));
        found
    }

    /// When more than `allowed` counters are held, takes the (k + 1)-th largest count from all and drops the empty ones:
    /// that takes at least (k + 1) times as much from the total.
    fn reduce(&mut self, allowed: usize) {
        if self.counters.len() <= allowed {
            return;
        }
        let mut counts: Vec<u64> = self.counters.values().copied().collect();
        let (_, taken, _) = counts.select_nth_unstable_by(self.k, |a, b| b.cmp(a));
        let taken = *taken;
        self.lacking += taken;
        self.counters.retain(|_, count| {
            *count = count.saturating_sub(taken);
            *count > 0
        });
    }
}
