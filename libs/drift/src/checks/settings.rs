use serde::{Deserialize, Serialize};

/// What a sensor of water measures; gives the range of values that are physically possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quantity {
    /// Water temperature in °C.
    Temperature,
    /// Practical salinity (PSU).
    Salinity,
    /// Dissolved oxygen in mg/L.
    DissolvedOxygen,
    /// pH.
    Ph,
    /// Turbidity in NTU.
    Turbidity,
    /// Depth in m.
    Depth,
}

impl Quantity {
    /// The quantity that a column of this name holds, for the usual names (`temp`, `water_temperature`, `sal`, `do_mgl`,
    /// `pH`, `turb`, `depth`, …); `None` for others, oxygen in per cent among them.
    pub fn from_name(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        let words: Vec<&str> = name.split(|c: char| !c.is_ascii_alphanumeric()).collect();
        if words.iter().any(|word| matches!(*word, "pct" | "percent" | "sat" | "saturation" | "air")) {
            return None;
        }
        words.iter().find_map(|word| match *word {
            "temp" | "temperature" | "wtemp" => Some(Self::Temperature),
            "sal" | "salinity" => Some(Self::Salinity),
            "do" | "dox" | "oxygen" => Some(Self::DissolvedOxygen),
            "ph" => Some(Self::Ph),
            "turb" | "turbidity" => Some(Self::Turbidity),
            "depth" => Some(Self::Depth),
            _ => None,
        })
    }

    /// The least and the greatest value that a working sensor in natural water gives. Turbidity and depth may read a
    /// little below zero by calibration.
    pub const fn range(self) -> (f64, f64) {
        match self {
            Self::Temperature => (-3.0, 45.0),
            Self::Salinity => (0.0, 45.0),
            Self::DissolvedOxygen => (0.0, 25.0),
            Self::Ph => (2.0, 12.0),
            Self::Turbidity => (-5.0, 4000.0),
            Self::Depth => (-1.0, 500.0),
        }
    }
}

/// What [`SensorChecks`](crate::SensorChecks) takes for a fault.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CheckSettings {
    /// Time between two readings in ms. By default the median of the last nine steps.
    pub interval_ms: Option<i64>,
    /// Readings missing in a row that make a finding. Default 3.
    pub missing_readings: u32,
    /// The least possible value. By default there is none.
    pub min: Option<f64>,
    /// The greatest possible value. By default there is none.
    pub max: Option<f64>,
    /// The check for a stuck probe.
    pub stuck: StuckSettings,
    /// The check for spikes.
    pub spike: SpikeSettings,
    /// The check for a probe that has gone quiet.
    pub quiet: QuietSettings,
    /// The check for jumps of the clock.
    pub clock: ClockSettings,
    /// Whether each reading is given a [`Suspicion`](crate::Suspicion); it costs some microseconds. Default false.
    pub suspicion: bool,
}

impl Default for CheckSettings {
    fn default() -> Self {
        Self {
            interval_ms: None,
            missing_readings: 3,
            min: None,
            max: None,
            stuck: StuckSettings::default(),
            spike: SpikeSettings::default(),
            quiet: QuietSettings::default(),
            clock: ClockSettings::default(),
            suspicion: false,
        }
    }
}

impl CheckSettings {
    /// Defaults with the physical range of a quantity.
    pub fn for_quantity(quantity: Quantity) -> Self {
        let (min, max) = quantity.range();
        Self { min: Some(min), max: Some(max), ..Self::default() }
    }

    /// Defaults for a column of this name: with a range if the name tells the quantity.
    pub fn for_name(name: &str) -> Self {
        Quantity::from_name(name).map_or_else(Self::default, Self::for_quantity)
    }

    /// How far outside the range a value lies: 0 within, 2 at the edge, 3 one width further.
    pub(super) fn beyond(&self, value: f64) -> f64 {
        let over = match (self.min, self.max) {
            (Some(min), _) if value < min => min - value,
            (_, Some(max)) if value > max => value - max,
            _ => return 0.0,
        };
        let width = self.min.zip(self.max).map_or(0.0, |(min, max)| max - min);
        2.0 + if width > 0.0 { over / width } else { 0.0 }
    }

    pub(super) fn allows(&self, value: f64) -> bool {
        self.min.is_none_or(|min| value >= min) && self.max.is_none_or(|max| value <= max)
    }
}

/// When a probe is stuck: after at least `readings` readings over at least `hours`, and after `times_longest` times the
/// longest rest that this sensor has lately come out of. The last keeps coarse sensors quiet: a pH that reads in steps of
/// 0.1 rests for a day when the water is calm.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StuckSettings {
    /// Whether the check runs. Default true.
    pub enabled: bool,
    /// Least number of equal readings. Default 24.
    pub readings: u32,
    /// Least time in hours that they last. Default 12.
    pub hours: f64,
    /// How far a reading may lie from the first and still count as equal, in the unit of the sensor. Default 0.
    pub tolerance: f64,
    /// How many times the longest natural rest. Default 3.
    pub times_longest: f64,
    /// Days after which a natural rest has lost two thirds of its weight. Default 60.
    pub memory_days: f64,
}

impl Default for StuckSettings {
    fn default() -> Self {
        Self { enabled: true, readings: 24, hours: 12.0, tolerance: 0.0, times_longest: 3.0, memory_days: 60.0 }
    }
}

/// When readings are a spike: further than `scales` usual deviations from the median of the `window` readings before,
/// with a reading near that median again after at most `longest` of them. What does not come back is a change of the
/// water, not a spike. The usual deviation is the larger of 1.4826 median and 1.2533 mean absolute deviations of the
/// last `history` readings from their own rolling medians.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SpikeSettings {
    /// Whether the check runs. Default true.
    pub enabled: bool,
    /// Usual deviations that are too far. Default 10.
    pub scales: f64,
    /// Readings of the rolling median. Default 5.
    pub window: usize,
    /// Readings of which the usual deviation is taken. Default 168, a week of hours.
    pub history: usize,
    /// Readings before which nothing is reported. Default 24.
    pub warm_up: usize,
    /// Most readings that a spike has. Default 3.
    pub longest: usize,
}

impl Default for SpikeSettings {
    fn default() -> Self {
        Self { enabled: true, scales: 10.0, window: 5, history: 168, warm_up: 24, longest: 3 }
    }
}

/// When a probe has gone quiet: the range of a day's readings is below `share` of the calmest of the last `days` days. The
/// electronics still jitter, and the water does not come through.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QuietSettings {
    /// Whether the check runs. Default false.
    pub enabled: bool,
    /// Share of the calmest day. Default 0.2.
    pub share: f64,
    /// Days that are looked back on; a third of them must be known. Default 30.
    pub days: u32,
    /// Readings of a day that can be judged. Default 12.
    pub readings: u32,
}

impl Default for QuietSettings {
    fn default() -> Self {
        Self { enabled: false, share: 0.2, days: 30, readings: 12 }
    }
}

/// When a clock has jumped: the readings of a logger that reads regularly come at other minutes from some time on, or are
/// closer together than it reads.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClockSettings {
    /// Whether the check runs. Default false.
    pub enabled: bool,
    /// Share of the interval by which steps may differ. Default 0.1.
    pub tolerance: f64,
    /// Readings that must agree in it. Default 4.
    pub readings: u32,
}

impl Default for ClockSettings {
    fn default() -> Self {
        Self { enabled: false, tolerance: 0.1, readings: 4 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_columns_tell_the_quantity() {
        for (name, quantity) in [
            ("temp", Some(Quantity::Temperature)),
            ("Water_Temperature", Some(Quantity::Temperature)),
            ("do_mgl", Some(Quantity::DissolvedOxygen)),
            ("pH", Some(Quantity::Ph)),
            ("do_pct", None),
            ("air_temp", None),
            ("template", None),
        ] {
            assert_eq!(Quantity::from_name(name), quantity, "{name}");
        }
    }

    #[test]
    fn settings_may_be_given_in_part_but_not_misspelt() {
        let settings: CheckSettings = serde_json::from_str(r#"{"max": 30.0, "stuck": {"readings": 6}}"#).unwrap();
        assert_eq!((settings.max, settings.stuck.readings), (Some(30.0), 6));
        assert!((settings.stuck.hours - 12.0).abs() < f64::EPSILON);
        assert!(serde_json::from_str::<CheckSettings>(r#"{"stuck": {"reading": 6}}"#).is_err());
    }
}
