//! Which opinions are taken.

use fishy_contracts::monitoring::{Judgement, NewOpinion, OpinionQuery};
use fishy_core::{Error, Result};

use super::is_time;
use super::record::check_id;

/// Opinions of one request.
const MAX_ITEMS: usize = 1_000;
/// Bytes of free text.
const MAX_TEXT: usize = 4_000;
/// Bytes of a reason or label.
const MAX_WORD: usize = 200;
/// Opinions of a page, by default and at most.
const PAGE: usize = 100;
const MAX_PAGE: u32 = 1_000;

/// Checks the opinions of a request.
pub fn check(items: &[NewOpinion]) -> Result<()> {
    if items.is_empty() || items.len() > MAX_ITEMS {
        return Err(Error::invalid(format!("{} opinions in one request: send 1 to {MAX_ITEMS}", items.len())));
    }
    for item in items {
        check_id(&item.prediction_id)?;
        if let Some(id) = &item.id {
            check_id(id)?;
        }
        if let Some(time_ms) = item.time_ms.filter(|time_ms| !is_time(*time_ms)) {
            return Err(Error::invalid(format!("time_ms {time_ms}: use milliseconds since the epoch")));
        }
        check_text("text", &item.text, MAX_TEXT)?;
        match &item.opinion {
            Judgement::User { reason, .. } => check_text("opinion.reason", reason, MAX_WORD)?,
            Judgement::Expert { label, .. } => {
                check_text("opinion.label", label, MAX_WORD)?;
                if label.trim().is_empty() {
                    return Err(Error::invalid("opinion.label is empty: say what the answer should have been"));
                }
            }
        }
    }
    Ok(())
}

fn check_text(field: &str, text: &str, most: usize) -> Result<()> {
    if text.len() > most {
        return Err(Error::invalid(format!("{field} has {} bytes: use at most {most}", text.len())));
    }
    if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\t' | '\r')) {
        return Err(Error::invalid(format!("{field} holds a control character")));
    }
    Ok(())
}

/// Who gave it: `user` or `expert`.
pub const fn by(judgement: &Judgement) -> &'static str {
    match judgement {
        Judgement::User { .. } => "user",
        Judgement::Expert { .. } => "expert",
    }
}

/// What a page holds: its size, and the place that it begins before.
pub fn page(query: &OpinionQuery) -> Result<(usize, i64)> {
    if !matches!(query.by.as_str(), "" | "user" | "expert") {
        return Err(Error::invalid(format!("by is {:?}: use user or expert", query.by)));
    }
    let limit = match query.limit {
        None => PAGE,
        Some(limit) if (1..=MAX_PAGE).contains(&limit) => limit as usize,
        Some(limit) => return Err(Error::invalid(format!("limit is {limit}: use 1 to {MAX_PAGE}"))),
    };
    let before = match query.page_token.as_str() {
        "" => i64::MAX,
        token => token
            .parse()
            .map_err(|_| Error::invalid(format!("page_token {token:?}: use next_page_token of the page before")))?,
    };
    Ok((limit, before))
}
