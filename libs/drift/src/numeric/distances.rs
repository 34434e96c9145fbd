use crate::sample::{Sample, for_each_step};

/// Smallest standard deviation that [`normed_wasserstein`] divides by.
pub(crate) const SMALLEST_DEVIATION: f64 = 0.001;

/// Wasserstein-1 (earth mover's) distance, in the unit of the values: the area between the two distribution functions.
pub fn wasserstein(a: &Sample, b: &Sample) -> f64 {
    integral(a, b, f64::abs)
}

/// Wasserstein-1 distance in standard deviations of the reference (divisor `n`, at least 0.001), as Evidently reports it.
pub fn normed_wasserstein(reference: &Sample, current: &Sample) -> f64 {
    wasserstein(reference, current) / reference.variance(0).sqrt().max(SMALLEST_DEVIATION)
}

/// Energy distance, in the root of the unit of the values: `sqrt(2 ∫ (F - G)² dx)` (Székely and Rizzo 2013), as SciPy.
pub fn energy_distance(a: &Sample, b: &Sample) -> f64 {
    (2.0 * integral(a, b, |gap| gap * gap)).sqrt()
}

/// Integral over the values of `weight` of the difference of the distribution functions.
fn integral(a: &Sample, b: &Sample, weight: impl Fn(f64) -> f64) -> f64 {
    let (n, m) = (a.count() as f64, b.count() as f64);
    let (mut sum, mut last) = (0.0, None);
    for_each_step(a, b, |step| {
        if let Some((value, weight)) = last {
            sum += weight * (step.value - value);
        }
        last = Some((step.value, weight(step.up_to.0 as f64 / n - step.up_to.1 as f64 / m)));
    });
    sum
}
