//! Values that `shap` computed beforehand; skipped, by name, where they are not at hand.

use std::path::Path;

use fishy_core::Result;
use fishy_explain::{Choice, Coalition, Method, Options, shapley};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    model: Forest,
    rows: Vec<usize>,
    predict: Vec<f64>,
    interventional_bg_rows_200_249: Expected,
    exact_independent_bg: Exact,
    #[serde(rename = "kernel_all_2^6_l1_off")]
    kernel: Expected,
    linear: Linear,
}

#[derive(Deserialize)]
struct Expected {
    expected_value: f64,
    values: Vec<Vec<f64>>,
}

#[derive(Deserialize)]
struct Exact {
    base: Vec<f64>,
    values: Vec<Vec<f64>>,
}

#[derive(Deserialize)]
struct Linear {
    coef: Vec<f64>,
    intercept: f64,
    values: Vec<Vec<f64>>,
}

#[derive(Deserialize)]
struct Forest {
    trees: Vec<Tree>,
}

#[derive(Deserialize)]
struct Tree {
    children_left: Vec<i64>,
    children_right: Vec<i64>,
    feature: Vec<i64>,
    threshold: Vec<f64>,
    #[serde(alias = "values")]
    value: Vec<f64>,
}

impl Forest {
    fn predict(&self, row: &[f64]) -> f64 {
        self.trees.iter().map(|tree| tree.predict(row)).sum::<f64>() / self.trees.len() as f64
    }
}

impl Tree {
    fn predict(&self, row: &[f64]) -> f64 {
        let mut node = 0;
        while self.children_left[node] >= 0 {
            // The library that made the forest compares in single precision.
            let value = f64::from(row[self.feature[node] as usize] as f32);
            let side = if value <= self.threshold[node] { &self.children_left } else { &self.children_right };
            node = side[node] as usize;
        }
        self.value[node]
    }
}

struct Case {
    golden: Golden,
    rows: Vec<Vec<f64>>,
}

fn case() -> Option<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/golden");
    let Ok(text) = std::fs::read_to_string(folder.join("shap_golden.json")) else {
        eprintln!("SKIPPED: {} is missing", folder.display());
        return None;
    };
    let csv = std::fs::read_to_string(folder.join("shap_data.csv")).unwrap();
    let rows = csv.lines().skip(1).map(|line| line.split(',').take(6).map(|cell| cell.parse().unwrap()).collect());
    Some(Case { golden: serde_json::from_str(&text).unwrap(), rows: rows.collect() })
}

/// The model on mixed rows.
fn mixing<'a>(
    row: &'a [f64],
    background: &'a [Vec<f64>],
    predict: impl Fn(&[f64]) -> f64 + 'a,
) -> impl FnMut(&[Coalition<'_>]) -> Result<Vec<f64>> + 'a {
    move |asked| {
        let answers = asked.iter().map(|mixed| {
            let other = &background[mixed.background];
            let values: Vec<f64> = (0..row.len()).map(|f| if mixed.present[f] { row[f] } else { other[f] }).collect();
            predict(&values)
        });
        Ok(answers.collect())
    }
}

fn assert_close(found: f64, expected: f64, tolerance: f64, what: &str) {
    assert!((found - expected).abs() <= tolerance, "{what}: {found} and not {expected}");
}

#[test]
fn a_forest_is_explained_as_shap_does() {
    let Some(Case { golden, rows }) = case() else { return };
    let background = &rows[200..250];
    for (place, row) in golden.rows.iter().enumerate() {
        let mut model = mixing(&rows[*row], background, |row| golden.model.predict(row));
        let found = shapley(6, 50, &Options::default(), &mut model).unwrap();
        assert_eq!((found.method, found.evaluations), (Method::Exact, 63 * 50 + 1));
        assert_close(found.prediction[0], golden.predict[place], 1e-12, "prediction");
        assert_close(found.base[0], golden.exact_independent_bg.base[place], 1e-12, "base");
        assert_close(found.base[0], golden.kernel.expected_value, 1e-12, "base of kernel");
        assert_close(found.base[0], golden.interventional_bg_rows_200_249.expected_value, 1e-12, "base of trees");
        assert!(found.additivity_gap[0] < 1e-12);
        for feature in 0..6 {
            let value = found.values[feature][0];
            let what = format!("row {row}, feature {feature}");
            assert_close(value, golden.exact_independent_bg.values[place][feature], 1e-12, &what);
            assert_close(value, golden.kernel.values[place][feature], 1e-12, &what);
            assert_close(value, golden.interventional_bg_rows_200_249.values[place][feature], 1e-7, &what);
        }
    }
}

#[test]
fn sampled_values_of_a_forest_are_within_their_errors_and_add_up() {
    let Some(Case { golden, rows }) = case() else { return };
    let options = Options { choice: Choice::Permutation, max_evaluations: 100_000, seed: 5, ..Options::default() };
    for (place, row) in golden.rows.iter().enumerate() {
        let mut model = mixing(&rows[*row], &rows[200..250], |row| golden.model.predict(row));
        let found = shapley(6, 50, &options, &mut model).unwrap();
        assert!(found.evaluations <= 100_000 && matches!(found.method, Method::Permutation { pairs: 199 }));
        assert!(found.additivity_gap[0] < 1e-12);
        let errors = found.standard_errors.unwrap();
        for (feature, error) in errors.iter().enumerate() {
            let expected = golden.exact_independent_bg.values[place][feature];
            let tolerance = 5.0 * error[0] + 1e-12;
            assert_close(found.values[feature][0], expected, tolerance, &format!("row {row}, feature {feature}"));
        }
    }
}

#[test]
fn a_linear_model_is_explained_as_shap_does() {
    let Some(Case { golden, rows }) = case() else { return };
    let Linear { coef, intercept, values } = golden.linear;
    let predict = |row: &[f64]| intercept + row.iter().zip(&coef).map(|(x, w)| x * w).sum::<f64>();
    for (place, row) in golden.rows.iter().enumerate() {
        // One pair of orders is exact where there is no interaction of three features.
        for choice in [Choice::Exact, Choice::Permutation] {
            let options = Options { choice, max_evaluations: 4_000, ..Options::default() };
            let found = shapley(6, 50, &options, &mut mixing(&rows[*row], &rows[200..250], predict)).unwrap();
            for (feature, expected) in values[place].iter().enumerate() {
                let what = format!("row {row}, feature {feature}, {choice:?}");
                assert_close(found.values[feature][0], *expected, 1e-12, &what);
            }
        }
    }
}
