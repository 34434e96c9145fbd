use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use crate::checks::{Finding, FindingKind};
use crate::sample::quantile;

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
/// Neighbours after a probe, by name.
const AFTER: usize = 3;
/// Hours of a day that both probes of a pair must have.
const LEAST_HOURS: usize = 12;
/// Days before which nothing is usual.
const LEAST_DAYS: usize = 10;

/// When a probe has drifted away from its neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NeighbourSettings {
    /// Neighbours that a probe must have. Default 2: with a single one, nobody knows which is right.
    pub neighbours: usize,
    /// How far the day's difference from a neighbour lies from the usual one, in interquartile ranges of the usual
    /// differences. Default 4.
    pub ranges: f64,
    /// The least such distance in the unit of the sensor: what its calibration allows. Default 0.
    pub least: f64,
    /// Days of which the usual distance is taken; the last quarter of them is left out, so that a slow drift does not become
    /// usual. Default 60.
    pub days: u32,
}

impl Default for NeighbourSettings {
    fn default() -> Self {
        Self { neighbours: 2, ranges: 4.0, least: 0.0, days: 60 }
    }
}

/// Two probes against each other.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Pair {
    /// Differences in the day that is going on.
    today: Vec<f64>,
    /// Median difference of each day on which both were well, oldest first.
    days: VecDeque<f64>,
}

/// A drift that was reported.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Drift {
    since_ms: i64,
    beyond: f64,
    days: u32,
}

/// How far two probes are from their usual difference after a day.
#[derive(Debug, Clone, Copy)]
struct Judged {
    beyond: f64,
    is_off: bool,
}

/// Compares the probes of one quantity that are near each other: the same water reads the same, up to a difference that is
/// usual for the two places.
///
/// Probes are compared in pairs, each with up to three after it by name (and the first with the last): one that is off its
/// usual difference from most of its neighbours is the one that drifts. A day is judged when it is over. The state is some
/// 60 numbers a pair and can be stored between any two readings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NeighbourChecks {
    settings: NeighbourSettings,
    hour_ms: Option<i64>,
    /// The readings of this hour.
    readings: BTreeMap<String, f64>,
    pairs: BTreeMap<String, BTreeMap<String, Pair>>,
    drifts: BTreeMap<String, Drift>,
}

impl NeighbourChecks {
    /// Checks with these settings, before the first reading.
    pub fn new(settings: NeighbourSettings) -> Self {
        Self { settings, hour_ms: None, readings: BTreeMap::new(), pairs: BTreeMap::new(), drifts: BTreeMap::new() }
    }

    /// Takes a reading of a probe, in event-time order over all probes; gives what became certain, by probe. The value of a
    /// finding is how much the probe reads above its usual difference from its neighbours.
    pub fn push(&mut self, time_ms: i64, probe: &str, value: f64) -> Vec<(String, Finding)> {
        let hour_ms = time_ms.saturating_sub(time_ms.rem_euclid(HOUR_MS));
        let mut found = Vec::new();
        if let Some(before_ms) = self.hour_ms.filter(|before_ms| hour_ms > *before_ms) {
            self.close_hour();
            if hour_ms.div_euclid(DAY_MS) > before_ms.div_euclid(DAY_MS) {
                found = self.close_day(before_ms.saturating_sub(before_ms.rem_euclid(DAY_MS)));
            }
        }
        self.hour_ms = Some(self.hour_ms.map_or(hour_ms, |before_ms| before_ms.max(hour_ms)));
        if value.is_finite() {
            self.readings.insert(probe.to_owned(), value);
        }
        found
    }

    fn close_hour(&mut self) {
        let readings: Vec<(String, f64)> = std::mem::take(&mut self.readings).into_iter().collect();
        let count = readings.len();
        let mut done = BTreeSet::new();
        for at in 0..count {
            for next in 1..=AFTER {
                let other = (at + next) % count;
                let (one, two) = (at.min(other), at.max(other));
                if one == two || !done.insert((one, two)) {
                    continue;
                }
                let (one, two) = (&readings[one], &readings[two]);
                let pairs = self.pairs.entry(one.0.clone()).or_default();
                pairs.entry(two.0.clone()).or_default().today.push(one.1 - two.1);
            }
        }
    }

    fn close_day(&mut self, day_ms: i64) -> Vec<(String, Finding)> {
        let mut judged: BTreeMap<String, Vec<Judged>> = BTreeMap::new();
        for (one, pairs) in &mut self.pairs {
            for (two, pair) in pairs {
                if let Some(found) = pair.close_day(&self.settings) {
                    judged.entry(one.clone()).or_default().push(found);
                    let turned = Judged { beyond: -found.beyond, ..found };
                    judged.entry(two.clone()).or_default().push(turned);
                }
            }
        }
        let mut found = Vec::new();
        for (probe, judged) in judged {
            if judged.len() < self.settings.neighbours.max(1) {
                continue;
            }
            let off: Vec<f64> = judged.iter().filter(|judged| judged.is_off).map(|judged| judged.beyond).collect();
            let same_side = off.iter().filter(|beyond| **beyond > 0.0).count();
            // Off from most of them, and in one direction.
            let is_off = same_side.max(off.len() - same_side) * 2 > judged.len();
            let beyond = median(judged.iter().map(|judged| judged.beyond).collect());
            match (self.drifts.get_mut(&probe), is_off) {
                (None, true) => {
                    self.drifts.insert(probe.clone(), Drift { since_ms: day_ms, beyond, days: 1 });
                    found.push((probe, finding(day_ms, None, beyond, 1)));
                }
                (Some(drift), true) => drift.days = drift.days.saturating_add(1),
                (Some(drift), false) => {
                    let ended = finding(drift.since_ms, Some(day_ms), drift.beyond, drift.days);
                    self.drifts.remove(&probe);
                    found.push((probe, ended));
                }
                (None, false) => {}
            }
        }
        found
    }
}

impl Pair {
    /// `None` where a day, or the days before it, say too little.
    fn close_day(&mut self, settings: &NeighbourSettings) -> Option<Judged> {
        let today = std::mem::take(&mut self.today);
        if today.len() < LEAST_HOURS {
            return None;
        }
        let difference = median(today);
        let before = self.days.len() - self.days.len() / 4;
        let mut usual: Vec<f64> = self.days.iter().take(before).copied().collect();
        usual.sort_unstable_by(f64::total_cmp);
        let judged = (usual.len() >= LEAST_DAYS).then(|| {
            let beyond = difference - quantile(&usual, 0.5);
            let range = quantile(&usual, 0.75) - quantile(&usual, 0.25);
            let limit = (settings.ranges * range).max(settings.least);
            Judged { beyond, is_off: beyond.abs() > limit && beyond.abs() > 0.0 }
        });
        if judged.is_none_or(|judged| !judged.is_off) {
            self.days.push_back(difference);
            while self.days.len() > settings.days.max(2 * LEAST_DAYS as u32) as usize {
                self.days.pop_front();
            }
        }
        judged
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    if values.is_empty() { 0.0 } else { quantile(&values, 0.5) }
}

const fn finding(since_ms: i64, until_ms: Option<i64>, beyond: f64, days: u32) -> Finding {
    Finding { kind: FindingKind::Apart, since_ms, until_ms, value: Some(beyond), readings: days }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hourly readings of pens in one bay, a tenth apart, with noise; `change` is added to those of pen 2.
    fn run(days: i64, pens: usize, change: impl Fn(i64) -> f64) -> Vec<(String, Finding)> {
        let mut checks = NeighbourChecks::new(NeighbourSettings::default());
        let mut found = Vec::new();
        for hour in 0..days * 24 {
            for pen in 0..pens {
                let noise = ((hour * 7 + pen as i64 * 13) as f64 * 0.7).sin() * 0.05;
                let water = 12.0 + (hour as f64 * 0.26).sin() + hour as f64 * 0.002;
                let off = if pen == 2 { change(hour) } else { 0.0 };
                let reading = water + pen as f64 * 0.1 + noise + off;
                found.extend(checks.push(hour * HOUR_MS + pen as i64, &format!("pen-{pen}"), reading));
                let text = serde_json::to_string(&checks).unwrap();
                checks = serde_json::from_str(&text).unwrap();
            }
        }
        found
    }

    #[test]
    fn a_probe_that_is_fouled_leaves_its_neighbours_and_a_cleaned_one_comes_back() {
        let found = run(60, 4, |hour| if (40 * 24..50 * 24).contains(&hour) { -0.8 } else { 0.0 });
        let told: Vec<_> =
            found.iter().map(|(pen, found)| (pen.as_str(), found.since_ms / DAY_MS, found.until_ms)).collect();
        assert_eq!(told, [("pen-2", 40, None), ("pen-2", 40, Some(50 * DAY_MS))]);
        assert!((found[0].1.value.unwrap() + 0.8).abs() < 0.1 && found[1].1.readings == 10, "{found:?}");
    }

    #[test]
    fn a_slow_drift_is_found_and_weather_is_none() {
        let found = run(90, 4, |hour| if hour < 45 * 24 { 0.0 } else { (hour - 45 * 24) as f64 * 0.002 });
        assert_eq!((found.len(), found[0].0.as_str()), (1, "pen-2"));
        assert!((46..70).contains(&(found[0].1.since_ms / DAY_MS)), "{found:?}");
        assert_eq!(run(90, 4, |_| 0.0), []);
    }

    #[test]
    fn with_one_neighbour_nobody_knows_who_is_right() {
        assert_eq!(run(60, 2, |_| 0.0), []);
        let found = run(60, 3, |hour| if hour > 40 * 24 { 3.0 } else { 0.0 });
        assert_eq!(found[0].0, "pen-2");
    }
}
