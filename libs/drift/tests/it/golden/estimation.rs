use fishy_drift::{Cbpe, CbpeMetric, ClassColumn, Estimate};
use serde_json::Value;

use super::number;
use crate::it::shared::{cells, column, read};

/// Rows of the binary model: scores, predictions, truths.
type Rows = (Vec<f64>, Vec<bool>, Vec<bool>);

fn rows(text: &str, part: &str) -> Rows {
    let is_part: Vec<bool> = cells(text, "part").iter().map(|cell| *cell == part).collect();
    let keep = |values: Vec<f64>| values.into_iter().zip(&is_part).filter(|(_, keep)| **keep).map(|(value, _)| value);
    let flags = |name: &str| keep(column(text, name)).map(|value| value > 0.5).collect();
    (keep(column(text, "y_pred_proba")).collect(), flags("y_pred"), flags("y_true"))
}

/// The cell of one of NannyML's tables.
fn cell(table: &Value, row: usize, name: &str) -> f64 {
    let place = table["columns"].as_array().unwrap().iter().position(|column| column == name).unwrap();
    number(&table["data"][row][place])
}

fn key(metric: CbpeMetric) -> String {
    serde_json::to_value(metric).unwrap().as_str().unwrap().to_owned()
}

fn estimate(cbpe: &Cbpe, (scores, predicted, _): &Rows, range: std::ops::Range<usize>) -> Vec<Estimate<CbpeMetric>> {
    let column = ClassColumn { scores: &scores[range.clone()], predicted: &predicted[range] };
    cbpe.estimate(&[column]).unwrap()
}

#[test]
fn cbpe_of_a_binary_model_is_nannymls_chunk_by_chunk() {
    let (Some(text), Some(golden)) = (read("golden/perf_binary.csv"), read("golden/nannyml_golden.json")) else {
        return;
    };
    let golden: Value = serde_json::from_str(&golden).unwrap();
    let golden = &golden["cbpe_binary_chunk500"];
    let table = &golden["table"];
    let parts = [rows(&text, "ref"), rows(&text, "cur")];
    let reference = &parts[0];
    let fitted =
        Cbpe::fit(&[ClassColumn { scores: &reference.0, predicted: &reference.1 }], &[&reference.2], 500, 1).unwrap();
    assert_eq!(fitted.is_calibrated(), golden["needs_calibration"].as_bool().unwrap());
    let reference_chunks = reference.0.len() / 500;
    for row in 0..table["data"].as_array().unwrap().len() {
        let (part, chunk) = if row < reference_chunks { (reference, row) } else { (&parts[1], row - reference_chunks) };
        let estimates = estimate(&fitted, part, chunk * 500..(chunk + 1) * 500);
        assert_eq!(estimates.len(), 11);
        for estimate in estimates {
            let key = key(estimate.metric);
            if !table["columns"].as_array().unwrap().iter().any(|name| *name == format!("{key}|value")) {
                // The cells of the confusion matrix have a test of their own.
                continue;
            }
            let near = |got: f64, name: &str, tolerance: f64| {
                let expected = cell(table, row, &format!("{key}|{name}"));
                assert!((got - expected).abs() <= tolerance, "{key} {name}: {got} instead of {expected}");
            };
            // NannyML rounds the counts along a curve to five decimals.
            let is_curve = matches!(estimate.metric, CbpeMetric::RocAuc | CbpeMetric::AveragePrecision);
            near(estimate.value, "value", if is_curve { 2e-7 } else { 1e-12 });
            near(estimate.lower_threshold, "lower_threshold", 1e-12);
            near(estimate.upper_threshold, "upper_threshold", 1e-12);
            if estimate.metric == CbpeMetric::AveragePrecision {
                // Its scatter comes from resamples that are drawn: 50 give it to about a tenth.
                let expected = cell(table, row, &format!("{key}|sampling_error"));
                assert!((estimate.sampling_error / expected - 1.0).abs() < 0.35, "{estimate:?} {expected}");
            } else {
                near(estimate.sampling_error, "sampling_error", 1e-12);
                near(estimate.lower, "lower_confidence_boundary", 2e-7);
                near(estimate.upper, "upper_confidence_boundary", 2e-7);
                let place = format!("{key}|alert");
                let place = table["columns"].as_array().unwrap().iter().position(|column| *column == place).unwrap();
                assert_eq!(estimate.is_alert, table["data"][row][place].as_bool().unwrap());
            }
        }
    }
}

#[test]
fn realised_metrics_are_nannymls() {
    let (Some(text), Some(golden)) = (read("golden/perf_binary.csv"), read("golden/nannyml_golden.json")) else {
        return;
    };
    let golden: Value = serde_json::from_str(&golden).unwrap();
    let table = &golden["realized_binary_chunk500"];
    let parts = [rows(&text, "ref"), rows(&text, "cur")];
    let reference_chunks = parts[0].0.len() / 500;
    for row in 0..table["data"].as_array().unwrap().len() {
        let ((scores, predicted, truth), chunk) =
            if row < reference_chunks { (&parts[0], row) } else { (&parts[1], row - reference_chunks) };
        let range = chunk * 500..(chunk + 1) * 500;
        let mut confusion = fishy_drift::Confusion::default();
        for (predicted, truth) in predicted[range.clone()].iter().zip(&truth[range.clone()]) {
            confusion.push(*predicted, *truth);
        }
        for (name, got) in [
            ("roc_auc", fishy_drift::roc_auc(&scores[range.clone()], &truth[range.clone()])),
            ("average_precision", fishy_drift::average_precision(&scores[range.clone()], &truth[range.clone()])),
            ("f1", confusion.f1()),
            ("precision", confusion.precision()),
            ("recall", confusion.recall()),
            ("specificity", confusion.specificity()),
            ("accuracy", confusion.accuracy()),
        ] {
            let (got, expected) = (got.unwrap(), cell(table, row, &format!("{name}|value")));
            assert!((got - expected).abs() < 1e-12, "{name}: {got} instead of {expected}");
        }
    }
}

#[test]
#[expect(clippy::unreadable_literal, reason = "the numbers stand as NannyML printed them")]
fn the_expected_confusion_matrix_is_nannymls() {
    let Some(text) = read("golden/perf_binary.csv") else { return };
    let (reference, current) = (rows(&text, "ref"), rows(&text, "cur"));
    let fitted =
        Cbpe::fit(&[ClassColumn { scores: &reference.0, predicted: &reference.1 }], &[&reference.2], 500, 1).unwrap();
    let estimates = estimate(&fitted, &current, 0..500);
    // NannyML 0.13.1, `normalize_confusion_matrix="all"`: value, sampling error, thresholds.
    for (metric, expected) in [
        (CbpeMetric::TruePositives, [0.3559333973352657, 0.020838340731556448, 0.3037000371195709, 0.3336332962137624]),
        (CbpeMetric::FalsePositives, [0.16606660266473436, 0.01625559732659629, 0.0994652680823663, 0.213868065250967]),
        (
            CbpeMetric::TrueNegatives,
            [0.3174446364075788, 0.021483554433824752, 0.32983730183728605, 0.39282936482938063],
        ),
        (
            CbpeMetric::FalseNegatives,
            [0.1605553635924212, 0.016532123611657127, 0.10655305506701976, 0.2201136115996469],
        ),
    ] {
        let found = estimates.iter().find(|estimate| estimate.metric == metric).unwrap();
        let got = [found.value, found.sampling_error, found.lower_threshold, found.upper_threshold];
        for (got, expected) in got.into_iter().zip(expected) {
            assert!((got - expected).abs() < 1e-12, "{metric:?}: {got} instead of {expected}");
        }
    }
}
