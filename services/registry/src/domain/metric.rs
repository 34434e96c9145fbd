//! Values of metrics: every double is stored, in a form that both databases can order.

use fishy_core::{Error, Result};
use serde::{Serialize, Serializer};
use serde_json::Value;

/// The value of a metric.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MetricValue(pub f64);

impl MetricValue {
    /// Reads it from JSON: a number, a number as text, or `"NaN"`, `"Infinity"`, `"-Infinity"`.
    pub fn from_json(value: &Value) -> Option<Self> {
        match value {
            Value::Number(number) => number.as_f64().map(Self),
            Value::String(text) => match text.as_str() {
                "NaN" => Some(Self(f64::NAN)),
                "Infinity" => Some(Self(f64::INFINITY)),
                "-Infinity" => Some(Self(f64::NEG_INFINITY)),
                text => text.parse::<f64>().ok().filter(|number| number.is_finite()).map(Self),
            },
            _ => None,
        }
    }

    /// As it is stored: an infinity becomes the largest double, as with MLflow; a NaN becomes 0 with a mark.
    pub fn stored(self) -> (f64, bool) {
        if self.0.is_nan() { (0.0, true) } else { (self.0.clamp(f64::MIN, f64::MAX), false) }
    }

    /// Back from the database.
    pub fn from_stored(value: f64, is_nan: bool) -> Self {
        Self(if is_nan { f64::NAN } else { value })
    }
}

impl Serialize for MetricValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.is_nan() { serializer.serialize_str("NaN") } else { serializer.serialize_f64(self.0) }
    }
}

/// One measurement.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Its name.
    pub key: String,
    /// Its value.
    pub value: MetricValue,
    /// When it was measured, in milliseconds since the epoch.
    pub timestamp: i64,
    /// The step of the training.
    pub step: i64,
    /// The logged model it belongs to.
    pub model_id: Option<String>,
    /// The dataset it was measured on.
    pub dataset_name: Option<String>,
    /// The digest of that dataset.
    pub dataset_digest: Option<String>,
}

/// The latest point of each key: the greatest by step, time and value.
pub fn latest(points: &[Point]) -> Vec<&Point> {
    let mut latest = std::collections::BTreeMap::<&str, &Point>::new();
    for point in points {
        let newer = latest.get(point.key.as_str()).is_none_or(|known| rank(point) >= rank(known));
        if newer {
            latest.insert(&point.key, point);
        }
    }
    latest.into_values().collect()
}

fn rank(point: &Point) -> (i64, i64, ordered::Ordered) {
    (point.step, point.timestamp, ordered::Ordered(point.value.stored().0))
}

mod ordered {
    /// A double that is never NaN, ordered.
    #[derive(PartialEq)]
    pub(super) struct Ordered(pub f64);

    impl PartialOrd for Ordered {
        fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
            Some(self.0.total_cmp(&other.0))
        }
    }
}

/// Checks what every point must have.
pub fn check(point: &Point, path: &str) -> Result<()> {
    super::names::check_key("metric", &format!("{path}name"), &point.key)?;
    if point.timestamp < 0 {
        return Err(Error::invalid(format!(
            "Invalid value {} for parameter '{path}timestamp' supplied: metric '{}'. Timestamp must be a nonnegative long (64-bit integer)",
            point.timestamp, point.key
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn point(key: &str, value: f64, timestamp: i64, step: i64) -> Point {
        let value = MetricValue(value);
        Point { key: key.into(), value, timestamp, step, model_id: None, dataset_name: None, dataset_digest: None }
    }

    #[test]
    fn special_values_go_through_the_database() {
        let nan = MetricValue::from_json(&json!("NaN")).unwrap().stored();
        assert_eq!(nan, (0.0, true));
        assert_eq!(serde_json::to_string(&MetricValue::from_stored(nan.0, nan.1)).unwrap(), "\"NaN\"");
        let infinite = MetricValue::from_json(&json!("-Infinity")).unwrap().stored();
        assert_eq!(infinite, (f64::MIN, false));
        assert_eq!(serde_json::to_string(&MetricValue(f64::MAX)).unwrap(), "1.7976931348623157e+308");
        for bad in [json!("inf"), json!("1e400"), json!("x"), json!(true), json!(null), json!([1])] {
            assert_eq!(MetricValue::from_json(&bad), None, "{bad}");
        }
        assert_eq!(MetricValue::from_json(&json!("1.5")), Some(MetricValue(1.5)));
    }

    #[test]
    fn the_latest_point_has_the_greatest_step_then_time_then_value() {
        let points = [point("a", 9.0, 5, 0), point("a", 1.0, 1, 2), point("a", 3.0, 1, 2), point("b", 0.0, 0, 0)];
        let latest: Vec<_> = latest(&points).into_iter().map(|p| (p.key.as_str(), p.value.0)).collect();
        assert_eq!(latest, [("a", 3.0), ("b", 0.0)]);
    }
}
