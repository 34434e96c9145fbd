//! Page tokens: where the next page begins, opaque to clients.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fishy_core::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Where a page begins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum PageStart {
    /// Behind a row that was the last one of the page before: costs the same on every page.
    After {
        /// The row's values of the columns that are ordered by.
        after: Vec<Value>,
    },
    /// After so many rows: for orders that have no index.
    Offset {
        /// How many.
        offset: u64,
    },
}

impl PageStart {
    /// The first page.
    pub const FIRST: Self = Self::Offset { offset: 0 };

    /// How many rows are skipped.
    pub const fn offset(&self) -> u64 {
        match self {
            Self::Offset { offset } => *offset,
            Self::After { .. } => 0,
        }
    }
}

/// Reads a token; no token is the first page.
pub fn read(token: &str) -> Result<PageStart> {
    if token.is_empty() {
        return Ok(PageStart::FIRST);
    }
    let invalid = || Error::invalid("Invalid page token, could not base64-decode or read it");
    let bytes = STANDARD.decode(token).map_err(|_| invalid())?;
    let start: PageStart = serde_json::from_slice(&bytes).map_err(|_| invalid())?;
    if start.offset() > i64::MAX as u64 { Err(invalid()) } else { Ok(start) }
}

/// Writes a token.
pub fn write(start: &impl Serialize) -> String {
    STANDARD.encode(serde_json::to_vec(start).unwrap_or_default())
}

/// The token of a search for logged models: it belongs to one search.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoggedModelPage {
    /// The experiments that were searched.
    pub experiment_ids: Vec<String>,
    /// The filter.
    pub filter_string: Option<String>,
    /// The order.
    pub order_by: Option<Value>,
    /// How many rows came before.
    pub offset: u64,
}

impl LoggedModelPage {
    /// Reads a token and checks that it belongs to this search; answers how many rows came before.
    pub fn offset_of(token: &str, this: &Self) -> Result<u64> {
        if token.is_empty() {
            return Ok(0);
        }
        let invalid = || Error::invalid("Invalid page token");
        let bytes = STANDARD.decode(token).map_err(|_| invalid())?;
        let that: Self = serde_json::from_slice(&bytes).map_err(|_| invalid())?;
        let differs = |what: &str| Error::invalid(format!("{what} in the page token do not match the request"));
        if that.experiment_ids != this.experiment_ids {
            return Err(differs("Experiment IDs"));
        }
        if that.filter_string != this.filter_string {
            return Err(differs("Filter strings"));
        }
        if that.order_by != this.order_by {
            return Err(differs("Orders"));
        }
        if that.offset > i64::MAX as u64 { Err(invalid()) } else { Ok(that.offset) }
    }
}

/// A page of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Page<T> {
    /// The rows.
    pub rows: Vec<T>,
    /// Where the next page begins; `None` on the last one.
    pub next: Option<PageStart>,
}

impl<T> Page<T> {
    /// Makes a page out of up to `limit + 1` rows that were read at an offset.
    pub fn at_offset(mut rows: Vec<T>, limit: u64, offset: u64) -> Self {
        let has_more = rows.len() as u64 > limit;
        rows.truncate(limit as usize);
        Self { rows, next: has_more.then_some(PageStart::Offset { offset: offset + limit }) }
    }

    /// The token of the next page.
    pub fn next_token(&self) -> Option<String> {
        self.next.as_ref().map(write)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tokens_read_back_and_others_are_refused() {
        for start in [PageStart::Offset { offset: 7 }, PageStart::After { after: vec![json!(1), json!("a")] }] {
            assert_eq!(read(&write(&start)).unwrap(), start);
        }
        assert_eq!(read("").unwrap(), PageStart::FIRST);
        // MLflow's own token.
        assert_eq!(read("eyJvZmZzZXQiOiAyfQ==").unwrap(), PageStart::Offset { offset: 2 });
        for bad in ["x", "eyJ4IjogMn0=", "eyJvZmZzZXQiOiAtMn0=", "!!!!"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_page_has_a_next_one_only_when_there_is_more() {
        assert_eq!(Page::at_offset(vec![1, 2, 3], 2, 4).next, Some(PageStart::Offset { offset: 6 }));
        assert_eq!(Page::at_offset(vec![1, 2], 2, 4), Page { rows: vec![1, 2], next: None });
    }

    #[test]
    fn a_token_of_another_search_is_refused() {
        let of = |filter: &str| LoggedModelPage {
            experiment_ids: vec!["1".into()],
            filter_string: Some(filter.into()),
            order_by: None,
            offset: 5,
        };
        let token = write(&of("a"));
        assert_eq!(LoggedModelPage::offset_of(&token, &of("a")).unwrap(), 5);
        assert!(LoggedModelPage::offset_of(&token, &of("b")).is_err());
    }
}
