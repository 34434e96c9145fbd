use fishy_core::{Error, Result};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// One feature, whose values are dealt to the rows anew: row `i` has that of row `order[i]`.
#[derive(Debug, Clone, Copy)]
pub struct Shuffled<'a> {
    /// The feature.
    pub feature: usize,
    /// Where each row takes its value from.
    pub order: &'a [usize],
}

/// What a feature is worth to a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Importance {
    /// The score with all features in place, less the mean score with this one shuffled.
    pub mean: f64,
    /// The standard deviation of that over the repeats (of the population).
    pub standard_deviation: f64,
}

/// How much worse a score gets when a feature is shuffled among `rows` rows, for each feature. `score` is higher for a
/// better model, and is asked with `None` for the rows as they are.
pub fn permutation_importance(
    rows: usize,
    features: usize,
    repeats: usize,
    seed: u64,
    score: &mut dyn FnMut(Option<Shuffled<'_>>) -> Result<f64>,
) -> Result<Vec<Importance>> {
    if rows < 2 || repeats == 0 {
        return Err(Error::invalid(format!(
            "{rows} rows and {repeats} repeats: at least two rows and one repeat are needed"
        )));
    }
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut order: Vec<usize> = (0..rows).collect();
    let whole = score(None)?;
    let mut of_feature = |feature: usize| {
        let mut losses = Vec::with_capacity(repeats);
        for _ in 0..repeats {
            order.shuffle(&mut random);
            losses.push(whole - score(Some(Shuffled { feature, order: &order }))?);
        }
        let mean = losses.iter().sum::<f64>() / repeats as f64;
        let variance = losses.iter().map(|loss| (loss - mean).powi(2)).sum::<f64>() / repeats as f64;
        Ok(Importance { mean, standard_deviation: variance.sqrt() })
    };
    (0..features).map(&mut of_feature).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// For a linear model and the negative mean squared error, the expected loss is `2 w² var(x)`.
    #[test]
    fn a_linear_model_loses_what_it_must() {
        let rows: Vec<[f64; 3]> =
            (0..50).map(|row| [f64::from(row), f64::from(row * row % 17), f64::from(row % 5)]).collect();
        let weights = [0.5, 2.0, 0.0];
        let predict = |row: &[f64; 3]| row.iter().zip(weights).map(|(x, w)| x * w).sum::<f64>();
        let mut score = |shuffled: Option<Shuffled<'_>>| {
            let errors = rows.iter().enumerate().map(|(index, row)| {
                let mut mixed = *row;
                if let Some(Shuffled { feature, order }) = shuffled {
                    mixed[feature] = rows[order[index]][feature];
                }
                (predict(&mixed) - predict(row)).powi(2)
            });
            Ok(-errors.sum::<f64>() / rows.len() as f64)
        };
        let repeats = 400;
        let found = permutation_importance(rows.len(), 3, repeats, 3, &mut score).unwrap();
        for (feature, found) in found.iter().enumerate() {
            let values: Vec<f64> = rows.iter().map(|row| row[feature]).collect();
            let mean = values.iter().sum::<f64>() / 50.0;
            let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / 50.0;
            let expected = 2.0 * weights[feature].powi(2) * variance;
            let error = found.standard_deviation / (repeats as f64).sqrt();
            assert!((found.mean - expected).abs() <= 4.0 * error, "{feature}: {found:?}, {expected}");
        }
        assert!(permutation_importance(1, 3, 1, 0, &mut score).is_err());
    }
}
