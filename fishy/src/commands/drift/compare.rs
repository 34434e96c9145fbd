use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Result, anyhow};
use fishy_drift::{
    CategoryCounts, CategoryTable, ColumnSketch, Comparison, Correction, LogBase, TestResult, chi_square,
};
use serde::Serialize;

use super::source::{Kind, Source};

/// Size of the sketches: ranks are right to 0.45 % of the count.
const SKETCH_SIZE: usize = 1_024;
/// Categories that are named of those that came or went.
const MAX_NAMED: usize = 20;

/// How to compare.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    pub is_sketched: bool,
    pub threads: usize,
}

/// A column that was compared.
#[derive(Debug, Serialize)]
pub struct Feature {
    pub name: String,
    #[serde(flatten)]
    pub figures: Figures,
}

/// What was found of a column.
#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Figures {
    Number(Box<Comparison>),
    Category(Categories),
}

/// What was found of a column of categories.
#[derive(Debug, Serialize)]
pub struct Categories {
    pub reference: Counts,
    pub current: Counts,
    pub psi: f64,
    /// Natural logarithm.
    pub js_distance: f64,
    pub l_infinity: f64,
    pub chi_square: TestResult,
    /// Categories that the reference has not, with how often they came; the most frequent twenty.
    pub unseen: BTreeMap<String, u64>,
    /// Those that the current file has not any more, likewise.
    pub vanished: BTreeMap<String, u64>,
    /// The shares of the most frequent categories, for a chart.
    #[serde(skip)]
    pub shares: Vec<(String, u64, u64)>,
}

/// What a side holds.
#[derive(Debug, Serialize)]
pub struct Counts {
    pub count: u64,
    pub missing: u64,
}

impl Figures {
    /// Population stability index.
    pub const fn psi(&self) -> f64 {
        match self {
            Self::Number(found) => found.drift.psi,
            Self::Category(found) => found.psi,
        }
    }

    /// Values and missing values of the reference and of the current file.
    pub const fn counts(&self) -> ((u64, u64), (u64, u64)) {
        match self {
            Self::Number(found) => {
                ((found.reference.count, found.reference.missing), (found.current.count, found.current.missing))
            }
            Self::Category(found) => {
                ((found.reference.count, found.reference.missing), (found.current.count, found.current.missing))
            }
        }
    }
}

/// What came of a column: its figures, or why there are none.
type Found = Result<Figures, String>;

/// Compares columns, so many at once, each by one thread that holds nothing but this column. Fails when a file cannot be
/// read; a column that cannot be compared only says so.
pub fn all(
    reference: &Source,
    current: &Source,
    columns: &[(String, Kind)],
    settings: Settings,
) -> Result<Vec<(String, Found)>> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        while let Some((name, kind)) = columns.get(next.fetch_add(1, Ordering::Relaxed)) {
            done.push((name.clone(), one(reference, current, name, *kind, settings.is_sketched)?));
        }
        Ok(done)
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..settings.threads.min(columns.len())).map(|_| scope.spawn(work)).collect();
        let mut found = Vec::with_capacity(columns.len());
        for thread in threads {
            let done: Result<Vec<(String, Found)>> =
                thread.join().unwrap_or_else(|_| Err(anyhow!("comparing a column ended unexpectedly")));
            found.extend(done?);
        }
        Ok(found)
    })
}

fn one(reference: &Source, current: &Source, name: &str, kind: Kind, is_sketched: bool) -> Result<Found> {
    Ok(match (kind, is_sketched) {
        (Kind::Number, false) => {
            let read = |source: &Source| {
                let mut values = Vec::with_capacity(source.rows() as usize);
                source.numbers(name, |part| values.extend_from_slice(part))?;
                anyhow::Ok(values)
            };
            told(Comparison::of(read(reference)?, read(current)?).map(|found| Figures::Number(Box::new(found))))
        }
        (Kind::Number, true) => {
            let read = |source: &Source, seed| {
                let mut sketch = ColumnSketch::new(SKETCH_SIZE, seed)?;
                source.numbers(name, |part| sketch.extend(part))?;
                anyhow::Ok(sketch)
            };
            let (before, now) = (read(reference, 1)?, read(current, 2)?);
            told(Comparison::of_sketches(&before, &now).map(|found| Figures::Number(Box::new(found))))
        }
        (Kind::Category, _) => match (reference.categories(name), current.categories(name)) {
            (Ok(before), Ok(now)) => told(categories(&before, &now)),
            (Err(error), _) | (_, Err(error)) => {
                // Too many categories is a property of the column, anything else one of the file.
                match error.downcast::<fishy_core::Error>() {
                    Ok(refused) => Err(refused.message().to_owned()),
                    Err(error) => return Err(error),
                }
            }
        },
    })
}

fn told(found: fishy_core::Result<Figures>) -> Found {
    found.map_err(|error| error.message().to_owned())
}

fn categories(before: &CategoryCounts, now: &CategoryCounts) -> fishy_core::Result<Figures> {
    let table = CategoryTable::new(before, now)?;
    let named = |mut found: Vec<(&str, u64)>| {
        found.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        found.into_iter().take(MAX_NAMED).map(|(name, count)| (name.to_owned(), count)).collect()
    };
    let counts = table.reference().iter().zip(table.current());
    let mut shares: Vec<(String, u64, u64)> =
        table.categories().iter().zip(counts).map(|(name, (before, now))| (name.clone(), *before, *now)).collect();
    shares.sort_by_key(|(_, before, now)| std::cmp::Reverse(before + now));
    shares.truncate(MAX_NAMED);
    Ok(Figures::Category(Categories {
        reference: Counts { count: before.count(), missing: before.missing() },
        current: Counts { count: now.count(), missing: now.missing() },
        psi: table.psi(),
        js_distance: table.js_distance(LogBase::Natural),
        l_infinity: table.l_infinity(),
        chi_square: chi_square(&table, Correction::Yates),
        unseen: named(table.unseen()),
        vanished: named(table.vanished()),
        shares,
    }))
}
