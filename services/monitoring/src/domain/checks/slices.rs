//! Cutting rows into slices by their labels.

use std::collections::BTreeMap;

use super::CheckRow;

/// What rows of all further slices are called.
pub const OTHER: &str = "other";
/// What rows without the label are called.
const NONE: &str = "none";
/// Longer values are no names of farms or pens.
const MAX_VALUE_BYTES: usize = 128;

/// The rows of a slice.
pub struct Slice<'a> {
    /// `pen=7`; empty for all rows.
    pub name: String,
    /// Its rows, in event-time order.
    pub rows: Vec<&'a CheckRow>,
    /// Their places among all rows.
    pub places: Vec<usize>,
}

impl<'a> Slice<'a> {
    fn new(name: String, rows: &'a [CheckRow], places: Vec<usize>) -> Self {
        Self { name, rows: places.iter().map(|place| &rows[*place]).collect(), places }
    }
}

/// The slices of a window, all rows first, and the share of the rows by label that went into `other`.
pub fn cut<'a>(rows: &'a [CheckRow], labels: &[String], most: usize) -> (Vec<Slice<'a>>, BTreeMap<String, f64>) {
    let mut slices = vec![Slice::new(String::new(), rows, (0..rows.len()).collect())];
    let mut other_share = BTreeMap::new();
    for label in labels {
        let mut groups: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (place, row) in rows.iter().enumerate() {
            groups.entry(value_of(row, label)).or_default().push(place);
        }
        let mut order: Vec<&str> = groups.keys().copied().filter(|value| *value != OTHER).collect();
        // A stable sort: of two with as many rows the first by name.
        order.sort_by_key(|value| std::cmp::Reverse(groups[value].len()));
        let mut others: Vec<usize> = groups.remove(OTHER).unwrap_or_default();
        for value in order.iter().skip(most) {
            others.extend(groups.remove(value).unwrap_or_default());
        }
        others.sort_unstable();
        if !rows.is_empty() {
            other_share.insert(label.clone(), others.len() as f64 / rows.len() as f64);
        }
        slices.extend(groups.into_iter().map(|(value, places)| Slice::new(name(label, value), rows, places)));
        if !others.is_empty() {
            slices.push(Slice::new(name(label, OTHER), rows, others));
        }
    }
    (slices, other_share)
}

/// The places of the rows of one slice in another set of rows, by its name; none for `other`, which is not the same
/// everywhere.
pub fn of(rows: &[CheckRow], slice: &str) -> Vec<usize> {
    match slice.split_once('=') {
        None => (0..rows.len()).collect(),
        Some((_, OTHER)) => Vec::new(),
        Some((label, value)) => (0..rows.len()).filter(|place| value_of(&rows[*place], label) == value).collect(),
    }
}

fn name(label: &str, value: &str) -> String {
    format!("{label}={value}")
}

fn value_of<'a>(row: &'a CheckRow, label: &str) -> &'a str {
    match row.row.labels.get(label).map(String::as_str) {
        None | Some("") => NONE,
        Some(value) if value.len() > MAX_VALUE_BYTES => OTHER,
        Some(value) => value,
    }
}

#[cfg(test)]
mod tests {
    use crate::domain::window::Row;

    use super::*;

    fn row(time_ms: i64, pen: &str) -> CheckRow {
        let labels = BTreeMap::from([("pen".to_owned(), pen.to_owned())]);
        let row = Row { time_ms, inputs: BTreeMap::new(), output: None, value: None, labels };
        CheckRow { row, faulty: Vec::new() }
    }

    #[test]
    fn the_largest_slices_are_kept_and_the_rest_is_one() {
        let long = "x".repeat(500);
        let pens = ["a", "b", "b", "c", "c", "d", "", long.as_str()];
        let rows: Vec<CheckRow> = pens.iter().enumerate().map(|(at, pen)| row(at as i64, pen)).collect();
        let (slices, share) = cut(&rows, &["pen".to_owned()], 3);
        let sizes: Vec<_> = slices.iter().map(|slice| (slice.name.as_str(), slice.rows.len())).collect();
        assert_eq!(sizes, [("", 8), ("pen=a", 1), ("pen=b", 2), ("pen=c", 2), ("pen=other", 3)]);
        assert!((share["pen"] - 3.0 / 8.0).abs() < f64::EPSILON);
        assert_eq!(of(&rows, "pen=c").len(), 2);
        assert_eq!((of(&rows, "").len(), of(&rows, "pen=other").len(), of(&rows, "pen=none").len()), (8, 0, 1));
    }
}
