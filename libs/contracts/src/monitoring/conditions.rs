//! Conditions of a trigger beside its own rule.

use serde::{Deserialize, Serialize};

use super::Severity;

/// When a retraining is due.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Condition {
    /// All of these hold.
    All {
        /// The conditions.
        of: Vec<Condition>,
    },
    /// One of these holds.
    Any {
        /// The conditions.
        of: Vec<Condition>,
    },
    /// A check has alarms, as of the midnight before: drift, performance or estimated performance, by its tests.
    Alarm {
        /// The check.
        check: String,
        /// At least so bad.
        #[serde(default = "alert")]
        severity: Severity,
        /// At least so many, of different features and slices.
        #[serde(default = "one")]
        at_least: u32,
    },
    /// The population stability index of a feature in the drift window is above this.
    Psi {
        /// The feature; any if empty.
        #[serde(default)]
        feature: String,
        /// The limit.
        above: f64,
    },
    /// The realised error is above this.
    Error {
        /// The limit, in the unit of the output.
        above: f64,
    },
    /// So many true values have arrived since the last trigger.
    Labels {
        /// How many.
        at_least: u64,
    },
    /// So many answers were given since the last trigger.
    Predictions {
        /// How many.
        at_least: u64,
    },
    /// So many days have passed since the last trigger.
    Time {
        /// How many.
        days: f64,
    },
}

const fn alert() -> Severity {
    Severity::Alert
}

const fn one() -> u32 {
    1
}
