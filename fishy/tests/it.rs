//! Whole programs: the binary as a person runs it, and as a cluster runs it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod it {
    pub mod candidate;
    pub mod cluster;
    pub mod command_line;
    pub mod drift;
    pub mod foreign;
    pub mod gate;
    pub mod prediction_log;
    pub mod program;
    pub mod queue;
    pub mod registry;
    pub mod replay;
    pub mod rig;
}
