//! The expert queue: which answers an expert should look at next, what experts said, and how far they agree.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Degree;

/// How the expert queue of a monitor works.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExpertSpec {
    /// Whether the output is a probability: then it is uncertain near one half. Otherwise the error to expect is estimated
    /// from the labelled answers nearest by.
    pub is_probability: bool,
    /// A deployment whose answers at the same event time, to the same series, are those of a challenger. Answers of other
    /// versions of the monitor's own deployment are always compared.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub challenger: String,
    /// Answers of the last so many days of event time are in the queue.
    pub lookback_days: f64,
    /// Of one series, answers nearer to each other than so many hours of event time count as alike.
    pub alike_hours: f64,
    /// How long an expert has, in minutes.
    pub lease_minutes: i64,
    /// Of a hundred items given out, so many are shown a second time, to another expert where there is one, without telling.
    pub repeat_percent: f64,
    /// The same expert is shown an item again only so many hours after the first answer.
    pub repeat_after_hours: f64,
}

impl Default for ExpertSpec {
    fn default() -> Self {
        Self {
            is_probability: false,
            challenger: String::new(),
            lookback_days: 30.0,
            alike_hours: 6.0,
            lease_minutes: 60,
            repeat_percent: 10.0,
            repeat_after_hours: 24.0,
        }
    }
}

impl ExpertSpec {
    /// Whether nothing was changed.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// How many items an expert wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueueRequest {
    /// 1 to 50.
    pub count: u32,
}

/// Why an answer is in the queue.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QueueReason {
    /// `uncertainty`, `disagreement`, `drift` or `sample`.
    pub kind: String,
    /// How strongly, 0 to 1.
    pub score: f64,
    /// In words, with figures.
    pub message: String,
}

/// An answer that an expert should look at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QueueItem {
    /// The lease, which is answered, skipped or returned; empty where the item is only listed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub lease: String,
    /// The lease ends then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<i64>,
    /// The answer.
    pub prediction_id: String,
    /// Its event time.
    pub time_ms: i64,
    /// Labels such as farm and pen.
    pub labels: BTreeMap<String, String>,
    /// What was asked.
    pub inputs: BTreeMap<String, Option<f64>>,
    /// What was answered.
    pub output: Option<f64>,
    /// Why it is shown, the strongest first.
    pub reasons: Vec<QueueReason>,
}

/// What an expert says of an item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueueAnswer {
    /// What it should have been: `healthy`, `gill disease` and so on, or a number as text.
    pub label: String,
    /// How severe what the expert saw is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<Degree>,
    /// Further words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
}

/// Gives an item up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueueRelease {
    /// Whether this expert does not want to see it again; otherwise it goes back for anybody.
    pub is_skipped: bool,
}

/// How a lease ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueReceipt {
    /// The lease.
    pub lease: String,
    /// `answered`, `corrected`, `skipped` or `returned`.
    pub state: String,
    /// The opinion that was kept; empty where none was.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub opinion: String,
}

/// What agreement is computed of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgreementOf {
    /// The labels.
    #[default]
    Label,
    /// The severities; items without one are left out.
    Severity,
}

/// How much different labels agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgreementWeights {
    /// Not at all.
    #[default]
    None,
    /// The less, the more steps lie between them.
    Linear,
    /// Likewise, by the square of the steps.
    Quadratic,
}

/// Which agreement is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AgreementQuery {
    /// Of what.
    pub of: AgreementOf,
    /// Weights, for numbers and severities; labels without an order have none.
    pub weights: AgreementWeights,
}

/// How far experts agree on the items that were shown more than once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Agreement {
    /// Items with two answers at least.
    pub items: u64,
    /// The categories that were used, in order.
    pub categories: Vec<String>,
    /// Two experts each, or one expert with himself.
    pub pairs: Vec<PairAgreement>,
    /// Fleiss' kappa of the first two answers of each item; absent where it is not defined.
    pub fleiss_kappa: Option<f64>,
    /// Probability of such a kappa without agreement beyond chance.
    pub fleiss_p_value: Option<f64>,
}

/// Agreement of two experts: Cohen's kappa.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PairAgreement {
    /// One.
    pub first: String,
    /// The other; the same name where an expert was asked twice.
    pub second: String,
    /// Items that both answered.
    pub items: u64,
    /// Share of these with the same label.
    pub same: f64,
    /// Cohen's kappa; absent where it is not defined.
    pub kappa: Option<f64>,
    /// Its interval of 95 %.
    pub low: Option<f64>,
    /// See `low`.
    pub high: Option<f64>,
    /// Probability of such a kappa without agreement beyond chance.
    pub p_value: Option<f64>,
}

/// An answer and the number that an expert gave for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ComparedPair {
    /// The answer.
    pub id: String,
    /// What was answered.
    pub automatic: f64,
    /// What the expert says it is.
    pub manual: f64,
}
