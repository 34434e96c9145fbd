#![doc = include_str!("../README.md")]

mod agreement;
mod boosting;
mod categorical;
mod checks;
mod column;
mod effect;
mod estimation;
mod ks;
mod linear;
mod multiple;
mod multivariate;
mod neighbours;
mod numeric;
mod performance;
mod psi;
mod random;
mod reference;
mod regression;
mod sample;
mod sketch;
mod special;
mod streaming;

pub use agreement::{
    BlandAltman, BootstrapMethod, CohenKappa, FleissKappa, Interval, KappaWeights, Linearity,
    MAX_PAIRS as MAX_COMPARED_PAIRS, PassingBablok, ProportionalBias, bootstrap,
};
pub use categorical::{CategoryCounts, CategoryTable, Correction, chi_square, fisher_exact, g_test, proportions_z};
pub use checks::{
    CheckSettings, ClockSettings, Finding, FindingKind, Quantity, QuietSettings, SensorChecks, SpikeSettings,
    StuckSettings, Suspicion,
};
pub use column::{ColumnDrift, ColumnSketch, Comparison, Summary};
pub use effect::{Alternative, Effect, EffectKind, TestResult};
pub use estimation::{Cbpe, CbpeMetric, ClassColumn, Dle, DleMetric, Estimate};
pub use ks::{KsMethod, KsTest, ks, ks_two_sample};
pub use multiple::{benjamini_hochberg, holm};
pub use multivariate::{DomainClassifier, MmdTest, PcaReconstruction, ReconstructionError, domain_classifier, mmd};
pub use neighbours::{NeighbourChecks, NeighbourSettings};
pub use numeric::{
    BinnedShares, Binning, LogBase, anderson_darling, cramer_von_mises, energy_distance, epps_singleton, hellinger,
    js_distance, js_divergence, kl_divergence, kl_of_shares, l_infinity, mann_whitney, normed_wasserstein, student_t,
    total_variation, wasserstein, welch_t,
};
pub use performance::{
    BinaryMetrics, ClassMetrics, Confusion, MulticlassMetrics, RankedQuery, RankingMetrics, RegressionMetrics,
    average_precision, roc_auc,
};
pub use psi::{BinCounts, psi, psi_of_shares};
pub use reference::Reference;
pub use regression::RegressionError;
pub use sample::Sample;
pub use sketch::{DistinctSketch, Frequent, FrequentSketch, QuantileSketch};
pub use streaming::{
    Adwin, AdwinSettings, Ddm, DdmSettings, Eddm, EddmSettings, HddmA, HddmASettings, HddmW, HddmWSettings, Kswin,
    KswinSettings, PageHinkley, PageHinkleySettings, Side, Signal,
};
