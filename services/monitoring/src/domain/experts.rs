//! The expert queue: which answers are worth an expert's look, and how far experts agree.

mod agreement;
mod ranking;
mod scores;

pub use agreement::{Rating, agreement};
pub use ranking::{Placed, rank};
pub use scores::{Candidate, Evidence, score};

use fishy_contracts::monitoring::ExpertSpec;
use fishy_core::{Error, Result, check_name};
use sha2::{Digest, Sha256};

/// Items that one expert may hold.
pub const MAX_LEASES: usize = 50;
/// Times that one item is answered at most.
pub const MAX_ANSWERS: usize = 5;

/// Checks the settings of the queue.
pub fn check(spec: &ExpertSpec) -> Result<()> {
    let bounds = [
        ("lookback_days", spec.lookback_days, 0.01, 3_650.0),
        ("alike_hours", spec.alike_hours, 0.0, 8_760.0),
        ("repeat_percent", spec.repeat_percent, 0.0, 100.0),
        ("repeat_after_hours", spec.repeat_after_hours, 0.0, 8_760.0),
    ];
    for (field, value, least, most) in bounds {
        if !(least..=most).contains(&value) {
            return Err(Error::invalid(format!("experts.{field} is {value}: use {least} to {most}")));
        }
    }
    if !(1..=10_080).contains(&spec.lease_minutes) {
        return Err(Error::invalid(format!("experts.lease_minutes is {}: use 1 to 10080, a week", spec.lease_minutes)));
    }
    if !spec.challenger.is_empty() {
        check_name("deployment", &spec.challenger)?;
    }
    Ok(())
}

/// How many items of a request are answered.
pub fn check_count(count: u32) -> Result<usize> {
    let count = count as usize;
    if (1..=MAX_LEASES).contains(&count) {
        Ok(count)
    } else {
        Err(Error::invalid(format!("{count} items: ask for 1 to {MAX_LEASES}")))
    }
}

/// Whether a lease is given to an item that was answered before: drawn from its id, so that nobody can tell which will be.
pub fn is_repeat(lease: &str, percent: f64) -> bool {
    let hash: [u8; 32] = Sha256::digest(lease.as_bytes()).into();
    let drawn = u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]]);
    f64::from(drawn) / f64::from(u32::MAX) * 100.0 < percent
}

/// An item that was answered, for a repeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// The answer that it is about.
    pub prediction_id: String,
    /// Who said something of it.
    pub actors: Vec<String>,
    /// When the last one did.
    pub last_ms: i64,
}

/// The item that is shown once more to an expert: of others first, the one with the fewest answers, then the oldest. Of his
/// own only what he answered long enough ago. `None` when there is none.
pub fn choose_repeat<'a>(items: &'a [Answered], actor: &str, own_before_ms: i64) -> Option<&'a Answered> {
    let is_own = |item: &Answered| item.actors.iter().any(|by| by == actor);
    items
        .iter()
        .filter(|item| item.actors.len() < MAX_ANSWERS && (!is_own(item) || item.last_ms <= own_before_ms))
        .min_by_key(|item| (is_own(item), item.actors.len(), item.last_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_are_drawn_in_their_share() {
        let drawn = (0..10_000).filter(|place| is_repeat(&format!("lease-{place}"), 10.0)).count();
        // 1000 expected, standard deviation 30.
        assert!((880..1_120).contains(&drawn), "{drawn}");
        assert!((0..100).all(|place| !is_repeat(&place.to_string(), 0.0)));
        assert!((0..100).all(|place| is_repeat(&place.to_string(), 100.0)));
    }

    #[test]
    fn a_repeat_goes_to_another_expert_where_there_is_one() {
        let item = |id: &str, actors: &[&str], last_ms| Answered {
            prediction_id: id.into(),
            actors: actors.iter().map(|actor| (*actor).to_owned()).collect(),
            last_ms,
        };
        let items = [item("own", &["ada"], 1), item("twice", &["bo", "cy"], 2), item("once", &["bo"], 9)];
        let chosen = |actor: &str, before_ms| choose_repeat(&items, actor, before_ms).map(|i| i.prediction_id.as_str());
        assert_eq!(chosen("ada", 100), Some("once"), "somebody else's, with the fewest answers");
        assert_eq!(chosen("bo", 100), Some("own"));
        let own = [item("own", &["ada"], 50)];
        assert_eq!(choose_repeat(&own, "ada", 49), None, "one's own not too soon");
        assert!(choose_repeat(&own, "ada", 50).is_some());
        assert_eq!(choose_repeat(&[item("full", &["a", "b", "c", "d", "e"], 0)], "z", 9), None);
    }

    #[test]
    fn the_defaults_are_allowed_and_nonsense_is_not() {
        let with = |change: &dyn Fn(&mut ExpertSpec)| {
            let mut spec = ExpertSpec::default();
            change(&mut spec);
            check(&spec)
        };
        assert!(with(&|_| {}).is_ok());
        assert!(with(&|spec| spec.repeat_percent = 101.0).is_err());
        assert!(with(&|spec| spec.lookback_days = f64::NAN).is_err());
        assert!(with(&|spec| spec.lease_minutes = 0).is_err());
        assert!(with(&|spec| spec.challenger = "a/b".into()).is_err());
        assert!(check_count(0).is_err() && check_count(51).is_err());
        assert_eq!(check_count(50).ok(), Some(50));
    }
}
