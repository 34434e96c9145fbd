//! The rules, without SQL, HTTP or a clock.

pub mod alerts;
pub mod attribution;
pub mod checks;
pub mod conditions;
pub mod dataset;
pub mod experts;
pub mod monitor;
pub mod opinions;
pub mod overview;
pub mod record;
pub mod replay;
pub mod sensors;
pub mod trigger;
pub mod truth;
pub mod window;

use fishy_core::time::{DAY_MS, HOUR_MS};

/// The beginning of the hour that holds a time.
pub const fn hour_of(time_ms: i64) -> i64 {
    time_ms - time_ms.rem_euclid(HOUR_MS)
}

/// The beginning of the UTC day that holds a time.
pub const fn day_of(time_ms: i64) -> i64 {
    time_ms - time_ms.rem_euclid(DAY_MS)
}

/// The latest event time that is taken: the end of the year 9999.
pub const LATEST_MS: i64 = 253_402_300_799_999;

/// Whether a time is one that data can have.
pub const fn is_time(time_ms: i64) -> bool {
    time_ms >= 0 && time_ms <= LATEST_MS
}
