use serde::{Deserialize, Serialize};

/// Which effect size a test reports beside its p-value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EffectKind {
    /// Largest distance of the two distribution functions, 0 to 1. Of tests that see any difference of shape.
    KsDistance,
    /// Cohen's d: difference of the means (current minus reference) in pooled standard deviations.
    CohenD,
    /// Rank-biserial correlation: probability that a current value is above a reference value, minus that it is below;
    /// -1 to 1 (Cliff's delta).
    RankBiserial,
    /// Cramér's V, 0 to 1: root of chi-square (without correction) over `n (min(rows, columns) - 1)`.
    CramerV,
    /// Sample odds ratio of a 2 x 2 table; 1 is no difference.
    OddsRatio,
    /// Cohen's h: difference of two shares (current minus reference) on the arcsine scale, -pi to pi.
    CohenH,
}

/// How large a difference is, apart from how certain it is: large samples make any difference significant.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Effect {
    /// The measure.
    pub kind: EffectKind,
    /// Its value, in the units and range of the measure.
    pub value: f64,
}

/// Result of a test of two samples.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TestResult {
    /// The statistic of the test.
    pub statistic: f64,
    /// Probability of a statistic at least as extreme if both samples came from one distribution.
    pub p_value: f64,
    /// The size of the difference.
    pub effect: Effect,
}

impl TestResult {
    pub(crate) const fn new(statistic: f64, p_value: f64, kind: EffectKind, value: f64) -> Self {
        Self { statistic, p_value, effect: Effect { kind, value } }
    }
}

/// What the alternative hypothesis says of the current sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Alternative {
    /// It differs.
    #[default]
    TwoSided,
    /// It is lower than the reference.
    Lower,
    /// It is higher than the reference.
    Higher,
}
