use fishy_core::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::random::SplitMix;
use crate::sample::sort;

/// Each compactor holds this share of what the one above it holds.
const SHRINK: f64 = 2.0 / 3.0;
/// Smallest compactor.
const LEAST: usize = 8;
/// Sizes that make sense.
const SIZES: std::ops::RangeInclusive<usize> = LEAST..=65_536;

/// Quantiles of a stream in bounded memory: the KLL sketch (Karnin, Lang and Liberty 2016).
///
/// With size `k` the rank of any value is off by at most about `2.3 / k^0.9` of the count (99 % of the time; 0.45 % for
/// a size of 1024), however long the stream is and however it was cut and merged. It holds about `3 k` numbers: 24 KB. The
/// smallest and largest value are exact. The same seed and stream give the same sketch. Values that are not finite are
/// counted and left out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Parts", into = "Parts")]
pub struct QuantileSketch {
    k: usize,
    random: SplitMix,
    count: u64,
    missing: u64,
    range: Option<(f64, f64)>,
    /// A value of level `i` stands for `2^i` values.
    levels: Vec<Vec<f64>>,
}

/// What is stored.
#[derive(Serialize, Deserialize)]
struct Parts {
    k: usize,
    random: SplitMix,
    count: u64,
    missing: u64,
    range: Option<(f64, f64)>,
    levels: Vec<Vec<f64>>,
}

impl From<QuantileSketch> for Parts {
    fn from(sketch: QuantileSketch) -> Self {
        let QuantileSketch { k, random, count, missing, range, levels } = sketch;
        Self { k, random, count, missing, range, levels }
    }
}

impl TryFrom<Parts> for QuantileSketch {
    type Error = Error;

    fn try_from(Parts { k, random, count, missing, range, levels }: Parts) -> Result<Self> {
        let weigh = |(level, values): (usize, &Vec<f64>)| (values.len() as u64).checked_mul(1 << level);
        let is_whole = SIZES.contains(&k)
            && (1..64).contains(&levels.len())
            && levels.iter().flatten().all(|value| value.is_finite())
            && levels.iter().enumerate().map(weigh).try_fold(0_u64, |sum, part| sum.checked_add(part?)) == Some(count)
            && range.is_some() == (count > 0);
        if is_whole {
            Ok(Self { k, random, count, missing, range, levels })
        } else {
            Err(Error::invalid("the stored quantile sketch is damaged: build it again from the values"))
        }
    }
}

impl QuantileSketch {
    /// An empty sketch of size `k`, 8 to 65,536; 1024 is a good one.
    pub fn new(k: usize, seed: u64) -> Result<Self> {
        if !SIZES.contains(&k) {
            return Err(Error::invalid(format!("the size of a quantile sketch lies between 8 and 65536, and is {k}")));
        }
        let levels = vec![Vec::with_capacity(k)];
        Ok(Self { k, random: SplitMix::new(seed), count: 0, missing: 0, range: None, levels })
    }

    /// Adds a value.
    pub fn push(&mut self, value: f64) {
        if !value.is_finite() {
            self.missing += 1;
            return;
        }
        self.count += 1;
        self.range = Some(self.range.map_or((value, value), |(low, high)| (low.min(value), high.max(value))));
        self.levels[0].push(value);
        if self.levels[0].len() >= self.k {
            self.compress();
        }
    }

    /// Adds values, with the same result as one after the other.
    pub fn extend(&mut self, values: &[f64]) {
        for part in values.chunks(self.k) {
            if !part.iter().all(|value| value.is_finite()) {
                for value in part {
                    self.push(*value);
                }
                continue;
            }
            let mut rest = part;
            while !rest.is_empty() {
                let room = self.k.saturating_sub(self.levels[0].len()).clamp(1, rest.len());
                let (now, later) = rest.split_at(room);
                let before = self.range.unwrap_or((now[0], now[0]));
                self.range = Some(now.iter().fold(before, |(low, high), value| (low.min(*value), high.max(*value))));
                self.count += now.len() as u64;
                self.levels[0].extend_from_slice(now);
                if self.levels[0].len() >= self.k {
                    self.compress();
                }
                rest = later;
            }
        }
    }

    /// Adds values that are missing.
    pub fn add_missing(&mut self, times: u64) {
        self.missing += times;
    }

    /// Adds another window. The error stays that of the smaller size of the two.
    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.missing += other.missing;
        if let Some((low, high)) = other.range {
            self.range = Some(self.range.map_or((low, high), |(least, most)| (least.min(low), most.max(high))));
        }
        self.k = self.k.min(other.k);
        while self.levels.len() < other.levels.len() {
            self.levels.push(Vec::new());
        }
        for (level, theirs) in self.levels.iter_mut().zip(&other.levels) {
            level.extend(theirs);
        }
        self.compress();
    }

    /// Finite values seen.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Values that were not finite.
    pub const fn missing(&self) -> u64 {
        self.missing
    }

    /// The smallest and the largest value, exactly; `None` before the first.
    pub const fn range(&self) -> Option<(f64, f64)> {
        self.range
    }

    /// Numbers held.
    pub fn held(&self) -> usize {
        self.levels.iter().map(Vec::len).sum()
    }

    /// The quantile at `share` (held within 0 to 1): a value that was seen; `None` before the first.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let (low, high) = self.range?;
        if share <= 0.0 {
            return Some(low);
        }
        let steps = self.steps();
        let wanted = share.min(1.0) * self.count as f64;
        let place = steps.partition_point(|(_, up_to)| (*up_to as f64) < wanted);
        Some(if share >= 1.0 { high } else { steps.get(place).map_or(high, |(value, _)| *value) })
    }

    /// Share of the values at or below `value`; `None` before the first.
    pub fn share_up_to(&self, value: f64) -> Option<f64> {
        let (low, high) = self.range?;
        if value < low || value >= high {
            return Some(f64::from(u8::from(value >= high)));
        }
        let mut up_to = 0;
        for (level, values) in self.levels.iter().enumerate() {
            up_to += (values.iter().filter(|held| **held <= value).count() as u64) << level;
        }
        Some(up_to as f64 / self.count as f64)
    }

    /// Estimated share of the values in each bin of ascending inner edges; a bin holds its lower edge. For PSI and other
    /// divergences of two windows. Empty before the first value.
    pub fn shares(&self, edges: &[f64]) -> Vec<f64> {
        if self.count == 0 {
            return Vec::new();
        }
        let steps = self.steps();
        let below = |edge: f64| {
            let place = steps.partition_point(|(value, _)| *value < edge);
            place.checked_sub(1).map_or(0, |last| steps[last].1)
        };
        let mut ends: Vec<u64> = edges.iter().map(|edge| below(*edge)).collect();
        ends.insert(0, 0);
        ends.push(self.count);
        ends.windows(2).map(|pair| pair[1].saturating_sub(pair[0]) as f64 / self.count as f64).collect()
    }

    /// Estimated Kolmogorov-Smirnov distance and Wasserstein-1 distance of two windows; `None` when either is empty. Both
    /// distribution functions are off by at most their rank error: KS by at most the sum of the two.
    pub fn distances(&self, other: &Self) -> Option<(f64, f64)> {
        if self.count == 0 || other.count == 0 {
            return None;
        }
        let (a, b) = (self.steps(), other.steps());
        let (mut past_a, mut past_b, mut widest) = (0, 0, 0.0_f64);
        let (mut area, mut last): (f64, Option<(f64, f64)>) = (0.0, None);
        let share = |steps: &[(f64, u64)], past: usize, count: u64| {
            past.checked_sub(1).map_or(0.0, |place| steps[place].1 as f64 / count as f64)
        };
        while past_a < a.len() || past_b < b.len() {
            let at = |steps: &[(f64, u64)], past: usize| steps.get(past).map_or(f64::INFINITY, |step| step.0);
            let value = at(&a, past_a).min(at(&b, past_b));
            while at(&a, past_a) <= value {
                past_a += 1;
            }
            while at(&b, past_b) <= value {
                past_b += 1;
            }
            let gap = (share(&a, past_a, self.count) - share(&b, past_b, other.count)).abs();
            widest = widest.max(gap);
            if let Some((before, gap)) = last {
                area += gap * (value - before);
            }
            last = Some((value, gap));
        }
        Some((widest, area))
    }

    /// The values held, ascending, each with how many values are estimated to lie up to it; the last has all.
    pub(crate) fn steps(&self) -> Vec<(f64, u64)> {
        let weighted = self.levels.iter().enumerate();
        let mut steps: Vec<(f64, u64)> =
            weighted.flat_map(|(level, values)| values.iter().map(move |value| (*value, 1 << level))).collect();
        steps.sort_unstable_by(|(a, _), (b, _)| a.total_cmp(b));
        let mut up_to = 0;
        for (_, weight) in &mut steps {
            up_to += *weight;
            *weight = up_to;
        }
        steps
    }

    fn capacity(&self, level: usize) -> usize {
        let depth = (self.levels.len() - 1 - level) as i32;
        ((self.k as f64 * SHRINK.powi(depth)).ceil() as usize).max(LEAST)
    }

    /// Halves the lowest level that is too full until all is within bounds: every other value of its sorted values, odd or
    /// even by the toss of a coin, goes one level up.
    fn compress(&mut self) {
        // The values of the lowest level are gathered, up to `k`, before they are sorted: sorting is what costs.
        while let Some(level) = (0..self.levels.len()).find(|level| {
            let bound = if *level == 0 { self.k } else { self.capacity(*level) };
            self.levels[*level].len() >= bound
        }) {
            if level + 1 == self.levels.len() {
                self.levels.push(Vec::new());
            }
            let mut values = std::mem::take(&mut self.levels[level]);
            if level == 0 {
                sort(&mut values);
            } else {
                // Ascending runs, which came from below: the stable sort merges them.
                values.sort_by(f64::total_cmp);
            }
            // Of an odd number of values one stays: weights always sum to the count.
            let stays = if values.len() % 2 == 1 { values.pop() } else { None };
            let odd = (self.random.next() >> 63) as usize;
            self.levels[level + 1].extend(values.iter().skip(odd).step_by(2));
            values.clear();
            values.extend(stays);
            self.levels[level] = values;
        }
    }
}
