//! The figures of one window.

use std::collections::BTreeMap;

use fishy_contracts::monitoring::{CheckSpec, CheckWindow, Figure, ReferenceUsed, Statistic, Threshold};
use fishy_core::{Error, Result};
use fishy_drift::Sample;

use super::limits::{quantile, signed};
use super::readings::Readings;
use super::reference::{Reference, columns};
use super::slices::{self, Slice};
use super::spans::Span;
use super::statistics::{self, Kind, Outcome};
use super::{CheckRow, OUTPUT};

/// Most reasons that are told of one window.
const MAX_REASONS: usize = 50;

/// Computes the figures of a window, without those limits that depend on the windows before.
pub fn compute(
    spec: &CheckSpec,
    features: &[String],
    span: Span,
    rows: &[CheckRow],
    reference: Option<(&ReferenceUsed, &mut Reference<'_>)>,
) -> CheckWindow {
    let (slices, other_share) = slices::cut(rows, &spec.slices, spec.max_slices as usize);
    let mut window = CheckWindow {
        check: spec.name.clone(),
        start_ms: span.from_ms,
        end_ms: span.to_ms,
        rows: rows.len() as u64,
        labels: rows.iter().filter(|row| row.row.value.is_some()).count() as u64,
        reference: None,
        figures: Vec::new(),
        not_tested: BTreeMap::new(),
        other_share,
    };
    let mut readings = Readings::new(rows);
    let (used, mut reference) = reference.unzip();
    window.reference = used.cloned();
    for statistic in spec.tests.keys() {
        for slice in &slices {
            let concerns: Vec<&str> = match statistics::kind(*statistic) {
                Kind::Numeric | Kind::Categorical | Kind::Missing => features.iter().map(String::as_str).collect(),
                Kind::Performance | Kind::Estimated => vec![""],
                // They cost as much as all others together: for the whole window only.
                Kind::Together if slice.name.is_empty() => vec![""],
                Kind::Together => Vec::new(),
            };
            for feature in concerns {
                match one(spec, *statistic, (features, feature), slice, &mut readings, reference.as_deref_mut()) {
                    Ok(figure) => window.figures.push(figure),
                    Err(error) if window.not_tested.len() < MAX_REASONS => {
                        let parts = [statistic.as_str(), feature, &slice.name];
                        let place: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
                        window.not_tested.insert(place.join(" "), error.message().to_owned());
                    }
                    Err(_) => {}
                }
            }
        }
    }
    window
}

fn one(
    spec: &CheckSpec,
    statistic: Statistic,
    (features, feature): (&[String], &str),
    slice: &Slice<'_>,
    readings: &mut Readings<'_>,
    mut reference: Option<&mut Reference<'_>>,
) -> Result<Figure> {
    let least = spec.min_rows as usize;
    let enough = |count: usize| {
        if count >= least {
            Ok(count as u64)
        } else {
            Err(Error::precondition(format!("{count} readings without a data fault: {least} are needed (min_rows)")))
        }
    };
    let none = || Error::precondition("there is nothing to compare with: no rows in the span of the reference");
    let (rows, outcome): (u64, Outcome) = match statistics::kind(statistic) {
        Kind::Numeric | Kind::Categorical => {
            let readings = readings.of(feature, &slice.places);
            let rows = enough(readings.len())?;
            let reference = reference.as_deref_mut().ok_or_else(none)?;
            let sample = reference.sample(&slice.name, feature).ok_or_else(none)?;
            if sample.count() < least {
                let count = sample.count();
                return Err(Error::precondition(format!("the reference has {count} readings: {least} are needed")));
            }
            (rows, statistics::of_feature(statistic, sample, &Sample::from_vec(readings)?)?)
        }
        Kind::Missing => {
            let rows = enough(slice.rows.len())?;
            let is_missing = |row: &&&CheckRow| match feature {
                OUTPUT => row.row.output.is_none(),
                _ => row.row.inputs.get(feature).copied().flatten().is_none(),
            };
            let missing = slice.rows.iter().filter(is_missing).count();
            (rows, (missing as f64 / rows as f64).into())
        }
        Kind::Together => {
            let current = columns(&slice.rows, features);
            let rows = enough(current.first().map_or(0, Vec::len))?;
            let reference = reference.as_deref_mut().ok_or_else(none)?.columns();
            enough(reference.first().map_or(0, Vec::len))?;
            (rows, statistics::of_all(statistic, &reference, &current)?)
        }
        Kind::Performance => {
            let answered: Vec<(f64, f64)> = slice.rows.iter().filter_map(|row| row.answered()).collect();
            (enough(answered.len())?, statistics::of_performance(statistic, &answered)?)
        }
        Kind::Estimated => {
            let rows = enough(slice.rows.iter().filter(|row| row.reading(OUTPUT).is_some()).count())?;
            let reference = reference.as_deref_mut().ok_or_else(none)?;
            (rows, reference.estimate(statistic, &slice.rows)?)
        }
    };
    if !outcome.value.is_finite() {
        return Err(Error::precondition(format!("{} is not finite for these readings", statistic.as_str())));
    }
    let mut limit = |threshold: Option<&Threshold>| match threshold? {
        Threshold::Constant { limit } => Some(*limit),
        Threshold::PValue { below } => Some(*below),
        Threshold::Resampled { quantile: share, resamples } => {
            let reference = reference.as_deref_mut()?;
            let stretches = reference.resampled(statistic, &slice.name, feature, rows as usize, *resamples as usize);
            quantile(stretches, *share).map(|limit| signed(statistic, limit))
        }
        Threshold::StandardDeviation { .. } | Threshold::Quantile { .. } => None,
    };
    let test = spec.tests.get(&statistic);
    Ok(Figure {
        warning_limit: limit(test.and_then(|test| test.warning.as_ref())),
        alert_limit: limit(test.and_then(|test| test.alert.as_ref())),
        test: statistic,
        feature: feature.to_owned(),
        slice: slice.name.clone(),
        rows,
        value: outcome.value,
        p_value: outcome.p_value.filter(|p_value| p_value.is_finite()),
        p_corrected: None,
        effect: outcome.effect,
        band: outcome.band,
        severity: None,
    })
}
