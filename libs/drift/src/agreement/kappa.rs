use fishy_core::{Error, Result};
use serde::{Deserialize, Serialize};

use super::{Interval, check_confidence, normal_quantile};
use crate::special::normal_sf;

/// Most categories: their square is kept.
const MAX_CATEGORIES: usize = 1_000;

/// How much two different categories agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KappaWeights {
    /// Not at all (Cohen 1960).
    #[default]
    Unweighted,
    /// The less, the more steps lie between them (Cicchetti and Allison 1971): for categories that have an order.
    Linear,
    /// Likewise, by the square of the steps (Fleiss and Cohen 1973).
    Quadratic,
}

impl KappaWeights {
    fn agreement(self, first: usize, second: usize, categories: usize) -> f64 {
        let share = first.abs_diff(second) as f64 / (categories - 1) as f64;
        match self {
            Self::Unweighted => f64::from(u8::from(first == second)),
            Self::Linear => 1.0 - share,
            Self::Quadratic => 1.0 - share * share,
        }
    }
}

/// Cohen's kappa: how far two raters agree beyond what chance gives. 1 is full agreement, 0 that of chance.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CohenKappa {
    /// Items that both have rated.
    pub items: u64,
    /// `(observed - chance) / (1 - chance)`.
    pub kappa: f64,
    /// Share of agreement, weighted.
    pub observed: f64,
    /// Share that is expected of raters who know nothing of the items, but use categories as often as these two.
    pub chance: f64,
    /// Large-sample standard error (Fleiss, Cohen and Everitt 1969).
    pub standard_error: f64,
    /// The same if there were no agreement beyond chance.
    pub null_standard_error: f64,
    /// `kappa` and its standard error, by the normal distribution.
    pub interval: Interval,
    /// Probability of a kappa at least so far from 0 without agreement beyond chance.
    pub p_value: f64,
}

impl CohenKappa {
    /// Of two ratings of each item, by number of the category; for weights, numbers follow the order of the categories.
    ///
    /// Refused without an item, with a category that is not below `categories`, and as a failed precondition when both
    /// raters have used one and the same category throughout: chance leaves nothing to explain.
    pub fn of(ratings: &[(usize, usize)], categories: usize, weights: KappaWeights, confidence: f64) -> Result<Self> {
        check_confidence(confidence)?;
        if !(2..=MAX_CATEGORIES).contains(&categories) {
            return Err(Error::invalid(format!("{categories} categories: kappa needs 2 to {MAX_CATEGORIES}")));
        }
        if ratings.is_empty() {
            return Err(Error::precondition("kappa needs an item that both have rated"));
        }
        let mut table = vec![0.0; categories * categories];
        for (first, second) in ratings {
            if *first >= categories || *second >= categories {
                return Err(Error::invalid(format!("category {first} or {second} is not below {categories}")));
            }
            table[first * categories + second] += 1.0;
        }
        let items = ratings.len() as f64;
        for cell in &mut table {
            *cell /= items;
        }
        Self::of_shares(&table, categories, weights, items, confidence)
    }

    fn of_shares(table: &[f64], categories: usize, weights: KappaWeights, items: f64, confidence: f64) -> Result<Self> {
        let share = |first: usize, second: usize| table[first * categories + second];
        let weight = |first: usize, second: usize| weights.agreement(first, second, categories);
        let every = || (0..categories).flat_map(move |first| (0..categories).map(move |second| (first, second)));
        let of_first: Vec<f64> = (0..categories).map(|i| (0..categories).map(|j| share(i, j)).sum()).collect();
        let of_second: Vec<f64> = (0..categories).map(|j| (0..categories).map(|i| share(i, j)).sum()).collect();
        // What a rating of the one agrees on average with the ratings of the other.
        let mean_first: Vec<f64> =
            (0..categories).map(|i| (0..categories).map(|j| weight(i, j) * of_second[j]).sum()).collect();
        let mean_second: Vec<f64> =
            (0..categories).map(|j| (0..categories).map(|i| weight(i, j) * of_first[i]).sum()).collect();
        let observed: f64 = every().map(|(i, j)| weight(i, j) * share(i, j)).sum();
        let chance: f64 = every().map(|(i, j)| weight(i, j) * of_first[i] * of_second[j]).sum();
        if chance >= 1.0 - 1e-12 {
            return Err(Error::precondition(
                "kappa is not defined when both raters use one category only: rate items that differ",
            ));
        }
        let kappa = (observed - chance) / (1.0 - chance);
        let left = 1.0 - kappa;
        let spread: f64 =
            every().map(|(i, j)| share(i, j) * (weight(i, j) - (mean_first[i] + mean_second[j]) * left).powi(2)).sum();
        let null_spread: f64 = every()
            .map(|(i, j)| of_first[i] * of_second[j] * (weight(i, j) - mean_first[i] - mean_second[j]).powi(2))
            .sum();
        let error = |spread: f64, centre: f64| ((spread - centre * centre).max(0.0) / items).sqrt() / (1.0 - chance);
        let standard_error = error(spread, kappa - chance * left);
        let null_standard_error = error(null_spread, chance);
        Ok(Self {
            items: items as u64,
            kappa,
            observed,
            chance,
            standard_error,
            null_standard_error,
            interval: Interval::around(kappa, normal_quantile(confidence) * standard_error),
            p_value: two_sided(kappa, null_standard_error),
        })
    }
}

/// Fleiss' kappa (1971): agreement beyond chance of any number of raters, not always the same ones.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct FleissKappa {
    /// Items.
    pub items: u64,
    /// Ratings of each.
    pub ratings: u64,
    /// `(observed - chance) / (1 - chance)`.
    pub kappa: f64,
    /// Mean share of pairs of ratings of an item that agree.
    pub observed: f64,
    /// Sum of the squared shares of the categories.
    pub chance: f64,
    /// Standard error if there were no agreement beyond chance (Fleiss, Nee and Landis 1979).
    pub null_standard_error: f64,
    /// Probability of a kappa at least so far from 0 without agreement beyond chance.
    pub p_value: f64,
}

impl FleissKappa {
    /// Of the counts of ratings by category, one row for each item. Refused when rows differ in length or in their number
    /// of ratings, of which there must be two; a failed precondition when only one category was ever used.
    pub fn of(counts: &[Vec<u64>]) -> Result<Self> {
        let Some(first) = counts.first() else {
            return Err(Error::precondition("kappa needs an item that several have rated"));
        };
        let (categories, ratings) = (first.len(), first.iter().sum::<u64>());
        if categories < 2 || ratings < 2 {
            return Err(Error::invalid(format!(
                "{categories} categories and {ratings} ratings of an item: kappa needs two of each"
            )));
        }
        if let Some(other) = counts.iter().find(|row| row.len() != categories || row.iter().sum::<u64>() != ratings) {
            return Err(Error::invalid(format!(
                "an item has ratings {other:?}: every item needs {ratings} over {categories} categories"
            )));
        }
        let (items, each) = (counts.len() as f64, ratings as f64);
        let shares: Vec<f64> = (0..categories)
            .map(|category| counts.iter().map(|row| row[category]).sum::<u64>() as f64 / (items * each))
            .collect();
        let agreeing = |row: &Vec<u64>| {
            let squares: f64 = row.iter().map(|count| (*count as f64).powi(2)).sum();
            (squares - each) / (each * (each - 1.0))
        };
        let observed = counts.iter().map(agreeing).sum::<f64>() / items;
        let chance: f64 = shares.iter().map(|share| share * share).sum();
        if chance >= 1.0 - 1e-12 {
            return Err(Error::precondition(
                "kappa is not defined when only one category is used: rate items that differ",
            ));
        }
        let kappa = (observed - chance) / (1.0 - chance);
        let left = 1.0 - chance;
        let skew: f64 = shares.iter().map(|share| share * (1.0 - share) * (1.0 - 2.0 * share)).sum();
        let spread = 2.0 * (left * left - skew) / (items * each * (each - 1.0));
        let null_standard_error = spread.max(0.0).sqrt() / left;
        let p_value = two_sided(kappa, null_standard_error);
        Ok(Self { items: counts.len() as u64, ratings, kappa, observed, chance, null_standard_error, p_value })
    }
}

/// Probability of a value at least so far from 0 by the normal distribution.
fn two_sided(value: f64, error: f64) -> f64 {
    if error > 0.0 { 2.0 * normal_sf((value / error).abs()) } else { 1.0 }
}
