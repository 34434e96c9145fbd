//! When a pipeline runs by itself.

use std::str::FromStr;

use chrono::{DateTime, Utc};
use croner::Cron;
use fishy_core::{Error, Result};

/// A cron pattern, in UTC.
#[derive(Debug, Clone)]
pub struct Schedule(Cron);

impl Schedule {
    /// Reads a pattern such as `0 3 * * *`.
    pub fn parse(pattern: &str) -> Result<Self> {
        Cron::from_str(pattern).map(Self).map_err(|error| {
            Error::invalid(format!(
                "schedule {pattern:?} is not a cron pattern ({error}): \"0 3 * * *\" is daily at 03:00 UTC"
            ))
        })
    }

    /// The first moment after `now_ms`; `None` when there is none (31 February).
    pub fn next_ms(&self, now_ms: i64) -> Option<i64> {
        let now = DateTime::<Utc>::from_timestamp_millis(now_ms)?;
        self.0.find_next_occurrence(&now, false).ok().map(|next| next.timestamp_millis())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fishy_core::time::parse_ms;

    #[test]
    fn the_next_moment_is_after_now_and_in_utc() {
        let daily = Schedule::parse("0 3 * * *").unwrap();
        let at = |text| parse_ms(text).unwrap();
        assert_eq!(daily.next_ms(at("2026-02-01T02:59:59.500Z")), Some(at("2026-02-01T03:00:00Z")));
        assert_eq!(daily.next_ms(at("2026-02-01T03:00:00Z")), Some(at("2026-02-02T03:00:00Z")));
        assert!(Schedule::parse("every day").is_err());
    }
}
