//! Statistics of two samples of categories.

mod fisher;
mod tests_of_tables;

use std::collections::BTreeMap;

use fishy_core::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::numeric::{LogBase, hellinger, js_distance, l_infinity, total_variation};
use crate::psi::psi_of_shares;

pub use fisher::fisher_exact;
pub use tests_of_tables::{Correction, chi_square, g_test, proportions_z};

/// Most distinct categories that one sample may have.
const MAX_CATEGORIES: usize = 65_536;

/// How often each category came. Counts of several windows merge.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CategoryCounts {
    counts: BTreeMap<String, u64>,
    missing: u64,
}

impl CategoryCounts {
    /// Counts a sample; `None` is a missing value.
    pub fn of<'a>(values: impl IntoIterator<Item = Option<&'a str>>) -> Result<Self> {
        let mut counts = Self::default();
        for value in values {
            counts.add(value, 1)?;
        }
        Ok(counts)
    }

    /// Adds one category `times` times. More than 65,536 distinct categories are refused, and the counts stay as they were.
    pub fn add(&mut self, category: Option<&str>, times: u64) -> Result<()> {
        let Some(category) = category else {
            self.missing += times;
            return Ok(());
        };
        if let Some(count) = self.counts.get_mut(category) {
            *count += times;
        } else if self.counts.len() >= MAX_CATEGORIES {
            return Err(Error::exhausted(format!(
                "a categorical column may have {MAX_CATEGORIES} distinct values, and this one has more: group them, or \
                 leave a column of identifiers out"
            )));
        } else if times > 0 {
            self.counts.insert(category.to_owned(), times);
        }
        Ok(())
    }

    /// Adds another window; refused as in [`add`](Self::add).
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        for (category, times) in &other.counts {
            self.add(Some(category), *times)?;
        }
        self.missing += other.missing;
        Ok(())
    }

    /// Values counted, without the missing ones.
    pub fn count(&self) -> u64 {
        self.counts.values().sum()
    }

    /// Missing values.
    pub const fn missing(&self) -> u64 {
        self.missing
    }

    /// Each category with its count, in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.counts.iter().map(|(category, count)| (category.as_str(), *count))
    }
}

/// Counts of two samples over the union of their categories: a table of two rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CategoryTable {
    categories: Vec<String>,
    reference: Vec<u64>,
    current: Vec<u64>,
}

impl CategoryTable {
    /// Puts two samples side by side; either being empty is refused.
    pub fn new(reference: &CategoryCounts, current: &CategoryCounts) -> Result<Self> {
        for (name, counts) in [("reference", reference), ("current", current)] {
            if counts.count() == 0 {
                return Err(Error::invalid(format!(
                    "the {name} sample holds no category ({} missing values): compare samples that hold some",
                    counts.missing
                )));
            }
        }
        let mut rows: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
        reference.iter().for_each(|(category, count)| rows.entry(category).or_default().0 = count);
        current.iter().for_each(|(category, count)| rows.entry(category).or_default().1 = count);
        Ok(Self {
            categories: rows.keys().map(|category| (*category).to_owned()).collect(),
            reference: rows.values().map(|(count, _)| *count).collect(),
            current: rows.values().map(|(_, count)| *count).collect(),
        })
    }

    /// The categories of either sample, in the order of the names.
    pub fn categories(&self) -> &[String] {
        &self.categories
    }

    /// How often each category came in the reference.
    pub fn reference(&self) -> &[u64] {
        &self.reference
    }

    /// How often each category came in the current sample.
    pub fn current(&self) -> &[u64] {
        &self.current
    }

    /// Categories that the reference has never seen, with their counts in the current sample. The tests and distances count
    /// them like any other category.
    pub fn unseen(&self) -> Vec<(&str, u64)> {
        self.only_where(&self.reference, &self.current)
    }

    /// Categories that the current sample lacks, with their counts in the reference.
    pub fn vanished(&self) -> Vec<(&str, u64)> {
        self.only_where(&self.current, &self.reference)
    }

    fn only_where(&self, absent: &[u64], present: &[u64]) -> Vec<(&str, u64)> {
        let rows = self.categories.iter().zip(absent.iter().zip(present));
        rows.filter(|(_, (absent, _))| **absent == 0).map(|(name, (_, count))| (name.as_str(), *count)).collect()
    }

    /// Share of each category in the reference and in the current sample.
    pub fn shares(&self) -> (Vec<f64>, Vec<f64>) {
        let shares = |counts: &[u64]| {
            let total: u64 = counts.iter().sum();
            counts.iter().map(|count| *count as f64 / total as f64).collect()
        };
        (shares(&self.reference), shares(&self.current))
    }

    /// Population stability index; an empty share counts as 1e-4.
    pub fn psi(&self) -> f64 {
        self.distance(psi_of_shares)
    }

    /// Jensen-Shannon distance.
    pub fn js_distance(&self, base: LogBase) -> f64 {
        self.distance(|p, q| js_distance(p, q, base))
    }

    /// Hellinger distance, 0 to 1.
    pub fn hellinger(&self) -> f64 {
        self.distance(hellinger)
    }

    /// Total variation distance, 0 to 1.
    pub fn total_variation(&self) -> f64 {
        self.distance(total_variation)
    }

    /// L-infinity distance, 0 to 1.
    pub fn l_infinity(&self) -> f64 {
        self.distance(l_infinity)
    }

    fn distance(&self, measure: impl Fn(&[f64], &[f64]) -> f64) -> f64 {
        let (p, q) = self.shares();
        measure(&p, &q)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_and_vanished_categories_are_named() {
        let reference = CategoryCounts::of([Some("cod"), Some("salmon"), None, Some("salmon")]).unwrap();
        let current = CategoryCounts::of([Some("salmon"), Some("trout"), Some("trout")]).unwrap();
        let table = CategoryTable::new(&reference, &current).unwrap();
        assert_eq!(table.categories(), ["cod", "salmon", "trout"]);
        assert_eq!((table.reference(), table.current()), (&[1, 2, 0][..], &[0, 1, 2][..]));
        assert_eq!((table.unseen(), table.vanished()), (vec![("trout", 2)], vec![("cod", 1)]));
        assert_eq!((reference.count(), reference.missing()), (3, 1));
        assert!(table.psi().is_finite() && (table.total_variation() - 2.0 / 3.0).abs() < 1e-15);
    }

    #[test]
    fn counts_of_parts_are_the_count_of_the_whole() {
        let names = ["a", "b", "a", "c", "b", "a"].map(Some);
        let mut merged = CategoryCounts::of(names[..2].iter().copied()).unwrap();
        merged.merge(&CategoryCounts::of(names[2..].iter().copied().chain([None])).unwrap()).unwrap();
        assert_eq!(merged, CategoryCounts::of(names.into_iter().chain([None])).unwrap());
    }

    #[test]
    fn a_column_of_identifiers_is_refused() {
        let mut counts = CategoryCounts::default();
        let refused =
            (0..=MAX_CATEGORIES).map(|id| counts.add(Some(&id.to_string()), 1)).filter(Result::is_err).count();
        assert_eq!((refused, counts.count()), (1, MAX_CATEGORIES as u64));
        assert!(CategoryTable::new(&counts, &CategoryCounts::default()).is_err());
    }
}
