//! The readings of rows column by column: each slice looks at each feature of the same rows.

use std::collections::BTreeMap;

use super::CheckRow;

/// Rows, and the columns of them that were asked for.
pub struct Readings<'a> {
    rows: &'a [CheckRow],
    columns: BTreeMap<String, Vec<f64>>,
}

impl<'a> Readings<'a> {
    /// Of these rows.
    pub const fn new(rows: &'a [CheckRow]) -> Self {
        Self { rows, columns: BTreeMap::new() }
    }

    /// The readings of a feature that can be trusted, of the rows at these places.
    pub fn of(&mut self, feature: &str, places: &[usize]) -> Vec<f64> {
        if !self.columns.contains_key(feature) {
            let column = self.rows.iter().map(|row| row.reading(feature).unwrap_or(f64::NAN)).collect();
            self.columns.insert(feature.to_owned(), column);
        }
        let column = self.columns.get(feature).map_or(&[][..], Vec::as_slice);
        places.iter().map(|place| column[*place]).filter(|reading| !reading.is_nan()).collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::domain::checks::OUTPUT;
    use crate::domain::window::Row;

    use super::*;

    #[test]
    fn gaps_and_faulty_readings_are_left_out() {
        let row = |temp: Option<f64>, faulty: &[&str]| CheckRow {
            row: Row {
                time_ms: 0,
                inputs: BTreeMap::from([("temp".to_owned(), temp)]),
                output: Some(7.0),
                value: None,
                labels: BTreeMap::new(),
            },
            faulty: faulty.iter().map(|feature| (*feature).to_owned()).collect(),
        };
        let rows = [row(Some(1.0), &[]), row(None, &[]), row(Some(3.0), &["temp"]), row(Some(4.0), &[])];
        let mut readings = Readings::new(&rows);
        assert_eq!(readings.of("temp", &[0, 1, 2, 3]), [1.0, 4.0]);
        assert_eq!(readings.of("temp", &[3]), [4.0]);
        assert_eq!(readings.of(OUTPUT, &[1, 2]), [7.0]);
        assert!(readings.of("ph", &[0, 1]).is_empty());
    }
}
