use serde::{Deserialize, Serialize};

use crate::performance::roc_auc;
use crate::random::SplitMix;

/// Random splits that decide whether calibration helps.
const SPLITS: usize = 10;
/// One row in so many is held out in each.
const HELD_OUT: usize = 10;
/// Calibration must help in at least so many of the splits, and over all of them: by chance it helps in half.
const HELPFUL: usize = 8;
/// Bins of the calibration error.
const BINS: usize = 10;
/// A model that separates the classes this well needs no calibration.
const PERFECT: f64 = 0.999;

/// Isotonic regression of truth on score (pool adjacent violators, Barlow et al. 1972): the best rising function.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Isotonic {
    /// Scores, ascending, each with its value.
    points: Vec<(f64, f64)>,
}

impl Isotonic {
    pub(super) fn fit(pairs: &[(f64, bool)]) -> Self {
        let mut pairs = pairs.to_vec();
        pairs.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        // Blocks of first and last score, sum of truths, rows; equal scores are one block from the start.
        let mut blocks: Vec<(f64, f64, f64, f64)> = Vec::new();
        for (score, truth) in pairs {
            let truth = f64::from(u8::from(truth));
            match blocks.last_mut() {
                Some((_, last, sum, rows)) if score <= *last => (*sum, *rows) = (*sum + truth, *rows + 1.0),
                _ => blocks.push((score, score, truth, 1.0)),
            }
        }
        let mut pooled: Vec<(f64, f64, f64, f64)> = Vec::new();
        for block in blocks {
            pooled.push(block);
            while let [.., (first, _, sum, rows), (_, last, more, others)] = pooled[..] {
                if sum / rows < more / others {
                    break;
                }
                pooled.truncate(pooled.len() - 2);
                pooled.push((first, last, sum + more, rows + others));
            }
        }
        let mut points = Vec::new();
        for (first, last, sum, rows) in pooled {
            points.push((first, sum / rows));
            if last > first {
                points.push((last, sum / rows));
            }
        }
        Self { points }
    }

    /// The value at a score: between blocks on a straight line, beyond them that of the nearest.
    pub(super) fn value(&self, score: f64) -> f64 {
        let above = self.points.partition_point(|(held, _)| *held < score);
        let below = above.checked_sub(1).and_then(|below| self.points.get(below));
        match (below, self.points.get(above)) {
            (Some((low, at_low)), Some((high, at_high))) => at_low + (score - low) / (high - low) * (at_high - at_low),
            (Some((_, value)), None) | (None, Some((_, value))) => *value,
            (None, None) => score,
        }
    }

    /// A calibration of these scores, if they are better off with one: if on rows held out it lowers the expected
    /// calibration error, in most of the splits and over all of them.
    pub(super) fn if_needed(pairs: &[(f64, bool)], seed: u64) -> Option<Self> {
        let (scores, truth): (Vec<f64>, Vec<bool>) = pairs.iter().copied().unzip();
        let area = roc_auc(&scores, &truth)?;
        if area > PERFECT {
            return None;
        }
        let mut random = SplitMix::new(seed);
        let (mut raw, mut calibrated, mut helped) = (Vec::new(), Vec::new(), 0);
        // Each class is split by itself, so that every part has its share of both.
        let classes =
            [false, true].map(|class| pairs.iter().filter(|(_, truth)| *truth == class).copied().collect::<Vec<_>>());
        for _ in 0..SPLITS {
            let (mut train, mut test) = (Vec::new(), Vec::new());
            for class in &classes {
                let mut is_held_out = vec![false; class.len()];
                for place in random.draw(class.len(), class.len().div_ceil(HELD_OUT)) {
                    is_held_out[place] = true;
                }
                for (pair, is_held_out) in class.iter().zip(is_held_out) {
                    if is_held_out { test.push(*pair) } else { train.push(*pair) }
                }
            }
            let fitted = Self::fit(&train);
            let after: Vec<(f64, bool)> = test.iter().map(|(score, truth)| (fitted.value(*score), *truth)).collect();
            helped += usize::from(calibration_error(&test) > calibration_error(&after));
            calibrated.extend(after);
            raw.extend(test);
        }
        let is_better = helped >= HELPFUL && calibration_error(&raw) > calibration_error(&calibrated);
        is_better.then(|| Self::fit(pairs))
    }
}

/// Expected calibration error over bins of equally many rows: mean distance of mean score and share of positives.
fn calibration_error(pairs: &[(f64, bool)]) -> f64 {
    let mut pairs = pairs.to_vec();
    pairs.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    let width = (pairs.len() / BINS).max(1);
    let mut sum = 0.0;
    for range in super::chunks(pairs.len(), width) {
        let gap: f64 = pairs[range].iter().map(|(score, truth)| score - f64::from(u8::from(*truth))).sum();
        sum += gap.abs();
    }
    sum / pairs.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn violators_are_pooled_and_the_rest_is_on_straight_lines() {
        let pairs = [(0.1, false), (0.2, true), (0.3, false), (0.6, true), (0.6, true)];
        let fitted = Isotonic::fit(&pairs);
        assert_eq!(fitted.points, [(0.1, 0.0), (0.2, 0.5), (0.3, 0.5), (0.6, 1.0)]);
        assert!((fitted.value(0.45) - 0.75).abs() < 1e-12 && (fitted.value(0.15) - 0.25).abs() < 1e-12);
        assert_eq!((fitted.value(-1.0), fitted.value(0.25), fitted.value(9.0)), (0.0, 0.5, 1.0));
    }

    #[test]
    fn scores_that_are_squared_need_calibration_and_true_ones_do_not() {
        let mut random = SplitMix::new(2);
        let mut uniform = || random.next() as f64 / u64::MAX as f64;
        let drawn: Vec<(f64, bool)> = (0..4_000)
            .map(|_| {
                let p = uniform();
                (p, uniform() < p)
            })
            .collect();
        let squared: Vec<(f64, bool)> = drawn.iter().map(|(p, truth)| (p * p, *truth)).collect();
        let calibrated = Isotonic::if_needed(&squared, 1).unwrap();
        assert!((calibrated.value(0.25) - 0.5).abs() < 0.06);
        assert!(Isotonic::if_needed(&drawn, 1).is_none());
    }
}
