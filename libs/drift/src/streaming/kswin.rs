use std::collections::VecDeque;

use fishy_core::{Error, Result};
use serde::{Deserialize, Serialize};

use super::{Signal, check_share};
use crate::ks::{KsMethod, ks_two_sample};
use crate::random::SplitMix;

/// Smallest distance that is a drift, whatever the p-value: the limit of river.
const LEAST_DISTANCE: f64 = 0.1;
/// Most values that a window may hold.
const LARGEST_WINDOW: usize = 100_000;

/// Settings of [`Kswin`]; the default is river's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KswinSettings {
    /// Significance of each test. There is a test at every value, so false alarms are far more frequent than this.
    pub alpha: f64,
    /// Values kept.
    pub window: usize,
    /// Values compared: the newest ones, with as many drawn from the rest of the window.
    pub compared: usize,
}

impl Default for KswinSettings {
    fn default() -> Self {
        Self { alpha: 0.005, window: 100, compared: 30 }
    }
}

/// KSWIN (Raab, Heusinger and Schleif 2020): a Kolmogorov-Smirnov test of the newest values against a random draw from the
/// window before them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Kswin {
    settings: KswinSettings,
    random: SplitMix,
    window: VecDeque<f64>,
}

impl Kswin {
    /// A detector before its first value; the same seed gives the same draws.
    pub fn new(settings: KswinSettings, seed: u64) -> Result<Self> {
        check_share("alpha of KSWIN", settings.alpha)?;
        let KswinSettings { window, compared, .. } = settings;
        if compared == 0 || compared > window / 2 || window > LARGEST_WINDOW {
            return Err(Error::invalid(format!(
                "KSWIN compares at least one value and at most half of a window of up to {LARGEST_WINDOW}, and is to \
                 compare {compared} of {window}"
            )));
        }
        Ok(Self { settings, random: SplitMix::new(seed), window: VecDeque::with_capacity(window) })
    }

    /// Takes the next value.
    pub fn push(&mut self, value: f64) -> Signal {
        if !value.is_finite() {
            return Signal::Stable;
        }
        let KswinSettings { alpha, window, compared } = self.settings;
        while !self.window.is_empty() && self.window.len() >= window {
            self.window.pop_front();
        }
        self.window.push_back(value);
        if self.window.len() < window {
            return Signal::Stable;
        }
        let older = window.saturating_sub(compared);
        let newest: Vec<f64> = self.window.iter().skip(older).copied().collect();
        let drawn: Vec<f64> = self.random.draw(older, compared).into_iter().map(|place| self.window[place]).collect();
        let is_drift = ks_two_sample(&drawn, &newest, KsMethod::Auto)
            .is_some_and(|test| test.p_value <= alpha && test.statistic > LEAST_DISTANCE);
        if is_drift {
            self.window.clear();
            return Signal::Drift;
        }
        Signal::Stable
    }
}
