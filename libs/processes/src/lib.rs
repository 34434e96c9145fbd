#![doc = include_str!("../README.md")]

mod fleet;
mod process;
mod python;

pub use fleet::{Fleet, FleetOptions, Lease, Staff};
pub use process::{Launch, Process, Scratch};
pub use python::{Channel, Environments, Frame, Limits, Python, PythonOptions};
