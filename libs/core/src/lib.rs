#![doc = include_str!("../README.md")]

mod clock;
mod error;
mod event;
mod ids;
mod names;
mod page;
pub mod time;

pub use clock::{Clock, ManualClock, SystemClock};
pub use error::{Error, ErrorCode, Result};
pub use event::{Event, TraceContext};
pub use ids::{Ids, RandomIds, SequentialIds};
pub use names::{check_name, check_relative_path};
pub use page::PageToken;

use std::sync::Arc;

/// Clock and ids of a running program: what is ambient elsewhere and an argument here.
#[derive(Clone)]
pub struct Env {
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Makes ids.
    pub ids: Arc<dyn Ids>,
}

impl Env {
    /// The clock of the machine and random UUIDv7 ids.
    pub fn system() -> Self {
        Self { clock: Arc::new(SystemClock), ids: Arc::new(RandomIds) }
    }

    /// Milliseconds since the epoch.
    pub fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    /// A new id.
    pub fn new_id(&self) -> String {
        self.ids.new_id()
    }
}
