//! Gradient boosted regression trees on binned features, for the statistics that need a learner of their own: histograms of
//! gradients, leaf-wise growth (Friedman 2001; Ke et al. 2017), with LightGBM's default settings.

use fishy_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// Trees.
const ROUNDS: usize = 100;
/// Step of each tree.
const LEARNING_RATE: f64 = 0.1;
/// Leaves of each tree.
const LEAVES: usize = 31;
/// Fewest rows in a leaf.
const LEAST_ROWS: usize = 20;
/// Least sum of second derivatives in a leaf.
const LEAST_HESSIAN: f64 = 0.001;
/// Most bins of a feature; the first holds the missing values.
const BINS: usize = 255;
/// Most rows.
const MAX_ROWS: usize = 5_000_000;

/// What the trees are to minimise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Objective {
    /// Squared error of any target.
    Squared,
    /// Log loss of targets 0 and 1; predictions are probabilities.
    Logistic,
}

/// A fitted sum of trees.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Boosted {
    objective: Objective,
    start: f64,
    trees: Vec<Vec<Node>>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Node {
    Leaf(f64),
    /// Rows whose feature is below the threshold, or missing, go left. `None` sends the missing ones alone to the left.
    /// Both branches come later in the tree.
    Split {
        feature: usize,
        threshold: Option<f64>,
        left: usize,
        right: usize,
    },
}

/// Columns cut into bins: a value belongs to the bin of the first edge above it.
struct Binned {
    edges: Vec<Vec<f64>>,
    codes: Vec<Vec<u8>>,
}

impl Binned {
    fn new(columns: &[Vec<f64>]) -> Self {
        let edges: Vec<Vec<f64>> = columns.iter().map(|column| edges_of(column)).collect();
        let code = |edges: &[f64], value: f64| {
            if value.is_finite() { 1 + edges.partition_point(|edge| *edge <= value) as u8 } else { 0 }
        };
        let codes = columns
            .iter()
            .zip(&edges)
            .map(|(column, edges)| column.iter().map(|value| code(edges, *value)).collect())
            .collect();
        Self { edges, codes }
    }
}

/// Halfway between distinct values, or between quantiles when there are too many.
fn edges_of(column: &[f64]) -> Vec<f64> {
    let mut sorted: Vec<f64> = column.iter().copied().filter(|value| value.is_finite()).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let mut distinct = sorted.clone();
    distinct.dedup();
    if distinct.len() > BINS - 1 {
        distinct = (0..BINS - 1).map(|k| sorted[k * (sorted.len() - 1) / (BINS - 2)]).collect();
        distinct.dedup();
    }
    let middle = |pair: &[f64]| {
        let middle = f64::midpoint(pair[0], pair[1]);
        // Of neighbouring numbers the middle may be the lower one.
        if middle > pair[0] { middle } else { pair[1] }
    };
    distinct.windows(2).map(middle).collect()
}

/// Sums of the rows in a bin or a leaf.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    gradient: f64,
    hessian: f64,
    rows: usize,
}

impl Sums {
    fn less(self, other: Self) -> Self {
        Self {
            gradient: self.gradient - other.gradient,
            hessian: self.hessian - other.hessian,
            rows: self.rows - other.rows,
        }
    }

    fn gain(self) -> f64 {
        self.gradient * self.gradient / self.hessian
    }

    const fn may_be_leaf(self) -> bool {
        self.rows >= LEAST_ROWS && self.hessian >= LEAST_HESSIAN
    }
}

/// A leaf that may still be split.
struct Candidate {
    node: usize,
    rows: Vec<u32>,
    sums: Sums,
    best: Option<Best>,
}

#[derive(Clone, Copy)]
struct Best {
    gain: f64,
    feature: usize,
    /// Codes up to this one go left.
    code: usize,
}

impl Boosted {
    /// Fits the trees to columns of equal length and one target a row. Values that are not finite are missing.
    pub(crate) fn fit(columns: &[Vec<f64>], target: &[f64], objective: Objective) -> Result<Self> {
        if columns.is_empty() || target.is_empty() || columns.iter().any(|column| column.len() != target.len()) {
            return Err(Error::invalid(format!(
                "a learner needs columns as long as the target: {} rows, columns of {:?} rows",
                target.len(),
                columns.iter().map(Vec::len).take(8).collect::<Vec<_>>()
            )));
        }
        if target.len() > MAX_ROWS {
            return Err(Error::exhausted(format!(
                "a learner takes at most {MAX_ROWS} rows, and there are {}: draw some of them",
                target.len()
            )));
        }
        let binned = Binned::new(columns);
        let mean = target.iter().sum::<f64>() / target.len() as f64;
        let start = match objective {
            Objective::Squared => mean,
            Objective::Logistic => (mean / (1.0 - mean)).ln().clamp(-30.0, 30.0),
        };
        let mut margins = vec![start; target.len()];
        let mut derivatives = vec![(0.0, 0.0); target.len()];
        let mut trees = Vec::with_capacity(ROUNDS);
        for _ in 0..ROUNDS {
            for ((derivative, margin), target) in derivatives.iter_mut().zip(&margins).zip(target) {
                *derivative = match objective {
                    Objective::Squared => (margin - target, 1.0),
                    Objective::Logistic => {
                        let p = logistic(*margin);
                        (p - target, p * (1.0 - p))
                    }
                };
            }
            let tree = grow(&binned, &derivatives, &mut margins);
            if tree.len() == 1 {
                break;
            }
            trees.push(tree);
        }
        Ok(Self { objective, start, trees })
    }

    /// Whether every branch leads to a leaf and every feature is one of so many: what was stored may be damaged.
    pub(crate) fn is_whole(&self, features: usize) -> bool {
        self.trees.iter().all(|tree| {
            !tree.is_empty()
                && tree.iter().enumerate().all(|(place, node)| match node {
                    Node::Leaf(step) => step.is_finite(),
                    Node::Split { feature, left, right, .. } => {
                        let is_later = |branch: usize| branch > place && branch < tree.len();
                        *feature < features && is_later(*left) && is_later(*right)
                    }
                })
        })
    }

    /// The prediction for one row: `value(feature)` gives its features.
    pub(crate) fn predict(&self, value: impl Fn(usize) -> f64) -> f64 {
        let mut margin = self.start;
        for tree in &self.trees {
            let mut place = 0;
            margin += loop {
                match &tree[place] {
                    Node::Leaf(step) => break step,
                    Node::Split { feature, threshold, left, right } => {
                        let value = value(*feature);
                        let is_right = value.is_finite() && threshold.is_none_or(|threshold| value >= threshold);
                        place = if is_right { *right } else { *left };
                    }
                }
            };
        }
        match self.objective {
            Objective::Squared => margin,
            Objective::Logistic => logistic(margin),
        }
    }
}

fn logistic(margin: f64) -> f64 {
    1.0 / (1.0 + (-margin).exp())
}

/// Grows one tree, the leaf with the greatest gain first, and moves the margins of the rows of each leaf.
fn grow(binned: &Binned, derivatives: &[(f64, f64)], margins: &mut [f64]) -> Vec<Node> {
    let rows: Vec<u32> = (0..derivatives.len() as u32).collect();
    let mut nodes = vec![Node::Leaf(0.0)];
    let mut leaves = vec![candidate(0, rows, binned, derivatives)];
    while leaves.len() < LEAVES {
        let best = leaves
            .iter()
            .enumerate()
            .filter_map(|(place, leaf)| Some((place, leaf.best?)))
            .max_by(|(_, a), (_, b)| a.gain.total_cmp(&b.gain));
        let Some((place, Best { feature, code, .. })) = best else { break };
        let leaf = leaves.swap_remove(place);
        let codes = &binned.codes[feature];
        let (left_rows, right_rows): (Vec<u32>, Vec<u32>) =
            leaf.rows.into_iter().partition(|row| usize::from(codes[*row as usize]) <= code);
        let (left, right) = (nodes.len(), nodes.len() + 1);
        // Code 0 holds the missing values.
        let threshold = code.checked_sub(1).map(|edge| binned.edges[feature][edge]);
        nodes[leaf.node] = Node::Split { feature, threshold, left, right };
        nodes.extend([Node::Leaf(0.0), Node::Leaf(0.0)]);
        leaves.push(candidate(left, left_rows, binned, derivatives));
        leaves.push(candidate(right, right_rows, binned, derivatives));
    }
    for leaf in leaves {
        let step = -LEARNING_RATE * leaf.sums.gradient / leaf.sums.hessian.max(LEAST_HESSIAN);
        nodes[leaf.node] = Node::Leaf(step);
        for row in leaf.rows {
            margins[row as usize] += step;
        }
    }
    nodes
}

/// Sums up a leaf and finds its best split.
fn candidate(node: usize, rows: Vec<u32>, binned: &Binned, derivatives: &[(f64, f64)]) -> Candidate {
    let mut sums = Sums::default();
    for row in &rows {
        let (gradient, hessian) = derivatives[*row as usize];
        sums = Sums { gradient: sums.gradient + gradient, hessian: sums.hessian + hessian, rows: sums.rows + 1 };
    }
    let mut best: Option<Best> = None;
    if rows.len() >= 2 * LEAST_ROWS {
        for (feature, codes) in binned.codes.iter().enumerate() {
            let mut histogram = vec![Sums::default(); binned.edges[feature].len() + 2];
            for row in &rows {
                let bin = &mut histogram[usize::from(codes[*row as usize])];
                let (gradient, hessian) = derivatives[*row as usize];
                bin.gradient += gradient;
                bin.hessian += hessian;
                bin.rows += 1;
            }
            let mut left = Sums::default();
            for (code, bin) in histogram.iter().enumerate().take(histogram.len() - 1) {
                left.gradient += bin.gradient;
                left.hessian += bin.hessian;
                left.rows += bin.rows;
                let right = sums.less(left);
                if left.may_be_leaf() && right.may_be_leaf() {
                    let gain = left.gain() + right.gain() - sums.gain();
                    if gain > 1e-12 && best.is_none_or(|best| gain > best.gain) {
                        best = Some(Best { gain, feature, code });
                    }
                }
            }
        }
    }
    Candidate { node, rows, sums, best }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid(rows: usize) -> Vec<Vec<f64>> {
        let column = |step: f64| (0..rows).map(|i| (i as f64 * step).fract()).collect();
        vec![column(0.618_034), column(0.414_214)]
    }

    #[test]
    fn it_learns_a_surface_and_knows_missing_values() {
        let mut columns = grid(3_000);
        let mut target: Vec<f64> = (0..3_000).map(|i| 3.0 * columns[0][i] + (columns[1][i] * 6.0).sin()).collect();
        for i in (0..3_000).step_by(10) {
            (columns[0][i], target[i]) = (f64::NAN, -4.0);
        }
        let fitted = Boosted::fit(&columns, &target, Objective::Squared).unwrap();
        let error = |i: usize| (fitted.predict(|feature| columns[feature][i]) - target[i]).abs();
        let mean = (0..3_000).map(error).sum::<f64>() / 3_000.0;
        assert!(mean < 0.05, "{mean}");
    }

    #[test]
    fn probabilities_are_those_of_the_data() {
        let columns = grid(4_000);
        // One in five above one half, three in five below.
        let is_hit = |i: usize| i.wrapping_mul(7_919) % 5 < if columns[0][i] > 0.5 { 1 } else { 3 };
        let target: Vec<f64> = (0..4_000).map(|i| f64::from(u8::from(is_hit(i)))).collect();
        let fitted = Boosted::fit(&columns[..1], &target, Objective::Logistic).unwrap();
        let mean = |low: f64, high: f64| {
            let inside: Vec<f64> = columns[0].iter().copied().filter(|x| (low..high).contains(x)).collect();
            inside.iter().map(|x| fitted.predict(|_| *x)).sum::<f64>() / inside.len() as f64
        };
        assert!((mean(0.0, 0.5) - 0.6).abs() < 0.03 && (mean(0.5, 1.0) - 0.2).abs() < 0.03);
    }

    #[test]
    fn columns_of_other_lengths_are_refused() {
        assert!(Boosted::fit(&[vec![1.0]], &[1.0, 2.0], Objective::Squared).is_err());
        assert!(Boosted::fit(&[], &[1.0], Objective::Squared).is_err());
    }
}
