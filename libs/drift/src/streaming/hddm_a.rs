use fishy_core::{Error, Result};
use serde::{Deserialize, Serialize};

use super::{RunningMean, Signal, check_share};

/// Settings of [`HddmA`]; the default is river's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HddmASettings {
    /// Significance of a drift.
    pub drift: f64,
    /// Significance of a warning.
    pub warning: f64,
    /// Whether a falling mean counts too.
    pub is_two_sided: bool,
}

impl Default for HddmASettings {
    fn default() -> Self {
        Self { drift: 0.001, warning: 0.005, is_two_sided: false }
    }
}

/// HDDM-A (Frías-Blanco et al. 2015): Hoeffding's bound on the difference of the mean of all values and of the best cut of
/// the past. For values between 0 and 1, such as errors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HddmA {
    settings: HddmASettings,
    all: RunningMean,
    low: RunningMean,
    high: RunningMean,
}

impl HddmA {
    /// A detector before its first value.
    pub fn new(settings: HddmASettings) -> Result<Self> {
        check_levels("HDDM-A", settings.drift, settings.warning)?;
        let none = RunningMean::default();
        Ok(Self { settings, all: none, low: none, high: none })
    }

    /// Takes the next value, 0 to 1; what lies outside is held at the nearer end.
    pub fn push(&mut self, value: f64) -> Signal {
        if !value.is_finite() {
            return Signal::Stable;
        }
        self.all.push(value.clamp(0.0, 1.0));
        let bound = |mean: &RunningMean| (1.0 / (2.0 * mean.count) * (1.0 / self.settings.drift).ln()).sqrt();
        if self.low.count < 1.0 || self.low.mean + bound(&self.low) >= self.all.mean + bound(&self.all) {
            self.low = self.all;
        }
        if self.high.count < 1.0 || self.high.mean - bound(&self.high) <= self.all.mean - bound(&self.all) {
            self.high = self.all;
        }
        let HddmASettings { drift, warning, is_two_sided } = self.settings;
        let has_changed = |confidence: f64| {
            differs(&self.low, &self.all, self.all.mean - self.low.mean, confidence)
                || (is_two_sided && differs(&self.high, &self.all, self.high.mean - self.all.mean, confidence))
        };
        if has_changed(drift) {
            let none = RunningMean::default();
            (self.all, self.low, self.high) = (none, none, none);
            Signal::Drift
        } else if has_changed(warning) {
            Signal::Warning
        } else {
            Signal::Stable
        }
    }
}

fn differs(cut: &RunningMean, all: &RunningMean, difference: f64, confidence: f64) -> bool {
    let since = all.count - cut.count;
    if since <= 0.0 {
        return false;
    }
    let m = since / cut.count * (1.0 / all.count);
    difference >= (m / 2.0 * (2.0 / confidence).ln()).sqrt()
}

/// Refuses significances outside 0 to 1, or a warning that is rarer than a drift.
pub(super) fn check_levels(name: &str, drift: f64, warning: f64) -> Result<()> {
    check_share(&format!("the drift significance of {name}"), drift)?;
    check_share(&format!("the warning significance of {name}"), warning)?;
    if warning < drift {
        return Err(Error::invalid(format!(
            "{name} warns before it finds a drift: warning ({warning}) must not be below drift ({drift})"
        )));
    }
    Ok(())
}
