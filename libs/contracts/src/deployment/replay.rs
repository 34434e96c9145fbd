use serde::{Deserialize, Serialize};

/// Which logged predictions are asked again, of which version, and what is looked at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplayRequest {
    /// The candidate: a version of the deployment's model (`3`), or an alias of it (`@challenger`).
    pub version: String,
    /// Predictions from this event time on (inclusive).
    pub from_ms: i64,
    /// Predictions before this event time (exclusive).
    pub to_ms: i64,
    /// The label whose values are reported apart (`pen`); none if empty.
    #[serde(default)]
    pub by: String,
    /// Decisions: an answer is below a threshold, or not. In the unit of the answers.
    #[serde(default)]
    pub thresholds: Vec<f64>,
    /// Answers differ when they are apart by more than this, times the recorded answer's size where that is above 1.
    #[serde(default = "default_tolerance")]
    pub tolerance: f64,
    /// At most so many predictions, the oldest of the span.
    #[serde(default = "default_rows")]
    pub max_rows: u64,
}

const fn default_tolerance() -> f64 {
    1e-4
}

const fn default_rows() -> u64 {
    100_000
}

impl ReplayRequest {
    /// A span against a version, and everything else as it is by default.
    pub fn new(version: impl Into<String>, from_ms: i64, to_ms: i64) -> Self {
        Self {
            version: version.into(),
            from_ms,
            to_ms,
            by: String::new(),
            thresholds: Vec::new(),
            tolerance: default_tolerance(),
            max_rows: default_rows(),
        }
    }
}

/// What an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnswerKind {
    /// A quantity: answers have a difference.
    Quantity,
    /// A whole number that names a class: answers are equal or not.
    Class,
}

/// How a candidate answers what was asked live.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReplayReport {
    /// The deployment.
    pub deployment: String,
    /// The candidate's version.
    pub version: String,
    /// What was asked for.
    pub request: ReplayRequest,
    /// The output that is compared.
    pub output: String,
    /// What its answers are.
    pub kind: AnswerKind,
    /// Whether the whole span was replayed; if not, the bound on rows or on time was reached first.
    pub is_complete: bool,
    /// Event time of the last prediction that was replayed.
    pub last_ms: Option<i64>,
    /// All predictions together.
    pub overall: ReplayFigures,
    /// Each value of the label `by`, the worst first: by how much the error against the truth grew, then by the share of
    /// changed answers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slices: Vec<ReplaySlice>,
    /// Predictions whose value of the label came after so many other values that it has no slice.
    pub unsliced: u64,
    /// Time in the model for one row alone, of both versions in this replay, by turns.
    pub latency: ReplayLatency,
    /// Why the candidate did not answer, each reason once, the first few.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<String>,
}

/// One value of the label.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReplaySlice {
    /// The value; absent for predictions without the label.
    pub value: Option<String>,
    /// Its predictions.
    pub figures: ReplayFigures,
}

/// The figures of some predictions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReplayFigures {
    /// Predictions that were asked again.
    pub rows: u64,
    /// Of these, with a finite number from both.
    pub compared: u64,
    /// Of these, the candidate gave no finite number for.
    pub failed: u64,
    /// Compared answers that differ: beyond the tolerance, or another class.
    pub changed: u64,
    /// Candidate minus recorded answer; for quantities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub difference: Option<Differences>,
    /// Changed decisions, for each threshold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flips: Vec<Flips>,
    /// Recorded answers against the true values that are known.
    pub recorded: TruthErrors,
    /// The candidate's answers to the same predictions against the same true values.
    pub candidate: TruthErrors,
}

/// Candidate minus recorded answer, in the unit of the answers. Quantiles lie between two values by linear interpolation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Differences {
    /// Mean with sign.
    pub mean: f64,
    /// Mean of the size.
    pub mean_abs: f64,
    /// The largest size.
    pub max_abs: f64,
    /// 5 of 100 are below.
    pub p05: f64,
    /// Half are below.
    pub p50: f64,
    /// 95 of 100 are below.
    pub p95: f64,
}

/// Decisions that change with the candidate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Flips {
    /// The threshold.
    pub threshold: f64,
    /// The recorded answer is not below it, and the candidate's is.
    pub to_below: u64,
    /// The recorded answer is below it, and the candidate's is not.
    pub to_above: u64,
}

/// Answers against true values, of predictions that both versions answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct TruthErrors {
    /// True values that are known.
    pub labels: u64,
    /// Mean absolute error; for quantities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mae: Option<f64>,
    /// Root of the mean squared error; for quantities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rmse: Option<f64>,
    /// Mean of answer minus true value; for quantities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bias: Option<f64>,
    /// Answers that name another class than the true one; for classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wrong: Option<u64>,
}

/// How long the model takes for a row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct ReplayLatency {
    /// The version that serves; absent where none was timed.
    pub serving: Option<RowLatency>,
    /// The candidate; likewise.
    pub candidate: Option<RowLatency>,
}

/// Quantiles of the time in the model, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RowLatency {
    /// Rows that were timed.
    pub rows: u64,
    /// Half are faster.
    pub p50_us: f64,
    /// 99 of 100 are faster.
    pub p99_us: f64,
}
