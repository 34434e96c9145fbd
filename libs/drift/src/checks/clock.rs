use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::{ClockSettings, Finding, FindingKind};

/// Finds jumps of a logger's clock in the times of its readings.
///
/// A logger that reads every quarter of an hour goes on reading every quarter of an hour after its clock was set. Set by
/// something else than whole intervals, its readings come at other minutes from then on. Set back, the same times come
/// twice: sorted by time, the readings are closer together than the logger ever reads.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Clock {
    last_ms: Option<i64>,
    /// The latest regular steps.
    steps_ms: VecDeque<i64>,
    /// Readings that come too close after each other.
    close: Option<Close>,
    /// A step that is no whole number of intervals, and the regular steps since.
    shifted: Option<(i64, i64, u32)>,
}

/// Steps that are too short, with single regular ones in between: the same time may come twice, and then the next.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Close {
    since_ms: i64,
    until_ms: i64,
    steps: u32,
    regular: u32,
}

impl Clock {
    /// `time_ms` may repeat or lie before the last one.
    pub(super) fn push(&mut self, settings: &ClockSettings, time_ms: i64) -> Option<Finding> {
        if !settings.enabled {
            return None;
        }
        let Some(last_ms) = self.last_ms else {
            self.last_ms = Some(time_ms);
            return None;
        };
        let step_ms = time_ms.saturating_sub(last_ms);
        self.last_ms = Some(last_ms.max(time_ms));
        let Some(interval_ms) = self.interval_ms(settings) else {
            if step_ms > 0 {
                self.learn(settings, step_ms);
            }
            return None;
        };
        let intervals = step_ms as f64 / interval_ms as f64;
        if intervals < 1.0 - settings.tolerance {
            self.shifted = None;
            let first = Close { since_ms: time_ms.min(last_ms), until_ms: time_ms, steps: 0, regular: 0 };
            let close = self.close.get_or_insert(first);
            close.until_ms = close.until_ms.max(time_ms);
            close.steps = close.steps.saturating_add(1);
            close.regular = 0;
            return None;
        }
        if let Some(close) = &mut self.close {
            close.regular += 1;
            if close.regular > 1 {
                let close = *close;
                self.close = None;
                self.shifted = None;
                if close.steps >= settings.readings {
                    return Some(jump(close.since_ms, close.until_ms, close.steps));
                }
            }
            return None;
        }
        if (intervals - intervals.round()).abs() > settings.tolerance {
            // It may be a late reading: the next ones will tell.
            self.shifted = Some((last_ms, time_ms, 0));
            return None;
        }
        if let Some((_, since_ms, regular)) = &mut self.shifted {
            *regular += 1;
            if *regular >= settings.readings {
                let since_ms = *since_ms;
                self.shifted = None;
                return Some(jump(since_ms, since_ms, 1));
            }
        }
        if intervals < 1.0 + settings.tolerance {
            self.learn(settings, step_ms);
        }
        None
    }

    fn learn(&mut self, settings: &ClockSettings, step_ms: i64) {
        self.steps_ms.push_back(step_ms);
        while self.steps_ms.len() > 4 * settings.readings.max(2) as usize {
            self.steps_ms.pop_front();
        }
    }

    /// The interval of a logger that reads regularly; `None` of one that does not.
    fn interval_ms(&self, settings: &ClockSettings) -> Option<i64> {
        if self.steps_ms.len() < 2 * settings.readings.max(2) as usize {
            return None;
        }
        let mut steps: Vec<i64> = self.steps_ms.iter().copied().collect();
        steps.sort_unstable();
        let middle = steps[steps.len() / 2];
        let is_regular = |step: &&i64| (**step as f64 / middle as f64 - 1.0).abs() <= settings.tolerance;
        (steps.iter().filter(is_regular).count() * 10 >= steps.len() * 9).then_some(middle)
    }
}

const fn jump(since_ms: i64, until_ms: i64, readings: u32) -> Finding {
    Finding { kind: FindingKind::Clock, since_ms, until_ms: Some(until_ms), value: None, readings }
}
