use std::collections::BTreeMap;
use std::fmt::Write as _;

use fishy_core::Result;
use serde::{Deserialize, Serialize};

use super::MonitoringClient;
use crate::segment;

/// A prediction, and the version that made it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServedPrediction {
    /// The prediction.
    pub id: String,
    /// The model version that answered.
    pub version: String,
    /// Event time.
    pub time_ms: i64,
    /// Labels such as farm, pen, camera.
    pub labels: BTreeMap<String, String>,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Served {
    /// The last prediction up to the time; none when there was none.
    pub prediction: Option<ServedPrediction>,
}

impl MonitoringClient {
    /// The last prediction of a deployment up to a time of events that carries these labels: which version served.
    pub async fn served(
        &self,
        deployment: &str,
        time_ms: i64,
        labels: &[(&str, &str)],
    ) -> Result<Option<ServedPrediction>> {
        let mut path = format!("/api/v1/predictions/served?deployment={}&time_ms={time_ms}", segment(deployment));
        for (key, value) in labels {
            let _ = write!(path, "&label={}", segment(&format!("{key}={value}")));
        }
        Ok(self.0.get::<Served>(&path).await?.prediction)
    }
}
