//! The water in one pen.

use crate::weather::Sea;

/// What fish use at 12 °C, mg of oxygen for a kg in an hour (Atlantic salmon of a few kg, swimming slowly and fed).
const FISH_RESPIRATION_MG_KG_H: f64 = 170.0;
/// How many times more for 10 °C more.
const FISH_Q10: f64 = 2.0;
/// Renewal of a pen's water at slack tide, and what a full current adds, per hour.
const SLACK_RENEWAL_H: f64 = 0.45;
const CURRENT_RENEWAL_H: f64 = 1.1;
/// Oxygen at which fish can only breathe half as much, mg/L.
const HALF_BREATH_MGL: f64 = 0.8;

/// Oxygen of a pen.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct PenWater {
    oxygen_mgl: Option<f64>,
}

impl PenWater {
    /// Moves on by `hours` under `sea` with so much fish; gives oxygen in mg/L.
    pub(crate) fn step(&mut self, sea: &Sea, hours: f64, biomass_kg_m3: f64) -> f64 {
        let before = self.oxygen_mgl.unwrap_or(sea.oxygen_mgl);
        // Fish are fed from 8 to 16 h by the sun and breathe more while they digest.
        let fed = if (8.0..19.0).contains(&sea.solar_hour) { 1.12 } else { 1.0 };
        let warm = FISH_Q10.powf((sea.temperature_c - 12.0) / 10.0);
        let wanted_mgl_h = biomass_kg_m3 * FISH_RESPIRATION_MG_KG_H * fed * warm / 1000.0;
        // Breathing slows as oxygen goes: as a rate it stays linear over the step and can never go below zero.
        let breath_h = wanted_mgl_h / (before + HALF_BREATH_MGL);
        let renewal_h = SLACK_RENEWAL_H + CURRENT_RENEWAL_H * sea.current;
        let gained_mgl_h = renewal_h * sea.oxygen_mgl
            + sea.reaeration_h * sea.saturation_mgl
            + sea.metabolism_mgl_h.max(-0.5 * before);
        let rate_h = renewal_h + sea.reaeration_h + breath_h;
        let target = (gained_mgl_h / rate_h).max(0.0);
        let oxygen_mgl = target + (before - target) * (-rate_h * hours).exp();
        self.oxygen_mgl = Some(oxygen_mgl);
        oxygen_mgl
    }
}
