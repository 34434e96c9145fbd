//! Checks of a monitor: which figures of which windows are compared with what, and when that is an alarm.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One check: windows of the live data, a reference, and tests of each feature and slice.
///
/// Checks show and alarm; the retraining trigger does not look at them unless its conditions name them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckSpec {
    /// Its name, unique in its monitor.
    pub name: String,
    /// What the windows are compared with.
    #[serde(default)]
    pub reference: ReferenceSpec,
    /// Length of a window in hours of event time.
    #[serde(default = "day")]
    pub window_hours: u32,
    /// A window ends at every multiple of so many hours since the epoch. Without it windows tumble: one begins where the
    /// last ended. Fewer hours than the length make them slide.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every_hours: Option<u32>,
    /// The features that are tested; all watched ones if empty. `$output`, `$truth` and `$error` stand for what was
    /// answered, what was true, and the distance of the two.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<String>,
    /// Labels whose values are looked at apart from each other too: farm, pen, camera, species, sensor.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slices: Vec<String>,
    /// Most slices of one label in a window: those with the most rows. The rest is looked at together, as `other`.
    #[serde(default = "max_slices")]
    pub max_slices: u32,
    /// Readings of a feature that a window or slice needs to be tested.
    #[serde(default = "min_rows")]
    pub min_rows: u64,
    /// How p-values of many tests are corrected: all features and slices of one test in one window are a family.
    #[serde(default)]
    pub correction: MultipleTesting,
    /// The tests by the name of their statistic.
    pub tests: BTreeMap<Statistic, TestSpec>,
}

const fn day() -> u32 {
    24
}

const fn max_slices() -> u32 {
    20
}

const fn min_rows() -> u64 {
    20
}

/// What windows are compared with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum ReferenceSpec {
    /// The rows of the span that the champion was trained on.
    #[default]
    Training,
    /// The rows of one span.
    Fixed {
        /// Its beginning: `2012-05-01` or `2012-05-01T12:00:00Z`.
        from: String,
        /// Its end (exclusive).
        to: String,
    },
    /// The days before each window.
    Rolling {
        /// How many.
        days: u32,
    },
    /// The same season of the year before: the window's span 365 days earlier, and some days around it.
    LastYear {
        /// Days before and after it.
        #[serde(default = "around")]
        days: u32,
    },
}

const fn around() -> u32 {
    14
}

/// When one statistic is an alarm. At least one of the two.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TestSpec {
    /// From where on it is a warning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warning: Option<Threshold>,
    /// From where on it is an alert.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alert: Option<Threshold>,
}

/// A limit. A figure beyond it on its bad side is an alarm: above it for distances and errors (of signed figures the
/// absolute value counts), below it for scores such as accuracy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Threshold {
    /// A number.
    Constant {
        /// The limit.
        limit: f64,
    },
    /// A probability: an alarm when the (corrected) p-value of the test is below it.
    PValue {
        /// The limit.
        below: f64,
    },
    /// The mean of the figure in past windows and so many standard deviations on the bad side of it.
    StandardDeviation {
        /// How many.
        times: f64,
        /// Past windows that are looked at.
        windows: u32,
    },
    /// A quantile of the figure in past windows.
    Quantile {
        /// Share of the past windows that may be as bad, counted from the good side: 0.95.
        quantile: f64,
        /// Past windows that are looked at.
        windows: u32,
    },
    /// Learnt from the reference: stretches of it, as long as the window, are compared with the rest of it.
    Resampled {
        /// Share of the stretches that may be as bad: 0.99.
        quantile: f64,
        /// How many stretches.
        resamples: u32,
    },
}

/// How p-values of a family are corrected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MultipleTesting {
    /// As they are.
    #[default]
    None,
    /// Holm: the chance of a single false alarm in the family stays below the limit.
    Holm,
    /// Benjamini and Hochberg: the share of false alarms among the alarms stays below the limit.
    BenjaminiHochberg,
}

macro_rules! statistics {
    ($($variant:ident => $name:literal: $about:literal,)*) => {
        /// A statistic by its name in `fishy-drift`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Statistic {
            $(#[doc = $about] $variant,)*
        }

        impl Statistic {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Its name on the wire and in metrics.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

statistics! {
    Psi => "psi": "Population stability index over the reference's deciles.",
    Ks => "ks": "Kolmogorov-Smirnov.",
    Wasserstein => "wasserstein": "Wasserstein-1 distance, in the unit of the feature.",
    NormedWasserstein => "normed_wasserstein": "The same in standard deviations of the reference.",
    JsDistance => "js_distance": "Jensen-Shannon distance, base 2.",
    Hellinger => "hellinger": "Hellinger distance.",
    KlDivergence => "kl_divergence": "Kullback-Leibler divergence in nats.",
    TotalVariation => "total_variation": "Total variation distance.",
    LInfinity => "l_infinity": "Largest difference of a share.",
    EnergyDistance => "energy_distance": "Energy distance.",
    AndersonDarling => "anderson_darling": "Anderson-Darling, two samples.",
    CramerVonMises => "cramer_von_mises": "Cramér-von Mises, two samples.",
    MannWhitney => "mann_whitney": "Mann-Whitney.",
    StudentT => "student_t": "Student's t.",
    WelchT => "welch_t": "Welch's t.",
    EppsSingleton => "epps_singleton": "Epps-Singleton.",
    ChiSquare => "chi_square": "Chi-square of homogeneity over the distinct values.",
    GTest => "g_test": "Likelihood ratio over the distinct values.",
    FisherExact => "fisher_exact": "Fisher's exact test of a feature with two values.",
    ProportionsZ => "proportions_z": "Z of proportions of a feature with two values.",
    Missing => "missing": "Share of rows without a value.",
    PcaReconstruction => "pca_reconstruction": "Reconstruction error of the reference's principal components, all features together, as a multiple of the reference's.",
    DomainClassifier => "domain_classifier": "ROC AUC of a classifier that tells window and reference apart, all features together.",
    Mmd => "mmd": "Maximum mean discrepancy, all features together.",
    Mae => "mae": "Mean absolute error.",
    Rmse => "rmse": "Root of the mean squared error.",
    Bias => "bias": "Mean error.",
    Mape => "mape": "Mean absolute error as a share of the truth.",
    MedianAbsoluteError => "median_absolute_error": "Median absolute error.",
    MaxAbsoluteError => "max_absolute_error": "Largest absolute error.",
    Accuracy => "accuracy": "Accuracy of a binary classifier; its output is a probability, cut at one half.",
    Precision => "precision": "Precision, likewise.",
    Recall => "recall": "Recall, likewise.",
    F1 => "f1": "F1, likewise.",
    RocAuc => "roc_auc": "Area under the ROC curve.",
    AveragePrecision => "average_precision": "Average precision.",
    LogLoss => "log_loss": "Log loss.",
    Brier => "brier": "Brier score.",
    EstimatedMae => "estimated_mae": "Mean absolute error as direct loss estimation expects it, before the truth is known.",
    EstimatedRmse => "estimated_rmse": "Root of the mean squared error, likewise.",
    EstimatedAccuracy => "estimated_accuracy": "Accuracy as CBPE expects it, before the truth is known.",
    EstimatedF1 => "estimated_f1": "F1, likewise.",
    EstimatedRocAuc => "estimated_roc_auc": "Area under the ROC curve, likewise.",
}

/// How bad something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Somebody should look at it some time.
    Warning,
    /// Somebody should act.
    Alert,
}

impl Severity {
    /// Its name on the wire and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Alert => "alert",
        }
    }
}

/// The figures of one window of one check.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckWindow {
    /// The check.
    pub check: String,
    /// Beginning of the window.
    pub start_ms: i64,
    /// End of the window (exclusive).
    pub end_ms: i64,
    /// Predictions in it.
    pub rows: u64,
    /// Of these, with a true value.
    pub labels: u64,
    /// What it was compared with; `None` where there was nothing.
    pub reference: Option<ReferenceUsed>,
    /// What came of the tests.
    pub figures: Vec<Figure>,
    /// What could not be tested, and why.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub not_tested: BTreeMap<String, String>,
    /// Share of the rows, by label, that were looked at together because there were too many slices.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub other_share: BTreeMap<String, f64>,
}

/// A reference as it was used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReferenceUsed {
    /// Beginning of its span.
    pub from_ms: i64,
    /// End of its span (exclusive).
    pub to_ms: i64,
    /// The champion whose training span it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Rows in the sample that was compared.
    pub rows: u64,
}

/// One statistic of one feature in one slice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// The statistic.
    pub test: Statistic,
    /// The feature; empty for what concerns all together.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub feature: String,
    /// `pen=7`; empty for the whole window.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub slice: String,
    /// Readings behind it: without those under a data fault.
    pub rows: u64,
    /// The statistic's value.
    pub value: f64,
    /// Its p-value, where the test has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p_value: Option<f64>,
    /// The same after the correction for many tests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p_corrected: Option<f64>,
    /// How large the difference is, and in which measure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<EffectSize>,
    /// Of an estimate, where the realised figure lies if the model still errs as it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub band: Option<Band>,
    /// The limit of a warning, where there is one yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning_limit: Option<f64>,
    /// The limit of an alert, where there is one yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alert_limit: Option<f64>,
    /// Whether it is an alarm, and how bad.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
}

/// Three standard errors to either side of an estimate, held within what the figure can be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Band {
    /// Its lower end.
    pub lower: f64,
    /// Its upper end.
    pub upper: f64,
}

impl Band {
    /// Whether a realised figure lies within.
    pub fn holds(self, value: f64) -> bool {
        (self.lower..=self.upper).contains(&value)
    }
}

/// An effect size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EffectSize {
    /// The measure: `cohen_d`, `rank_biserial`, `cramer_v` and so on.
    pub measure: String,
    /// Its value.
    pub value: f64,
}

/// An alarm: a test of a check that is beyond its limit, from the window that showed it to the one that did not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alarm {
    /// Unique.
    pub id: String,
    /// The monitor.
    pub monitor: String,
    /// The check.
    pub check: String,
    /// The statistic.
    pub test: Statistic,
    /// The feature; empty for what concerns all together.
    pub feature: String,
    /// The slice; empty for the whole window.
    pub slice: String,
    /// How bad; the worst since it began.
    pub severity: Severity,
    /// End of the first window that showed it.
    pub since_ms: i64,
    /// End of the first window that did not; absent while it lasts.
    pub until_ms: Option<i64>,
    /// The figure that began it, or that made it worse.
    pub value: f64,
    /// The limit it was beyond.
    pub limit: f64,
    /// What was seen, in words.
    pub message: String,
}
