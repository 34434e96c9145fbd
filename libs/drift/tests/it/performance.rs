//! Metrics against scikit-learn 1.9.1 on drawn data, which it was given from the same seeds.

#![expect(clippy::unreadable_literal, reason = "the numbers stand as scikit-learn printed them")]

use fishy_drift::{
    BinaryMetrics, Confusion, MulticlassMetrics, RankedQuery, RankingMetrics, RegressionMetrics, roc_auc,
};

use super::drawn::Drawn;

#[track_caller]
fn assert_near(got: f64, expected: f64) {
    assert!((got - expected).abs() <= 1e-12 * expected.abs().max(1.0), "{got} instead of {expected}");
}

#[test]
fn regression_metrics_are_scikit_learns() {
    let mut drawn = Drawn::new(21);
    let (truth, predicted): (Vec<f64>, Vec<f64>) = (0..200)
        .map(|_| {
            let truth = drawn.uniform() * 4.0 + 0.5;
            (truth, truth + (drawn.uniform() - 0.4))
        })
        .unzip();
    let metrics = RegressionMetrics::of(&predicted, &truth).unwrap();
    for (got, expected) in [
        (metrics.mae, 0.24125731185940094),
        (metrics.mse, 0.07882059401803128),
        (metrics.rmse, 0.28075005613183995),
        (metrics.median_absolute_error, 0.21888424616772673),
        (metrics.max_absolute_error, 0.5697081261547279),
        (metrics.mean_error, 0.09486458405037411),
        (metrics.error_deviation, 0.2642372129564282),
        (metrics.mape, 0.13117865044971183),
        (metrics.msle.unwrap(), 0.0084299184562905),
        (metrics.r2.unwrap(), 0.9445867856674528),
        (metrics.explained_variance.unwrap(), 0.9509135528458137),
    ] {
        assert_near(got, expected);
    }
}

#[test]
fn regression_metrics_say_what_is_not_defined() {
    let metrics = RegressionMetrics::of(&[1.0, f64::NAN, -3.0], &[2.0, 1.0, 2.0]).unwrap();
    assert_eq!((metrics.count, metrics.skipped, metrics.r2, metrics.msle), (2, 1, None, None));
    assert!(RegressionMetrics::of(&[f64::NAN], &[1.0]).is_err());
    assert!(RegressionMetrics::of(&[1.0], &[]).is_err());
}

#[test]
fn binary_metrics_are_scikit_learns() {
    let mut drawn = Drawn::new(22);
    // Scores in steps, so that many are tied.
    let (scores, truth): (Vec<f64>, Vec<bool>) = (0..300)
        .map(|_| {
            let score = drawn.uniform();
            ((score * 20.0).floor() / 20.0, drawn.uniform() < score)
        })
        .unzip();
    let metrics = BinaryMetrics::of(&scores, &truth, 0.5).unwrap();
    let counts = Confusion { true_positives: 104, false_positives: 40, true_negatives: 106, false_negatives: 50 };
    assert_eq!(metrics.confusion, counts);
    for (got, expected) in [
        (counts.accuracy(), 0.7),
        (counts.precision(), 0.7222222222222222),
        (counts.recall(), 0.6753246753246753),
        (counts.specificity(), 106.0 / 146.0),
        (counts.false_positive_rate(), 40.0 / 146.0),
        (counts.false_negative_rate(), 50.0 / 154.0),
        (counts.f1(), 0.697986577181208),
        (counts.matthews(), 0.40153069739800507),
        (metrics.roc_auc, 0.8114436932930085),
        (metrics.average_precision, 0.8295964296242676),
        (metrics.log_loss, 0.7458722001290645),
        (metrics.brier, 0.17828333333333332),
    ] {
        assert_near(got.unwrap(), expected);
    }
}

#[test]
fn binary_metrics_say_what_is_not_defined() {
    let metrics = BinaryMetrics::of(&[0.2, f64::NAN, 0.3], &[false, true, false], 0.5).unwrap();
    assert_eq!((metrics.skipped, metrics.roc_auc, metrics.average_precision), (1, None, None));
    let confusion = metrics.confusion;
    assert_eq!(
        (confusion.precision(), confusion.recall(), confusion.f1(), confusion.matthews()),
        (None, None, None, None)
    );
    assert_eq!(confusion.accuracy(), Some(1.0));
    assert!(BinaryMetrics::of(&[1.5], &[true], 0.5).is_err());
    assert_eq!(roc_auc(&[0.1, 0.1], &[true, false]), Some(0.5));
}

#[test]
fn multiclass_metrics_are_scikit_learns() {
    let mut drawn = Drawn::new(23);
    let mut probabilities = vec![Vec::new(); 3];
    let (mut predicted, mut truth) = (Vec::new(), Vec::new());
    for _ in 0..300 {
        let drawn_three = [drawn.uniform(), drawn.uniform(), drawn.uniform()];
        let total = drawn_three[0] + drawn_three[1] + drawn_three[2];
        let row = drawn_three.map(|value| value / total);
        let place = drawn.uniform();
        truth.push(if place < row[0] { 0 } else { 2 - usize::from(place < row[0] + row[1]) });
        predicted.push((0..3).max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap());
        for (column, value) in probabilities.iter_mut().zip(row) {
            column.push(value);
        }
    }
    let metrics = MulticlassMetrics::of(&predicted, &truth, 3).unwrap();
    assert_eq!(metrics.matrix(), [[54, 15, 27], [23, 57, 21], [24, 18, 61]]);
    let (mean, weighted) = (metrics.macro_average(), metrics.weighted_average().unwrap());
    for (got, expected) in [
        (metrics.accuracy().unwrap(), 0.5733333333333334),
        (mean.precision, 0.5758732754009346),
        (mean.recall, 0.5730298151174341),
        (mean.f1, 0.57351789570349),
        (weighted.precision, 0.5764520039159879),
        (weighted.recall, 0.5733333333333334),
        (weighted.f1, 0.5739524968103829),
        (MulticlassMetrics::roc_auc(&probabilities, &truth).unwrap(), 0.7794606328827527),
        (MulticlassMetrics::log_loss(&probabilities, &truth).unwrap(), 0.8664492956307736),
        (metrics.classes()[0].f1, 0.5482233502538071),
        (metrics.classes()[1].f1, 0.5968586387434555),
        (metrics.classes()[2].f1, 0.5754716981132075),
    ] {
        assert_near(got, expected);
    }
    let mut merged = MulticlassMetrics::of(&predicted[..100], &truth[..100], 3).unwrap();
    merged.merge(&MulticlassMetrics::of(&predicted[100..], &truth[100..], 3).unwrap()).unwrap();
    assert_eq!(merged, metrics);
    assert!(merged.push(3, 0).is_err() && MulticlassMetrics::new(1).is_err());
}

/// Forty queries of twelve items, most of them not relevant, as scikit-learn was given them.
fn queries() -> Vec<RankedQuery> {
    let mut drawn = Drawn::new(24);
    let mut relevance = || {
        let value = drawn.uniform();
        if value < 0.7 { 0.0 } else { (value * 10.0).floor() - 6.0 }
    };
    (0..40).map(|_| RankedQuery { relevance: (0..12).map(|_| relevance()).collect(), not_shown: Vec::new() }).collect()
}

#[test]
fn ranking_metrics_are_scikit_learns() {
    let five = RankingMetrics::of(&queries(), 5).unwrap();
    let all = RankingMetrics::of(&queries(), 12).unwrap();
    assert_eq!((five.queries, five.skipped), (39, 1));
    for (got, expected) in [
        (five.ndcg, 0.3513133373769598),
        (all.ndcg, 0.5651011041115497),
        // Of all places, mean average precision is what scikit-learn calls label ranking average precision.
        (all.map, 0.4271370450537116),
        (five.precision, 0.3128205128205128),
        (five.recall, 0.46282051282051273),
        (five.mrr, 0.4482905982905982),
        (five.hit_rate, 0.8717948717948718),
    ] {
        assert_near(got, expected);
    }
}

#[test]
fn what_was_not_shown_counts_for_what_could_be_reached() {
    let query = RankedQuery { relevance: vec![1.0, 0.0], not_shown: vec![1.0, 1.0] };
    let metrics = RankingMetrics::of(&[query], 2).unwrap();
    assert_near(metrics.recall, 1.0 / 3.0);
    assert_near(metrics.precision, 0.5);
    assert_near(metrics.map, 0.5);
    assert_near(metrics.ndcg, 1.0 / (1.0 + 1.0 / 3.0_f64.log2()));
    assert!(RankingMetrics::of(&[], 5).is_err() && RankingMetrics::of(&queries(), 0).is_err());
}
