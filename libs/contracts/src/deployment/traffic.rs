use serde::{Deserialize, Serialize};

/// Where the requests of a deployment go beside the revision that it serves. Empty: nowhere.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrafficSpec {
    /// Candidates that answer a share of the requests; the rest goes to the revision that serves.
    pub splits: Vec<Split>,
    /// A candidate that gets a copy of requests; its answers are compared and discarded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shadow: Option<Shadow>,
    /// When the splits are taken back by themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canary: Option<CanaryRule>,
}

/// A share of the requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Split {
    /// A version of the deployment's model (`3`), or an alias of it (`@challenger`), which is followed.
    pub version: String,
    /// Of all requests, above 0 and at most 100. Requests of one sticky key all go one way.
    pub percent: f64,
}

/// A candidate that is asked beside the one that answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shadow {
    /// A version (`3`) or an alias (`@challenger`).
    pub version: String,
    /// Of all requests, above 0 and at most 100.
    #[serde(default = "hundred")]
    pub percent: f64,
    /// Numbers agree when they differ by at most this, times the number's size where that is above 1.
    #[serde(default = "default_tolerance")]
    pub tolerance: f64,
    /// Whether its answers are recorded in the prediction log, marked as a shadow's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_recorded: bool,
}

/// When a canary failed: each bound is checked once the candidate has answered `min_requests`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CanaryRule {
    /// Requests that a candidate answers before it is judged.
    pub min_requests: u64,
    /// The largest share of requests in which the candidate itself fails, 0 to 1. The caller's own mistakes do not count.
    pub max_error_rate: f64,
    /// How many times slower the candidate's 95th percentile may be than that of the revision that serves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_latency_ratio: Option<f64>,
    /// The largest 95th percentile of the candidate, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_p95_ms: Option<f64>,
}

const fn hundred() -> f64 {
    100.0
}

const fn default_tolerance() -> f64 {
    1e-5
}

impl Default for CanaryRule {
    fn default() -> Self {
        Self { min_requests: 100, max_error_rate: 0.01, max_latency_ratio: None, max_p95_ms: None }
    }
}

/// What became of the traffic, as the replica that is asked has seen it since the specification was set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrafficReport {
    /// What should be.
    pub spec: TrafficSpec,
    /// The revision that serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub champion: Option<VersionReport>,
    /// The candidates of the splits.
    pub splits: Vec<VersionReport>,
    /// The shadow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<ShadowReport>,
    /// Why the splits were taken back, when they were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolled_back: Option<String>,
    /// Why a candidate is not loaded, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// What one version did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VersionReport {
    /// The version.
    pub version: String,
    /// Requests that it was asked to answer.
    pub requests: u64,
    /// Requests in which it failed.
    pub errors: u64,
    /// Median time from request to answer, in microseconds.
    pub p50_us: f64,
    /// 95th percentile of it.
    pub p95_us: f64,
}

/// How the shadow's answers compare.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShadowReport {
    /// What it did.
    #[serde(flatten)]
    pub version: VersionReport,
    /// Requests whose answers were compared.
    pub compared: u64,
    /// Requests in which all outputs agree.
    pub agreed: u64,
    /// Requests that were not mirrored, since too many were under way.
    pub skipped: u64,
    /// The largest difference of a number.
    pub max_abs_difference: f64,
    /// The mean difference of the numbers.
    pub mean_abs_difference: f64,
}

/// Asks to promote a version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PromoteRequest {
    /// A version (`3`) or an alias (`@challenger`) of the deployment's model.
    pub version: String,
}
