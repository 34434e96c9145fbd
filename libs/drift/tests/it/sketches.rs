//! Sketches against exact values: the stated errors hold, for any order of the stream and any way it is cut.

use std::collections::BTreeMap;

use fishy_drift::{DistinctSketch, FrequentSketch, KsMethod, QuantileSketch, Sample, ks, psi_of_shares, wasserstein};
use proptest::prelude::*;

use super::drawn::Drawn;

/// Largest error of rank, as a share of the count, over many quantiles.
fn rank_error(sketch: &QuantileSketch, exact: &Sample) -> f64 {
    let error = |percent: u32| {
        let value = exact.quantile(f64::from(percent) / 200.0);
        let up_to = exact.values().partition_point(|held| *held <= value) as f64 / exact.count() as f64;
        (sketch.share_up_to(value).unwrap() - up_to).abs()
    };
    (0..=200).map(error).fold(0.0, f64::max)
}

fn streams() -> Vec<Vec<f64>> {
    let mut drawn = Drawn::new(6);
    let normal: Vec<f64> = (0..300_000).map(|_| drawn.normal()).collect();
    let rising: Vec<f64> = (0..300_000).map(f64::from).collect();
    let falling: Vec<f64> = rising.iter().rev().copied().collect();
    let few: Vec<f64> = (0..300_000).map(|_| (drawn.uniform() * 7.0).floor()).collect();
    let tailed: Vec<f64> = (0..300_000).map(|_| (drawn.normal() * 2.0).exp()).collect();
    vec![normal, rising, falling, few, tailed]
}

#[test]
fn quantiles_keep_their_stated_error_in_bounded_memory() {
    for (stream, values) in streams().into_iter().enumerate() {
        let exact = Sample::new(&values).unwrap();
        for (k, stated) in [(256, 0.0155), (1024, 0.0045)] {
            let mut whole = QuantileSketch::new(k, 1).unwrap();
            let mut merged = QuantileSketch::new(k, 2).unwrap();
            for (part, chunk) in values.chunks(7_001).enumerate() {
                let mut window = QuantileSketch::new(k, 100 + part as u64).unwrap();
                for value in chunk {
                    whole.push(*value);
                    window.push(*value);
                }
                merged.merge(&window);
            }
            for sketch in [&whole, &merged] {
                assert_eq!((sketch.count(), sketch.range()), (300_000, Some(exact.range())));
                let error = rank_error(sketch, &exact);
                assert!(error <= stated, "stream {stream}, k {k}: {error}");
                assert!(sketch.held() <= 4 * k, "{}", sketch.held());
                let median = sketch.quantile(0.5).unwrap();
                let (below, up_to) = (
                    exact.values().partition_point(|held| *held < median) as f64 / 3e5,
                    exact.values().partition_point(|held| *held <= median) as f64 / 3e5,
                );
                assert!(below - stated <= 0.5 && 0.5 <= up_to + stated, "{median} {below} {up_to}");
            }
        }
    }
}

#[test]
fn drift_from_sketches_is_near_the_exact_drift() {
    let mut drawn = Drawn::new(13);
    let reference: Vec<f64> = (0..200_000).map(|_| drawn.normal()).collect();
    let current: Vec<f64> = (0..150_000).map(|_| drawn.normal() * 1.1 + 0.2).collect();
    let sketch = |values: &[f64]| {
        let mut sketch = QuantileSketch::new(1024, 3).unwrap();
        for value in values {
            sketch.push(*value);
        }
        sketch
    };
    let (a, b) = (Sample::new(&reference).unwrap(), Sample::new(&current).unwrap());
    let (of_a, of_b) = (sketch(&reference), sketch(&current));
    let (distance, area) = of_a.distances(&of_b).unwrap();
    assert!((distance - ks(&a, &b, KsMethod::Asymptotic).statistic).abs() < 0.009, "{distance}");
    assert!((area - wasserstein(&a, &b)).abs() < 0.02, "{area} {}", wasserstein(&a, &b));
    let edges: Vec<f64> = (1..10).map(|decile| of_a.quantile(f64::from(decile) / 10.0).unwrap()).collect();
    let exact = fishy_drift::psi(&reference, &current).unwrap();
    let near = psi_of_shares(&of_a.shares(&edges), &of_b.shares(&edges));
    assert!((near - exact).abs() < 0.1 * exact, "{near} {exact}");
    assert_eq!(of_a.distances(&QuantileSketch::new(8, 1).unwrap()), None);
}

#[test]
fn distinct_counts_keep_their_stated_error() {
    for count in [0_u32, 1, 10, 500, 5_000, 40_000, 1_000_000] {
        let (mut numbers, mut texts) = (DistinctSketch::new(12).unwrap(), DistinctSketch::new(12).unwrap());
        for value in 0..count {
            numbers.push_number(f64::from(value) * 0.1);
            if count <= 40_000 {
                texts.push_text(&format!("pen-{value}"));
                texts.push_text(&format!("pen-{}", value / 2));
            }
        }
        // Three standard errors of 1.6 %.
        let is_near = |estimate: f64| (estimate - f64::from(count)).abs() <= 0.049 * f64::from(count) + 0.5;
        assert!(is_near(numbers.estimate()), "{count}: {}", numbers.estimate());
        assert!(count > 40_000 || is_near(texts.estimate()), "{count}: {}", texts.estimate());
    }
}

#[test]
fn merged_distinct_sketches_are_that_of_the_whole() {
    let mut parts = [DistinctSketch::new(10).unwrap(), DistinctSketch::new(10).unwrap()];
    let mut whole = DistinctSketch::new(10).unwrap();
    for value in 0..9_000_u32 {
        let value = f64::from(value % 6_000);
        whole.push_number(value);
        parts[usize::from(value < 2_500.0)].push_number(value);
    }
    let [mut first, second] = parts;
    first.merge(&second).unwrap();
    assert_eq!(first, whole);
    let stored: DistinctSketch = serde_json::from_str(&serde_json::to_string(&whole).unwrap()).unwrap();
    assert_eq!(stored, whole);
    assert!(first.merge(&DistinctSketch::new(11).unwrap()).is_err() && DistinctSketch::new(3).is_err());
}

#[test]
fn sizes_that_make_no_sense_are_refused() {
    assert!(QuantileSketch::new(3, 1).is_err() && FrequentSketch::new(0).is_err());
    let mut sketch = QuantileSketch::new(64, 1).unwrap();
    sketch.push(f64::NAN);
    assert_eq!((sketch.count(), sketch.missing(), sketch.quantile(0.5), sketch.share_up_to(1.0)), (0, 1, None, None));
    assert!(sketch.shares(&[1.0]).is_empty());
}

#[test]
fn damage_of_a_stored_sketch_is_noticed() {
    let mut quantiles = QuantileSketch::new(8, 1).unwrap();
    for value in 0..100 {
        quantiles.push(f64::from(value));
    }
    let text = serde_json::to_string(&quantiles).unwrap();
    assert!(serde_json::from_str::<QuantileSketch>(&text).unwrap() == quantiles);
    for (whole, damaged) in [("\"k\":8", "\"k\":0"), ("\"count\":100", "\"count\":99")] {
        assert!(text.contains(whole) && serde_json::from_str::<QuantileSketch>(&text.replace(whole, damaged)).is_err());
    }
    assert!(serde_json::from_str::<DistinctSketch>("[0,0,0]").is_err());
}

proptest! {
    #[test]
    fn frequent_counts_are_never_too_high_and_lack_no_more_than_stated(
        stream in prop::collection::vec((0..60_u32).prop_map(|value| value * value / 60), 1..600),
        k in 1..12_usize,
        cut in 0..600_usize,
    ) {
        let mut exact: BTreeMap<String, u64> = BTreeMap::new();
        let (mut whole, mut merged) = (FrequentSketch::new(k).unwrap(), FrequentSketch::new(k).unwrap());
        let mut second = merged.clone();
        for (place, value) in stream.iter().enumerate() {
            let value = format!("v{value}");
            *exact.entry(value.clone()).or_insert(0) += 1;
            whole.push(&value, 1);
            if place < cut { &mut merged } else { &mut second }.push(&value, 1);
        }
        merged.merge(&second);
        for sketch in [whole, merged] {
            prop_assert_eq!(sketch.total(), stream.len() as u64);
            prop_assert!(sketch.error() * (k as u64 + 1) <= sketch.total());
            let held = sketch.at_least(0);
            prop_assert!(held.len() <= 2 * k);
            for frequent in &held {
                let count = exact[&frequent.value];
                prop_assert!(frequent.at_least <= count && count <= frequent.at_most);
            }
            for (value, count) in &exact {
                prop_assert!(*count <= sketch.error() || held.iter().any(|frequent| frequent.value == *value));
            }
        }
    }

    #[test]
    fn weights_of_a_quantile_sketch_always_sum_to_the_count(values in prop::collection::vec(-9.0..9.0_f64, 1..400), cut in 0..400_usize) {
        let (first, second) = values.split_at(cut.min(values.len()));
        let build = |values: &[f64], seed| {
            let mut sketch = QuantileSketch::new(8, seed).unwrap();
            for value in values {
                sketch.push(*value);
            }
            sketch
        };
        let mut merged = build(first, 1);
        merged.merge(&build(second, 2));
        let shares = merged.shares(&[-3.0, 0.0, 3.0]);
        prop_assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        prop_assert_eq!(merged.share_up_to(9.5), Some(1.0));
        prop_assert_eq!(merged.quantile(1.0), Some(values.iter().copied().fold(f64::MIN, f64::max)));
    }
}
