//! What Shapley values must be, on random games.

use fishy_core::{Error, Result};
use fishy_explain::{Choice, Coalition, Options, shapley};
use proptest::prelude::*;

/// A model whose answer depends on the set of features and the background row: two outputs.
fn game(worths: &[f64]) -> impl FnMut(&[Coalition<'_>]) -> Result<Vec<f64>> + '_ {
    move |asked| {
        let mut answers = Vec::new();
        for mixed in asked {
            let set = mixed.present.iter().rev().fold(0, |set, present| set * 2 + usize::from(*present));
            let shift = if mixed.present.iter().all(|present| *present) { 0.0 } else { mixed.background as f64 };
            answers.extend([worths[set] + shift, -2.0 * worths[set]]);
        }
        Ok(answers)
    }
}

proptest! {
    #[test]
    fn values_add_up_whatever_the_method_and_the_batch(
        worths in prop::collection::vec(-10.0..10.0_f64, 16),
        background in 1..4_usize,
        batch_rows in 1..50_usize,
        seed in any::<u64>(),
    ) {
        for choice in [Choice::Exact, Choice::Permutation] {
            let options = Options { choice, batch_rows, seed, max_evaluations: 1_000 };
            let found = shapley(4, background, &options, &mut game(&worths)).unwrap();
            prop_assert!(found.additivity_gap.iter().all(|gap| *gap < 1e-9), "{found:?}");
            prop_assert!(found.evaluations <= 1_000);
            prop_assert!((found.prediction[0] - worths[15]).abs() < 1e-12);
            let mean = (0..background).map(|b| b as f64).sum::<f64>() / background as f64;
            prop_assert!((found.base[0] - worths[0] - mean).abs() < 1e-9);
        }
    }

    #[test]
    fn the_exact_values_are_the_mean_over_all_orders(worths in prop::collection::vec(-10.0..10.0_f64, 8)) {
        let found = shapley(3, 1, &Options::default(), &mut game(&worths)).unwrap();
        let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
        for feature in 0..3 {
            let gain = |order: &[usize; 3]| {
                let before = order.iter().take_while(|other| **other != feature).fold(0, |set, other| set | 1 << other);
                worths[before | 1 << feature] - worths[before]
            };
            let mean = orders.iter().map(gain).sum::<f64>() / 6.0;
            prop_assert!((found.values[feature][0] - mean).abs() < 1e-9);
        }
    }

    #[test]
    fn features_that_do_nothing_have_nothing_and_equals_have_the_same(a in -5.0..5.0_f64, b in -5.0..5.0_f64) {
        // Features 0 and 1 count alike, feature 2 does not.
        let worths: Vec<f64> = (0..8_u32).map(|set| match (set & 3).count_ones() { 0 => 0.0, 1 => a, _ => b }).collect();
        let found = shapley(3, 1, &Options::default(), &mut game(&worths)).unwrap();
        prop_assert!((found.values[0][0] - found.values[1][0]).abs() < 1e-12);
        prop_assert!(found.values[2][0].abs() < 1e-12);
    }
}

#[test]
fn a_model_that_fails_or_answers_nonsense_is_an_error_and_no_explanation() {
    type Broken = fn(&[Coalition<'_>]) -> Result<Vec<f64>>;
    let cases: [(Broken, &str); 4] = [
        (|_| Err(Error::unavailable("the engine is away")), "the engine is away"),
        (|asked| Ok(vec![f64::NAN; asked.len()]), "answers NaN"),
        (|_| Ok(Vec::new()), "with 0 values"),
        (|asked| Ok(vec![0.0; asked.len() + 1]), "every row must have as many"),
    ];
    for (mut model, says) in cases {
        let error = shapley(3, 2, &Options::default(), &mut model).unwrap_err();
        assert!(error.message().contains(says), "{error}");
    }
    let mut never = |_: &[Coalition<'_>]| -> Result<Vec<f64>> { panic!("the model was asked") };
    assert!(shapley(0, 1, &Options::default(), &mut never).is_err());
    assert!(shapley(1, 0, &Options::default(), &mut never).is_err());
}
