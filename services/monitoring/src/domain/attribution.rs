//! What moves an alarm: which features, in which slices, and whether drift goes with error.

use std::collections::BTreeMap;

use fishy_contracts::monitoring::{CheckWindow, Correlation, ExplainedTest, Figure, Part, Severity, Statistic};

use super::checks::limits::quantile;
use super::checks::statistics::{self, Kind, badness};

/// Parts of one explanation.
const MAX_PARTS: usize = 50;
/// Figures and errors of the same windows.
type Pairs = (Vec<f64>, Vec<f64>);

/// Windows that a correlation needs.
const LEAST_WINDOWS: usize = 8;

/// What moves each test that alarms in a window, by the windows before it.
pub fn explain(window: &CheckWindow, before: &[CheckWindow]) -> Vec<ExplainedTest> {
    let mut tests: BTreeMap<Statistic, Severity> = BTreeMap::new();
    for figure in &window.figures {
        if let Some(severity) = figure.severity {
            let worst = tests.entry(figure.test).or_insert(severity);
            *worst = severity.max(*worst);
        }
    }
    let one = |(test, severity)| ExplainedTest {
        check: window.check.clone(),
        test,
        end_ms: window.end_ms,
        severity,
        parts: parts(window, before, test),
    };
    tests.into_iter().map(one).collect()
}

fn parts(window: &CheckWindow, before: &[CheckWindow], test: Statistic) -> Vec<Part> {
    let figures: Vec<&Figure> = window.figures.iter().filter(|figure| figure.test == test).collect();
    let label = |figure: &Figure| figure.slice.split_once('=').map_or("", |(label, _)| label).to_owned();
    let mut by_label: BTreeMap<String, Vec<&Figure>> = BTreeMap::new();
    for figure in figures {
        by_label.entry(label(figure)).or_default().push(figure);
    }
    // All rows together say nothing of where; they speak where nothing else does.
    if by_label.len() > 1 {
        by_label.remove("");
    }
    let mut parts = Vec::new();
    for figures in by_label.into_values() {
        let usual: Vec<f64> = figures.iter().map(|figure| usual(before, figure)).collect();
        let excess: Vec<f64> = figures
            .iter()
            .zip(&usual)
            .map(|(figure, usual)| {
                let beyond = badness(test, figure.value) - badness(test, *usual);
                beyond.max(0.0) * figure.rows as f64
            })
            .collect();
        let total: f64 = excess.iter().sum();
        if total <= 0.0 {
            continue;
        }
        parts.extend(figures.iter().zip(usual).zip(excess).map(|((figure, usual), excess)| Part {
            feature: figure.feature.clone(),
            slice: figure.slice.clone(),
            share: excess / total,
            value: figure.value,
            usual,
        }));
    }
    parts.sort_by(|a, b| b.share.total_cmp(&a.share));
    parts.truncate(MAX_PARTS);
    parts
}

fn same<'a>(window: &'a CheckWindow, figure: &Figure) -> Option<&'a Figure> {
    window
        .figures
        .iter()
        .find(|other| other.test == figure.test && other.feature == figure.feature && other.slice == figure.slice)
}

fn usual(before: &[CheckWindow], figure: &Figure) -> f64 {
    let mut values: Vec<f64> =
        before.iter().filter_map(|window| same(window, figure)).map(|other| other.value).collect();
    values.sort_unstable_by(f64::total_cmp);
    quantile(&values, 0.5).unwrap_or(0.0)
}

/// How the drift figures of a check went with the realised error of its windows; `errors` by the end of the window.
pub fn correlations(windows: &[CheckWindow], errors: &BTreeMap<i64, f64>) -> Vec<Correlation> {
    let mut pairs: BTreeMap<(Statistic, &str), Pairs> = BTreeMap::new();
    for window in windows {
        let Some(error) = errors.get(&window.end_ms) else { continue };
        let is_drift = |figure: &&Figure| {
            figure.slice.is_empty()
                && matches!(
                    statistics::kind(figure.test),
                    Kind::Numeric | Kind::Categorical | Kind::Together | Kind::Missing
                )
        };
        for figure in window.figures.iter().filter(is_drift) {
            let pair = pairs.entry((figure.test, &figure.feature)).or_default();
            pair.0.push(badness(figure.test, figure.value));
            pair.1.push(*error);
        }
    }
    let check = windows.first().map(|window| window.check.clone()).unwrap_or_default();
    let one = |((test, feature), (figures, errors)): ((Statistic, &str), Pairs)| {
        let correlation = spearman(&figures, &errors)?;
        let (check, feature, windows) = (check.clone(), feature.to_owned(), figures.len() as u64);
        Some(Correlation { check, test, feature, correlation, windows })
    };
    let mut found: Vec<Correlation> = pairs.into_iter().filter_map(one).collect();
    found.sort_by(|a, b| b.correlation.abs().total_cmp(&a.correlation.abs()));
    found
}

/// Spearman's rank correlation; `None` for few values, or where one side is constant.
fn spearman(a: &[f64], b: &[f64]) -> Option<f64> {
    if a.len() < LEAST_WINDOWS || a.len() != b.len() {
        return None;
    }
    let (a, b) = (midranks(a), midranks(b));
    let mean = f64::midpoint(a.len() as f64, 1.0);
    let product = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| (x - mean) * (y - mean)).sum::<f64>();
    let scale = (product(&a, &a) * product(&b, &b)).sqrt();
    (scale > 0.0).then(|| product(&a, &b) / scale)
}

/// Ranks from 1 on; equal values share the mean of theirs.
fn midranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    let mut from = 0;
    while from < order.len() {
        let same =
            order[from..].iter().take_while(|place| values[**place].total_cmp(&values[order[from]]).is_eq()).count();
        for place in &order[from..from + same] {
            ranks[*place] = from as f64 + f64::midpoint(same as f64, 1.0);
        }
        from += same;
    }
    ranks
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn window(end_ms: i64, figures: &[(&str, &str, u64, f64, bool)]) -> CheckWindow {
        let figures: Vec<Value> = figures
            .iter()
            .map(|(feature, slice, rows, value, is_alarm)| {
                let severity = if *is_alarm { json!("alert") } else { json!(null) };
                json!({"test": "psi", "feature": feature, "slice": slice, "rows": rows, "value": value, "severity": severity})
            })
            .collect();
        serde_json::from_value(json!({
            "check": "drift", "start_ms": 0, "end_ms": end_ms, "rows": 60, "labels": 0, "reference": null, "figures": figures
        }))
        .unwrap()
    }

    #[test]
    fn the_slice_that_drifts_explains_the_alarm() {
        let calm = window(
            1,
            &[("temp", "", 60, 0.1, false), ("temp", "pen=7", 20, 0.1, false), ("temp", "pen=8", 40, 0.1, false)],
        );
        let now = window(
            2,
            &[
                ("temp", "", 60, 0.6, true),
                ("temp", "pen=7", 20, 0.7, true),
                ("temp", "pen=8", 40, 0.2, false),
                ("ph", "pen=7", 20, 0.0, false),
            ],
        );
        let explained = explain(&now, &[calm.clone(), calm.clone(), calm]);
        assert_eq!((explained.len(), explained[0].severity), (1, Severity::Alert));
        let parts: Vec<_> =
            explained[0].parts.iter().map(|part| (part.slice.as_str(), part.feature.as_str(), part.share)).collect();
        // 0.6 beyond the usual over 20 rows, and 0.1 over 40.
        assert_eq!(parts[0].0, "pen=7");
        assert!((parts[0].2 - 12.0 / 16.0).abs() < 1e-12 && (parts[1].2 - 4.0 / 16.0).abs() < 1e-12, "{parts:?}");
        assert!((parts.iter().map(|part| part.2).sum::<f64>() - 1.0).abs() < 1e-12);
        assert!(explain(&window(3, &[("temp", "", 60, 0.1, false)]), &[]).is_empty());
    }

    #[test]
    fn drift_that_goes_with_error_is_told_first() {
        let windows: Vec<CheckWindow> = (0..20_i64)
            .map(|at| window(at, &[("temp", "", 9, at as f64, false), ("ph", "", 9, (at * 7 % 20) as f64, false)]))
            .collect();
        let errors: BTreeMap<i64, f64> = (0..20).map(|at| (at, (at as f64).exp())).collect();
        let found = correlations(&windows, &errors);
        assert_eq!((found[0].feature.as_str(), found[0].windows), ("temp", 20));
        assert!((found[0].correlation - 1.0).abs() < 1e-12);
        assert!(found[1].correlation.abs() < 0.6, "{found:?}");
        assert!(correlations(&windows[..5], &errors).is_empty(), "five windows say nothing");
    }

    #[test]
    fn ties_share_their_ranks() {
        assert_eq!(midranks(&[2.0, 1.0, 2.0, 3.0]), [2.5, 1.0, 2.5, 4.0]);
    }
}
