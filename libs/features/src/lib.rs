#![doc = include_str!("../README.md")]

mod expression;
mod window;

use std::collections::BTreeMap;

use fishy_core::{Error, Result};
use serde::{Deserialize, Serialize};

use expression::Expression;
use window::Window;

/// One feature as it is written in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    /// Its name, which is also the model's column.
    pub name: String,
    /// The expression; the column of that name if empty.
    #[serde(default)]
    pub value: String,
}

/// Turns the readings of one series into features.
#[derive(Debug, Clone)]
pub struct Features {
    names: Vec<String>,
    expressions: Vec<Expression>,
    windows: Vec<Window>,
}

impl Features {
    /// Reads the definitions.
    pub fn new(definitions: &[Definition]) -> Result<Self> {
        let mut names = Vec::with_capacity(definitions.len());
        let mut expressions = Vec::with_capacity(definitions.len());
        let mut windows: Vec<Window> = Vec::new();
        for definition in definitions {
            if names.contains(&definition.name) {
                return Err(Error::invalid(format!("feature {:?} is defined twice", definition.name)));
            }
            let text = if definition.value.is_empty() { &definition.name } else { &definition.value };
            let parsed = Expression::parse(text, &mut windows)
                .map_err(|problem| Error::invalid(format!("feature {:?} = {text:?}: {problem}", definition.name)))?;
            names.push(definition.name.clone());
            expressions.push(parsed);
        }
        Ok(Self { names, expressions, windows })
    }

    /// Names, in order.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The columns that a reading must have.
    pub fn columns(&self) -> Vec<String> {
        let mut columns: Vec<String> =
            self.expressions.iter().filter_map(Expression::column).map(str::to_owned).collect();
        columns.sort();
        columns.dedup();
        columns
    }

    /// Takes the next reading; answers its features in order. A column that is absent is missing.
    pub fn push(&mut self, time_ms: i64, reading: &BTreeMap<String, Option<f64>>) -> Vec<Option<f64>> {
        let value = |column: &str| reading.get(column).copied().flatten().filter(|value| value.is_finite());
        for window in &mut self.windows {
            let newest = value(window.column());
            window.push(time_ms, newest);
        }
        self.expressions.iter().map(|expression| expression.value(time_ms, value, &self.windows)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fishy_core::time::HOUR_MS;

    fn features(definitions: &[(&str, &str)]) -> Result<Features> {
        let definitions: Vec<_> = definitions
            .iter()
            .map(|(name, value)| Definition { name: (*name).to_owned(), value: (*value).to_owned() })
            .collect();
        Features::new(&definitions)
    }

    fn reading(temp: Option<f64>) -> BTreeMap<String, Option<f64>> {
        BTreeMap::from([("temp".to_owned(), temp)])
    }

    #[test]
    fn windows_hold_the_present_and_the_past_alone() {
        let mut features =
            features(&[("temp", ""), ("m", "mean(temp, 2h)"), ("a", "anomaly(temp, 2h)"), ("r", "range(temp, 2h)")])
                .unwrap();
        assert_eq!(features.push(0, &reading(Some(1.0))), [Some(1.0), Some(1.0), Some(0.0), Some(0.0)]);
        assert_eq!(features.push(HOUR_MS, &reading(Some(4.0))), [Some(4.0), Some(2.5), Some(1.5), Some(3.0)]);
        // The first reading lies exactly two hours back: outside of (t - 2h, t].
        assert_eq!(features.push(2 * HOUR_MS, &reading(Some(6.0))), [Some(6.0), Some(5.0), Some(1.0), Some(2.0)]);
    }

    #[test]
    fn a_missing_value_stays_out_of_the_window_and_gives_none() {
        let mut features = features(&[("temp", ""), ("a", "anomaly(temp, 3h)"), ("m", "mean(temp, 3h)")]).unwrap();
        features.push(0, &reading(Some(2.0)));
        assert_eq!(features.push(HOUR_MS, &reading(None)), [None, None, Some(2.0)]);
        assert_eq!(features.push(2 * HOUR_MS, &reading(Some(f64::NAN))), [None, None, Some(2.0)]);
    }

    #[test]
    fn the_hour_is_an_angle() {
        let mut features = features(&[("s", "hour_sin()"), ("c", "hour_cos()")]).unwrap();
        let noon = features.push(12 * HOUR_MS, &BTreeMap::new());
        assert!(noon[0].unwrap().abs() < 1e-12);
        assert!((noon[1].unwrap() + 1.0).abs() < 1e-12);
        assert!(features.columns().is_empty());
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for (bad, word) in [
            ("median(temp, 24h)", "median"),
            ("mean(temp)", "window"),
            ("mean(temp, 24x)", "24x"),
            ("mean(temp, 0h)", "0h"),
            ("hour_sin(temp)", "hour_sin"),
            ("a b", "a b"),
        ] {
            let error = features(&[("x", bad)]).unwrap_err();
            assert!(error.message().contains(word), "{bad}: {error}");
        }
        assert!(features(&[("x", ""), ("x", "")]).is_err());
    }

    #[test]
    fn rolling_figures_equal_those_computed_anew() {
        let mut features = features(&[("m", "mean(temp, 24h)"), ("r", "range(temp, 24h)")]).unwrap();
        let value = |hour: i64| ((hour * 37 % 101) as f64).sin() * 10.0;
        for hour in 0..500_i64 {
            let got = features.push(hour * HOUR_MS, &reading(Some(value(hour))));
            let last: Vec<f64> = ((hour - 23).max(0)..=hour).map(value).collect();
            let mean = last.iter().sum::<f64>() / last.len() as f64;
            let range = last.iter().copied().fold(f64::MIN, f64::max) - last.iter().copied().fold(f64::MAX, f64::min);
            assert!((got[0].unwrap() - mean).abs() < 1e-9 && (got[1].unwrap() - range).abs() < 1e-12, "hour {hour}");
        }
    }
}
