use serde::{Deserialize, Serialize};

use crate::fault::FaultKind;

/// A sensor of a pen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sensor {
    /// Water temperature in °C.
    Temp,
    /// Practical salinity (PSU).
    Sal,
    /// pH.
    Ph,
    /// Turbidity in NTU.
    Turb,
    /// Depth of the water in m.
    Depth,
    /// Dissolved oxygen in mg/L.
    DoMgl,
}

impl Sensor {
    /// All sensors of a pen, in the order of the columns of a [`Reading`].
    pub const ALL: [Self; 6] = [Self::Temp, Self::Sal, Self::Ph, Self::Turb, Self::Depth, Self::DoMgl];

    /// The column's name: `temp`, `sal`, `ph`, `turb`, `depth` or `do_mgl`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Temp => "temp",
            Self::Sal => "sal",
            Self::Ph => "ph",
            Self::Turb => "turb",
            Self::Depth => "depth",
            Self::DoMgl => "do_mgl",
        }
    }

    /// Standard deviation of a working sensor's noise, in its unit.
    pub(crate) const fn noise(self) -> f64 {
        match self {
            Self::Temp => 0.03,
            Self::Sal => 0.05,
            Self::Ph | Self::Depth => 0.01,
            Self::Turb => 0.1,
            Self::DoMgl => 0.08,
        }
    }

    /// Readings per unit: what the display resolves.
    pub(crate) const fn steps_per_unit(self) -> f64 {
        match self {
            Self::Turb => 10.0,
            Self::Depth => 1000.0,
            Self::Temp | Self::Sal | Self::Ph | Self::DoMgl => 100.0,
        }
    }

    /// Size of a fault that gives none: something an operator would see.
    pub(crate) const fn usual_fault(self) -> f64 {
        match self {
            Self::Temp => 5.0,
            Self::Sal => 8.0,
            Self::Ph => 1.0,
            Self::Turb => 80.0,
            Self::Depth => 4.0,
            Self::DoMgl => 3.0,
        }
    }
}

/// One row: what the sensors of a pen said at one time, and what was true.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// Event time, milliseconds since the epoch.
    pub time_ms: i64,
    /// The farm.
    pub farm: String,
    /// The pen.
    pub pen: String,
    /// Water temperature in °C; `None` where the reading was lost, as in all columns.
    pub temp: Option<f64>,
    /// Practical salinity (PSU).
    pub sal: Option<f64>,
    /// pH.
    pub ph: Option<f64>,
    /// Turbidity in NTU.
    pub turb: Option<f64>,
    /// Depth of the water in m.
    pub depth: Option<f64>,
    /// Dissolved oxygen in mg/L, as its probe says.
    pub do_mgl: Option<f64>,
    /// Dissolved oxygen in mg/L, as it was.
    pub true_do_mgl: f64,
    /// The faults this row was made under.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<FaultLabel>,
    /// The names of the changes of the water that were in force.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<String>,
}

/// A fault that one sensor had when a row was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FaultLabel {
    /// The faulty sensor.
    pub sensor: Sensor,
    /// What it did wrong. A `spike` is listed only where one is.
    pub kind: FaultKind,
}

impl Reading {
    /// What one sensor said.
    pub const fn value(&self, sensor: Sensor) -> Option<f64> {
        match sensor {
            Sensor::Temp => self.temp,
            Sensor::Sal => self.sal,
            Sensor::Ph => self.ph,
            Sensor::Turb => self.turb,
            Sensor::Depth => self.depth,
            Sensor::DoMgl => self.do_mgl,
        }
    }

    /// Whether a sensor had a fault.
    pub fn is_faulty(&self, sensor: Sensor) -> bool {
        self.faults.iter().any(|fault| fault.sensor == sensor)
    }
}
