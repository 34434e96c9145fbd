//! Distributions of features beside their reference, errors of slices, delays of labels.

use std::collections::BTreeSet;

use fishy_contracts::monitoring::{Bin, Distribution, LabelDelay, Sample, SliceErrors};

use super::checks::{CheckRow, ERROR, OUTPUT, TRUTH, slices};

/// Bins of a distribution.
const BINS: usize = 30;
/// With so many distinct values at most, each has a bin.
const FEW_VALUES: usize = 12;
/// Share of the readings on either side that may lie beyond the inner ends of the outer bins.
const BEYOND: f64 = 0.005;
/// Slices of a label; the rest is `other`.
const MAX_SLICES: usize = 20;
/// Labels that are cut into slices.
const MAX_LABELS: usize = 8;
/// Bars of the delays.
const BARS: i64 = 60;

/// The distribution of each feature; of all features of the rows where none is named.
pub fn distributions(features: &[String], reference: Option<&[CheckRow]>, current: &[CheckRow]) -> Vec<Distribution> {
    let named: BTreeSet<&str> = if features.is_empty() {
        current.iter().flat_map(|row| row.row.inputs.keys().map(String::as_str)).collect()
    } else {
        features.iter().map(String::as_str).collect()
    };
    let inputs = named.into_iter().map(|feature| distribution(feature, reference, current));
    let results = [OUTPUT, TRUTH, ERROR].into_iter().map(|feature| distribution(feature, reference, current));
    inputs.chain(results.filter(|found| !found.bins.is_empty())).collect()
}

fn distribution(feature: &str, reference: Option<&[CheckRow]>, current: &[CheckRow]) -> Distribution {
    let sorted = |rows: &[CheckRow]| {
        let mut values: Vec<f64> =
            rows.iter().filter_map(|row| row.reading(feature)).filter(|value| value.is_finite()).collect();
        values.sort_unstable_by(f64::total_cmp);
        values
    };
    let (before, now) = (reference.map(sorted), sorted(current));
    let sample = |values: &[f64], rows: usize| Sample {
        readings: values.len() as u64,
        without: (rows - values.len()) as u64,
        mean: (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64),
        least: values.first().copied(),
        greatest: values.last().copied(),
    };
    Distribution {
        feature: feature.to_owned(),
        reference: before.as_ref().zip(reference).map(|(values, rows)| sample(values, rows.len())),
        current: sample(&now, current.len()),
        bins: bins(before.as_deref().unwrap_or_default(), &now),
    }
}

/// Counts two sorted samples into the same bins.
fn bins(reference: &[f64], current: &[f64]) -> Vec<Bin> {
    let mut values = BTreeSet::new();
    for value in reference.iter().chain(current) {
        values.insert(ordered(*value));
        if values.len() > FEW_VALUES {
            break;
        }
    }
    if values.len() <= FEW_VALUES {
        let count = |sorted: &[f64], value: f64| {
            sorted.partition_point(|other| *other <= value) - sorted.partition_point(|other| *other < value)
        };
        let one = |key: &i64| {
            let value = value_of(*key);
            let (reference, current) = (count(reference, value) as u64, count(current, value) as u64);
            Bin { from: value, to: value, reference, current }
        };
        return values.iter().map(one).collect();
    }
    let ends = |sorted: &[f64]| {
        let at = |share: f64| sorted.get((share * sorted.len().saturating_sub(1) as f64).round() as usize).copied();
        at(BEYOND).zip(at(1.0 - BEYOND))
    };
    let (low, high) = [ends(reference), ends(current)]
        .into_iter()
        .flatten()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), (from, to)| (low.min(from), high.max(to)));
    // Nearly all are one value: the outliers have the outer bins.
    let (low, high) = if high > low { (low, high) } else { (low - 0.5, low + 0.5) };
    let edge = |place: usize| low + (high - low) * (place as f64 / BINS as f64);
    let upto = |sorted: &[f64], place: usize| match place {
        0 => 0,
        BINS => sorted.len(),
        _ => sorted.partition_point(|value| *value < edge(place)),
    };
    let one = |place: usize| Bin {
        from: edge(place),
        to: edge(place + 1),
        reference: (upto(reference, place + 1) - upto(reference, place)) as u64,
        current: (upto(current, place + 1) - upto(current, place)) as u64,
    };
    (0..BINS).map(one).collect()
}

/// A finite number as an integer that orders as it does; the two zeros are one.
fn ordered(value: f64) -> i64 {
    let bits = (value + 0.0).to_bits().cast_signed();
    if bits < 0 { bits ^ i64::MAX } else { bits }
}

fn value_of(key: i64) -> f64 {
    f64::from_bits((if key < 0 { key ^ i64::MAX } else { key }).cast_unsigned())
}

/// The errors by value of each label.
pub fn slice_errors(rows: &[CheckRow]) -> Vec<SliceErrors> {
    let labels: BTreeSet<&String> = rows.iter().flat_map(|row| row.row.labels.keys()).collect();
    let mut all = Vec::new();
    for label in labels.into_iter().take(MAX_LABELS) {
        let (cut, _) = slices::cut(rows, std::slice::from_ref(label), MAX_SLICES);
        let mut of_label: Vec<SliceErrors> = cut.into_iter().skip(1).map(|slice| errors(&slice)).collect();
        of_label.sort_by_key(|slice| std::cmp::Reverse(slice.rows));
        all.extend(of_label);
    }
    all
}

fn errors(slice: &slices::Slice<'_>) -> SliceErrors {
    let pairs = slice.rows.iter().filter_map(|row| row.answered());
    let (labels, absolute, signed) = pairs.fold((0_u64, 0.0, 0.0), |(labels, absolute, signed), (output, value)| {
        (labels + 1, absolute + (output - value).abs(), signed + output - value)
    });
    let mean = |total: f64| (labels > 0).then(|| total / labels as f64);
    SliceErrors {
        slice: slice.name.clone(),
        rows: slice.rows.len() as u64,
        labels,
        mae: mean(absolute),
        bias: mean(signed),
    }
}

/// What counts of labels by full hours of delay, in order, say.
pub fn label_delay(counts: &[(i64, u64)]) -> Option<LabelDelay> {
    let (first, last) = (counts.first()?.0, counts.last()?.0);
    let total: u64 = counts.iter().map(|(_, labels)| labels).sum();
    let quantile = |share: f64| {
        let mut seen = 0;
        let found = counts.iter().find(|(_, labels)| {
            seen += labels;
            seen as f64 >= share * total as f64
        });
        found.map_or(last, |(hours, _)| *hours)
    };
    let width = (last - first) / BARS + 1;
    let mut histogram: Vec<(i64, u64)> = (0..=(last - first) / width).map(|bar| (first + bar * width, 0)).collect();
    for (hours, labels) in counts {
        histogram[((hours - first) / width) as usize].1 += labels;
    }
    Some(LabelDelay { median_hours: quantile(0.5), p90_hours: quantile(0.9), greatest_hours: last, histogram })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reading_is_in_one_bin_and_outliers_in_the_outer_ones() {
        let mut reference: Vec<f64> = (0..1_000).map(|i| f64::from(i) * 0.01).collect();
        reference.push(1e12);
        let current: Vec<f64> = (0..500).map(|i| 5.0 + f64::from(i) * 0.01).collect();
        let bins = bins(&reference, &current);
        assert_eq!(bins.len(), BINS);
        let (before, now) = bins.iter().fold((0, 0), |(before, now), bin| (before + bin.reference, now + bin.current));
        assert_eq!((before, now), (1_001, 500));
        assert!(bins[29].to < 11.0, "one outlier does not stretch the bins: {bins:?}");
        assert!(bins[0].current == 0 && bins.windows(2).all(|pair| pair[0].to.to_bits() == pair[1].from.to_bits()));
    }

    #[test]
    fn a_few_values_have_a_bin_each_and_negative_ones_come_first() {
        let found = bins(&[-2.0, -0.0, 0.0, 1.0], &[1.0, 1.0]);
        let told: Vec<_> = found.iter().map(|bin| (bin.from, bin.reference, bin.current)).collect();
        assert_eq!(told, [(-2.0, 1, 0), (0.0, 2, 0), (1.0, 1, 2)]);
        assert!(bins(&[], &[]).is_empty());
    }

    #[test]
    fn nearly_constant_readings_still_have_bins() {
        let mut values = vec![7.0; 10_000];
        values.extend((0..20).map(|i| 7.0 + f64::from(i)));
        let total: u64 = bins(&values, &[]).iter().map(|bin| bin.reference).sum();
        assert_eq!(total, 10_020);
    }

    #[test]
    fn delays_have_quantiles_and_few_bars() {
        let delay = label_delay(&[(1, 5), (2, 4), (700, 1)]).unwrap();
        assert_eq!((delay.median_hours, delay.p90_hours, delay.greatest_hours), (1, 2, 700));
        assert!(delay.histogram.len() <= 61, "{delay:?}");
        assert_eq!(delay.histogram.iter().map(|bar| bar.1).sum::<u64>(), 10);
        assert_eq!(delay.histogram.last().unwrap().1, 1);
        assert_eq!(label_delay(&[]), None);
    }
}
