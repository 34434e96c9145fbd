mod presets;

use fishy_core::{Error, Result, check_name, time};
use serde::{Deserialize, Serialize};

use crate::fault::Fault;

/// What is simulated: when, where, and what goes wrong. Every field but `name` has a default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Its name.
    pub name: String,
    /// Start, UTC: a date or RFC 3339. Default `2024-01-01`.
    #[serde(default = "Scenario::default_start")]
    pub start: String,
    /// How many days. Default 60.
    #[serde(default = "Scenario::default_days")]
    pub days: u32,
    /// Minutes between two readings of a pen, 1 to 1440. Default 60.
    #[serde(default = "Scenario::default_interval_minutes")]
    pub interval_minutes: u32,
    /// Name of the farm. Default `farm-1`.
    #[serde(default = "Scenario::default_farm")]
    pub farm: String,
    /// Share of single readings that get lost, 0 to 1. Default 0.001.
    #[serde(default = "Scenario::default_lost_share")]
    pub lost_share: f64,
    /// Where the farm lies. The default is the west coast of Norway.
    #[serde(default)]
    pub climate: Climate,
    /// The pens. By default `pen-1` and `pen-2`.
    #[serde(default = "Scenario::default_pens")]
    pub pens: Vec<Pen>,
    /// What sensors do wrong. By default nothing.
    #[serde(default)]
    pub faults: Vec<Fault>,
    /// What changes in the water itself. By default nothing.
    #[serde(default)]
    pub changes: Vec<Change>,
}

/// Sea and sky of the farm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Climate {
    /// Degrees north; negative is south, and turns the seasons round. Default 60.4.
    pub latitude: f64,
    /// Degrees east. Default 5.3.
    pub longitude: f64,
    /// Mean water temperature of the year in °C. Default 11.
    pub mean_temperature_c: f64,
    /// Half the difference between the warmest and the coldest time of the year in °C. Default 6.
    pub season_temperature_c: f64,
    /// Half the difference between the warmest and the coldest time of a summer's day in °C. Default 0.5.
    pub day_temperature_c: f64,
    /// Standard deviation of the weather's part in water temperature, °C. Default 0.8.
    pub weather_temperature_c: f64,
    /// Salinity in dry weather (PSU). Default 32.
    pub salinity_psu: f64,
    /// Rain events in a week. Default 1.2.
    pub rains_per_week: f64,
    /// Half the mean tidal range in m. Default 0.7.
    pub tide_m: f64,
}

impl Default for Climate {
    fn default() -> Self {
        Self {
            latitude: 60.4,
            longitude: 5.3,
            mean_temperature_c: 11.0,
            season_temperature_c: 6.0,
            day_temperature_c: 0.5,
            weather_temperature_c: 0.8,
            salinity_psu: 32.0,
            rains_per_week: 1.2,
            tide_m: 0.7,
        }
    }
}

/// A pen with its fish.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pen {
    /// Its name, unique in the farm.
    pub name: String,
    /// Fish at the start, kg in a m³. Default 8.
    #[serde(default = "Pen::default_stocking_kg_m3")]
    pub stocking_kg_m3: f64,
    /// Growth of the biomass in a day, as a share. Default 0.
    #[serde(default)]
    pub growth_per_day: f64,
    /// Depth of the water at mean sea level in m. Default 12.
    #[serde(default = "Pen::default_depth_m")]
    pub depth_m: f64,
}

impl Pen {
    /// A pen with defaults.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            stocking_kg_m3: Self::default_stocking_kg_m3(),
            growth_per_day: 0.0,
            depth_m: Self::default_depth_m(),
        }
    }

    const fn default_stocking_kg_m3() -> f64 {
        8.0
    }

    const fn default_depth_m() -> f64 {
        12.0
    }
}

/// A change of the water itself: what a sensor sees stays right, what a model learnt from it does not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// Its name, which readings carry.
    pub name: String,
    /// First day, counted from the start of the scenario.
    pub from_day: f64,
    /// End in days from the start. By default it stays.
    #[serde(default)]
    pub until_day: Option<f64>,
    /// Days until it has its full effect. Default 0.
    #[serde(default)]
    pub ramp_days: f64,
    /// The pen whose stocking changes. By default all.
    #[serde(default)]
    pub pen: Option<String>,
    /// How many times the fish. Default 1.
    #[serde(default = "Change::one")]
    pub stocking_factor: f64,
    /// How many times the algae, in all the water of the farm. Default 1.
    #[serde(default = "Change::one")]
    pub algae_factor: f64,
}

impl Change {
    const fn one() -> f64 {
        1.0
    }

    /// How much of it is in force at a time in days from the start, 0 to 1.
    pub(crate) fn strength(&self, day: f64) -> f64 {
        if day < self.from_day || self.until_day.is_some_and(|until_day| day >= until_day) {
            0.0
        } else if self.ramp_days > 0.0 {
            ((day - self.from_day) / self.ramp_days).min(1.0)
        } else {
            1.0
        }
    }

    /// Whether it is in force at a time in days from the start.
    pub fn covers(&self, day: f64) -> bool {
        day >= self.from_day && self.until_day.is_none_or(|until_day| day < until_day)
    }
}

impl Scenario {
    /// Reads a scenario from TOML and checks it.
    pub fn from_toml(text: &str) -> Result<Self> {
        let scenario: Self =
            toml::from_str(text).map_err(|error| Error::invalid(format!("the scenario cannot be read: {error}")))?;
        scenario.check()?;
        Ok(scenario)
    }

    /// The built-in scenario of this name; [`PRESETS`](Self::PRESETS) lists them.
    pub fn preset(name: &str) -> Result<Self> {
        presets::find(name).ok_or_else(|| {
            Error::not_found(format!("there is no scenario {name:?}; there are {}", Self::PRESETS.join(", ")))
        })
    }

    /// Names of the built-in scenarios.
    pub const PRESETS: [&'static str; 5] = presets::NAMES;

    /// A scenario with defaults.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            start: Self::default_start(),
            days: Self::default_days(),
            interval_minutes: Self::default_interval_minutes(),
            farm: Self::default_farm(),
            lost_share: Self::default_lost_share(),
            climate: Climate::default(),
            pens: Self::default_pens(),
            faults: Vec::new(),
            changes: Vec::new(),
        }
    }

    /// The start in milliseconds since the epoch.
    pub fn start_ms(&self) -> Result<i64> {
        time::parse_ms(&self.start).filter(|start_ms| (0..=MAX_START_MS).contains(start_ms)).ok_or_else(|| {
            Error::invalid(format!("start {:?} is not a date from 1970 to 2199, like 2024-01-01", self.start))
        })
    }

    /// Checks names, spans and sizes.
    pub fn check(&self) -> Result<()> {
        self.start_ms()?;
        check_name("farm", &self.farm)?;
        require((1..=36_600).contains(&self.days), "days", f64::from(self.days), "1 to 36600")?;
        let minutes = self.interval_minutes;
        require((1..=1440).contains(&minutes), "interval_minutes", f64::from(minutes), "1 to 1440")?;
        within("lost_share", self.lost_share, 0.0, 1.0)?;
        self.climate.check()?;
        if self.pens.is_empty() || self.pens.len() > 1000 {
            return Err(Error::invalid(format!("a scenario has 1 to 1000 pens, not {}", self.pens.len())));
        }
        for (place, pen) in self.pens.iter().enumerate() {
            check_name("pen", &pen.name)?;
            if self.pens[..place].iter().any(|other| other.name == pen.name) {
                return Err(Error::invalid(format!("pen {:?} is there twice", pen.name)));
            }
            within("stocking_kg_m3", pen.stocking_kg_m3, 0.0, 100.0)?;
            within("growth_per_day", pen.growth_per_day, -0.05, 0.05)?;
            within("depth_m", pen.depth_m, 1.0, 1000.0)?;
        }
        for fault in &self.faults {
            self.check_pen(&fault.pen)?;
            check_span(fault.from_day, fault.until_day)?;
            within("share", fault.share.unwrap_or(0.0), 0.0, 1.0)?;
            within("size", fault.size.unwrap_or(0.0), -1e6, 1e6)?;
        }
        for change in &self.changes {
            if let Some(pen) = &change.pen {
                self.check_pen(pen)?;
            }
            check_span(change.from_day, change.until_day.unwrap_or(f64::INFINITY))?;
            within("ramp_days", change.ramp_days, 0.0, 1e4)?;
            within("stocking_factor", change.stocking_factor, 0.0, 20.0)?;
            within("algae_factor", change.algae_factor, 0.0, 20.0)?;
        }
        Ok(())
    }

    fn check_pen(&self, name: &str) -> Result<()> {
        if self.pens.iter().any(|pen| pen.name == name) {
            return Ok(());
        }
        let names: Vec<&str> = self.pens.iter().map(|pen| pen.name.as_str()).collect();
        Err(Error::invalid(format!("there is no pen {name:?}; there are {}", names.join(", "))))
    }

    fn default_start() -> String {
        "2024-01-01".to_owned()
    }

    const fn default_days() -> u32 {
        60
    }

    const fn default_interval_minutes() -> u32 {
        60
    }

    fn default_farm() -> String {
        "farm-1".to_owned()
    }

    const fn default_lost_share() -> f64 {
        0.001
    }

    fn default_pens() -> Vec<Pen> {
        vec![Pen::new("pen-1"), Pen { stocking_kg_m3: 6.0, depth_m: 15.0, ..Pen::new("pen-2") }]
    }
}

/// The end of the year 2199.
const MAX_START_MS: i64 = 7_258_118_399_999;

impl Climate {
    fn check(&self) -> Result<()> {
        within("latitude", self.latitude, -80.0, 80.0)?;
        within("longitude", self.longitude, -180.0, 180.0)?;
        within("mean_temperature_c", self.mean_temperature_c, 0.0, 32.0)?;
        within("season_temperature_c", self.season_temperature_c, 0.0, 15.0)?;
        within("day_temperature_c", self.day_temperature_c, 0.0, 5.0)?;
        within("weather_temperature_c", self.weather_temperature_c, 0.0, 5.0)?;
        within("salinity_psu", self.salinity_psu, 0.0, 42.0)?;
        within("rains_per_week", self.rains_per_week, 0.0, 50.0)?;
        within("tide_m", self.tide_m, 0.0, 8.0)
    }
}

fn within(what: &str, value: f64, least: f64, greatest: f64) -> Result<()> {
    require((least..=greatest).contains(&value), what, value, &format!("{least} to {greatest}"))
}

fn require(is_fine: bool, what: &str, value: f64, right: &str) -> Result<()> {
    if is_fine { Ok(()) } else { Err(Error::invalid(format!("{what} is {value}; it may be {right}"))) }
}

fn check_span(from_day: f64, until_day: f64) -> Result<()> {
    if from_day >= 0.0 && from_day < until_day {
        Ok(())
    } else {
        Err(Error::invalid(format!(
            "from_day {from_day} and until_day {until_day} are no span: 0 <= from_day < until_day"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_sound_and_survive_toml() {
        for name in Scenario::PRESETS {
            let scenario = Scenario::preset(name).unwrap();
            scenario.check().unwrap();
            assert_eq!(scenario.name, name);
            let text = toml::to_string(&scenario).unwrap();
            assert_eq!(Scenario::from_toml(&text).unwrap(), scenario, "{text}");
        }
        assert!(Scenario::preset("calmer").unwrap_err().message().contains("stuck-probe"));
    }

    #[test]
    fn a_name_is_a_scenario() {
        assert_eq!(Scenario::from_toml("name = 'mine'").unwrap(), Scenario::new("mine"));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_the_reason() {
        for (text, reason) in [
            ("start = 'soon'", "soon"),
            ("interval_minutes = 0", "interval_minutes is 0"),
            ("dayz = 3", "dayz"),
            ("[[pens]]\nname = 'a'\n[[pens]]\nname = 'a'", "twice"),
            ("[[faults]]\nkind = 'stuck'\npen = 'pen-9'\nsensor = 'temp'\nfrom_day = 1\nuntil_day = 2", "pen-9"),
            ("[[faults]]\nkind = 'stuck'\npen = 'pen-1'\nsensor = 'temp'\nfrom_day = 2\nuntil_day = 2", "span"),
            ("[[faults]]\nkind = 'broken'\npen = 'pen-1'\nsensor = 'temp'\nfrom_day = 1\nuntil_day = 2", "broken"),
            ("[[changes]]\nname = 'x'\nfrom_day = 1\nalgae_factor = nan", "algae_factor"),
        ] {
            let error = Scenario::from_toml(&format!("name = 'x'\n{text}")).unwrap_err();
            assert!(error.message().contains(reason), "{text}: {error}");
        }
    }
}
