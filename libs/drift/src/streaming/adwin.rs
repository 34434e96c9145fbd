use std::collections::VecDeque;

use fishy_core::{Error, Result};
use serde::{Deserialize, Serialize};

use super::{Signal, check_share};

/// Settings of [`Adwin`]; the default is river's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdwinSettings {
    /// Significance of a cut.
    pub delta: f64,
    /// Cuts are tried at every so-many-th value.
    pub clock: u32,
    /// Buckets of one size before the two oldest are put together.
    pub max_buckets: u32,
    /// Fewest values on either side of a cut.
    pub min_window: u32,
    /// No cut while the window holds at most so many values.
    pub grace: u32,
}

impl Default for AdwinSettings {
    fn default() -> Self {
        Self { delta: 0.002, clock: 32, max_buckets: 5, min_window: 5, grace: 10 }
    }
}

/// ADWIN (Bifet and Gavaldà 2007): a window that grows while its mean holds, and loses its old part when that differs from
/// the new one. Memory grows with the logarithm of the window: an exponential histogram with sums and variances (Babcock
/// et al. 2003).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Adwin {
    settings: AdwinSettings,
    ticks: u64,
    width: f64,
    total: f64,
    /// Sum of squared deviations from the mean.
    squares: f64,
    /// Whether the last value was a drift, so that the next one begins a new window.
    has_drifted: bool,
    /// Row `i` holds buckets of `2^i` values, oldest first.
    rows: Vec<VecDeque<Bucket>>,
}

/// Consecutive values in one: their sum, and their squared deviations from their own mean.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Bucket {
    total: f64,
    squares: f64,
}

impl Adwin {
    /// A detector before its first value.
    pub fn new(settings: AdwinSettings) -> Result<Self> {
        check_share("delta of ADWIN", settings.delta)?;
        if settings.clock == 0 || settings.max_buckets < 2 || settings.min_window == 0 {
            return Err(Error::invalid(format!(
                "ADWIN needs a clock and a min_window of at least 1 and max_buckets of at least 2, and has {}, {}, {}",
                settings.clock, settings.min_window, settings.max_buckets
            )));
        }
        Ok(Self {
            settings,
            ticks: 0,
            width: 0.0,
            total: 0.0,
            squares: 0.0,
            has_drifted: false,
            rows: vec![VecDeque::new()],
        })
    }

    /// Values in the window.
    pub const fn width(&self) -> u64 {
        self.width as u64
    }

    /// Sum of the values in the window.
    pub const fn total(&self) -> f64 {
        self.total
    }

    /// Mean of the window; `None` before the first value.
    pub fn mean(&self) -> Option<f64> {
        (self.width > 0.0).then(|| self.total / self.width)
    }

    /// Sum of squared deviations of the window from its mean.
    pub const fn squares(&self) -> f64 {
        self.squares
    }

    /// Takes the next value. After a drift the window holds what belongs to the new mean; the next value begins a new
    /// window, as in river.
    pub fn push(&mut self, value: f64) -> Signal {
        if !value.is_finite() {
            return Signal::Stable;
        }
        if self.has_drifted {
            (self.ticks, self.width, self.total, self.squares) = (0, 0.0, 0.0, 0.0);
            (self.has_drifted, self.rows) = (false, vec![VecDeque::new()]);
        }
        self.insert(value);
        self.ticks += 1;
        let is_due = self.ticks.is_multiple_of(u64::from(self.settings.clock));
        if !is_due || self.width <= f64::from(self.settings.grace) {
            return Signal::Stable;
        }
        while self.has_cut() && self.drop_oldest() {
            self.has_drifted = true;
        }
        if self.has_drifted { Signal::Drift } else { Signal::Stable }
    }

    fn insert(&mut self, value: f64) {
        if self.rows.is_empty() {
            self.rows.push(VecDeque::new());
        }
        self.rows[0].push_back(Bucket { total: value, squares: 0.0 });
        self.width += 1.0;
        if self.width > 1.0 {
            let before = self.width - 1.0;
            self.squares += before * (value - self.total / before).powi(2) / self.width;
        }
        self.total += value;
        let mut row = 0;
        while self.rows[row].len() > self.settings.max_buckets as usize {
            let size = bucket_size(row);
            let (Some(a), Some(b)) = (self.rows[row].pop_front(), self.rows[row].pop_front()) else { return };
            let squares = a.squares + b.squares + between(size, a.total / size, size, b.total / size);
            if row + 1 == self.rows.len() {
                self.rows.push(VecDeque::new());
            }
            row += 1;
            self.rows[row].push_back(Bucket { total: a.total + b.total, squares });
        }
    }

    /// Says whether there was a bucket to drop.
    fn drop_oldest(&mut self) -> bool {
        let row = self.rows.len() - 1;
        let Some(bucket) = self.rows[row].pop_front() else { return false };
        let size = bucket_size(row);
        self.width -= size;
        self.total -= bucket.total;
        let apart = between(size, bucket.total / size, self.width, self.total / self.width);
        self.squares -= bucket.squares + apart;
        if self.rows[row].is_empty() && row > 0 {
            self.rows.pop();
        }
        true
    }

    /// Whether some cut between buckets, oldest first, leaves two parts with different means.
    fn has_cut(&self) -> bool {
        let least = f64::from(self.settings.min_window);
        let confidence = (2.0 * self.width.ln() / self.settings.delta).ln();
        let variance = self.squares / self.width;
        let (mut old, mut old_total) = (0.0, 0.0);
        for (row, buckets) in self.rows.iter().enumerate().rev() {
            for bucket in buckets {
                old += bucket_size(row);
                old_total += bucket.total;
                let new = self.width - old;
                if old < least || new < least {
                    continue;
                }
                let gap = old_total / old - (self.total - old_total) / new;
                let inverse = 1.0 / (old - least + 1.0) + 1.0 / (new - least + 1.0);
                let bound = (2.0 * inverse * variance * confidence).sqrt() + 2.0 / 3.0 * confidence * inverse;
                if gap.abs() > bound {
                    return true;
                }
            }
        }
        false
    }
}

fn bucket_size(row: usize) -> f64 {
    2.0_f64.powi(row as i32)
}

/// What two parts of such sizes and means add to the squared deviations when they are put together.
fn between(n: f64, mean_n: f64, m: f64, mean_m: f64) -> f64 {
    n * m * (mean_n - mean_m).powi(2) / (n + m)
}
