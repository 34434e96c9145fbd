//! What all pens of a farm share: sun, clouds, wind, tide, rain, and the water around the pens.

use std::f64::consts::TAU;

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Exp1, StandardNormal};

use crate::saturation::oxygen_saturation_mgl;
use crate::scenario::Climate;

const HOURS_PER_DAY: f64 = 24.0;
const DAYS_PER_YEAR: f64 = 365.2425;

/// Tidal constituents: period in hours, and share of the M2 amplitude (M2, S2, K1, O1).
const TIDES: [(f64, f64); 4] = [(12.420_6, 1.0), (12.0, 0.35), (23.934_5, 0.12), (25.819_3, 0.08)];

/// Net oxygen that algae of amount 1 make at full light and 12 °C, mg/L in an hour.
const PHOTOSYNTHESIS_MGL_H: f64 = 0.28;
/// What the water itself uses at 12 °C, and what algae of amount 1 use, mg/L in an hour.
const WATER_RESPIRATION_MGL_H: f64 = 0.02;
const ALGAE_RESPIRATION_MGL_H: f64 = 0.07;
/// Exchange with the open sea, which is saturated, per hour.
const SEA_EXCHANGE_H: f64 = 0.03;

/// State of sea and sky at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sea {
    pub(crate) temperature_c: f64,
    pub(crate) salinity_psu: f64,
    pub(crate) ph: f64,
    pub(crate) turbidity_ntu: f64,
    /// Water level above mean sea level in m.
    pub(crate) tide_m: f64,
    /// Tidal current as a share of a usual maximum; 0 at slack water.
    pub(crate) current: f64,
    /// Oxygen around the pens, mg/L.
    pub(crate) oxygen_mgl: f64,
    pub(crate) saturation_mgl: f64,
    /// Exchange of oxygen with the air, per hour.
    pub(crate) reaeration_h: f64,
    /// Photosynthesis less respiration of water and algae, mg/L in an hour.
    pub(crate) metabolism_mgl_h: f64,
    /// Hour of the day by the sun, 0 to 24.
    pub(crate) solar_hour: f64,
}

/// A first-order autoregressive process with mean 0 and standard deviation 1, whatever the step.
#[derive(Debug, Clone, Copy)]
struct Wander {
    value: f64,
    memory_h: f64,
}

impl Wander {
    fn new(memory_h: f64, rng: &mut ChaCha8Rng) -> Self {
        Self { value: StandardNormal.sample(rng), memory_h }
    }

    fn step(&mut self, hours: f64, rng: &mut ChaCha8Rng) -> f64 {
        let kept = (-hours / self.memory_h).exp();
        let draw: f64 = StandardNormal.sample(rng);
        self.value = kept * self.value + (1.0 - kept * kept).sqrt() * draw;
        self.value
    }
}

/// Moves sea and sky through time.
#[derive(Debug, Clone)]
pub(crate) struct Weather {
    climate: Climate,
    rng: ChaCha8Rng,
    warmth: Wander,
    clouds: Wander,
    wind: Wander,
    haze: Wander,
    growth: Wander,
    phases: [f64; 4],
    /// Fresh water of the last rains: PSU missing.
    freshet_psu: f64,
    /// What metabolism did to the water lately: mg/L of oxygen made, which pH follows.
    made_mgl: f64,
    oxygen_mgl: Option<f64>,
}

impl Weather {
    pub(crate) fn new(climate: Climate, mut rng: ChaCha8Rng) -> Self {
        let warmth = Wander::new(5.0 * HOURS_PER_DAY, &mut rng);
        let clouds = Wander::new(18.0, &mut rng);
        let wind = Wander::new(14.0, &mut rng);
        let haze = Wander::new(8.0, &mut rng);
        let growth = Wander::new(4.0 * HOURS_PER_DAY, &mut rng);
        let phases = std::array::from_fn(|_| rng.random::<f64>() * TAU);
        Self {
            climate,
            rng,
            warmth,
            clouds,
            wind,
            haze,
            growth,
            phases,
            freshet_psu: 0.0,
            made_mgl: 0.0,
            oxygen_mgl: None,
        }
    }

    /// Moves on by `hours` to the moment `time_ms`, when the algae are `algae_factor` times what they would be.
    pub(crate) fn step(&mut self, time_ms: i64, hours: f64, algae_factor: f64) -> Sea {
        let climate = &self.climate;
        let rng = &mut self.rng;
        let days = time_ms as f64 / 86_400_000.0;
        let year_day = days.rem_euclid(DAYS_PER_YEAR);
        // The southern year is the northern one half a year later.
        let season_day = if climate.latitude < 0.0 { year_day + DAYS_PER_YEAR / 2.0 } else { year_day };
        let solar_hour = (days * HOURS_PER_DAY + climate.longitude / 15.0).rem_euclid(HOURS_PER_DAY);

        let warmth = self.warmth.step(hours, rng);
        let cloud_cover = 1.0 / (1.0 + (-1.5 * self.clouds.step(hours, rng)).exp());
        let wind = (0.6 * self.wind.step(hours, rng)).exp();
        let haze = self.haze.step(hours, rng);
        let growth = (0.25 * self.growth.step(hours, rng)).exp();

        let sun = sun_height(climate.latitude, season_day, solar_hour).max(0.0);
        let light = sun * (1.0 - 0.75 * cloud_cover);

        // Water is warmest around 8 August and 15 h.
        let season = (TAU * (season_day - 219.0) / DAYS_PER_YEAR).cos();
        let day = (TAU * (solar_hour - 15.0) / HOURS_PER_DAY).cos() * (0.55 + 0.45 * season);
        let temperature_c = (climate.mean_temperature_c
            + climate.season_temperature_c * season
            + climate.day_temperature_c * day
            + climate.weather_temperature_c * warmth)
            .max(-1.5);

        // Sea level, and its speed as a share of a usual maximum.
        let (mut tide, mut speed) = (0.0, 0.0);
        for ((period_h, share), phase) in TIDES.into_iter().zip(self.phases) {
            let angle = TAU * (days * HOURS_PER_DAY / period_h).fract() + phase;
            tide += share * angle.sin();
            speed += share * angle.cos() * (TIDES[0].0 / period_h);
        }
        let current = (speed / 1.2).abs() * (climate.tide_m / 0.7).min(2.0).sqrt();

        self.freshet_psu *= (-hours / (4.0 * HOURS_PER_DAY)).exp();
        let chance: f64 = rng.random();
        let amount: f64 = Exp1.sample(rng);
        if chance < climate.rains_per_week * hours / (7.0 * HOURS_PER_DAY) {
            // Fresh water lies on top: the share of it that reaches the sensors.
            self.freshet_psu += amount * 0.05 * climate.salinity_psu;
        }
        self.freshet_psu = self.freshet_psu.min(0.6 * climate.salinity_psu);
        let salinity_psu = (climate.salinity_psu - self.freshet_psu + 0.5 * tide).max(0.0);

        let algae = algae_of_season(season_day) * growth * algae_factor;
        let turbidity_ntu = (0.8 + 0.8 * current + 0.7 * self.freshet_psu + 0.6 * algae) * (0.25 * haze).exp();

        let warm = 2.0_f64.powf((temperature_c - 12.0) / 10.0);
        let photosynthesis = PHOTOSYNTHESIS_MGL_H * algae * (light / 0.25).tanh() * warm;
        let respiration = (WATER_RESPIRATION_MGL_H + ALGAE_RESPIRATION_MGL_H * algae) * warm;
        let metabolism_mgl_h = photosynthesis - respiration;
        let saturation_mgl = oxygen_saturation_mgl(temperature_c, salinity_psu);
        let reaeration_h = 0.03 * wind;
        // The exact solution of the linear balance over the step.
        let rate = reaeration_h + SEA_EXCHANGE_H;
        let target = saturation_mgl + metabolism_mgl_h / rate;
        let kept = (-rate * hours).exp();
        let oxygen_mgl = (target + (self.oxygen_mgl.unwrap_or(saturation_mgl) - target) * kept).max(0.0);
        self.oxygen_mgl = Some(oxygen_mgl);

        // Carbon leaves the water as oxygen enters it, but goes back through the surface far more slowly.
        self.made_mgl = self.made_mgl * (-hours / 40.0).exp() + metabolism_mgl_h * hours;
        let ph = 8.02 + 0.12 * (self.made_mgl / 3.0).tanh() + 0.05 * (self.made_mgl / 20.0) - 0.012 * self.freshet_psu;

        Sea {
            temperature_c,
            salinity_psu,
            ph,
            turbidity_ntu,
            tide_m: tide * climate.tide_m,
            current,
            oxygen_mgl,
            saturation_mgl,
            reaeration_h,
            metabolism_mgl_h,
            solar_hour,
        }
    }
}

/// Sine of the sun's height over the horizon; negative at night.
fn sun_height(latitude: f64, season_day: f64, solar_hour: f64) -> f64 {
    let declination = (-23.44_f64).to_radians() * (TAU * (season_day + 10.0) / DAYS_PER_YEAR).cos();
    let latitude = latitude.abs().to_radians();
    let hour_angle = TAU * (solar_hour - 12.0) / HOURS_PER_DAY;
    latitude.sin() * declination.sin() + latitude.cos() * declination.cos() * hour_angle.cos()
}

/// Algae through the year, 1 being a good amount: a spring bloom around 20 April and a smaller one in September.
fn algae_of_season(season_day: f64) -> f64 {
    let bump = |centre: f64, width: f64| {
        let apart = (season_day - centre + DAYS_PER_YEAR / 2.0).rem_euclid(DAYS_PER_YEAR) - DAYS_PER_YEAR / 2.0;
        (-(apart / width).powi(2)).exp()
    };
    0.25 + 1.1 * bump(110.0, 22.0) + 0.45 * bump(180.0, 60.0) + 0.6 * bump(255.0, 20.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sun_stands_where_it_should() {
        // Midsummer noon: 90 - 60.4 + 23.44 degrees; the equinox: 90 - latitude.
        assert!((sun_height(60.4, 172.0, 12.0) - 53.04_f64.to_radians().sin()).abs() < 0.01);
        assert!((sun_height(40.0, 80.5, 12.0) - 50.0_f64.to_radians().sin()).abs() < 0.02);
        assert!(
            sun_height(60.4, 172.0, 0.0) < 0.0 && sun_height(70.0, 172.0, 0.0) > 0.0,
            "midnight sun in the far north"
        );
    }

    #[test]
    fn algae_do_not_jump_at_new_year() {
        assert!((algae_of_season(0.0) - algae_of_season(DAYS_PER_YEAR)).abs() < 1e-12);
        assert!(algae_of_season(110.0) > 3.0 * algae_of_season(10.0));
    }
}
