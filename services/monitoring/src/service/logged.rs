//! What was asked and answered, page by page.

use fishy_contracts::monitoring::{LoggedPage, LoggedQuery};
use fishy_core::{Error, Result};

use super::{Monitoring, blocking};
use crate::store;

/// Predictions of one page at most.
const MAX_PAGE: u64 = 1_000;

impl Monitoring {
    /// A page of the predictions of a deployment, in event-time order.
    pub async fn logged(&self, query: &LoggedQuery) -> Result<LoggedPage> {
        if !(1..=MAX_PAGE).contains(&query.limit) {
            return Err(Error::invalid(format!("limit is {}: use 1 to {MAX_PAGE}", query.limit)));
        }
        let after = place(query)?;
        let output = store::monitors::output(&self.db, &query.deployment).await?;
        let limit = query.limit as usize;
        let rows = store::predictions::page(&self.db, &query.deployment, &after, query.to_ms, limit).await?;
        let next_page_token =
            rows.last().filter(|_| rows.len() == limit).map(|last| format!("{}.{}", last.time_ms, last.id));
        let items =
            blocking(move || rows.into_iter().map(store::predictions::RawRow::logged).collect::<Result<Vec<_>>>())
                .await?;
        Ok(LoggedPage { output: output.unwrap_or_default(), items, next_page_token })
    }
}

/// The time and id that the page comes after.
fn place(query: &LoggedQuery) -> Result<(i64, String)> {
    if query.page_token.is_empty() {
        return Ok((query.from_ms, String::new()));
    }
    let parts = query.page_token.split_once('.').and_then(|(time, id)| Some((time.parse().ok()?, id.to_owned())));
    parts.ok_or_else(|| {
        Error::invalid(format!("page_token {:?}: use next_page_token of the page before", query.page_token))
    })
}
