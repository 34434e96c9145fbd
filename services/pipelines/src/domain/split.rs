//! Which rows are trained on and which are held out. This is where a leak of the future would happen, so it is pure.

use fishy_contracts::monitoring::LabelledRow;
use fishy_core::time::DAY_MS;
use fishy_core::{Error, Result};

use super::definition::Data;

/// Training rows and held-out rows, each in event time order; every training row is older than every held-out one.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Split {
    /// What is trained on.
    pub train: Vec<LabelledRow>,
    /// What is evaluated on.
    pub holdout: Vec<LabelledRow>,
}

/// The event time at which the held-out rows begin, told from the newest rows alone; `None` without rows.
///
/// `newest` are at least the rows that [`rows_to_look_at`] asks for.
pub fn holdout_from_ms(data: &Data, newest: &[LabelledRow]) -> Option<i64> {
    let mut times: Vec<i64> = newest.iter().map(|row| row.time_ms).collect();
    times.sort_unstable();
    let last = *times.last()?;
    let by_rows = data.holdout_rows.and_then(|rows| times.get(times.len().saturating_sub(rows as usize)).copied());
    let by_days = data.holdout_days.map(|days| last.saturating_sub(span_ms(days)).saturating_add(1));
    // Where both are given, the larger of the two is held out.
    Some(by_rows.unwrap_or(i64::MAX).min(by_days.unwrap_or(i64::MAX)).min(last))
}

/// How many of the newest rows tell where the held-out ones begin.
pub fn rows_to_look_at(data: &Data) -> u64 {
    data.holdout_rows.unwrap_or(1)
}

/// Where the training rows begin, given where the held-out ones do.
pub fn train_from_ms(data: &Data, holdout_from_ms: i64) -> i64 {
    holdout_from_ms.saturating_sub(span_ms(data.train_days))
}

/// Splits rows that were known at `as_of_ms`.
///
/// Rows of one moment are never torn apart: where the newest N rows would do that, the whole moment is held out.
/// `Internal` when a row arrived after `as_of_ms` or lies after it: the source of the data has leaked the future.
pub fn split(data: &Data, as_of_ms: i64, mut rows: Vec<LabelledRow>) -> Result<Split> {
    for row in &rows {
        check_known(row, as_of_ms)?;
    }
    rows.sort_by(|a, b| a.time_ms.cmp(&b.time_ms).then_with(|| a.id.cmp(&b.id)));
    rows.dedup_by(|a, b| a.id == b.id);
    let Some(holdout_from) = holdout_from_ms(data, &rows) else { return Ok(Split::default()) };
    let train_from = train_from_ms(data, holdout_from);
    let holdout = rows.split_off(rows.partition_point(|row| row.time_ms < holdout_from));
    let by_days = rows.partition_point(|row| row.time_ms < train_from);
    let by_rows = rows.len().saturating_sub(data.extend_to_rows.unwrap_or(0) as usize);
    let mut train = rows.split_off(by_days.min(by_rows));
    if let Some(max) = data.max_train_rows {
        train.drain(..train.len().saturating_sub(max as usize));
    }
    Ok(Split { train, holdout })
}

fn check_known(row: &LabelledRow, as_of_ms: i64) -> Result<()> {
    if row.arrived_ms > as_of_ms || row.time_ms >= as_of_ms {
        return Err(Error::internal(format!(
            "row {:?} of {} ms, whose true value arrived at {} ms, was not known at {as_of_ms} ms: \
             the dataset leaks the future, nothing was trained",
            row.id, row.time_ms, row.arrived_ms
        )));
    }
    Ok(())
}

fn span_ms(days: f64) -> i64 {
    (days * DAY_MS as f64) as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn row(index: usize, time_ms: i64, delay_ms: i64) -> LabelledRow {
        LabelledRow {
            id: format!("r{index}"),
            time_ms,
            arrived_ms: time_ms + delay_ms,
            inputs: BTreeMap::new(),
            value: 1.0,
            prediction: None,
            version: None,
        }
    }

    fn data(train_days: f64, holdout_rows: Option<u64>, holdout_days: Option<f64>) -> Data {
        Data {
            train_days,
            first_train_days: None,
            extend_to_rows: None,
            max_train_rows: None,
            holdout_rows,
            holdout_days,
            min_train_rows: 1,
        }
    }

    fn times(rows: &[LabelledRow]) -> Vec<i64> {
        rows.iter().map(|row| row.time_ms / DAY_MS).collect()
    }

    #[test]
    fn sparse_data_reach_further_back_and_the_larger_holdout_counts() {
        let rows: Vec<_> = (0..10).map(|index| row(index, index as i64 * DAY_MS, 0)).collect();
        let sparse = Data { extend_to_rows: Some(5), ..data(2.0, Some(3), Some(1.0)) };
        let split = split(&sparse, 10 * DAY_MS, rows).unwrap();
        assert_eq!((split.train.len(), split.holdout.len()), (5, 3));
    }

    #[test]
    fn the_newest_rows_are_held_out_and_the_window_before_is_trained_on() {
        let rows: Vec<_> = (0..10).map(|day| row(day, day as i64 * DAY_MS, 1)).collect();
        let by_rows = split(&data(3.0, Some(2), None), 100 * DAY_MS, rows.clone()).unwrap();
        assert_eq!((times(&by_rows.train), times(&by_rows.holdout)), (vec![5, 6, 7], vec![8, 9]));
        let by_days = split(&data(3.0, None, Some(2.0)), 100 * DAY_MS, rows.clone()).unwrap();
        assert_eq!(times(&by_days.holdout), [8, 9]);
        let capped = Data { max_train_rows: Some(1), ..data(3.0, Some(2), None) };
        assert_eq!(times(&split(&capped, 100 * DAY_MS, rows).unwrap().train), [7]);
        assert_eq!(split(&capped, 0, Vec::new()).unwrap(), Split::default());
    }

    #[test]
    fn one_moment_is_never_in_both() {
        let rows = vec![row(0, 0, 0), row(1, 7, 0), row(2, 7, 0), row(3, 7, 0)];
        let split = split(&data(1.0, Some(1), None), 100, rows).unwrap();
        assert_eq!((split.train.len(), split.holdout.len()), (1, 3));
    }

    #[test]
    fn a_row_from_the_future_is_a_loud_error() {
        let late = split(&data(1.0, Some(1), None), 100, vec![row(0, 0, 0), row(7, 50, 51)]).unwrap_err();
        assert!(late.message().contains("row \"r7\" of 50 ms") && late.message().contains("101 ms"), "{late}");
        assert!(split(&data(1.0, Some(1), None), 100, vec![row(0, 100, 0)]).is_err());
    }

    proptest! {
        /// Whatever the rows: what was not known is refused, nothing held out is older than what is trained on,
        /// no row is in both or invented, and the window sizes are kept.
        #[test]
        fn nothing_leaks(
            rows in prop::collection::vec((0_i64..200, 0_i64..40), 0..60),
            as_of in 0_i64..260,
            train in 1_i64..100,
            holdout_rows in prop::option::of(1_u64..20),
            holdout_days in 1_i64..30,
            max_train_rows in prop::option::of(1_u64..20),
        ) {
            let all: Vec<_> = rows.iter().enumerate().map(|(i, (t, d))| row(i, t * DAY_MS, d * DAY_MS)).collect();
            let spec = Data {
                max_train_rows,
                ..data(train as f64, holdout_rows, holdout_rows.is_none().then_some(holdout_days as f64))
            };
            let as_of_ms = as_of * DAY_MS;
            let is_known = |row: &LabelledRow| row.arrived_ms <= as_of_ms && row.time_ms < as_of_ms;
            if !all.iter().all(is_known) {
                prop_assert!(split(&spec, as_of_ms, all.clone()).is_err());
            }
            let known: Vec<_> = all.into_iter().filter(is_known).collect();
            let split = split(&spec, as_of_ms, known.clone()).unwrap();
            prop_assert_eq!(split.holdout.is_empty(), known.is_empty());
            for row in split.train.iter().chain(&split.holdout) {
                prop_assert!(known.contains(row) && is_known(row));
            }
            if let Some(first) = split.holdout.first() {
                prop_assert_eq!(split.holdout.len(), known.iter().filter(|row| row.time_ms >= first.time_ms).count());
                for row in &split.train {
                    prop_assert!(row.time_ms < first.time_ms);
                    prop_assert!(row.time_ms >= train_from_ms(&spec, first.time_ms) - 30 * DAY_MS);
                }
                prop_assert!(split.holdout.len() as u64 >= holdout_rows.unwrap_or(0).min(known.len() as u64));
            }
            prop_assert!(split.train.len() as u64 <= max_train_rows.unwrap_or(u64::MAX));
        }
    }
}
