//! What people think of answers: users with a thumb, experts with a label.

use serde::{Deserialize, Serialize};

/// Opinions to be kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Opinions {
    /// The opinions.
    pub items: Vec<NewOpinion>,
}

/// An opinion of one answer. Who gives it is told by the request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewOpinion {
    /// Given by the sender, so that what is sent twice is kept once; by default a new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The answer.
    pub prediction_id: String,
    /// What is said of it.
    pub opinion: Judgement,
    /// Further words, at most 4,000 bytes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// When it was given, milliseconds since the epoch; by default now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_ms: Option<i64>,
}

/// What is said of an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "snake_case", deny_unknown_fields)]
pub enum Judgement {
    /// By somebody who uses it.
    User {
        /// Thumb up or down.
        is_helpful: bool,
        /// Why: `wrong`, `late`, `unclear` or another short word.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reason: String,
    },
    /// By an expert.
    Expert {
        /// What it should have been: `healthy`, `gill disease` and so on, or a number as text.
        label: String,
        /// How severe what the expert saw is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        severity: Option<Degree>,
    },
}

/// How severe a finding of an expert is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Degree {
    /// Nothing.
    None,
    /// Mild.
    Mild,
    /// Moderate.
    Moderate,
    /// Severe.
    Severe,
}

/// An opinion as it is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Opinion {
    /// Unique.
    pub id: String,
    /// The answer.
    pub prediction_id: String,
    /// Who gave it.
    pub actor: String,
    /// When it was given.
    pub time_ms: i64,
    /// When it came.
    pub received_ms: i64,
    /// What is said of the answer.
    pub opinion: Judgement,
    /// Further words.
    pub text: String,
}

/// Which opinions are asked for; all that are given must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OpinionQuery {
    /// Of the answers of this deployment.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub deployment: String,
    /// Of this answer.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub prediction_id: String,
    /// `user` or `expert`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub by: String,
    /// Most opinions of a page: 1 to 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Where the page begins: `next_page_token` of the one before.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub page_token: String,
}
