use fishy_core::{Error, Result};
use serde::{Deserialize, Serialize};

use super::{RunningMean, Signal};

/// Settings of [`Ddm`]; the default is river's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DdmSettings {
    /// Predictions before anything is said.
    pub warm_up: u32,
    /// Standard deviations above the best error rate that are a warning.
    pub warning: f64,
    /// Standard deviations above the best error rate that are a drift.
    pub drift: f64,
}

impl Default for DdmSettings {
    fn default() -> Self {
        Self { warm_up: 30, warning: 2.0, drift: 3.0 }
    }
}

/// Drift detection method (Gama et al. 2004): the error rate of a classifier against the best it had.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ddm {
    settings: DdmSettings,
    rate: RunningMean,
    /// The best error rate and its standard deviation.
    best: Option<(f64, f64)>,
}

impl Ddm {
    /// A detector before its first prediction.
    pub fn new(settings: DdmSettings) -> Result<Self> {
        if settings.warning > settings.drift || settings.drift.is_nan() || settings.warning.is_nan() {
            return Err(Error::invalid(format!(
                "DDM warns before it finds a drift: warning ({}) must not be above drift ({})",
                settings.warning, settings.drift
            )));
        }
        Ok(Self { settings, rate: RunningMean::default(), best: None })
    }

    /// Takes whether the next prediction was wrong.
    pub fn push(&mut self, is_error: bool) -> Signal {
        self.rate.push(f64::from(u8::from(is_error)));
        let RunningMean { count, mean: rate } = self.rate;
        if count <= f64::from(self.settings.warm_up) {
            return Signal::Stable;
        }
        let deviation = (rate * (1.0 - rate) / count).max(0.0).sqrt();
        let level = rate + deviation;
        let best = self.best.filter(|(rate, deviation)| level > rate + deviation).unwrap_or((rate, deviation));
        self.best = Some(best);
        if level > best.0 + self.settings.drift * best.1 {
            (self.rate, self.best) = (RunningMean::default(), None);
            Signal::Drift
        } else if level > best.0 + self.settings.warning * best.1 {
            Signal::Warning
        } else {
            Signal::Stable
        }
    }
}
