//! Performance before the ground truth has arrived.
//!
//! **Both methods fail under concept drift.** They know how the model errs where; they take it that this has not changed.
//! When the relation of features and truth changes, they go on reporting the old quality. Only ground truth shows that.

mod calibration;
mod cbpe;
mod dle;
mod sampling_error;

use serde::{Deserialize, Serialize};

pub use cbpe::{Cbpe, CbpeMetric, ClassColumn};
pub use dle::{Dle, DleMetric};

/// Standard errors that the band reaches to either side.
const BAND: f64 = 3.0;

/// Standard deviations of the reference chunks that the thresholds lie from their mean.
const THRESHOLD: f64 = 3.0;

/// An estimated metric of one window.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate<M> {
    /// Which metric.
    pub metric: M,
    /// Its expected value.
    pub value: f64,
    /// Standard error of the realised value in a window of this size.
    pub sampling_error: f64,
    /// Lower end of the band of three standard errors, held within what the metric can be.
    pub lower: f64,
    /// Upper end of the band.
    pub upper: f64,
    /// Below this the estimate is an alert: three standard deviations under the mean of the reference chunks.
    pub lower_threshold: f64,
    /// Above this the estimate is an alert.
    pub upper_threshold: f64,
    /// Whether the value lies outside the thresholds.
    pub is_alert: bool,
}

/// What fitting learnt of one metric.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Fitted<M> {
    metric: M,
    thresholds: (f64, f64),
    /// Standard error of the realised value of one row.
    error_of_one: f64,
}

impl<M: Copy> Fitted<M> {
    /// `range` is what the metric can be.
    fn new(metric: M, realised: &[f64], error_of_one: f64, range: (f64, f64)) -> Self {
        let count = realised.len() as f64;
        let mean = realised.iter().sum::<f64>() / count;
        let deviation = (realised.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count).sqrt();
        let (low, high) = (mean - THRESHOLD * deviation, mean + THRESHOLD * deviation);
        Self { metric, thresholds: (low.max(range.0), high.min(range.1)), error_of_one }
    }

    fn estimate(&self, value: f64, rows: usize, range: (f64, f64)) -> Estimate<M> {
        let sampling_error = self.error_of_one / (rows as f64).sqrt();
        let (lower_threshold, upper_threshold) = self.thresholds;
        Estimate {
            metric: self.metric,
            value,
            sampling_error,
            lower: (value - BAND * sampling_error).max(range.0),
            upper: (value + BAND * sampling_error).min(range.1),
            lower_threshold,
            upper_threshold,
            is_alert: value < lower_threshold || value > upper_threshold,
        }
    }
}

/// Places of the chunks of so many rows; what is left over at the end belongs to the last one.
fn chunks(rows: usize, chunk: usize) -> Vec<std::ops::Range<usize>> {
    let count = (rows / chunk.max(1)).max(1);
    (0..count).map(|k| k * chunk..if k + 1 == count { rows } else { (k + 1) * chunk }).collect()
}
