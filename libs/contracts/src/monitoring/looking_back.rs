//! Looking back: what moved an alarm, and whether the figures would come out the same again.

use serde::{Deserialize, Serialize};

use super::{Severity, Statistic};

/// What moves the alarms of a monitor, as of a window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// One for each check and test with an alarm in its newest window.
    pub tests: Vec<ExplainedTest>,
    /// How each drifting figure went with the realised error, window by window; the strongest first.
    pub correlations: Vec<Correlation>,
}

/// What moves one test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExplainedTest {
    /// The check.
    pub check: String,
    /// The statistic.
    pub test: Statistic,
    /// End of the window.
    pub end_ms: i64,
    /// How bad its worst figure is.
    pub severity: Severity,
    /// Features and slices, the one that explains most first.
    pub parts: Vec<Part>,
}

/// A feature in a slice, and how much of an alarm it explains.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// The feature; empty for what concerns all together.
    pub feature: String,
    /// The slice; empty for all rows, where the check has no slices.
    pub slice: String,
    /// Share of what is beyond what is usual, 0 to 1: the figure less its median in the windows before, weighted by the
    /// rows of the slice. The shares of the slices of one label add up to 1.
    pub share: f64,
    /// The figure.
    pub value: f64,
    /// Its median in the windows before; 0 without any.
    pub usual: f64,
}

/// Spearman's rank correlation of a figure with the realised error.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Correlation {
    /// The check.
    pub check: String,
    /// The statistic.
    pub test: Statistic,
    /// The feature.
    pub feature: String,
    /// -1 to 1.
    pub correlation: f64,
    /// Windows with both.
    pub windows: u64,
}

/// Whether figures come out the same again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replay {
    /// Windows that were computed again from their rows.
    pub windows: u64,
    /// Of these, with every figure equal to the last bit.
    pub equal: u64,
    /// Windows that cannot be computed again: their rows are older than they are kept for.
    pub without_rows: u64,
    /// Where figures differ; the first hundred.
    pub differences: Vec<Difference>,
}

/// A window whose figures differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// `hour`, `day`, or the name of a check.
    pub window: String,
    /// Its end.
    pub end_ms: i64,
    /// The figure.
    pub figure: String,
    /// As it was computed live; empty where it was not.
    pub live: String,
    /// As it comes out now; empty where it does not.
    pub again: String,
}
