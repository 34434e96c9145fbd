//! Performance without labels, on drawn data that NannyML 0.13.1 was given from the same seeds.

#![expect(clippy::unreadable_literal, reason = "the numbers stand as NannyML printed them")]

use fishy_drift::{Cbpe, CbpeMetric, ClassColumn, Dle, DleMetric, Estimate};

use super::drawn::Drawn;

/// Scores, predictions and truths of a binary model.
type Rows = (Vec<f64>, Vec<bool>, Vec<bool>);

fn column(rows: &Rows) -> ClassColumn<'_> {
    ClassColumn { scores: &rows.0, predicted: &rows.1 }
}

/// Probabilities of three classes, which are calibrated, and the class drawn from them.
struct Three {
    scores: [Vec<f64>; 3],
    predicted: [Vec<bool>; 3],
    truth: [Vec<bool>; 3],
}

impl Three {
    fn draw(rows: usize, seed: u64) -> Self {
        let mut drawn = Drawn::new(seed);
        let mut three = Self { scores: Default::default(), predicted: Default::default(), truth: Default::default() };
        for _ in 0..rows {
            let squares = [drawn.uniform(), drawn.uniform(), drawn.uniform()].map(|value| value * value);
            let total = squares[0] + squares[1] + squares[2];
            let row = squares.map(|value| value / total);
            let place = drawn.uniform();
            let truth = if place < row[0] { 0 } else { 2 - usize::from(place < row[0] + row[1]) };
            let best = (0..3).max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap();
            for (class, score) in row.into_iter().enumerate() {
                three.scores[class].push(score);
                three.predicted[class].push(best == class);
                three.truth[class].push(truth == class);
            }
        }
        three
    }

    fn columns(&self) -> Vec<ClassColumn<'_>> {
        let columns = self.scores.iter().zip(&self.predicted);
        columns.map(|(scores, predicted)| ClassColumn { scores, predicted }).collect()
    }

    fn truth(&self) -> Vec<&[bool]> {
        self.truth.iter().map(|truth| &truth[..]).collect()
    }
}

#[test]
fn cbpe_of_three_classes_is_nannymls() {
    let (reference, current) = (Three::draw(2_000, 1), Three::draw(500, 2));
    let fitted = Cbpe::fit(&reference.columns(), &reference.truth(), 500, 7).unwrap();
    let estimates = fitted.estimate(&current.columns()).unwrap();
    // Metric, value, sampling error, lower and upper threshold.
    let expected = [
        (CbpeMetric::RocAuc, 0.828838980503625, 0.00988127553877304, 0.7985990792001885, 0.8571826322048943),
        (CbpeMetric::F1, 0.6362721742432166, 0.01895495354693527, 0.5977032516317571, 0.6440244683614018),
        (CbpeMetric::Precision, 0.6366511907446633, 0.021685244686440123, 0.5969309904054234, 0.6463010648950331),
        (CbpeMetric::Recall, 0.6368479353195174, 0.021687437381536025, 0.5974132226603475, 0.6441592323221101),
        (CbpeMetric::Specificity, 0.8183563746222289, 0.01238199910400196, 0.7985215551792797, 0.8228825208064006),
        (CbpeMetric::Accuracy, 0.6363645092183993, 0.021690447206085907, 0.5981173140978202, 0.6448826859021799),
        (
            CbpeMetric::AveragePrecision,
            0.7084263024156968,
            0.035871283644562046,
            0.6781025522996061,
            0.7494480504148794,
        ),
    ];
    for (estimate, (metric, value, error, low, high)) in estimates.iter().zip(expected) {
        assert_eq!(estimate.metric, metric);
        // Which class is calibrated hangs on random splits, here and there.
        assert!((estimate.value - value).abs() < 0.01, "{estimate:?} instead of {value}");
        assert!((estimate.lower_threshold - low).abs() < 1e-9, "{estimate:?} instead of {low}");
        assert!((estimate.upper_threshold - high).abs() < 1e-9, "{estimate:?} instead of {high}");
        let tolerance = if metric == CbpeMetric::AveragePrecision { 0.35 } else { 1e-9 };
        assert!((estimate.sampling_error / error - 1.0).abs() < tolerance, "{estimate:?} instead of {error}");
        assert!(estimate.lower < estimate.value && estimate.value < estimate.upper && estimate.upper <= 1.0);
    }
    // The cells of the confusion matrix come after these.
    assert_eq!(estimates.len(), 11);
}

#[test]
fn cbpe_calibrates_scores_that_need_it_and_fails_under_concept_drift() {
    let mut drawn = Drawn::new(9);
    // The truth comes with probability `p` or, after the concept has drifted, `1 - p`; the model says p squared.
    let mut rows = |count: usize, has_drifted: bool| -> Rows {
        let (mut scores, mut predicted, mut truth) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..count {
            let p = drawn.uniform();
            scores.push(p * p);
            predicted.push(p > 0.5);
            truth.push((drawn.uniform() < p) != has_drifted);
        }
        (scores, predicted, truth)
    };
    let accuracy = |estimates: Vec<Estimate<CbpeMetric>>| {
        estimates.into_iter().find(|estimate| estimate.metric == CbpeMetric::Accuracy).unwrap()
    };
    let realised = |(_, predicted, truth): &Rows| {
        predicted.iter().zip(truth).filter(|(a, b)| a == b).count() as f64 / truth.len() as f64
    };
    let reference = rows(6_000, false);
    let fitted = Cbpe::fit(&[column(&reference)], &[&reference.2], 1_000, 3).unwrap();
    assert!(fitted.is_calibrated());
    let stable = rows(2_000, false);
    let estimate = accuracy(fitted.estimate(&[column(&stable)]).unwrap());
    assert!((estimate.value - realised(&stable)).abs() < estimate.sampling_error * 3.0, "{estimate:?}");
    let drifted = rows(2_000, true);
    let estimate = accuracy(fitted.estimate(&[column(&drifted)]).unwrap());
    assert!(estimate.value > 0.7 && realised(&drifted) < 0.3, "{estimate:?} {}", realised(&drifted));
    let text = serde_json::to_string(&fitted).unwrap();
    assert_eq!(serde_json::from_str::<Cbpe>(&text).unwrap(), fitted);
}

#[test]
fn cbpe_says_what_it_needs() {
    let (scores, flags) = (vec![0.3; 60], vec![true; 60]);
    let column = [ClassColumn { scores: &scores, predicted: &flags }];
    assert!(Cbpe::fit(&column, &[&flags], 20, 1).unwrap_err().message().contains("every class"));
    assert!(Cbpe::fit(&column, &[], 20, 1).is_err() && Cbpe::fit(&[], &[], 20, 1).is_err());
}

/// Two features, predictions, truths: the error grows with the first feature.
fn regression(rows: usize, seed: u64, is_shifted: bool) -> (Vec<Vec<f64>>, Vec<f64>, Vec<f64>) {
    let mut drawn = Drawn::new(seed);
    let (mut features, mut predicted, mut truth) = (vec![Vec::new(), Vec::new()], Vec::new(), Vec::new());
    for _ in 0..rows {
        let (a, b) = (drawn.uniform(), drawn.uniform());
        let a = if is_shifted { 0.6 + 0.4 * a } else { a };
        let noise = drawn.uniform() - 0.5;
        features[0].push(a);
        features[1].push(b);
        predicted.push(2.0 + a);
        truth.push(2.0 + a + (0.2 + 3.0 * a * a) * noise);
    }
    (features, predicted, truth)
}

#[test]
fn dle_is_near_nannymls_and_sees_where_the_model_errs() {
    let (features, predicted, truth) = regression(4_000, 3, false);
    let fitted = Dle::fit(&features, &predicted, &truth, 1_000).unwrap();
    for (seed, is_shifted, chunk) in [(4, false, 0), (5, true, 1)] {
        let (features, predicted, _) = regression(1_000, seed, is_shifted);
        let estimates = fitted.estimate(&features, &predicted).unwrap();
        assert_eq!(estimates.len(), 6);
        for (metric, values, realised, error, low, high) in NANNYML {
            let estimate = estimates.iter().find(|estimate| estimate.metric == metric).unwrap();
            // Both learners are gradient boosted trees with the same settings, binned in their own ways.
            assert!((estimate.value / values[chunk] - 1.0).abs() < 0.04, "{estimate:?} instead of {}", values[chunk]);
            assert!(
                (estimate.value / realised[chunk] - 1.0).abs() < 0.15,
                "{estimate:?}: realised {}",
                realised[chunk]
            );
            assert!((estimate.sampling_error / error - 1.0).abs() < 1e-9, "{estimate:?} instead of {error}");
            assert!((estimate.lower_threshold - low).abs() < 1e-9 && (estimate.upper_threshold - high).abs() < 1e-9);
            assert_eq!(estimate.is_alert, is_shifted, "{estimate:?}");
        }
    }
}

#[test]
fn dle_survives_storage_and_damage_is_noticed() {
    let (mut features, predicted, truth) = regression(500, 3, false);
    for row in (0..500).step_by(7) {
        features[1][row] = f64::NAN;
    }
    let fitted = Dle::fit(&features, &predicted, &truth, 100).unwrap();
    let text = serde_json::to_string(&fitted).unwrap();
    assert!(serde_json::from_str::<Dle>(&text).unwrap() == fitted);
    let mut damaged: serde_json::Value = serde_json::from_str(&text).unwrap();
    let branch = &mut damaged["models"][0]["trees"]["trees"][0][0]["split"]["left"];
    assert!(branch.is_number());
    *branch = 0.into();
    assert!(serde_json::from_value::<Dle>(damaged).is_err());
}

#[test]
fn dle_says_what_it_needs() {
    let (features, predicted, truth) = regression(200, 3, false);
    assert!(Dle::fit(&features, &predicted[1..], &truth, 100).is_err());
    assert!(Dle::fit(&features, &predicted[..50], &truth[..50], 100).unwrap_err().message().contains("100 rows"));
    let fitted = Dle::fit(&features, &predicted, &truth, 100).unwrap();
    assert!(fitted.estimate(&features[..1], &predicted).is_err());
    assert!(fitted.estimate(&[Vec::new(), Vec::new()], &[]).is_err());
    // Logarithms of values at or below -1 are not defined: those metrics are left out.
    let negative: Vec<f64> = truth.iter().map(|value| value - 5.0).collect();
    let fitted = Dle::fit(&features, &negative, &negative, 100).unwrap();
    assert_eq!(fitted.estimate(&features, &negative).unwrap().len(), 4);
}

/// Metric, values and realised values of both chunks, sampling error, lower and upper threshold.
type Row = (DleMetric, [f64; 2], [f64; 2], f64, f64, f64);
const NANNYML: [Row; 6] = [
    (
        DleMetric::Mae,
        [0.30081909186701017, 0.5330349484697167],
        [0.30232770667735204, 0.549232095866978],
        0.009878555898036812,
        0.2750902157540726,
        0.31342685603331105,
    ),
    (
        DleMetric::Mape,
        [0.12004998089216731, 0.2061692823026461],
        [0.1211827471827427, 0.21713497852611421],
        0.004294328254434209,
        0.1080501286953468,
        0.1267096370785559,
    ),
    (
        DleMetric::Mse,
        [0.1891467118782199, 0.41032799356986105],
        [0.19054074773925417, 0.4313119287996477],
        0.011153436371348906,
        0.1672624172262293,
        0.20108548792764475,
    ),
    (
        DleMetric::Rmse,
        [0.43491000434368016, 0.6405684924891804],
        [0.4365097338425046, 0.656743426917733],
        0.012994650221916374,
        0.4092220682142411,
        0.4489854414578417,
    ),
    (
        DleMetric::Msle,
        [0.013881134986703776, 0.029349204328483203],
        [0.014008859386500948, 0.03125094774325839],
        0.0008242013213137916,
        0.011921197579907315,
        0.014851361959174119,
    ),
    (
        DleMetric::Rmsle,
        [0.11781822858413624, 0.1713160947736178],
        [0.11835902748206809, 0.17677937589905215],
        0.0035618314317047797,
        0.10929440520826772,
        0.1220646215297746,
    ),
];
