//! Limits, and whether a figure is beyond them.

use std::collections::BTreeMap;

use fishy_contracts::monitoring::{
    CheckSpec, CheckWindow, Figure, MultipleTesting, Severity, Statistic, TestSpec, Threshold,
};

use super::statistics::badness;

/// Past windows that a limit needs; before there are so many there is none.
pub const LEAST_PAST: usize = 5;

/// Past windows that the limits of a check look at.
pub fn past_windows(spec: &CheckSpec) -> usize {
    let thresholds = spec.tests.values().flat_map(|test| test.warning.iter().chain(&test.alert));
    let windows = |threshold: &Threshold| match threshold {
        Threshold::StandardDeviation { windows, .. } | Threshold::Quantile { windows, .. } => *windows as usize,
        Threshold::Constant { .. } | Threshold::PValue { .. } | Threshold::Resampled { .. } => 0,
    };
    thresholds.map(windows).max().unwrap_or(0)
}

/// Past figures by test, feature and slice, oldest first.
#[derive(Debug, Default)]
pub struct Past(BTreeMap<(Statistic, String, String), Vec<f64>>);

impl Past {
    /// Takes the figures of the next window.
    pub fn push(&mut self, window: &CheckWindow) {
        for figure in &window.figures {
            let key = (figure.test, figure.feature.clone(), figure.slice.clone());
            self.0.entry(key).or_default().push(badness(figure.test, figure.value));
        }
    }

    fn newest(&self, figure: &Figure, windows: u32) -> &[f64] {
        let key = (figure.test, figure.feature.clone(), figure.slice.clone());
        let all = self.0.get(&key).map_or(&[][..], Vec::as_slice);
        &all[all.len().saturating_sub(windows as usize)..]
    }
}

/// Judges the figures of a window by the windows before it.
pub fn judge(spec: &CheckSpec, window: &mut CheckWindow, past: &Past) {
    correct(spec.correction, &mut window.figures);
    for figure in &mut window.figures {
        let Some(test) = spec.tests.get(&figure.test) else { continue };
        let limit = |threshold: &Option<Threshold>, before: Option<f64>| match threshold {
            Some(threshold @ (Threshold::StandardDeviation { windows, .. } | Threshold::Quantile { windows, .. })) => {
                from_past(threshold, past.newest(figure, *windows)).map(|limit| signed(figure.test, limit))
            }
            _ => before,
        };
        (figure.warning_limit, figure.alert_limit) =
            (limit(&test.warning, figure.warning_limit), limit(&test.alert, figure.alert_limit));
        figure.severity = severity(test, figure);
    }
}

/// A limit as it stands beside the figure: of a score the negative of its badness.
pub fn signed(statistic: Statistic, bad: f64) -> f64 {
    if super::statistics::is_score(statistic) { -bad } else { bad }
}

fn correct(correction: MultipleTesting, figures: &mut [Figure]) {
    let mut families: BTreeMap<Statistic, Vec<usize>> = BTreeMap::new();
    for (place, figure) in figures.iter().enumerate().filter(|(_, figure)| figure.p_value.is_some()) {
        families.entry(figure.test).or_default().push(place);
    }
    for places in families.values() {
        let p_values: Vec<f64> = places.iter().filter_map(|place| figures[*place].p_value).collect();
        let corrected = match correction {
            MultipleTesting::None => continue,
            MultipleTesting::Holm => fishy_drift::holm(&p_values),
            MultipleTesting::BenjaminiHochberg => fishy_drift::benjamini_hochberg(&p_values),
        };
        for (place, p_value) in places.iter().zip(corrected) {
            figures[*place].p_corrected = Some(p_value);
        }
    }
}

fn from_past(threshold: &Threshold, past: &[f64]) -> Option<f64> {
    if past.len() < LEAST_PAST {
        return None;
    }
    match threshold {
        Threshold::StandardDeviation { times, .. } => {
            let count = past.len() as f64;
            let mean = past.iter().sum::<f64>() / count;
            let variance = past.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0);
            Some(times.mul_add(variance.sqrt(), mean))
        }
        Threshold::Quantile { quantile, .. } => {
            let mut sorted = past.to_vec();
            sorted.sort_unstable_by(f64::total_cmp);
            self::quantile(&sorted, *quantile)
        }
        Threshold::Constant { .. } | Threshold::PValue { .. } | Threshold::Resampled { .. } => None,
    }
}

/// Quantile of ascending values by linear interpolation (Hyndman and Fan's type 7).
pub fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let place = share.clamp(0.0, 1.0) * last as f64;
    let (low, high) = (sorted.get(place.floor() as usize)?, sorted.get(place.ceil() as usize)?);
    Some(low + (high - low) * place.fract())
}

fn severity(test: &TestSpec, figure: &Figure) -> Option<Severity> {
    let is_beyond = |threshold: &Option<Threshold>, limit: Option<f64>| match (threshold, limit) {
        (Some(Threshold::PValue { .. }), Some(limit)) => {
            figure.p_corrected.or(figure.p_value).is_some_and(|p_value| p_value < limit)
        }
        (Some(_), Some(limit)) => {
            let limit = if super::statistics::is_score(figure.test) { -limit } else { limit };
            badness(figure.test, figure.value) > limit
        }
        _ => false,
    };
    if is_beyond(&test.alert, figure.alert_limit) {
        Some(Severity::Alert)
    } else if is_beyond(&test.warning, figure.warning_limit) {
        Some(Severity::Warning)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn window(figures: &[(&str, &str, f64, Option<f64>)]) -> CheckWindow {
        let figures: Vec<Value> = figures
            .iter()
            .map(|(test, feature, value, p_value)| {
                json!({"test": test, "feature": feature, "rows": 24, "value": value, "p_value": p_value})
            })
            .collect();
        serde_json::from_value(json!({
            "check": "c", "start_ms": 0, "end_ms": 1, "rows": 24, "labels": 0, "reference": null, "figures": figures
        }))
        .unwrap()
    }

    fn spec(tests: &Value, correction: &str) -> CheckSpec {
        serde_json::from_value(json!({"name": "c", "tests": tests, "correction": correction})).unwrap()
    }

    fn judged(spec: &CheckSpec, past: &[f64], value: f64, test: &str) -> (Option<f64>, Option<Severity>) {
        let mut history = Past::default();
        for value in past {
            history.push(&window(&[(test, "", *value, None)]));
        }
        let mut now = window(&[(test, "", value, None)]);
        judge(spec, &mut now, &history);
        (now.figures[0].alert_limit, now.figures[0].severity)
    }

    #[test]
    fn limits_follow_the_past_on_the_bad_side() {
        let past = [1.0, 2.0, 3.0, 4.0, 5.0];
        let errors = spec(&json!({"mae": {"alert": {"kind": "standard_deviation", "times": 2, "windows": 5}}}), "none");
        let (limit, severity) = judged(&errors, &past, 6.2, "mae");
        assert!((limit.unwrap() - (3.0 + 2.0 * 2.5_f64.sqrt())).abs() < 1e-12);
        assert_eq!(severity, Some(Severity::Alert));
        assert_eq!(judged(&errors, &past, 6.1, "mae").1, None);
        assert_eq!(judged(&errors, &past[1..], 99.0, "mae"), (None, None), "four windows say too little");
        assert_eq!(
            judged(&errors, &[&[900.0][..], &past].concat(), 6.2, "mae").1,
            Some(Severity::Alert),
            "the newest five"
        );

        let scores = spec(&json!({"f1": {"alert": {"kind": "quantile", "quantile": 0.75, "windows": 9}}}), "none");
        assert_eq!(judged(&scores, &past, 1.9, "f1"), (Some(2.0), Some(Severity::Alert)));
        assert_eq!(judged(&scores, &past, 2.1, "f1").1, None);
    }

    #[test]
    fn many_tests_are_corrected_together() {
        let p_limit = json!({"ks": {"alert": {"kind": "p_value", "below": 0.05}}});
        let alarms = |correction: &str| {
            let mut now = window(&[
                ("ks", "a", 0.3, Some(0.005)),
                ("ks", "b", 0.3, Some(0.03)),
                ("ks", "c", 0.3, Some(0.04)),
                ("ks", "d", 0.3, Some(0.9)),
            ]);
            for figure in &mut now.figures {
                figure.alert_limit = Some(0.05);
            }
            judge(&spec(&p_limit, correction), &mut now, &Past::default());
            now.figures.iter().filter(|figure| figure.severity.is_some()).count()
        };
        assert_eq!((alarms("none"), alarms("holm"), alarms("benjamini_hochberg")), (3, 1, 1));
    }
}
