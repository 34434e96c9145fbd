//! Agreement of experts on what was shown to them more than once.

use std::collections::{BTreeMap, BTreeSet};

use fishy_contracts::monitoring::{Agreement, AgreementOf, AgreementQuery, AgreementWeights, Degree, PairAgreement};
use fishy_core::{Error, Result};
use fishy_drift::{CohenKappa, FleissKappa, KappaWeights};

/// What an expert said of an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rating {
    pub prediction_id: String,
    pub actor: String,
    pub label: String,
    pub severity: Option<Degree>,
}

const CONFIDENCE: f64 = 0.95;

/// Agreement of the ratings, which are in the order they were given. Refused when labels without an order should be weighted.
pub fn agreement(ratings: &[Rating], query: AgreementQuery) -> Result<Agreement> {
    let weights = match query.weights {
        AgreementWeights::None => KappaWeights::Unweighted,
        AgreementWeights::Linear => KappaWeights::Linear,
        AgreementWeights::Quadratic => KappaWeights::Quadratic,
    };
    let named: Vec<(&Rating, String)> =
        ratings.iter().filter_map(|rating| Some((rating, category(rating, query.of)?))).collect();
    let mut of_item: BTreeMap<&str, Vec<(&str, &str)>> = BTreeMap::new();
    for (rating, category) in &named {
        of_item.entry(&rating.prediction_id).or_default().push((&rating.actor, category));
    }
    of_item.retain(|_, said| said.len() > 1);
    let categories = ordered(of_item.values().flatten().map(|(_, category)| *category).collect(), query)?;
    let place = |category: &str| categories.iter().position(|known| known == category).unwrap_or_default();

    let mut both: BTreeMap<(&str, &str), Vec<(usize, usize)>> = BTreeMap::new();
    for said in of_item.values() {
        for (at, (first, category)) in said.iter().enumerate() {
            for (second, other) in &said[at + 1..] {
                let pair = (place(category), place(other));
                if first <= second {
                    both.entry((first, second)).or_default().push(pair);
                } else {
                    both.entry((second, first)).or_default().push((pair.1, pair.0));
                }
            }
        }
    }
    let pairs = both.into_iter().map(|((first, second), said)| {
        let kappa = CohenKappa::of(&said, categories.len(), weights, CONFIDENCE).ok();
        PairAgreement {
            first: first.to_owned(),
            second: second.to_owned(),
            items: said.len() as u64,
            same: said.iter().filter(|(first, second)| first == second).count() as f64 / said.len() as f64,
            kappa: kappa.map(|kappa| kappa.kappa),
            low: kappa.map(|kappa| kappa.interval.low),
            high: kappa.map(|kappa| kappa.interval.high),
            p_value: kappa.map(|kappa| kappa.p_value),
        }
    });
    let pairs = pairs.collect();
    let counts: Vec<Vec<u64>> = of_item
        .values()
        .map(|said| {
            let mut counts = vec![0; categories.len()];
            for (_, category) in said.iter().take(2) {
                counts[place(category)] += 1;
            }
            counts
        })
        .collect();
    let fleiss = FleissKappa::of(&counts).ok();
    Ok(Agreement {
        items: of_item.len() as u64,
        pairs,
        fleiss_kappa: fleiss.map(|fleiss| fleiss.kappa),
        fleiss_p_value: fleiss.map(|fleiss| fleiss.p_value),
        categories,
    })
}

fn category(rating: &Rating, of: AgreementOf) -> Option<String> {
    match of {
        AgreementOf::Label => Some(rating.label.trim().to_owned()),
        AgreementOf::Severity => rating.severity.map(|degree| format!("{degree:?}").to_lowercase()),
    }
}

/// The categories in their order: numbers by size, severities by degree, all of which there are; other words by letter.
fn ordered(used: BTreeSet<&str>, query: AgreementQuery) -> Result<Vec<String>> {
    if query.of == AgreementOf::Severity {
        return Ok(["none", "mild", "moderate", "severe"].map(str::to_owned).to_vec());
    }
    let numbers: Option<Vec<(f64, &str)>> =
        used.iter().map(|text| Some((text.parse::<f64>().ok().filter(|number| number.is_finite())?, *text))).collect();
    if let Some(mut numbers) = numbers {
        numbers.sort_by(|a, b| a.0.total_cmp(&b.0));
        return Ok(numbers.into_iter().map(|(_, text)| text.to_owned()).collect());
    }
    if query.weights != AgreementWeights::None {
        return Err(Error::precondition(
            "the labels are words, which have no order: ask for agreement without weights, or of the severity",
        ));
    }
    Ok(used.into_iter().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(item: u32, actor: &str, label: &str) -> Rating {
        Rating { prediction_id: item.to_string(), actor: actor.into(), label: label.into(), severity: None }
    }

    fn of(weights: AgreementWeights) -> AgreementQuery {
        AgreementQuery { of: AgreementOf::Label, weights }
    }

    #[test]
    fn two_experts_are_compared_on_what_both_saw() {
        // Of ten items they agree on eight: 4 sick, 4 healthy; chance is one half, kappa 0.6.
        let mut ratings = Vec::new();
        for item in 0..10 {
            let (ada, bo) = (item % 2 == 0, (item % 2 == 0) ^ (item < 2));
            let word = |is_sick| if is_sick { "sick" } else { "healthy" };
            // Who was first does not matter.
            let pair = [said(item, "ada", word(ada)), said(item, "bo", word(bo))];
            ratings.extend(if item % 3 == 0 { [pair[1].clone(), pair[0].clone()] } else { pair });
        }
        ratings.push(said(99, "ada", "unseen by others"));
        let found = agreement(&ratings, of(AgreementWeights::None)).unwrap();
        assert_eq!((found.items, found.categories.len(), found.pairs.len()), (10, 2, 1));
        let pair = &found.pairs[0];
        assert_eq!((pair.first.as_str(), pair.second.as_str(), pair.items), ("ada", "bo", 10));
        assert!((pair.same - 0.8).abs() < 1e-12 && (pair.kappa.unwrap() - 0.6).abs() < 1e-12);
        assert!(pair.low.unwrap() < 0.6 && pair.high.unwrap() > 0.6);
        assert!((found.fleiss_kappa.unwrap() - 0.6).abs() < 1e-12);
        assert!(agreement(&ratings, of(AgreementWeights::Linear)).is_err(), "words have no order");
    }

    #[test]
    fn an_expert_is_compared_with_himself_and_numbers_have_an_order() {
        let ratings = [said(1, "ada", "2"), said(1, "ada", "10"), said(2, "ada", "10"), said(2, "ada", "10")];
        let found = agreement(&ratings, of(AgreementWeights::Quadratic)).unwrap();
        assert_eq!(found.categories, ["2", "10"]);
        assert_eq!((found.pairs[0].first.as_str(), found.pairs[0].second.as_str()), ("ada", "ada"));
        assert!((found.pairs[0].same - 0.5).abs() < 1e-12);
    }

    #[test]
    fn severities_are_graded_and_nothing_is_no_agreement() {
        let graded = |item, actor: &str, severity| Rating { severity: Some(severity), ..said(item, actor, "x") };
        let ratings = [
            graded(1, "ada", Degree::Mild),
            graded(1, "bo", Degree::Moderate),
            graded(2, "ada", Degree::Severe),
            graded(2, "bo", Degree::Severe),
            said(3, "ada", "x"),
            said(3, "bo", "x"),
        ];
        let query = AgreementQuery { of: AgreementOf::Severity, weights: AgreementWeights::Linear };
        let found = agreement(&ratings, query).unwrap();
        assert_eq!((found.items, found.categories.len()), (2, 4));
        assert!(found.pairs[0].kappa.unwrap() > 0.3);
        let none = agreement(&[], query).unwrap();
        assert_eq!((none.items, none.pairs.len(), none.fleiss_kappa), (0, 0, None));
    }
}
