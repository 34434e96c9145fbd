use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};

use crate::reading::Sensor;

/// What a sensor does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// It repeats its last reading.
    Stuck,
    /// Single readings are off by `size`, up or down.
    Spike,
    /// It drifts away, by `size` at the end of the span.
    Drift,
    /// It gives nothing.
    Gap,
    /// It has noise of standard deviation `size` on top of its own.
    Noise,
}

/// A fault of one sensor of one pen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// What the sensor does.
    pub kind: FaultKind,
    /// Which pen; the name must be one of the scenario's.
    pub pen: String,
    /// Which sensor.
    pub sensor: Sensor,
    /// First day, counted from the start of the scenario: 0 is the start, 1.5 is noon of the second day after it.
    pub from_day: f64,
    /// End of the span, in days from the start.
    pub until_day: f64,
    /// How large, in the unit of the sensor. By default something an operator would see.
    #[serde(default)]
    pub size: Option<f64>,
    /// Share of the readings that are spikes, 0 to 1. Default 0.05; for other kinds it means nothing.
    #[serde(default)]
    pub share: Option<f64>,
}

impl Fault {
    /// Whether it is in force at a time, in days from the start.
    pub fn covers(&self, day: f64) -> bool {
        (self.from_day..self.until_day).contains(&day)
    }
}

/// A fault at work: with its own randomness, so that it changes nothing else, and with the value it got stuck at.
#[derive(Debug, Clone)]
pub(crate) struct ActiveFault {
    pub(crate) fault: Fault,
    rng: ChaCha8Rng,
    stuck_at: Option<f64>,
}

impl ActiveFault {
    pub(crate) const fn new(fault: Fault, rng: ChaCha8Rng) -> Self {
        Self { fault, rng, stuck_at: None }
    }

    /// What becomes of a reading, and whether the fault shows in it. `last` is what the sensor said before.
    pub(crate) fn apply(&mut self, day: f64, reading: Option<f64>, last: Option<f64>) -> (Option<f64>, bool) {
        if !self.fault.covers(day) {
            return (reading, false);
        }
        let size = self.fault.size.unwrap_or_else(|| self.fault.sensor.usual_fault());
        match self.fault.kind {
            FaultKind::Gap => (None, true),
            FaultKind::Stuck => {
                self.stuck_at = self.stuck_at.or(last).or(reading);
                (reading.and(self.stuck_at), true)
            }
            FaultKind::Spike => {
                let (chance, is_up): (f64, bool) = (self.rng.random(), self.rng.random());
                let is_spike = chance < self.fault.share.unwrap_or(0.05);
                let offset = if is_up { size } else { -size };
                (reading.map(|value| if is_spike { value + offset } else { value }), is_spike)
            }
            FaultKind::Drift => {
                let share = (day - self.fault.from_day) / (self.fault.until_day - self.fault.from_day);
                (reading.map(|value| value + size * share), true)
            }
            FaultKind::Noise => {
                let draw: f64 = StandardNormal.sample(&mut self.rng);
                (reading.map(|value| value + size * draw), true)
            }
        }
    }
}
