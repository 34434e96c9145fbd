use std::collections::VecDeque;

use fishy_core::Result;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use crate::fault::ActiveFault;
use crate::pen::PenWater;
use crate::reading::{FaultLabel, Reading, Sensor};
use crate::scenario::{Pen, Scenario};
use crate::weather::{Sea, Weather};

const MINUTE_MS: i64 = 60_000;
const DAY_MS: f64 = 86_400_000.0;
/// Longest step of the balance of oxygen.
const STEP_MINUTES: u32 = 15;
/// The water runs this long before the first reading, so that the start has forgotten how it began.
const SETTLING_DAYS: i64 = 5;

/// Runs a scenario: an iterator over its readings, in the order of time and, at one time, of the pens.
#[derive(Debug, Clone)]
pub struct Simulation {
    scenario: Scenario,
    start_ms: i64,
    end_ms: i64,
    next_ms: i64,
    step_ms: i64,
    steps: u32,
    weather: Weather,
    pens: Vec<SensoredPen>,
    ready: VecDeque<Reading>,
}

/// A pen with its sensors.
#[derive(Debug, Clone)]
struct SensoredPen {
    pen: Pen,
    water: PenWater,
    rng: ChaCha8Rng,
    faults: Vec<ActiveFault>,
    /// What each sensor said last.
    last: [Option<f64>; 6],
}

impl Simulation {
    /// Starts a scenario, which is checked. The same scenario and seed give the same readings.
    pub fn new(scenario: &Scenario, seed: u64) -> Result<Self> {
        scenario.check()?;
        let start_ms = scenario.start_ms()?;
        // Weather, each pen and each fault draw from streams of their own: none disturbs another.
        let stream = |number: u64| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream(number);
            rng
        };
        let pens = scenario.pens.iter().enumerate().map(|(place, pen)| {
            let mine = scenario.faults.iter().enumerate().filter(|(_, fault)| fault.pen == pen.name);
            SensoredPen {
                pen: pen.clone(),
                water: PenWater::default(),
                rng: stream(1 + place as u64),
                faults: mine
                    .map(|(number, fault)| ActiveFault::new(fault.clone(), stream(1_000_000 + number as u64)))
                    .collect(),
                last: [None; 6],
            }
        });
        let interval_ms = i64::from(scenario.interval_minutes) * MINUTE_MS;
        let steps = scenario.interval_minutes.div_ceil(STEP_MINUTES);
        let mut simulation = Self {
            start_ms,
            end_ms: start_ms + (f64::from(scenario.days) * DAY_MS) as i64,
            next_ms: start_ms,
            step_ms: interval_ms / i64::from(steps),
            steps,
            weather: Weather::new(scenario.climate.clone(), stream(0)),
            pens: pens.collect(),
            ready: VecDeque::new(),
            scenario: scenario.clone(),
        };
        let settling = SETTLING_DAYS * DAY_MS as i64 / simulation.step_ms;
        // Up to where the steps to the first reading begin.
        for step in (i64::from(steps)..settling).rev() {
            simulation.move_water(start_ms - step * simulation.step_ms);
        }
        Ok(simulation)
    }

    /// Moves all water one step, to `time_ms`; gives the sea and the oxygen of each pen.
    fn move_water(&mut self, time_ms: i64) -> (Sea, Vec<f64>) {
        let hours = self.step_ms as f64 / (60.0 * MINUTE_MS as f64);
        let day = (time_ms - self.start_ms) as f64 / DAY_MS;
        let changes = &self.scenario.changes;
        let factor = |full: f64, strength: f64| 1.0 + (full - 1.0) * strength;
        let algae: f64 = changes.iter().map(|change| factor(change.algae_factor, change.strength(day))).product();
        let sea = self.weather.step(time_ms, hours, algae);
        let oxygen = self.pens.iter_mut().map(|SensoredPen { pen, water, .. }| {
            let here = changes.iter().filter(|change| change.pen.as_ref().is_none_or(|name| *name == pen.name));
            let stocking: f64 = here.map(|change| factor(change.stocking_factor, change.strength(day))).product();
            let growth = (1.0 + pen.growth_per_day).powf(day.max(0.0));
            water.step(&sea, hours, pen.stocking_kg_m3 * growth * stocking)
        });
        let oxygen = oxygen.collect();
        (sea, oxygen)
    }

    /// Moves on to the next time of reading.
    fn advance(&mut self) {
        let time_ms = self.next_ms;
        let interval_ms = i64::from(self.scenario.interval_minutes) * MINUTE_MS;
        self.next_ms += interval_ms;
        for step in (1..self.steps).rev() {
            self.move_water(time_ms - i64::from(step) * self.step_ms);
        }
        let (sea, oxygen) = self.move_water(time_ms);
        let day = (time_ms - self.start_ms) as f64 / DAY_MS;
        let lost_share = self.scenario.lost_share;
        for (pen, true_do_mgl) in self.pens.iter_mut().zip(oxygen) {
            let (values, faults) = pen.read(&sea, true_do_mgl, day, lost_share);
            let [temp, sal, ph, turb, depth, do_mgl] = values;
            let here =
                self.scenario.changes.iter().filter(|change| {
                    change.covers(day) && change.pen.as_ref().is_none_or(|name| *name == pen.pen.name)
                });
            let changes = here.map(|change| change.name.clone()).collect();
            let (farm, pen) = (self.scenario.farm.clone(), pen.pen.name.clone());
            let reading =
                Reading { time_ms, farm, pen, temp, sal, ph, turb, depth, do_mgl, true_do_mgl, faults, changes };
            self.ready.push_back(reading);
        }
    }
}

impl Iterator for Simulation {
    type Item = Reading;

    fn next(&mut self) -> Option<Reading> {
        if self.ready.is_empty() && self.next_ms < self.end_ms {
            self.advance();
        }
        self.ready.pop_front()
    }
}

impl SensoredPen {
    fn read(&mut self, sea: &Sea, oxygen_mgl: f64, day: f64, lost_share: f64) -> ([Option<f64>; 6], Vec<FaultLabel>) {
        let depth_m = self.pen.depth_m + sea.tide_m;
        let truth = [sea.temperature_c, sea.salinity_psu, sea.ph, sea.turbidity_ntu, depth_m, oxygen_mgl];
        let mut labels = Vec::new();
        let mut values = [None; 6];
        for (place, (sensor, truth)) in Sensor::ALL.into_iter().zip(truth).enumerate() {
            // Drawn in any case, so that the numbers of one sensor do not depend on another's.
            let noise: f64 = StandardNormal.sample(&mut self.rng);
            let is_lost = self.rng.random::<f64>() < lost_share;
            // Noise of a turbid water is in proportion to it.
            let scale = if sensor == Sensor::Turb { truth.max(1.0) } else { 1.0 };
            let measured = truth + noise * sensor.noise() * scale;
            let mut value =
                (!is_lost).then_some(if sensor == Sensor::Ph { measured } else { measured.max(lowest(sensor)) });
            for active in self.faults.iter_mut().filter(|active| active.fault.sensor == sensor) {
                let (changed, is_shown) = active.apply(day, value, self.last[place]);
                value = changed;
                if is_shown {
                    labels.push(FaultLabel { sensor, kind: active.fault.kind });
                }
            }
            value = value.map(|value| (value * sensor.steps_per_unit()).round() / sensor.steps_per_unit());
            self.last[place] = value.or(self.last[place]);
            values[place] = value;
        }
        (values, labels)
    }
}

/// The least that a working sensor shows.
const fn lowest(sensor: Sensor) -> f64 {
    match sensor {
        Sensor::Temp => -3.0,
        Sensor::Sal | Sensor::Ph | Sensor::Turb | Sensor::Depth | Sensor::DoMgl => 0.0,
    }
}
