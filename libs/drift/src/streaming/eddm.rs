use fishy_core::{Error, Result};
use serde::{Deserialize, Serialize};

use super::{RunningMean, Signal, check_share};

/// Settings of [`Eddm`]; the default is river's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EddmSettings {
    /// Predictions, and then errors, before anything is said.
    pub warm_up: u32,
    /// Share of the greatest distance below which there is a warning.
    pub warning: f64,
    /// Share of the greatest distance below which there is a drift.
    pub drift: f64,
}

impl Default for EddmSettings {
    fn default() -> Self {
        Self { warm_up: 30, warning: 0.95, drift: 0.9 }
    }
}

/// Early drift detection method (Baena-García et al. 2006): the distance between errors, which shrinks when a classifier
/// gets worse slowly. Some false alarms are its nature.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Eddm {
    settings: EddmSettings,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
struct State {
    predictions: u64,
    last_error: u64,
    distance: RunningMean,
    squares: f64,
    /// Mean and two standard deviations of the distances, at their greatest.
    greatest: Option<f64>,
    is_warning: bool,
}

impl Eddm {
    /// A detector before its first prediction.
    pub fn new(settings: EddmSettings) -> Result<Self> {
        check_share("the warning level of EDDM", settings.warning)?;
        check_share("the drift level of EDDM", settings.drift)?;
        if settings.warning < settings.drift {
            return Err(Error::invalid(format!(
                "EDDM warns before it finds a drift: warning ({}) must not be below drift ({})",
                settings.warning, settings.drift
            )));
        }
        Ok(Self { settings, state: State::default() })
    }

    /// Takes whether the next prediction was wrong.
    pub fn push(&mut self, is_error: bool) -> Signal {
        let EddmSettings { warm_up, warning, drift } = self.settings;
        let state = &mut self.state;
        state.predictions += 1;
        if is_error {
            let distance = (state.predictions - state.last_error) as f64;
            let before = state.distance.mean;
            state.distance.push(distance);
            state.squares += (distance - before) * (distance - state.distance.mean);
            state.last_error = state.predictions;
            if state.predictions > u64::from(warm_up) {
                let errors = state.distance.count;
                let variance = if errors > 1.0 { state.squares / (errors - 1.0) } else { 0.0 };
                let level = state.distance.mean + 2.0 * variance.max(0.0).sqrt();
                match state.greatest.filter(|greatest| level <= *greatest) {
                    None => state.greatest = Some(level),
                    Some(greatest) if errors > f64::from(warm_up) => {
                        if level / greatest < drift {
                            self.state = State::default();
                            return Signal::Drift;
                        }
                        state.is_warning = level / greatest < warning;
                    }
                    Some(_) => {}
                }
            }
        }
        // Between errors nothing is learnt: a warning stays.
        if state.is_warning { Signal::Warning } else { Signal::Stable }
    }
}
