//! Which alerts are not told for a while.

use std::collections::BTreeMap;

use fishy_contracts::monitoring::{Matcher, Silence, SilenceRequest};
use fishy_core::time::DAY_MS;
use fishy_core::{Error, Result};

const MAX_MATCHERS: usize = 20;
const MAX_TEXT: usize = 1_000;
const LONGEST_MS: i64 = 366 * DAY_MS;

/// Checks a silence as it was asked for.
pub fn check(request: &SilenceRequest, now_ms: i64) -> Result<()> {
    if request.matchers.is_empty() || request.matchers.len() > MAX_MATCHERS {
        return Err(Error::invalid(format!(
            "{} matchers: use 1 to {MAX_MATCHERS}; one without any would silence everything",
            request.matchers.len()
        )));
    }
    for Matcher { name, value, .. } in &request.matchers {
        let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if name.is_empty() || name.len() > 128 || !is_name {
            return Err(Error::invalid(format!("matcher name {name:?}: use the name of a label, such as monitor")));
        }
        check_text("matcher value", value)?;
    }
    if request.matchers.iter().all(|matcher| !matcher.is_equal || matcher.value.is_empty()) {
        return Err(Error::invalid("these matchers hold for nearly everything: name a value of a label"));
    }
    check_text("comment", &request.comment)?;
    let starts_ms = request.starts_ms.unwrap_or(now_ms);
    if starts_ms < 0
        || request.ends_ms <= starts_ms.max(now_ms)
        || request.ends_ms.saturating_sub(starts_ms) > LONGEST_MS
    {
        return Err(Error::invalid(format!(
            "ends_ms {}: a silence ends in the future, after its start, and lasts at most a year",
            request.ends_ms
        )));
    }
    Ok(())
}

fn check_text(what: &str, text: &str) -> Result<()> {
    if text.len() > MAX_TEXT || text.chars().any(|c| c.is_control() && c != '\n') {
        return Err(Error::invalid(format!("{what}: use at most {MAX_TEXT} bytes without control characters")));
    }
    Ok(())
}

/// When an alert may be told again: the latest end of the silences that hold for it now.
pub fn silent_until(silences: &[Silence], labels: &BTreeMap<String, String>, now_ms: i64) -> Option<i64> {
    let holds = |silence: &&Silence| {
        silence.starts_ms <= now_ms && now_ms < silence.ends_ms && silence.matchers.iter().all(|m| matches(m, labels))
    };
    silences.iter().filter(holds).map(|silence| silence.ends_ms).max()
}

fn matches(matcher: &Matcher, labels: &BTreeMap<String, String>) -> bool {
    (labels.get(&matcher.name).map_or("", String::as_str) == matcher.value) == matcher.is_equal
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matcher(name: &str, value: &str, is_equal: bool) -> Matcher {
        Matcher { name: name.into(), value: value.into(), is_equal }
    }

    #[test]
    fn all_matchers_must_hold_while_it_lasts() {
        let labels = BTreeMap::from([("monitor".to_owned(), "oxygen".to_owned())]);
        let silent = |matchers: Vec<Matcher>, now_ms: i64| {
            let (id, created_by, comment) = ("s".into(), "me".into(), String::new());
            silent_until(&[Silence { id, matchers, starts_ms: 10, ends_ms: 20, created_by, comment }], &labels, now_ms)
        };
        let one = || vec![matcher("monitor", "oxygen", true), matcher("severity", "alert", false)];
        assert_eq!((silent(one(), 10), silent(one(), 9), silent(one(), 20)), (Some(20), None, None));
        assert_eq!(silent(vec![matcher("monitor", "oxygen", false)], 15), None);
        assert_eq!(silent(vec![matcher("series", "", true)], 15), Some(20), "a label that is not there is empty");
    }

    #[test]
    fn silences_of_everything_or_for_ever_are_refused() {
        let refused = |matchers: Vec<Matcher>, starts_ms: Option<i64>, ends_ms: i64| {
            check(&SilenceRequest { matchers, starts_ms, ends_ms, comment: String::new() }, 100).is_err()
        };
        let one = || vec![matcher("monitor", "oxygen", true)];
        assert!(!refused(one(), None, 200));
        assert!(refused(Vec::new(), None, 200) && refused(one(), None, 100) && refused(one(), Some(300), 200));
        assert!(refused(one(), None, 100 + 400 * DAY_MS) && refused(vec![matcher("a b", "x", true)], None, 200));
        assert!(refused(vec![matcher("monitor", "", false)], None, 200));
    }
}
