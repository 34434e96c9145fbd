//! Statistics by name.

use fishy_contracts::monitoring::{Band, EffectSize, Statistic, Statistic as S};
use fishy_core::{Error, Result};
use fishy_drift::{
    Alternative, BinaryMetrics, BinnedShares, Binning, CategoryCounts, CategoryTable, Correction, Estimate, KsMethod,
    LogBase, PcaReconstruction, RegressionMetrics, Sample, TestResult,
};

/// Share of the variance that the principal components keep.
const PCA_SHARE: f64 = 0.65;
/// Rows a side of the tests whose cost grows with the square.
const MMD_ROWS: usize = 500;
const PERMUTATIONS: usize = 200;
/// Probability from which on a binary classifier says yes.
const CUT: f64 = 0.5;
/// The draws of a test are the same whenever it is run.
const SEED: u64 = 7;

/// What a statistic is computed from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The readings of a feature on both sides.
    Numeric,
    /// The same, each distinct value a category.
    Categorical,
    /// All readings of a feature, also those that are missing.
    Missing,
    /// All features on both sides.
    Together,
    /// Answers and true values of the window.
    Performance,
    /// Answers of the window, and the answers and true values of the reference.
    Estimated,
}

/// What a statistic is computed from.
pub const fn kind(statistic: Statistic) -> Kind {
    match statistic {
        S::Psi
        | S::Ks
        | S::Wasserstein
        | S::NormedWasserstein
        | S::JsDistance
        | S::Hellinger
        | S::KlDivergence
        | S::TotalVariation
        | S::LInfinity
        | S::EnergyDistance
        | S::AndersonDarling
        | S::CramerVonMises
        | S::MannWhitney
        | S::StudentT
        | S::WelchT
        | S::EppsSingleton => Kind::Numeric,
        S::ChiSquare | S::GTest | S::FisherExact | S::ProportionsZ => Kind::Categorical,
        S::Missing => Kind::Missing,
        S::PcaReconstruction | S::DomainClassifier | S::Mmd => Kind::Together,
        S::Mae
        | S::Rmse
        | S::Bias
        | S::Mape
        | S::MedianAbsoluteError
        | S::MaxAbsoluteError
        | S::Accuracy
        | S::Precision
        | S::Recall
        | S::F1
        | S::RocAuc
        | S::AveragePrecision
        | S::LogLoss
        | S::Brier => Kind::Performance,
        S::EstimatedMae | S::EstimatedRmse | S::EstimatedAccuracy | S::EstimatedF1 | S::EstimatedRocAuc => {
            Kind::Estimated
        }
    }
}

/// Whether a small value is the bad one.
pub const fn is_score(statistic: Statistic) -> bool {
    matches!(
        statistic,
        S::Accuracy
            | S::Precision
            | S::Recall
            | S::F1
            | S::RocAuc
            | S::AveragePrecision
            | S::EstimatedAccuracy
            | S::EstimatedF1
            | S::EstimatedRocAuc
    )
}

/// Whether a test gives a p-value.
pub const fn has_p_value(statistic: Statistic) -> bool {
    matches!(
        statistic,
        S::Ks
            | S::AndersonDarling
            | S::CramerVonMises
            | S::MannWhitney
            | S::StudentT
            | S::WelchT
            | S::EppsSingleton
            | S::ChiSquare
            | S::GTest
            | S::FisherExact
            | S::ProportionsZ
            | S::Mmd
    )
}

/// How bad a value is: the larger, the worse.
pub fn badness(statistic: Statistic, value: f64) -> f64 {
    if is_score(statistic) { -value } else { value.abs() }
}

/// What came of a statistic.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    pub value: f64,
    pub p_value: Option<f64>,
    pub effect: Option<EffectSize>,
    pub band: Option<Band>,
}

impl From<f64> for Outcome {
    fn from(value: f64) -> Self {
        Self { value, p_value: None, effect: None, band: None }
    }
}

impl From<TestResult> for Outcome {
    fn from(result: TestResult) -> Self {
        let measure = serde_json::to_value(result.effect.kind).ok();
        let measure = measure.as_ref().and_then(|measure| measure.as_str()).unwrap_or("effect").to_owned();
        let effect = Some(EffectSize { measure, value: result.effect.value }).filter(|effect| effect.value.is_finite());
        Self { value: result.statistic, p_value: Some(result.p_value), effect, band: None }
    }
}

impl<M> From<&Estimate<M>> for Outcome {
    fn from(estimate: &Estimate<M>) -> Self {
        let band = Band { lower: estimate.lower, upper: estimate.upper };
        let band = Some(band).filter(|band| band.lower.is_finite() && band.upper.is_finite());
        Self { value: estimate.value, p_value: None, effect: None, band }
    }
}

/// A statistic of one feature.
pub fn of_feature(statistic: Statistic, reference: &Sample, current: &Sample) -> Result<Outcome> {
    let shares = |binning| BinnedShares::new(reference, current, binning);
    let auto = || shares(Binning::auto(reference));
    Ok(match statistic {
        S::Psi => {
            let shares = shares(Binning::ReferenceDeciles);
            fishy_drift::psi_of_shares(&shares.reference, &shares.current).into()
        }
        S::Ks => {
            let test = fishy_drift::ks(reference, current, KsMethod::Auto);
            let effect = Some(EffectSize { measure: "ks_distance".to_owned(), value: test.statistic });
            Outcome { value: test.statistic, p_value: Some(test.p_value), effect, band: None }
        }
        S::Wasserstein => fishy_drift::wasserstein(reference, current).into(),
        S::NormedWasserstein => fishy_drift::normed_wasserstein(reference, current).into(),
        S::JsDistance => {
            let shares = auto();
            fishy_drift::js_distance(&shares.reference, &shares.current, LogBase::Two).into()
        }
        S::Hellinger => {
            let shares = shares(Binning::ReferenceDoane);
            fishy_drift::hellinger(&shares.reference, &shares.current).into()
        }
        S::KlDivergence => {
            let shares = auto();
            fishy_drift::kl_of_shares(&shares.current, &shares.reference).into()
        }
        S::TotalVariation => {
            let shares = auto();
            fishy_drift::total_variation(&shares.reference, &shares.current).into()
        }
        S::LInfinity => {
            let shares = auto();
            fishy_drift::l_infinity(&shares.reference, &shares.current).into()
        }
        S::EnergyDistance => fishy_drift::energy_distance(reference, current).into(),
        S::AndersonDarling => fishy_drift::anderson_darling(reference, current)?.into(),
        S::CramerVonMises => fishy_drift::cramer_von_mises(reference, current).into(),
        S::MannWhitney => fishy_drift::mann_whitney(reference, current, Alternative::TwoSided).into(),
        S::StudentT => fishy_drift::student_t(reference, current)?.into(),
        S::WelchT => fishy_drift::welch_t(reference, current)?.into(),
        S::EppsSingleton => fishy_drift::epps_singleton(reference, current)?.into(),
        S::ChiSquare | S::GTest | S::FisherExact | S::ProportionsZ => of_categories(statistic, reference, current)?,
        other => return Err(Error::internal(format!("{} is not of one feature", other.as_str()))),
    })
}

fn of_categories(statistic: Statistic, reference: &Sample, current: &Sample) -> Result<Outcome> {
    let counts = |sample: &Sample| -> Result<CategoryCounts> {
        let texts: Vec<String> = sample.values().iter().map(f64::to_string).collect();
        CategoryCounts::of(texts.iter().map(|text| Some(text.as_str())))
    };
    let table = CategoryTable::new(&counts(reference)?, &counts(current)?)?;
    Ok(match statistic {
        Statistic::ChiSquare => fishy_drift::chi_square(&table, Correction::default()).into(),
        Statistic::GTest => fishy_drift::g_test(&table, Correction::default()).into(),
        Statistic::FisherExact => fishy_drift::fisher_exact(&table, Alternative::TwoSided)?.into(),
        _ => {
            let last = table.categories().last().cloned().unwrap_or_default();
            if table.categories().len() > 2 {
                return Err(Error::precondition("a Z of proportions needs a feature with at most two values"));
            }
            fishy_drift::proportions_z(&table, &last, Alternative::TwoSided)?.into()
        }
    })
}

/// A statistic of all features together, column by column without gaps.
pub fn of_all(statistic: Statistic, reference: &[Vec<f64>], current: &[Vec<f64>]) -> Result<Outcome> {
    match statistic {
        Statistic::PcaReconstruction => {
            let pca = PcaReconstruction::fit(reference, PCA_SHARE)?;
            let usual = pca.error(reference)?.mean;
            if usual <= 0.0 {
                return Err(Error::precondition("the reference's components leave no error to compare with"));
            }
            Ok((pca.error(current)?.mean / usual).into())
        }
        Statistic::DomainClassifier => Ok(fishy_drift::domain_classifier(reference, current, SEED)?.roc_auc.into()),
        Statistic::Mmd => {
            // Scaled alike: else the feature with the largest unit would be the only one that counts.
            let scales: Vec<(f64, f64)> = reference.iter().map(|column| scale(column)).collect();
            let scaled = |columns: &[Vec<f64>]| -> Vec<Vec<f64>> {
                let one = |(column, (mean, by)): (&Vec<f64>, &(f64, f64))| {
                    thinned(column, MMD_ROWS).iter().map(|value| (value - mean) / by).collect()
                };
                columns.iter().zip(&scales).map(one).collect()
            };
            let test = fishy_drift::mmd(&scaled(reference), &scaled(current), None, PERMUTATIONS, SEED)?;
            Ok(Outcome { value: test.statistic, p_value: Some(test.p_value), effect: None, band: None })
        }
        other => Err(Error::internal(format!("{} is not of all features", other.as_str()))),
    }
}

fn scale(column: &[f64]) -> (f64, f64) {
    let count = column.len().max(1) as f64;
    let mean = column.iter().sum::<f64>() / count;
    let deviation = (column.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count).sqrt();
    (mean, if deviation > 0.0 { deviation } else { 1.0 })
}

/// At most so many of them, evenly spread.
pub fn thinned<T: Clone>(items: &[T], most: usize) -> Vec<T> {
    items.iter().step_by(items.len().div_ceil(most).max(1)).cloned().collect()
}

/// A statistic of answers and true values.
pub fn of_performance(statistic: Statistic, answered: &[(f64, f64)]) -> Result<Outcome> {
    let (predicted, truth): (Vec<f64>, Vec<f64>) = answered.iter().copied().unzip();
    let value =
        if matches!(statistic, S::Mae | S::Rmse | S::Bias | S::Mape | S::MedianAbsoluteError | S::MaxAbsoluteError) {
            let metrics = RegressionMetrics::of(&predicted, &truth)?;
            Some(match statistic {
                S::Mae => metrics.mae,
                S::Rmse => metrics.rmse,
                S::Bias => metrics.mean_error,
                S::Mape => metrics.mape,
                S::MedianAbsoluteError => metrics.median_absolute_error,
                _ => metrics.max_absolute_error,
            })
        } else {
            let truth = classes(&truth)?;
            let metrics = BinaryMetrics::of(&predicted, &truth, CUT)?;
            match statistic {
                S::Accuracy => metrics.confusion.accuracy(),
                S::Precision => metrics.confusion.precision(),
                S::Recall => metrics.confusion.recall(),
                S::F1 => metrics.confusion.f1(),
                S::RocAuc => metrics.roc_auc,
                S::AveragePrecision => metrics.average_precision,
                S::LogLoss => metrics.log_loss,
                S::Brier => metrics.brier,
                other => return Err(Error::internal(format!("{} is no measure of performance", other.as_str()))),
            }
        };
    value.map(Outcome::from).ok_or_else(|| {
        Error::precondition(format!("{} has no value for these answers and true values", statistic.as_str()))
    })
}

/// True values of a binary classifier.
pub fn classes(truth: &[f64]) -> Result<Vec<bool>> {
    let class = |value: &f64| match *value {
        0.0 => Ok(false),
        1.0 => Ok(true),
        other => Err(Error::precondition(format!("a true value is {other}: of a binary classifier it is 0 or 1"))),
    };
    truth.iter().map(class).collect()
}

/// The cut of a binary classifier.
pub const fn says_yes(probability: f64) -> bool {
    probability >= CUT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_statistic_has_a_value_on_data_it_is_made_for() {
        let wave =
            |n: u32, shift: f64| -> Vec<f64> { (0..n).map(|i| (f64::from(i) * 0.618).fract() + shift).collect() };
        let (reference, current) = (Sample::new(&wave(400, 0.0)).unwrap(), Sample::new(&wave(120, 0.3)).unwrap());
        let flags = |n: u32, every: u32| -> Vec<f64> { (0..n).map(|i| f64::from(u8::from(i % every == 0))).collect() };
        let (yes, no) = (Sample::new(&flags(300, 2)).unwrap(), Sample::new(&flags(200, 5)).unwrap());
        let columns = |shift: f64, n: u32| vec![wave(n, shift), wave(n, 0.0).iter().map(|v| v * v).collect()];
        let probable: Vec<(f64, f64)> = (0..100).map(|i| (f64::from(i) / 100.0, f64::from(u8::from(i > 60)))).collect();
        for statistic in Statistic::ALL {
            let outcome = match kind(*statistic) {
                Kind::Numeric => of_feature(*statistic, &reference, &current),
                Kind::Categorical => of_feature(*statistic, &yes, &no),
                Kind::Together => of_all(*statistic, &columns(0.0, 200), &columns(0.4, 150)),
                Kind::Performance => of_performance(*statistic, &probable),
                // Counted, and learnt from a reference: see the figures.
                Kind::Missing | Kind::Estimated => continue,
            }
            .unwrap_or_else(|error| panic!("{}: {error}", statistic.as_str()));
            assert!(outcome.value.is_finite() && outcome.value != 0.0, "{}: {outcome:?}", statistic.as_str());
            assert_eq!(outcome.p_value.is_some(), has_p_value(*statistic), "{}", statistic.as_str());
            let name = serde_json::to_value(statistic).unwrap();
            assert_eq!(name, statistic.as_str(), "its name is that of the wire");
        }
    }
}
