use fishy_core::{Error, Result};

use crate::effect::{EffectKind, TestResult};
use crate::sample::Sample;
use crate::special::student_two_sided;

/// Student's t-test of equal means with one pooled variance, two-sided. The statistic is negative when the current mean is
/// the higher one. Needs three values in all, of which not all are equal within the samples.
pub fn student_t(reference: &Sample, current: &Sample) -> Result<TestResult> {
    let (n, m) = (reference.count() as f64, current.count() as f64);
    let dof = n + m - 2.0;
    if dof < 1.0 {
        return Err(too_small(reference, current));
    }
    let pooled = (reference.variance(0) * n + current.variance(0) * m) / dof;
    result(reference, current, pooled, (pooled * (1.0 / n + 1.0 / m)).sqrt(), dof)
}

/// Welch's t-test of equal means with a variance for each sample, two-sided, with the degrees of freedom of Satterthwaite
/// 1946. The statistic is negative when the current mean is the higher one. Needs two values in each sample.
pub fn welch_t(reference: &Sample, current: &Sample) -> Result<TestResult> {
    let (n, m) = (reference.count() as f64, current.count() as f64);
    if n < 2.0 || m < 2.0 {
        return Err(too_small(reference, current));
    }
    let (of_reference, of_current) = (reference.variance(1) / n, current.variance(1) / m);
    let error = of_reference + of_current;
    let dof = error * error / (of_reference * of_reference / (n - 1.0) + of_current * of_current / (m - 1.0));
    let pooled = (reference.variance(0) * n + current.variance(0) * m) / (n + m - 2.0);
    result(reference, current, pooled, error.sqrt(), dof)
}

fn result(reference: &Sample, current: &Sample, variance: f64, error: f64, dof: f64) -> Result<TestResult> {
    let difference = reference.mean() - current.mean();
    if error <= 0.0 || !error.is_finite() {
        return Err(Error::precondition(
            "a t-test needs values that vary within the samples: compare the two constants directly",
        ));
    }
    let statistic = difference / error;
    let p_value = student_two_sided(statistic, dof);
    Ok(TestResult::new(statistic, p_value, EffectKind::CohenD, -difference / variance.sqrt()))
}

fn too_small(reference: &Sample, current: &Sample) -> Error {
    Error::precondition(format!(
        "a t-test needs at least two values in each sample, and there are {} and {}: use a longer window",
        reference.count(),
        current.count()
    ))
}
