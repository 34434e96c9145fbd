//! Which spans of event time a check looks at.

use std::collections::BTreeSet;

use fishy_contracts::monitoring::{CheckSpec, ReferenceSpec};
use fishy_core::time::{DAY_MS, HOUR_MS, parse_ms};
use fishy_core::{Error, Result};

use crate::domain::is_time;

/// A season ago.
const YEAR_MS: i64 = 365 * DAY_MS;

/// A span; the end is not part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    pub from_ms: i64,
    pub to_ms: i64,
}

/// Length of a window.
pub fn length_ms(spec: &CheckSpec) -> i64 {
    i64::from(spec.window_hours) * HOUR_MS
}

/// From the end of one window to that of the next.
pub fn every_ms(spec: &CheckSpec) -> i64 {
    i64::from(spec.every_hours.unwrap_or(spec.window_hours).max(1)) * HOUR_MS
}

/// The window that ends at a time.
pub fn window(spec: &CheckSpec, end_ms: i64) -> Span {
    Span { from_ms: end_ms - length_ms(spec), to_ms: end_ms }
}

/// The end of the first window that holds a time.
pub fn first_end(spec: &CheckSpec, time_ms: i64) -> i64 {
    let every_ms = every_ms(spec);
    time_ms - time_ms.rem_euclid(every_ms) + every_ms
}

/// The span of a fixed reference.
pub fn fixed(from: &str, to: &str) -> Result<Span> {
    let read = |text: &str| {
        parse_ms(text).filter(|time_ms| is_time(*time_ms)).ok_or_else(|| {
            Error::invalid(format!("reference: {text:?} is no time: use 2012-05-01 or 2012-05-01T12:00:00Z"))
        })
    };
    let span = Span { from_ms: read(from)?, to_ms: read(to)? };
    if span.from_ms >= span.to_ms {
        return Err(Error::invalid(format!("reference: {to} is not after {from}: it must lie after it, not before")));
    }
    Ok(span)
}

/// The span a window is compared with; `None` for the training data, which the champion tells.
pub fn reference(spec: &CheckSpec, window: Span) -> Result<Option<Span>> {
    Ok(match &spec.reference {
        ReferenceSpec::Training => None,
        ReferenceSpec::Fixed { from, to } => Some(fixed(from, to)?),
        ReferenceSpec::Rolling { days } => {
            Some(Span { from_ms: window.from_ms - i64::from(*days) * DAY_MS, to_ms: window.from_ms })
        }
        ReferenceSpec::LastYear { days } => {
            let around_ms = i64::from(*days) * DAY_MS;
            Some(Span { from_ms: window.from_ms - YEAR_MS - around_ms, to_ms: window.to_ms - YEAR_MS + around_ms })
        }
    })
}

/// Whether a reference is taken once and kept: the others move with the windows.
pub const fn is_kept(spec: &CheckSpec) -> bool {
    matches!(spec.reference, ReferenceSpec::Training | ReferenceSpec::Fixed { .. })
}

/// The ends of the windows that an hour belongs to, as part of them or of what they are compared with, between two ends.
pub fn ends_with(spec: &CheckSpec, hour_ms: i64, first_end_ms: i64, last_end_ms: i64) -> BTreeSet<i64> {
    let (length_ms, every_ms) = (length_ms(spec), every_ms(spec));
    let after_ms = hour_ms + HOUR_MS;
    // A window belongs when its end lies after the first and before the second.
    let mut ranges = vec![(hour_ms, after_ms + length_ms)];
    match spec.reference {
        ReferenceSpec::Training | ReferenceSpec::Fixed { .. } => {}
        ReferenceSpec::Rolling { days } => {
            let back_ms = i64::from(days) * DAY_MS;
            ranges.push((hour_ms + length_ms, after_ms + back_ms + length_ms));
        }
        ReferenceSpec::LastYear { days } => {
            let around_ms = i64::from(days) * DAY_MS;
            ranges.push((hour_ms + YEAR_MS - around_ms, after_ms + YEAR_MS + around_ms + length_ms));
        }
    }
    let mut ends = BTreeSet::new();
    for (above_ms, below_ms) in ranges {
        let mut end_ms = first_end(spec, above_ms.max(first_end_ms - 1));
        while end_ms < below_ms && end_ms <= last_end_ms {
            ends.insert(end_ms);
            end_ms += every_ms;
        }
    }
    ends
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn spec(length: u32, every: u32, reference: &serde_json::Value) -> CheckSpec {
        serde_json::from_value(json!({
            "name": "c", "window_hours": length, "every_hours": every, "reference": reference, "tests": {"ks": {}}
        }))
        .unwrap()
    }

    fn holds(span: Span, hour_ms: i64) -> bool {
        span.from_ms < hour_ms + HOUR_MS && hour_ms < span.to_ms
    }

    proptest! {
        #[test]
        fn an_hour_finds_exactly_the_windows_that_it_belongs_to(
            length in 1_u32..60, part in 1_u32..6, days in 1_u32..20, hour in 0_i64..500, kind in 0_usize..4
        ) {
            let every = length.div_ceil(part);
            let references: [serde_json::Value; 4] = [
                json!({"kind": "training"}),
                json!({"kind": "fixed", "from": "1970-01-02", "to": "1970-01-05"}),
                json!({"kind": "rolling", "days": days}),
                json!({"kind": "last_year", "days": days}),
            ];
            let reference = references[kind].clone();
            let spec = spec(length, every, &reference);
            let first_ms = first_end(&spec, 0);
            let last_ms = first_ms + every_ms(&spec) * (400 * 24 / i64::from(every));
            let found = ends_with(&spec, hour * HOUR_MS, first_ms, last_ms);
            let mut end_ms = first_ms;
            while end_ms <= last_ms {
                let window = window(&spec, end_ms);
                let moving = super::reference(&spec, window).unwrap().filter(|_| !is_kept(&spec));
                let belongs = holds(window, hour * HOUR_MS) || moving.is_some_and(|span| holds(span, hour * HOUR_MS));
                prop_assert_eq!(found.contains(&end_ms), belongs, "window to {}", end_ms / HOUR_MS);
                end_ms += every_ms(&spec);
            }
        }
    }
}
