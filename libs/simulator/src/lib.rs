#![doc = include_str!("../README.md")]

mod fault;
mod pen;
mod reading;
mod saturation;
mod scenario;
mod simulation;
mod weather;

pub use fault::{Fault, FaultKind};
pub use reading::{FaultLabel, Reading, Sensor};
pub use saturation::oxygen_saturation_mgl;
pub use scenario::{Change, Climate, Pen, Scenario};
pub use simulation::Simulation;
