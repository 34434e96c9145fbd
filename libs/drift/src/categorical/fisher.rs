use fishy_core::{Error, Result};

use crate::categorical::CategoryTable;
use crate::effect::{Alternative, EffectKind, TestResult};

/// Tables as likely as the observed one, up to rounding, count as at least as extreme.
const ROUNDING: f64 = 1e-7;

/// Fisher's exact test of a table of two categories: the probability, with all four margins held, of a table at least as
/// extreme; for [`Alternative::TwoSided`], of one at most as likely. `Higher` asks whether the second category (in the order
/// of the names) came more often in the current sample. The statistic and the effect are the sample odds ratio
/// `(reference first x current second) / (reference second x current first)`.
pub fn fisher_exact(table: &CategoryTable, alternative: Alternative) -> Result<TestResult> {
    let (&[a, b], &[c, d]) = (table.reference(), table.current()) else {
        return Err(Error::invalid(format!(
            "Fisher's exact test needs two categories, and there are {}: group them, or use the chi-square test",
            table.categories().len()
        )));
    };
    let odds = (a as f64 * d as f64) / (b as f64 * c as f64);
    // Of the values of the first category, how many are in the reference: hypergeometric between `least` and `most`.
    let (reference, first, total) = (a + b, a + c, a + b + c + d);
    let (least, most) = ((reference + first).saturating_sub(total), reference.min(first));
    let weight = Weights::around_mode(reference, first, total, least, most);
    let observed = weight.of[(a - least) as usize];
    let higher: f64 = weight.of[(a - least) as usize..].iter().sum();
    let lower: f64 = weight.of[..=(a - least) as usize].iter().sum();
    let extreme = match alternative {
        Alternative::TwoSided => weight.of.iter().filter(|weight| **weight <= observed * (1.0 + ROUNDING)).sum(),
        Alternative::Higher => higher,
        Alternative::Lower => lower,
    };
    let p_value = (extreme / weight.of.iter().sum::<f64>()).min(1.0);
    Ok(TestResult::new(odds, p_value, EffectKind::OddsRatio, odds))
}

/// Probabilities of a hypergeometric variable, relative to the largest: built by ratios of neighbours, which lose no digits
/// however large the counts are.
struct Weights {
    of: Vec<f64>,
}

impl Weights {
    fn around_mode(reference: u64, first: u64, total: u64, least: u64, most: u64) -> Self {
        let mode = ((reference + 1) as f64 * (first + 1) as f64 / (total + 2) as f64) as u64;
        let mode = mode.clamp(least, most);
        let mut of = vec![0.0; (most - least + 1) as usize];
        of[(mode - least) as usize] = 1.0;
        // P(x + 1) / P(x).
        let ratio = |x: u64| {
            ((reference - x) as f64 * (first - x) as f64)
                / ((x + 1) as f64 * (total + x + 1 - reference - first) as f64)
        };
        for x in mode..most {
            of[(x + 1 - least) as usize] = of[(x - least) as usize] * ratio(x);
        }
        for x in (least..mode).rev() {
            of[(x - least) as usize] = of[(x + 1 - least) as usize] / ratio(x);
        }
        Self { of }
    }
}

#[cfg(test)]
#[expect(clippy::unreadable_literal, reason = "the numbers stand as SciPy printed them")]
mod tests {
    use super::*;
    use crate::categorical::CategoryCounts;

    fn table([a, b, c, d]: [u64; 4]) -> CategoryTable {
        let counts = |first, second| {
            let mut counts = CategoryCounts::default();
            counts.add(Some("first"), first).unwrap();
            counts.add(Some("second"), second).unwrap();
            counts
        };
        CategoryTable::new(&counts(a, b), &counts(c, d)).unwrap()
    }

    #[test]
    fn it_is_scipys_for_all_alternatives() {
        for (cells, odds, two_sided, greater, less) in SCIPY {
            for (alternative, expected) in
                [(Alternative::TwoSided, two_sided), (Alternative::Higher, greater), (Alternative::Lower, less)]
            {
                let test = fisher_exact(&table(cells), alternative).unwrap();
                assert!((test.statistic / odds - 1.0).abs() < 1e-12, "{cells:?} {}", test.statistic);
                assert!((test.p_value / expected - 1.0).abs() < 1e-9, "{cells:?} {alternative:?}: {}", test.p_value);
            }
        }
    }

    #[test]
    fn three_categories_are_refused() {
        let counts = CategoryCounts::of(["a", "b", "c"].map(Some)).unwrap();
        let table = CategoryTable::new(&counts, &counts).unwrap();
        assert!(fisher_exact(&table, Alternative::TwoSided).unwrap_err().message().contains("there are 3"));
    }

    /// Cells, odds ratio, and p-values two-sided, greater, less of `scipy.stats.fisher_exact` 1.17.1.
    const SCIPY: [([u64; 4], f64, f64, f64, f64); 5] = [
        ([8, 2, 1, 5], 20.0, 0.034965034965034975, 0.024475524475524483, 0.9991258741258742),
        ([3, 7, 6, 4], 0.2857142857142857, 0.3698499642772088, 0.9651107406525363, 0.1849249821386044),
        ([120, 380, 95, 205], 0.6814404432132964, 0.02099884814008353, 0.9926101230007187, 0.011458520377536554),
        (
            [1000, 9000, 1200, 8800],
            0.8148148148148148,
            6.800024223808414e-06,
            0.9999972549906315,
            3.400012111904207e-06,
        ),
        (
            [50000, 450000, 50500, 449500],
            0.988998899889989,
            0.09698416613230891,
            0.9521737097343267,
            0.048492083066154455,
        ),
    ];
}
