use fishy_core::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::categorical::CategoryTable;
use crate::effect::{Alternative, EffectKind, TestResult};
use crate::special::{chi2_sf, normal_sf};

/// Continuity correction of a table of two categories.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Correction {
    /// None.
    None,
    /// Yates 1934: each count moves up to half a unit towards its expectation when there are two categories; no change
    /// when there are more. The default of SciPy, NannyML and alibi-detect.
    #[default]
    Yates,
}

/// Pearson's chi-square test of homogeneity: both samples are taken as drawn from one unknown distribution (unlike a test
/// of fit, which takes the reference for the truth). A single category gives p 1.
pub fn chi_square(table: &CategoryTable, correction: Correction) -> TestResult {
    let statistic = sum(table, correction, |observed, expected| (observed - expected).powi(2) / expected);
    result(table, statistic)
}

/// G-test of homogeneity: the likelihood ratio, twice the sum of `observed ln(observed / expected)`. A single category
/// gives p 1.
pub fn g_test(table: &CategoryTable, correction: Correction) -> TestResult {
    let term = |observed: f64, expected: f64| {
        if observed > 0.0 { 2.0 * observed * (observed / expected).ln() } else { 0.0 }
    };
    let statistic = sum(table, correction, term);
    result(table, statistic)
}

/// Z-test of one category's share in the two samples, with the pooled variance. The statistic is positive when the current
/// share is the higher one. Refused when the table lacks the category, or holds no other.
pub fn proportions_z(table: &CategoryTable, category: &str, alternative: Alternative) -> Result<TestResult> {
    let place = table.categories().iter().position(|name| name == category).ok_or_else(|| {
        Error::invalid(format!(
            "no value of either sample is {category:?}: name a category that at least one of them has"
        ))
    })?;
    let [(p, n), (q, m)] = [table.reference(), table.current()].map(|counts| {
        let total = counts.iter().sum::<u64>() as f64;
        (counts[place] as f64 / total, total)
    });
    let pooled = (p * n + q * m) / (n + m);
    let variance = pooled * (1.0 - pooled) * (1.0 / n + 1.0 / m);
    if variance <= 0.0 {
        return Err(Error::precondition(format!(
            "every value of both samples is {category:?}: there is nothing to test"
        )));
    }
    let statistic = (q - p) / variance.sqrt();
    let p_value = match alternative {
        Alternative::TwoSided => 2.0 * normal_sf(statistic.abs()),
        Alternative::Higher => normal_sf(statistic),
        Alternative::Lower => normal_sf(-statistic),
    };
    let effect = 2.0 * (q.sqrt().asin() - p.sqrt().asin());
    Ok(TestResult::new(statistic, p_value, EffectKind::CohenH, effect))
}

/// Sum of `term(observed, expected)` over the cells of the table.
fn sum(table: &CategoryTable, correction: Correction, term: impl Fn(f64, f64) -> f64) -> f64 {
    let rows = [table.reference(), table.current()];
    let totals = rows.map(|counts| counts.iter().sum::<u64>() as f64);
    let is_corrected = correction == Correction::Yates && table.categories().len() == 2;
    let mut sum = 0.0;
    for (of_reference, of_current) in rows[0].iter().zip(rows[1]) {
        let column = (of_reference + of_current) as f64;
        for (count, row) in [*of_reference, *of_current].into_iter().zip(totals) {
            let expected = row * column / (totals[0] + totals[1]);
            let mut observed = count as f64;
            if is_corrected {
                let gap = expected - observed;
                observed += gap.abs().min(0.5).copysign(gap);
            }
            sum += term(observed, expected);
        }
    }
    sum
}

/// The p-value, and Cramér's V of Pearson's uncorrected chi-square.
fn result(table: &CategoryTable, statistic: f64) -> TestResult {
    let dof = table.categories().len() - 1;
    let p_value = if dof == 0 { 1.0 } else { chi2_sf(statistic, dof as f64) };
    let pearson = sum(table, Correction::None, |observed, expected| (observed - expected).powi(2) / expected);
    let total: u64 = table.reference().iter().chain(table.current()).sum();
    // Two rows: the smaller dimension less one is 1.
    TestResult::new(statistic, p_value, EffectKind::CramerV, (pearson / total as f64).sqrt().min(1.0))
}
