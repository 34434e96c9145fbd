//! Many tests at once: the more are made, the more false alarms there are, unless the p-values pay for it.

/// P-values adjusted by Holm 1979: flagging those below `alpha` keeps the probability of a single false alarm among all
/// tests below `alpha`, whatever their dependence. In the given order. NaN stays NaN and is no test.
pub fn holm(p_values: &[f64]) -> Vec<f64> {
    let order = ascending(p_values);
    let tests = order.len();
    let mut adjusted = vec![f64::NAN; p_values.len()];
    let mut largest = 0.0_f64;
    for (rank, place) in order.into_iter().enumerate() {
        largest = largest.max(p_values[place] * (tests - rank) as f64);
        adjusted[place] = largest.min(1.0);
    }
    adjusted
}

/// P-values adjusted by Benjamini and Hochberg 1995: of those flagged below `alpha`, a share of at most `alpha` is expected
/// to be false alarms (for independent or positively dependent tests). In the given order. NaN stays NaN and is no test.
pub fn benjamini_hochberg(p_values: &[f64]) -> Vec<f64> {
    let order = ascending(p_values);
    let tests = order.len();
    let mut adjusted = vec![f64::NAN; p_values.len()];
    let mut smallest = 1.0_f64;
    for (rank, place) in order.into_iter().enumerate().rev() {
        smallest = smallest.min(p_values[place] * tests as f64 / (rank + 1) as f64);
        adjusted[place] = smallest;
    }
    adjusted
}

/// Places of the p-values from the smallest to the largest, without NaN.
fn ascending(p_values: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..p_values.len()).filter(|place| !p_values[*place].is_nan()).collect();
    order.sort_by(|a, b| p_values[*a].total_cmp(&p_values[*b]));
    order
}

#[cfg(test)]
#[expect(clippy::unreadable_literal, reason = "the numbers stand as statsmodels printed them")]
mod tests {
    use super::*;

    /// `statsmodels.stats.multitest.multipletests` 0.15 with `holm` and `fdr_bh`.
    const RAW: [f64; 10] = [0.01, 0.04, 0.03, 0.005, 0.2, 0.049, 1.0, 0.0001, 0.0001, 0.6];
    const HOLM: [f64; 10] = [0.07, 0.2, 0.18, 0.04, 0.6000000000000001, 0.2, 1.0, 0.001, 0.001, 1.0];
    const BENJAMINI_HOCHBERG: [f64; 10] = [
        0.024999999999999998,
        0.06666666666666667,
        0.06,
        0.016666666666666666,
        0.25,
        0.07,
        1.0,
        0.0005,
        0.0005,
        0.6666666666666666,
    ];

    #[test]
    fn both_are_those_of_statsmodels() {
        let near = |got: &[f64], expected: &[f64]| {
            assert_eq!(got.len(), expected.len());
            got.iter()
                .zip(expected)
                .for_each(|(got, expected)| assert!((got - expected).abs() < 1e-14, "{got} {expected}"));
        };
        near(&holm(&RAW), &HOLM);
        near(&benjamini_hochberg(&RAW), &BENJAMINI_HOCHBERG);
    }

    #[test]
    fn what_is_no_test_does_not_count() {
        assert_eq!(holm(&[0.01, 0.02]), [0.02, 0.02]);
        let with_nan = holm(&[0.01, f64::NAN, 0.02]);
        assert_eq!((with_nan[0].to_bits(), with_nan[2].to_bits()), (0.02_f64.to_bits(), 0.02_f64.to_bits()));
        assert!(with_nan[1].is_nan() && benjamini_hochberg(&[f64::NAN])[0].is_nan());
        assert!(holm(&[]).is_empty() && benjamini_hochberg(&[]).is_empty());
    }
}
