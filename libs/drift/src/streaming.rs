//! Detectors of change in a stream, one value at a time, with a small state that can be stored and read back.
//!
//! All are tuned like river, and reset themselves after a drift, as river's do. A value that is not finite is missing: it
//! changes nothing.

mod adwin;
mod ddm;
mod eddm;
mod hddm_a;
mod hddm_w;
mod kswin;
mod page_hinkley;

use fishy_core::{Error, Result};
use serde::{Deserialize, Serialize};

pub use adwin::{Adwin, AdwinSettings};
pub use ddm::{Ddm, DdmSettings};
pub use eddm::{Eddm, EddmSettings};
pub use hddm_a::{HddmA, HddmASettings};
pub use hddm_w::{HddmW, HddmWSettings};
pub use kswin::{Kswin, KswinSettings};
pub use page_hinkley::{PageHinkley, PageHinkleySettings, Side};

/// What a detector says after a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Signal {
    /// Nothing unusual.
    #[default]
    Stable,
    /// A drift may be coming.
    Warning,
    /// The stream has changed; the detector begins anew with the next value.
    Drift,
}

/// Mean of a stream, updated one value at a time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct RunningMean {
    count: f64,
    mean: f64,
}

impl RunningMean {
    fn push(&mut self, value: f64) {
        self.count += 1.0;
        self.mean += (value - self.mean) / self.count;
    }
}

/// Refuses a setting that does not lie strictly between 0 and 1.
fn check_share(name: &str, value: f64) -> Result<()> {
    if value > 0.0 && value < 1.0 {
        Ok(())
    } else {
        Err(Error::invalid(format!("{name} must lie between 0 and 1, both excluded, and is {value}")))
    }
}

/// Refuses a setting that is not positive.
fn check_positive(name: &str, value: f64) -> Result<()> {
    if value > 0.0 && value.is_finite() {
        Ok(())
    } else {
        Err(Error::invalid(format!("{name} must be above 0, and is {value}")))
    }
}
