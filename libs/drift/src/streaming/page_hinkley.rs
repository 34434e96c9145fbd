use fishy_core::Result;
use serde::{Deserialize, Serialize};

use super::{RunningMean, Signal, check_positive, check_share};

/// Which change of the mean counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// A rise.
    Up,
    /// A fall.
    Down,
    /// Either.
    #[default]
    Both,
}

/// Settings of [`PageHinkley`]; the default is river's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PageHinkleySettings {
    /// Values before anything is said.
    pub min_readings: u32,
    /// Change of the mean that is tolerated, in the unit of the values.
    pub delta: f64,
    /// Cumulated deviation that is a drift, in the unit of the values.
    pub threshold: f64,
    /// Factor by which the past fades at each value, 0 to 1.
    pub alpha: f64,
    /// Which change counts.
    pub side: Side,
}

impl Default for PageHinkleySettings {
    fn default() -> Self {
        Self { min_readings: 30, delta: 0.005, threshold: 50.0, alpha: 1.0 - 0.0001, side: Side::Both }
    }
}

/// Page-Hinkley test (Page 1954): cumulated deviations from the running mean.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PageHinkley {
    settings: PageHinkleySettings,
    state: State,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct State {
    mean: RunningMean,
    rise: f64,
    fall: f64,
    /// `None` before the first value.
    least_rise: Option<f64>,
    /// Starts at -1, as in river.
    greatest_fall: Option<f64>,
}

impl PageHinkley {
    /// A detector before its first value.
    pub fn new(settings: PageHinkleySettings) -> Result<Self> {
        check_positive("the threshold of a Page-Hinkley test", settings.threshold)?;
        if settings.alpha < 1.0 {
            check_share("alpha of a Page-Hinkley test", settings.alpha)?;
        }
        Ok(Self { settings, state: State::default() })
    }

    /// Takes the next value.
    pub fn push(&mut self, value: f64) -> Signal {
        if !value.is_finite() {
            return Signal::Stable;
        }
        let PageHinkleySettings { min_readings, delta, threshold, alpha, side } = self.settings;
        let state = &mut self.state;
        state.mean.push(value);
        let deviation = value - state.mean.mean;
        state.rise = alpha * state.rise + deviation - delta;
        state.fall = alpha * state.fall + deviation + delta;
        let least = state.least_rise.map_or(state.rise, |least| least.min(state.rise));
        let greatest = state.greatest_fall.unwrap_or(-1.0).max(state.fall);
        (state.least_rise, state.greatest_fall) = (Some(least), Some(greatest));
        if state.mean.count < f64::from(min_readings) {
            return Signal::Stable;
        }
        let (has_risen, has_fallen) = (state.rise - least > threshold, greatest - state.fall > threshold);
        let is_drift = match side {
            Side::Up => has_risen,
            Side::Down => has_fallen,
            Side::Both => has_risen || has_fallen,
        };
        if is_drift {
            self.state = State::default();
            return Signal::Drift;
        }
        Signal::Stable
    }
}
