mod categorical;
mod estimation;
mod multivariate;
mod numeric;
mod streaming;

use serde_json::Value;

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(number).collect()
}

#[track_caller]
fn assert_near(got: f64, expected: f64) {
    assert!((got - expected).abs() <= 1e-9 * expected.abs().max(1e-3), "{got} instead of {expected}");
}

/// Of a probability every digit counts, however small it is.
#[track_caller]
fn assert_p(got: f64, expected: f64) {
    assert!((got / expected - 1.0).abs() <= 1e-9, "{got} instead of {expected}");
}
