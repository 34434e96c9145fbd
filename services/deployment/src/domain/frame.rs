use std::collections::BTreeMap;

use fishy_core::{Error, Result};
use serde::de::{Deserializer, Error as _, IgnoredAny, Visitor};
use serde::{Deserialize, Serialize};

use super::Elements;

/// A data frame: columns of one length.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Frame {
    pub(crate) columns: Vec<(String, Elements)>,
}

/// One cell of a data frame.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub(crate) enum Cell {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
}

/// pandas' `orient="split"`.
#[derive(Debug, Deserialize)]
pub(crate) struct Split {
    columns: Vec<Cell>,
    data: Vec<Vec<Cell>>,
    #[serde(default, rename = "index")]
    _index: IgnoredAny,
}

/// pandas' `orient="records"`.
pub(crate) type Records = Vec<BTreeMap<String, Cell>>;

impl Frame {
    fn from_rows(names: Vec<String>, rows: impl Iterator<Item = Result<Vec<Cell>>>) -> Result<Self> {
        let mut columns: Vec<(String, Elements)> = names.into_iter().map(|name| (name, Elements::Empty)).collect();
        for (index, row) in rows.enumerate() {
            let row = row?;
            if row.len() != columns.len() {
                return Err(Error::invalid(format!(
                    "row {index} has {} values, and there are {} columns",
                    row.len(),
                    columns.len()
                )));
            }
            for (cell, (name, elements)) in row.into_iter().zip(&mut columns) {
                let pushed = match cell {
                    Cell::Null => elements.push_null(),
                    Cell::Bool(value) => elements.push_bool(value),
                    Cell::Int(value) => elements.push_int(value),
                    Cell::Float(value) => elements.push_float(value),
                    Cell::Text(value) => elements.push_text(value),
                };
                pushed.map_err(|problem| Error::invalid(format!("column {name:?}, row {index}: {problem}")))?;
            }
        }
        Ok(Self { columns })
    }

    pub(crate) fn from_split(split: Split) -> Result<Self> {
        let names = split.columns.into_iter().map(|name| match name {
            Cell::Text(name) => Ok(name),
            Cell::Int(number) => Ok(number.to_string()),
            other => Err(Error::invalid(format!("a column cannot be called {other:?}"))),
        });
        Self::from_rows(names.collect::<Result<_>>()?, split.data.into_iter().map(Ok))
    }

    pub(crate) fn from_records(records: Records) -> Result<Self> {
        let mut names: Vec<String> = Vec::new();
        for name in records.iter().flat_map(BTreeMap::keys) {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        let order = names.clone();
        let rows = records
            .into_iter()
            .map(|mut record| Ok(order.iter().map(|name| record.remove(name).unwrap_or(Cell::Null)).collect()));
        Self::from_rows(names, rows)
    }

    /// Comma-separated values with a line of names (RFC 4180).
    pub(crate) fn from_csv(text: &str) -> Result<Self> {
        let mut lines = CsvLines { rest: text.trim_start_matches('\u{feff}') };
        let names = lines.next().transpose()?.ok_or_else(|| Error::invalid("the CSV body has no line of names"))?;
        Self::from_rows(names, lines.map(|line| Ok(line?.into_iter().map(cell_of).collect())))
    }
}

fn cell_of(text: String) -> Cell {
    match text.trim() {
        "" | "NaN" | "nan" | "NA" | "null" => Cell::Null,
        "True" | "true" => Cell::Bool(true),
        "False" | "false" => Cell::Bool(false),
        trimmed => match (trimmed.parse::<i64>(), trimmed.parse::<f64>()) {
            (Ok(value), _) => Cell::Int(value),
            (_, Ok(value)) => Cell::Float(value),
            _ => Cell::Text(text),
        },
    }
}

struct CsvLines<'a> {
    rest: &'a str,
}

impl Iterator for CsvLines<'_> {
    type Item = Result<Vec<String>>;

    fn next(&mut self) -> Option<Self::Item> {
        // Empty lines are no rows, as pandas has it.
        self.rest = self.rest.trim_start_matches(['\r', '\n']);
        if self.rest.is_empty() {
            return None;
        }
        let mut values = vec![String::new()];
        let mut chars = self.rest.char_indices().peekable();
        let mut is_quoted = false;
        while let Some((at, c)) = chars.next() {
            let value = values.last_mut()?;
            match c {
                '"' if is_quoted && chars.peek().is_some_and(|(_, next)| *next == '"') => {
                    value.push('"');
                    chars.next();
                }
                '"' if is_quoted || value.is_empty() => is_quoted = !is_quoted,
                ',' if !is_quoted => values.push(String::new()),
                '\n' if !is_quoted => {
                    self.rest = &self.rest[at + 1..];
                    return Some(Ok(values));
                }
                '\r' if !is_quoted && chars.peek().is_some_and(|(_, next)| *next == '\n') => {}
                c => value.push(c),
            }
        }
        self.rest = "";
        Some(if is_quoted { Err(Error::invalid("the CSV body ends within quotes")) } else { Ok(values) })
    }
}

impl<'de> Deserialize<'de> for Cell {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct CellVisitor;
        impl Visitor<'_> for CellVisitor {
            type Value = Cell;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a number, a text, a boolean or null")
            }
            fn visit_bool<E>(self, value: bool) -> Result<Cell, E> {
                Ok(Cell::Bool(value))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Cell, E> {
                Ok(Cell::Int(value))
            }
            fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Cell, E> {
                i64::try_from(value).map(Cell::Int).map_err(|_| E::custom(format!("{value} is above 2^63 - 1")))
            }
            fn visit_f64<E>(self, value: f64) -> Result<Cell, E> {
                Ok(Cell::Float(value))
            }
            fn visit_str<E>(self, value: &str) -> Result<Cell, E> {
                Ok(Cell::Text(value.to_owned()))
            }
            fn visit_string<E>(self, value: String) -> Result<Cell, E> {
                Ok(Cell::Text(value))
            }
            fn visit_unit<E>(self) -> Result<Cell, E> {
                Ok(Cell::Null)
            }
        }
        deserializer.deserialize_any(CellVisitor).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_forms_of_a_frame_are_the_same_frame() {
        let split: Split =
            serde_json::from_str(r#"{"columns":["a","b"],"index":[0,1],"data":[[1,"x"],[null,"y"]]}"#).unwrap();
        let records: Records = serde_json::from_str(r#"[{"a":1,"b":"x"},{"b":"y"}]"#).unwrap();
        let frames = [
            Frame::from_split(split).unwrap(),
            Frame::from_records(records).unwrap(),
            Frame::from_csv("a,b\r\n1,x\n\n,\"y\"\n").unwrap(),
        ];
        for frame in frames {
            let [(a, Elements::Float(numbers)), (b, texts)] = frame.columns.as_slice() else { panic!("{frame:?}") };
            assert_eq!((a.as_str(), b.as_str(), numbers[0], numbers[1].is_nan()), ("a", "b", 1.0, true));
            assert_eq!(*texts, Elements::Text(vec!["x".into(), "y".into()]));
        }
    }

    #[test]
    fn quotes_hold_commas_quotes_and_line_ends() {
        let frame = Frame::from_csv("a,b\n\"x, \"\"y\"\"\nz\",2").unwrap();
        assert_eq!(frame.columns[0].1, Elements::Text(vec!["x, \"y\"\nz".into()]));
        assert_eq!(frame.columns[1].1, Elements::Int(vec![2]));
        assert!(Frame::from_csv("a\n\"x").is_err());
        assert!(Frame::from_csv("").is_err());
        assert!(Frame::from_csv("a,b\n1").unwrap_err().message().contains("row 0 has 1 values"));
    }
}
