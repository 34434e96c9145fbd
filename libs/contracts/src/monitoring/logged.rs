use std::collections::BTreeMap;

use fishy_core::Result;
use serde::{Deserialize, Serialize};

use super::MonitoringClient;
use crate::segment;

/// Which predictions are asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoggedQuery {
    /// The deployment that answered.
    pub deployment: String,
    /// From this event time on (inclusive).
    pub from_ms: i64,
    /// Before this event time (exclusive).
    pub to_ms: i64,
    /// Where the page begins; empty for the first one.
    #[serde(default)]
    pub page_token: String,
    /// Predictions of a page, at most 1,000.
    #[serde(default = "default_limit")]
    pub limit: u64,
}

const fn default_limit() -> u64 {
    1_000
}

/// A page of predictions in event-time order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoggedPage {
    /// The output that true values are compared with; the first one by name if empty.
    pub output: String,
    /// The predictions.
    pub items: Vec<LoggedPrediction>,
    /// Where the next page begins; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<String>,
}

/// What was asked and answered live, with the true value where it is known.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoggedPrediction {
    /// The prediction.
    pub id: String,
    /// Event time.
    pub time_ms: i64,
    /// The version that answered.
    pub version: String,
    /// Numeric features by name; a missing value is null.
    pub inputs: BTreeMap<String, Option<f64>>,
    /// The answer that is compared with the truth, where it was a finite number.
    pub answer: Option<f64>,
    /// The true value.
    pub value: Option<f64>,
    /// Labels such as farm, pen, camera.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

impl MonitoringClient {
    /// A page of the predictions of a deployment.
    pub async fn logged(&self, query: &LoggedQuery) -> Result<LoggedPage> {
        let LoggedQuery { deployment, from_ms, to_ms, page_token, limit } = query;
        let (deployment, page_token) = (segment(deployment), segment(page_token));
        let path = format!(
            "/api/v1/predictions?deployment={deployment}&from_ms={from_ms}&to_ms={to_ms}&page_token={page_token}&limit={limit}"
        );
        self.0.get(&path).await
    }
}
