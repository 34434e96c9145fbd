//! Lists that come in pages.

use std::collections::HashSet;

use anyhow::{Result, bail};
use reqwest::Method;
use serde_json::Value;

use super::door::Door;

/// The page tokens of one list so far.
#[derive(Debug, Default)]
pub struct Tokens(HashSet<String>);

impl Tokens {
    /// The token of the page behind this one; `None` behind the last. A server that gives a token twice would be asked for
    /// the same pages for ever.
    pub fn follow(&mut self, page: &Value) -> Result<Option<String>> {
        match page["next_page_token"].as_str() {
            Some(token) if !token.is_empty() => {
                if !self.0.insert(token.to_owned()) {
                    bail!("a list has no end: its server gives the page token {token:?} twice");
                }
                Ok(Some(token.to_owned()))
            }
            _ => Ok(None),
        }
    }
}

/// What a page holds under a name.
fn taken(page: &mut Value, name: &str) -> Vec<Value> {
    match page.get_mut(name).map(Value::take) {
        Some(Value::Array(found)) => found,
        _ => Vec::new(),
    }
}

/// Page after page of a list that is asked for with POST.
pub async fn posted(
    door: &Door,
    path: &str,
    mut query: Value,
    name: &str,
    mut each: impl AsyncFnMut(Vec<Value>) -> Result<()>,
) -> Result<()> {
    let mut tokens = Tokens::default();
    loop {
        let mut page = door.send(Method::POST, path, &query).await?;
        each(taken(&mut page, name)).await?;
        match tokens.follow(&page)? {
            Some(token) => query["page_token"] = token.into(),
            None => return Ok(()),
        }
    }
}

/// Page after page of a list that is asked for with GET.
pub async fn got(
    door: &Door,
    path: &str,
    query: &[(&str, &str)],
    name: &str,
    mut each: impl AsyncFnMut(Vec<Value>) -> Result<()>,
) -> Result<()> {
    let mut tokens = Tokens::default();
    let mut token = String::new();
    loop {
        let mut query = query.to_vec();
        if !token.is_empty() {
            query.push(("page_token", &token));
        }
        let mut page = door.get(path, &query).await?;
        each(taken(&mut page, name)).await?;
        match tokens.follow(&page)? {
            Some(next) => token = next,
            None => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_token_that_comes_again_ends_the_list() {
        let mut tokens = Tokens::default();
        let page = |token: &str| json!({"next_page_token": token});
        assert_eq!(tokens.follow(&page("a")).unwrap().as_deref(), Some("a"));
        assert_eq!(tokens.follow(&page("b")).unwrap().as_deref(), Some("b"));
        assert!(tokens.follow(&page("a")).unwrap_err().to_string().contains("no end"));
        assert_eq!(tokens.follow(&page("")).unwrap(), None);
        assert_eq!(tokens.follow(&json!({})).unwrap(), None);
    }
}
