use fishy_core::{Error, Result};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::worth::{Model, Worth};

/// With more features, the sets of all of them are not enumerated however many evaluations are allowed.
pub const MAX_EXACT_FEATURES: usize = 15;
/// Sets that are enumerated at a time.
const BLOCK: usize = 256;

/// Which method is used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Choice {
    /// Exact where it fits into the bound of evaluations, else permutations.
    #[default]
    Auto,
    /// Every set of features.
    Exact,
    /// Random orders of the features.
    Permutation,
}

/// How a row is explained.
#[derive(Debug, Clone)]
pub struct Options {
    /// The model is asked for so many rows at most.
    pub max_evaluations: usize,
    /// The model is asked for so many rows at once at most.
    pub batch_rows: usize,
    /// Decides the orders that are drawn.
    pub seed: u64,
    /// Which method is used.
    pub choice: Choice,
}

impl Default for Options {
    fn default() -> Self {
        Self { max_evaluations: 20_000, batch_rows: 256, seed: 0, choice: Choice::Auto }
    }
}

/// How the values were found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// By every set of features.
    Exact,
    /// By so many random orders and their reverses.
    Permutation {
        /// Orders with their reverses.
        pairs: usize,
    },
}

/// What each feature of a row did to each output.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// The mean answer over the background, by output.
    pub base: Vec<f64>,
    /// The answer to the row, by output.
    pub prediction: Vec<f64>,
    /// Shapley values, by feature and output.
    pub values: Vec<Vec<f64>>,
    /// Their standard errors; `None` where there are none (exact) or they are not known (one pair of orders).
    pub standard_errors: Option<Vec<Vec<f64>>>,
    /// `|base + sum of the values - prediction|`, by output.
    pub additivity_gap: Vec<f64>,
    /// How the values were found.
    pub method: Method,
    /// Rows that the model was asked for.
    pub evaluations: usize,
}

/// Explains one row of `features` features against `background` rows.
///
/// `InvalidArgument` where there is nothing to explain or the bound of evaluations does not do;
/// `FailedPrecondition` where the model answers something that cannot be explained; else whatever the model fails with.
pub fn shapley(features: usize, background: usize, options: &Options, model: &mut Model<'_>) -> Result<Explanation> {
    if features == 0 || background == 0 {
        return Err(Error::invalid(format!(
            "{features} features against a background of {background} rows: at least one of each is needed"
        )));
    }
    let method = choose(features, background, options)?;
    let mut worth = Worth::new(model, background, options.batch_rows);
    let mut ends = worth.of(&[vec![false; features], vec![true; features]])?;
    let (prediction, base) = (ends.pop().unwrap_or_default(), ends.pop().unwrap_or_default());
    let (values, standard_errors) = match method {
        Method::Exact => (exact(features, &base, &prediction, &mut worth)?, None),
        Method::Permutation { pairs } => permutations(features, pairs, options.seed, &base, &prediction, &mut worth)?,
    };
    let gap = |output: usize| {
        let sum: f64 = values.iter().map(|of_feature| of_feature[output]).sum();
        (base[output] + sum - prediction[output]).abs()
    };
    let additivity_gap = (0..base.len()).map(gap).collect();
    let evaluations = worth.evaluations;
    Ok(Explanation { base, prediction, values, standard_errors, additivity_gap, method, evaluations })
}

/// `count` of `rows` places, drawn without repetition and in ascending order; all of them where there are no more.
pub fn sample(rows: usize, count: usize, seed: u64) -> Vec<usize> {
    let mut places: Vec<usize> = (0..rows).collect();
    if count < rows {
        let (drawn, _) = places.partial_shuffle(&mut ChaCha8Rng::seed_from_u64(seed), count);
        places = drawn.to_vec();
        places.sort_unstable();
    }
    places
}

fn choose(features: usize, background: usize, options: &Options) -> Result<Method> {
    let limit = options.max_evaluations;
    let of_exact = if features <= MAX_EXACT_FEATURES { ((1 << features) - 1) * background + 1 } else { usize::MAX };
    if options.choice == Choice::Exact && features > MAX_EXACT_FEATURES {
        return Err(Error::invalid(format!(
            "{features} features are too many to be explained exactly: the limit is {MAX_EXACT_FEATURES}"
        )));
    }
    let is_exact_forced = options.choice == Choice::Exact || features == 1;
    if of_exact <= limit && options.choice != Choice::Permutation || is_exact_forced {
        if of_exact > limit {
            return Err(Error::invalid(format!(
                "an exact explanation of {features} features against {background} rows needs {of_exact} evaluations, and \
                 {limit} are allowed"
            )));
        }
        return Ok(Method::Exact);
    }
    let of_pair = 2 * (features - 1) * background;
    match limit.saturating_sub(background + 1) / of_pair {
        0 => Err(Error::invalid(format!(
            "an explanation of {features} features against {background} rows needs {} evaluations at least, and {limit} are \
             allowed: allow more, or take fewer rows of background",
            of_pair + background + 1
        ))),
        pairs => Ok(Method::Permutation { pairs }),
    }
}

fn exact(features: usize, base: &[f64], prediction: &[f64], worth: &mut Worth<'_, '_>) -> Result<Vec<Vec<f64>>> {
    let all = 1_usize << features;
    let mut worths = vec![Vec::new(); all];
    base.clone_into(&mut worths[0]);
    prediction.clone_into(&mut worths[all - 1]);
    let between: Vec<usize> = (1..all - 1).collect();
    for block in between.chunks(BLOCK) {
        let sets: Vec<Vec<bool>> =
            block.iter().map(|set| (0..features).map(|feature| set >> feature & 1 == 1).collect()).collect();
        for (set, found) in block.iter().zip(worth.of(&sets)?) {
            worths[*set] = found;
        }
    }
    let weights = weights(features);
    let mut values = vec![vec![0.0; base.len()]; features];
    for (feature, value) in values.iter_mut().enumerate() {
        for without in (0..all).filter(|set| set >> feature & 1 == 0) {
            let weight = weights[without.count_ones() as usize];
            let (before, after) = (&worths[without], &worths[without | 1 << feature]);
            for ((value, before), after) in value.iter_mut().zip(before).zip(after) {
                *value += weight * (after - before);
            }
        }
    }
    Ok(values)
}

/// `s! (n - s - 1)! / n!` for each size `s`: one over `n` times the number of sets of that size.
fn weights(features: usize) -> Vec<f64> {
    let mut sets = 1.0;
    let mut weights = Vec::with_capacity(features);
    for size in 0..features {
        weights.push(1.0 / (features as f64 * sets));
        sets = sets * (features - 1 - size) as f64 / (size + 1) as f64;
    }
    weights
}

type Sampled = (Vec<Vec<f64>>, Option<Vec<Vec<f64>>>);

fn permutations(
    features: usize,
    pairs: usize,
    seed: u64,
    base: &[f64],
    prediction: &[f64],
    worth: &mut Worth<'_, '_>,
) -> Result<Sampled> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut order: Vec<usize> = (0..features).collect();
    let outputs = base.len();
    let mut means = vec![vec![0.0; outputs]; features];
    let mut squares = vec![vec![0.0; outputs]; features];
    for pair in 1..=pairs {
        order.shuffle(&mut random);
        let reverse: Vec<usize> = order.iter().rev().copied().collect();
        let mut sets = prefixes(&order);
        sets.extend(prefixes(&reverse));
        let worths = worth.of(&sets)?;
        let mut both = vec![vec![0.0; outputs]; features];
        for (order, worths) in [&order, &reverse].into_iter().zip(worths.chunks(features - 1)) {
            let mut before = base;
            for (place, feature) in order.iter().enumerate() {
                let after = worths.get(place).map_or(prediction, Vec::as_slice);
                for ((value, before), after) in both[*feature].iter_mut().zip(before).zip(after) {
                    *value += (after - before) / 2.0;
                }
                before = after;
            }
        }
        // Welford's sums: mean and squared deviations, pair by pair.
        for ((means, squares), found) in means.iter_mut().zip(&mut squares).zip(&both) {
            for ((mean, square), found) in means.iter_mut().zip(squares).zip(found) {
                let off = found - *mean;
                *mean += off / pair as f64;
                *square += off * (found - *mean);
            }
        }
    }
    if pairs < 2 {
        return Ok((means, None));
    }
    let error = |square: f64| (square / (pairs - 1) as f64 / pairs as f64).sqrt();
    let errors = squares.into_iter().map(|squares| squares.into_iter().map(error).collect()).collect();
    Ok((means, Some(errors)))
}

/// The sets of the first one, two, … features of an order, without that of all.
fn prefixes(order: &[usize]) -> Vec<Vec<bool>> {
    let mut set = vec![false; order.len()];
    let grow = |feature: &usize| {
        set[*feature] = true;
        set.clone()
    };
    order[..order.len() - 1].iter().map(grow).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_weights_of_all_sets_without_a_feature_add_up_to_one() {
        for features in 1..=MAX_EXACT_FEATURES {
            let mut sets = 1.0;
            let mut sum = 0.0;
            for (size, weight) in weights(features).into_iter().enumerate() {
                sum += sets * weight;
                sets = sets * (features - 1 - size) as f64 / (size + 1) as f64;
            }
            assert!((sum - 1.0_f64).abs() < 1e-12, "{features}: {sum}");
        }
    }

    #[test]
    fn the_method_is_chosen_by_what_fits() {
        let options = |max_evaluations, choice| Options { max_evaluations, choice, ..Options::default() };
        let choose = |features, background, limit, choice| choose(features, background, &options(limit, choice));
        assert_eq!(choose(4, 10, 151, Choice::Auto).unwrap(), Method::Exact);
        assert_eq!(choose(4, 10, 150, Choice::Auto).unwrap(), Method::Permutation { pairs: 2 });
        assert_eq!(choose(4, 10, 151, Choice::Permutation).unwrap(), Method::Permutation { pairs: 2 });
        assert!(choose(4, 10, 150, Choice::Exact).unwrap_err().message().contains("needs 151 evaluations"));
        assert!(choose(4, 10, 70, Choice::Auto).unwrap_err().message().contains("needs 71 evaluations"));
        assert!(choose(16, 1, usize::MAX, Choice::Exact).unwrap_err().message().contains("limit is 15"));
        assert!(matches!(choose(16, 1, 1_000_000, Choice::Auto).unwrap(), Method::Permutation { .. }));
        assert_eq!(choose(1, 1, 2, Choice::Permutation).unwrap(), Method::Exact, "one feature has one order");
    }

    #[test]
    fn rows_are_drawn_without_repetition() {
        assert_eq!(sample(3, 5, 1), [0, 1, 2]);
        let drawn = sample(100, 10, 1);
        assert!(drawn.len() == 10 && drawn.windows(2).all(|two| two[0] < two[1]) && drawn[9] < 100);
        assert_ne!(drawn, sample(100, 10, 2));
    }
}
