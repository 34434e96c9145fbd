//! An overview of a span: what its rows look like beside the reference, who answered, and how it went by slice.

use fishy_core::Result;
use serde::{Deserialize, Serialize};

use super::{MonitoringClient, ReferenceUsed};
use crate::segment;

/// What the predictions of a span look like. Readings under a data fault are in no distribution and in no error.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Overview {
    /// Beginning of the span, event time.
    pub from_ms: i64,
    /// Its end (exclusive).
    pub to_ms: i64,
    /// Predictions in it.
    pub predictions: u64,
    /// Of these, with a true value.
    pub labels: u64,
    /// Rows that distributions and slices are made from: at most 50,000, evenly spread.
    pub rows: u64,
    /// Who answered, in the order of their first answers.
    pub versions: Vec<VersionAnswers>,
    /// The training data of the champion, where its version names their span and we have rows of it.
    pub reference: Option<ReferenceUsed>,
    /// One for each watched feature, then `$output`, `$truth` and `$error` where they have values.
    pub distributions: Vec<Distribution>,
    /// By label and value, those with the most rows first within a label.
    pub slices: Vec<SliceErrors>,
    /// How long true values took; absent without any.
    pub label_delay: Option<LabelDelay>,
}

/// What a version answered in a span.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionAnswers {
    /// The model version.
    pub version: String,
    /// Its predictions.
    pub predictions: u64,
    /// The first of them, event time.
    pub first_ms: i64,
    /// The last of them.
    pub last_ms: i64,
}

/// A feature in the reference and in the span, counted into the same bins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Distribution {
    /// The feature.
    pub feature: String,
    /// Of the reference; absent without one.
    pub reference: Option<Sample>,
    /// Of the span.
    pub current: Sample,
    /// Bins in order of value, and how many readings of each side are in them.
    pub bins: Vec<Bin>,
}

/// Readings of one side.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Rows with a reading.
    pub readings: u64,
    /// Rows without one that can be trusted.
    pub without: u64,
    /// Mean, least and greatest reading, in the unit of the feature; absent without readings.
    pub mean: Option<f64>,
    /// See `mean`.
    pub least: Option<f64>,
    /// See `mean`.
    pub greatest: Option<f64>,
}

/// Readings from one value up to another. Where the feature has few distinct values, `from` and `to` are the same value.
/// The first and the last of the other bins also hold what lies beyond them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bin {
    /// Its lower end.
    pub from: f64,
    /// Its upper end.
    pub to: f64,
    /// Readings of the reference in it.
    pub reference: u64,
    /// Readings of the span in it.
    pub current: u64,
}

/// The rows with one value of a label.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SliceErrors {
    /// `pen=7`; `pen=other` for the values beyond the largest twenty, `pen=none` for rows without the label.
    pub slice: String,
    /// Rows in it.
    pub rows: u64,
    /// Of these, answered with sound inputs and a true value.
    pub labels: u64,
    /// Mean absolute error over those.
    pub mae: Option<f64>,
    /// Mean of answer less truth over those.
    pub bias: Option<f64>,
}

/// How long true values took from the event time of their prediction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelDelay {
    /// Half of them were there by then; to the hour.
    pub median_hours: i64,
    /// Nine of ten were.
    pub p90_hours: i64,
    /// All were.
    pub greatest_hours: i64,
    /// Labels by full hours of delay, at most 60 bars of the same width: lower end in hours and count.
    pub histogram: Vec<(i64, u64)>,
}

impl MonitoringClient {
    /// What the predictions of a span look like beside the reference.
    pub async fn overview(&self, name: &str, from_ms: i64, to_ms: i64) -> Result<Overview> {
        self.0.get(&format!("/api/v1/monitors/{}/overview?from_ms={from_ms}&to_ms={to_ms}", segment(name))).await
    }
}
