use fishy_core::{Error, Result};
use serde::{Deserialize, Serialize};

use super::ratio;

/// What was shown for one query: items in the order of the ranking, best first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RankedQuery {
    /// How relevant each shown item is: 0 is not, 1 is, graded values in between or above are allowed.
    pub relevance: Vec<f64>,
    /// Relevance of items that were not shown; they count for what could have been reached.
    pub not_shown: Vec<f64>,
}

/// Metrics of a ranking, cut after `k` items: means over the queries that have at least one relevant item.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RankingMetrics {
    /// Items looked at.
    pub k: usize,
    /// Queries with a relevant item.
    pub queries: u64,
    /// Queries without one, which are left out.
    pub skipped: u64,
    /// Share of the `k` places that hold a relevant item.
    pub precision: f64,
    /// Share of the relevant items that are among the first `k`.
    pub recall: f64,
    /// Harmonic mean of precision and recall of each query.
    pub f1: f64,
    /// Mean average precision: precision at each relevant item, over the smaller of `k` and the relevant items.
    pub map: f64,
    /// Normalised discounted cumulative gain: relevance over `log2(1 + place)`, against the best order.
    pub ndcg: f64,
    /// Mean reciprocal place of the first relevant item.
    pub mrr: f64,
    /// Share of the queries with a relevant item among the first `k`.
    pub hit_rate: f64,
}

impl RankingMetrics {
    /// The metrics of these queries; refused without a query that has a relevant item, or for a relevance that is negative
    /// or not finite.
    pub fn of(queries: &[RankedQuery], k: usize) -> Result<Self> {
        let mut sums = [0.0; 7];
        let mut counted = 0_u64;
        for query in queries {
            let all = || query.relevance.iter().chain(&query.not_shown).copied();
            if let Some(relevance) = all().find(|relevance| !(relevance.is_finite() && *relevance >= 0.0)) {
                return Err(Error::invalid(format!("a relevance is 0 or more, and one is {relevance}")));
            }
            if k > 0 && all().any(|relevance| relevance > 0.0) {
                counted += 1;
                for (sum, value) in sums.iter_mut().zip(of_query(query, k)) {
                    *sum += value;
                }
            }
        }
        if counted == 0 {
            return Err(Error::invalid(format!(
                "ranking metrics need k of at least 1 and a query with a relevant item: k is {k}, and none of the {} \
                 queries has one",
                queries.len()
            )));
        }
        let [precision, recall, f1, map, ndcg, mrr, hit_rate] = sums.map(|sum| sum / counted as f64);
        let skipped = queries.len() as u64 - counted;
        Ok(Self { k, queries: counted, skipped, precision, recall, f1, map, ndcg, mrr, hit_rate })
    }
}

fn of_query(query: &RankedQuery, k: usize) -> [f64; 7] {
    let shown = &query.relevance[..k.min(query.relevance.len())];
    let mut best: Vec<f64> = query.relevance.iter().chain(&query.not_shown).copied().collect();
    best.sort_unstable_by(|a, b| b.total_cmp(a));
    let relevant = best.iter().filter(|relevance| **relevance > 0.0).count() as f64;
    let (mut hits, mut precisions, mut first) = (0.0, 0.0, 0.0);
    for (place, relevance) in shown.iter().enumerate() {
        if *relevance > 0.0 {
            let place = (place + 1) as f64;
            hits += 1.0;
            precisions += hits / place;
            if hits < 1.5 {
                first = 1.0 / place;
            }
        }
    }
    let gain = |items: &[f64]| {
        items.iter().take(k).enumerate().map(|(place, relevance)| relevance / (place as f64 + 2.0).log2()).sum::<f64>()
    };
    let (precision, recall) = (hits / k as f64, hits / relevant);
    let f1 = ratio(2.0 * precision * recall, precision + recall).unwrap_or(0.0);
    let map = precisions / relevant.min(k as f64);
    [precision, recall, f1, map, gain(shown) / gain(&best), first, f64::from(u8::from(hits > 0.0))]
}
