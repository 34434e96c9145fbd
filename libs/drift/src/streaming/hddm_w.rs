use fishy_core::Result;
use serde::{Deserialize, Serialize};

use super::hddm_a::check_levels;
use super::{Signal, check_share};

/// Settings of [`HddmW`]; the default is river's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HddmWSettings {
    /// Significance of a drift.
    pub drift: f64,
    /// Significance of a warning.
    pub warning: f64,
    /// Weight of the newest value, 0 to 1.
    pub lambda: f64,
    /// Whether a falling mean counts too.
    pub is_two_sided: bool,
}

impl Default for HddmWSettings {
    fn default() -> Self {
        Self { drift: 0.001, warning: 0.005, lambda: 0.05, is_two_sided: false }
    }
}

/// HDDM-W (Frías-Blanco et al. 2015): McDiarmid's bound on exponentially weighted means before and since the best cut. For
/// values between 0 and 1, such as errors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HddmW {
    settings: HddmWSettings,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
struct State {
    all: Weighted,
    rise: Cut,
    fall: Cut,
}

/// Means before and since a cut, and what a value must beat to become the new cut.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
struct Cut {
    level: Option<f64>,
    before: Weighted,
    since: Weighted,
}

/// An exponentially weighted mean with the sum of its squared weights.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
struct Weighted {
    /// `None` before the first value.
    mean: Option<f64>,
    squared_weights: f64,
}

impl Weighted {
    fn push(&mut self, value: f64, lambda: f64) {
        let (mean, squared) =
            self.mean.map_or((value, 1.0), |mean| (mean + lambda * (value - mean), self.squared_weights));
        self.mean = Some(mean);
        self.squared_weights = lambda * lambda + (1.0 - lambda).powi(2) * squared;
    }
}

impl HddmW {
    /// A detector before its first value.
    pub fn new(settings: HddmWSettings) -> Result<Self> {
        check_levels("HDDM-W", settings.drift, settings.warning)?;
        check_share("lambda of HDDM-W", settings.lambda)?;
        Ok(Self { settings, state: State::default() })
    }

    /// Takes the next value, 0 to 1; what lies outside is held at the nearer end.
    pub fn push(&mut self, value: f64) -> Signal {
        if !value.is_finite() {
            return Signal::Stable;
        }
        let HddmWSettings { drift, warning, lambda, is_two_sided } = self.settings;
        let state = &mut self.state;
        let value = value.clamp(0.0, 1.0);
        state.all.push(value, lambda);
        let mean = state.all.mean.unwrap_or(value);
        let margin = bound(state.all.squared_weights, drift);
        state.rise.push(value, lambda, &state.all, mean + margin, |level, last| level < last);
        state.fall.push(value, lambda, &state.all, mean - margin, |level, last| level > last);
        let has_changed = |confidence: f64| {
            state.rise.difference().is_some_and(|(gap, weights)| gap > bound(weights, confidence))
                || (is_two_sided
                    && state.fall.difference().is_some_and(|(gap, weights)| -gap > bound(weights, confidence)))
        };
        if has_changed(drift) {
            self.state = State::default();
            Signal::Drift
        } else if has_changed(warning) {
            Signal::Warning
        } else {
            Signal::Stable
        }
    }
}

impl Cut {
    fn push(&mut self, value: f64, lambda: f64, all: &Weighted, level: f64, is_better: fn(f64, f64) -> bool) {
        if self.level.is_none_or(|last| is_better(level, last)) {
            *self = Self { level: Some(level), before: *all, since: Weighted::default() };
        } else {
            self.since.push(value, lambda);
        }
    }

    /// How far the mean has risen since the cut, and the squared weights of both sides.
    fn difference(&self) -> Option<(f64, f64)> {
        Some((self.since.mean? - self.before.mean?, self.since.squared_weights + self.before.squared_weights))
    }
}

fn bound(squared_weights: f64, confidence: f64) -> f64 {
    (squared_weights * (1.0 / confidence).ln() / 2.0).sqrt()
}
