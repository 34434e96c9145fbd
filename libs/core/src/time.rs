//! Times as milliseconds since the epoch, and as text.

use chrono::{DateTime, NaiveDate, NaiveDateTime, SecondsFormat, Utc};

/// One minute in milliseconds.
pub const MINUTE_MS: i64 = 60_000;
/// One hour in milliseconds.
pub const HOUR_MS: i64 = 60 * MINUTE_MS;
/// One day in milliseconds.
pub const DAY_MS: i64 = 24 * HOUR_MS;

/// RFC 3339 in UTC with milliseconds.
pub fn rfc3339(time_ms: i64) -> String {
    DateTime::<Utc>::from_timestamp_millis(time_ms).unwrap_or_default().to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// Reads RFC 3339, `YYYY-MM-DD HH:MM:SS` or `YYYY-MM-DDTHH:MM[:SS]` (taken as UTC), a date, or a number of milliseconds.
pub fn parse_ms(text: &str) -> Option<i64> {
    let text = text.trim();
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Some(time.timestamp_millis());
    }
    for format in ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M"] {
        if let Ok(time) = NaiveDateTime::parse_from_str(text, format) {
            return Some(time.and_utc().timestamp_millis());
        }
    }
    if let Ok(date) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        return date.and_hms_opt(0, 0, 0).map(|time| time.and_utc().timestamp_millis());
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_forms_mean_the_same_moment() {
        let expected = Some(1_325_394_000_000);
        for text in ["2012-01-01 05:00:00", "2012-01-01T05:00:00Z", "2012-01-01T06:00:00+01:00", "1325394000000"] {
            assert_eq!(parse_ms(text), expected, "{text}");
        }
        assert_eq!(parse_ms("yesterday"), None);
        assert_eq!(rfc3339(1_325_394_000_000), "2012-01-01T05:00:00.000Z");
    }
}
