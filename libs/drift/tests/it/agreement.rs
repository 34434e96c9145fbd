//! Agreement against scikit-learn 1.9.1, statsmodels 0.15.0, SciPy 1.17.1 and published examples.

#![expect(clippy::unreadable_literal, reason = "the numbers stand as the references printed them")]

use fishy_drift::{
    BlandAltman, BootstrapMethod, CohenKappa, FleissKappa, Interval, KappaWeights, PassingBablok, bootstrap,
};

use super::drawn::Drawn;

#[track_caller]
fn assert_near(got: f64, expected: f64) {
    assert!((got - expected).abs() <= 1e-9 * expected.abs().max(1e-3), "{got} instead of {expected}");
}

#[track_caller]
fn assert_interval(got: Interval, low: f64, high: f64) {
    assert_near(got.low, low);
    assert_near(got.high, high);
}

/// Two raters, four grades.
fn graded() -> Vec<(usize, usize)> {
    let table = [[53, 5, 2, 1], [11, 14, 6, 2], [1, 8, 20, 9], [0, 2, 5, 31]];
    let cells = table.iter().enumerate();
    cells
        .flat_map(|(first, row)| row.iter().enumerate().map(move |(second, count)| ((first, second), *count)))
        .flat_map(|(pair, count)| std::iter::repeat_n(pair, count))
        .collect()
}

#[test]
fn cohens_kappa_is_that_of_scikit_learn_and_its_errors_those_of_statsmodels() {
    for (weights, [kappa, error, null_error, low, high], p_value) in [
        (
            KappaWeights::Unweighted,
            [0.5808440018966334, 0.04671490437830518, 0.04513700249632505, 0.48928447177392276, 0.6724035320193441],
            6.773364027044584e-38,
        ),
        (
            KappaWeights::Linear,
            [0.7291013584117032, 0.03573384513916159, 0.05826841768268086, 0.6590643089098148, 0.7991384079135916],
            6.354001466683618e-36,
        ),
        (
            KappaWeights::Quadratic,
            [0.8337879921782585, 0.030746447244224952, 0.0766410593655097, 0.7735260629270168, 0.8940499214295002],
            1.4494083572252062e-27,
        ),
    ] {
        let found = CohenKappa::of(&graded(), 4, weights, 0.95).unwrap();
        assert_eq!(found.items, 170);
        assert_near(found.kappa, kappa);
        assert_near(found.standard_error, error);
        assert_near(found.null_standard_error, null_error);
        assert_interval(found.interval, low, high);
        assert!((found.p_value / p_value - 1.0).abs() < 1e-7, "{} instead of {p_value}", found.p_value);
    }
}

#[test]
fn kappa_says_when_it_is_not_defined() {
    let of = |ratings: &[(usize, usize)], categories| CohenKappa::of(ratings, categories, KappaWeights::Linear, 0.95);
    assert!(of(&[], 2).is_err() && of(&[(0, 2)], 2).is_err() && of(&[(0, 0)], 1).is_err());
    assert!(of(&[(1, 1), (1, 1)], 2).unwrap_err().message().contains("one category only"));
    let all = of(&[(0, 0), (1, 1)], 2).unwrap();
    assert_near(all.kappa, 1.0);
    assert!(CohenKappa::of(&[(0, 1)], 2, KappaWeights::Unweighted, 95.0).is_err());
    assert!(FleissKappa::of(&[]).is_err() && FleissKappa::of(&[vec![2, 0], vec![1, 0]]).is_err());
    assert!(FleissKappa::of(&[vec![1, 0]]).is_err() && FleissKappa::of(&[vec![2, 0], vec![2, 0]]).is_err());
}

/// Ten items, fourteen raters, five categories: `statsmodels.stats.inter_rater.fleiss_kappa`; the standard error written
/// out in NumPy from Fleiss, Nee and Landis 1979.
#[test]
fn fleiss_kappa_is_that_of_statsmodels() {
    let counts = [
        [0, 0, 0, 0, 14],
        [0, 2, 6, 4, 2],
        [0, 0, 3, 5, 6],
        [0, 3, 9, 2, 0],
        [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0],
        [3, 2, 6, 3, 0],
        [2, 5, 3, 2, 2],
        [6, 5, 2, 1, 0],
        [0, 2, 2, 3, 7],
    ];
    let found = FleissKappa::of(&counts.map(|row| row.to_vec())).unwrap();
    assert_eq!((found.items, found.ratings), (10, 14));
    assert_near(found.kappa, 0.20993070442195522);
    assert_near(found.null_standard_error, 0.016965069224393132);
    assert!(found.p_value < 1e-30);
}

/// Peak expiratory flow by a Wright meter and a mini Wright meter, first readings, litres a minute: the example of Bland
/// and Altman, Lancet 1986, table 1.
const WRIGHT: [f64; 17] = [
    494.0, 395.0, 516.0, 434.0, 476.0, 557.0, 413.0, 442.0, 650.0, 433.0, 417.0, 656.0, 267.0, 478.0, 178.0, 423.0,
    427.0,
];
const MINI: [f64; 17] = [
    512.0, 430.0, 520.0, 428.0, 500.0, 600.0, 364.0, 380.0, 658.0, 445.0, 432.0, 626.0, 260.0, 477.0, 259.0, 350.0,
    451.0,
];

#[test]
fn bland_altman_gives_the_published_figures() {
    let found = BlandAltman::of(&WRIGHT, &MINI, 0.95).unwrap();
    // As printed in the paper, in whole tenths: -2.1, 38.8, and -22.0 to 17.8.
    let printed = [(found.bias, -2.1), (found.deviation, 38.8), (found.bias_interval.low, -22.0)];
    for (got, expected) in printed.into_iter().chain([(found.bias_interval.high, 17.8)]) {
        assert!((got - expected).abs() < 0.05, "{got} instead of {expected}");
    }
    // In full by SciPy, with 1.96 for the 2 of the paper.
    assert_near(found.bias, -2.1176470588235294);
    assert_near(found.deviation, 38.76512987360738);
    assert_interval(found.limits, -78.09590546711173, 73.86061134946466);
    assert_interval(found.lower_limit_interval, -112.85155313931088, -43.34025779491259);
    assert_interval(found.upper_limit_interval, 39.104963677265516, 108.61625902166381);
    let trend = found.proportional.unwrap();
    assert_near(trend.slope, 0.02868744515254922);
    assert_near(trend.intercept, -15.067497300038983);
    assert_near(trend.p_value, 0.7494985336492941);
    assert_interval(trend.slope_interval, -0.15932006368395663, 0.21669495398905508);
}

#[test]
fn bland_altman_sees_a_difference_that_grows() {
    let mut drawn = Drawn::new(31);
    let truth: Vec<f64> = (0..200).map(|_| 10.0 + 90.0 * drawn.uniform()).collect();
    let first: Vec<f64> = truth.iter().map(|value| value * 1.1 + drawn.normal()).collect();
    let found = BlandAltman::of(&first, &truth, 0.95).unwrap();
    assert!(found.proportional.unwrap().p_value < 1e-20);
    assert!(BlandAltman::of(&[1.0, f64::NAN, 2.0], &[1.0, 1.0, 2.0], 0.95).is_err());
    let with_gap = BlandAltman::of(&[1.0, f64::NAN, 2.0, 4.0], &[1.0, 1.0, 2.5, 4.0], 0.95).unwrap();
    assert_eq!((with_gap.pairs, with_gap.skipped), (3, 1));
}

/// The same readings, by a loop in Python that follows the paper of Passing and Bablok 1983 step by step: 135 slopes, 13
/// of them below -1.
#[test]
fn passing_bablok_follows_the_paper() {
    let found = PassingBablok::of(&WRIGHT, &MINI, 0.95).unwrap();
    assert_near(found.slope, 1.0648148148148149);
    assert_interval(found.slope_interval, 0.8370786516853933, 1.3968253968253967);
    assert_near(found.intercept, -24.3055555555556);
    assert_interval(found.intercept_interval, -178.03174603174602, 82.93820224719099);
    assert_near(found.linearity.statistic, 0.6666666666666666);
    assert!((found.linearity.p_value - 0.7657631734754862).abs() < 1e-9);
}

#[test]
fn passing_bablok_does_not_mind_which_method_comes_first() {
    let there = PassingBablok::of(&WRIGHT, &MINI, 0.95).unwrap();
    let back = PassingBablok::of(&MINI, &WRIGHT, 0.95).unwrap();
    assert_near(back.slope_interval.low, 1.0 / there.slope_interval.high);
    assert_near(back.slope_interval.high, 1.0 / there.slope_interval.low);
    assert_near(back.slope, 1.0 / there.slope);
}

#[test]
fn passing_bablok_finds_lines_and_refuses_what_is_none() {
    let places: Vec<f64> = (0..60).map(f64::from).collect();
    let line: Vec<f64> = places.iter().map(|x| 3.0 + 2.0 * x).collect();
    let found = PassingBablok::of(&places, &line, 0.95).unwrap();
    assert_near(found.slope, 2.0);
    assert_near(found.intercept, 3.0);
    let curve: Vec<f64> = places.iter().map(|x| (x / 60.0).powi(4) * 60.0).collect();
    assert!(PassingBablok::of(&places, &curve, 0.95).unwrap().linearity.p_value < 0.01);
    let falling: Vec<f64> = places.iter().map(|x| -x).collect();
    assert!(PassingBablok::of(&places, &falling, 0.95).is_err());
    assert!(PassingBablok::of(&places[..3], &line[..3], 0.95).is_err());
    let many: Vec<f64> = (0..3_001).map(f64::from).collect();
    assert!(PassingBablok::of(&many, &many, 0.95).unwrap_err().message().contains("at most 3000"));
    assert!(PassingBablok::of(&[1.0; 5], &[1.0; 5], 0.95).is_err(), "nothing but one point");
}

/// `scipy.stats.bootstrap` with 100,000 resamples; both draw, so the last digits differ.
#[test]
fn bootstrap_intervals_are_scipys() {
    let values: Vec<f64> = (0..40).map(|place| (-2.0 + 4.0 * f64::from(place) / 39.0).exp()).collect();
    let variance = |places: &[usize]| {
        let mean = places.iter().map(|place| values[*place]).sum::<f64>() / places.len() as f64;
        places.iter().map(|place| (values[*place] - mean).powi(2)).sum::<f64>() / (places.len() - 1) as f64
    };
    let of = |method, seed| bootstrap(values.len(), variance, 40_000, seed, 0.95, method).unwrap();
    for (method, low, high) in [
        (BootstrapMethod::Bca, 2.381459578650409, 6.501170940283082),
        (BootstrapMethod::Percentile, 1.9751313150842662, 5.881902591984793),
    ] {
        let found = of(method, 5);
        assert!((found.low / low - 1.0).abs() < 0.02 && (found.high / high - 1.0).abs() < 0.02, "{found:?}");
        assert_eq!(found, of(method, 5), "one seed, one interval");
        assert_ne!(found, of(method, 6));
    }
    assert!(bootstrap(1, variance, 100, 0, 0.95, BootstrapMethod::Bca).is_err());
    assert!(bootstrap(40, variance, 10, 0, 0.95, BootstrapMethod::Bca).is_err());
    assert!(bootstrap(40, |_| f64::NAN, 100, 0, 0.95, BootstrapMethod::Percentile).is_err());
}
