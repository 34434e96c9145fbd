//! True values: which are new, which are known, which correct what was known.

use std::collections::{BTreeMap, HashMap};

use fishy_contracts::monitoring::{GroundTruthItem, Observation};
use fishy_core::{Error, Result};

use super::{is_time, record::check_id};

/// A true value and when it became known.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Truth {
    /// The value.
    pub value: f64,
    /// Event time of its arrival.
    pub arrived_ms: i64,
}

/// What a request changes.
#[derive(Debug, Default, PartialEq)]
pub struct Changes {
    /// The truth of each prediction after the request, where it changed; by id, as the store finds them next to each other.
    pub writes: BTreeMap<String, Truth>,
    /// What was replaced, in the order of replacement.
    pub replaced: Vec<(String, Truth)>,
    /// Items taken.
    pub accepted: u64,
    /// Items known already with the same value.
    pub duplicates: u64,
}

/// Compares a request with what is known.
///
/// A correction never arrives before what it corrects: else a dataset as of a time between the two could tell either.
pub fn changes(items: &[GroundTruthItem], known: &HashMap<String, Truth>, now_ms: i64) -> Changes {
    let mut changes = Changes::default();
    for item in items {
        let arrived_ms = item.time_ms.unwrap_or(now_ms);
        let truth = Truth { value: item.value, arrived_ms };
        let before = changes.writes.get(&item.prediction_id).or_else(|| known.get(&item.prediction_id)).copied();
        match before {
            Some(before) if before.value.total_cmp(&item.value).is_eq() => changes.duplicates += 1,
            Some(before) => {
                changes.replaced.push((item.prediction_id.clone(), before));
                let truth = Truth { arrived_ms: arrived_ms.max(before.arrived_ms), ..truth };
                changes.writes.insert(item.prediction_id.clone(), truth);
                changes.accepted += 1;
            }
            None => {
                changes.writes.insert(item.prediction_id.clone(), truth);
                changes.accepted += 1;
            }
        }
    }
    changes
}

/// Checks the items of a request.
pub fn check(items: &[GroundTruthItem], limit: usize) -> Result<()> {
    check_count(items.len(), limit)?;
    for item in items {
        check_id(&item.prediction_id)?;
        if !item.value.is_finite() {
            return Err(Error::invalid(format!("the value of prediction {:?} is not finite", item.prediction_id)));
        }
        if let Some(time_ms) = item.time_ms.filter(|time_ms| !is_time(*time_ms)) {
            return Err(Error::invalid(format!("time_ms {time_ms} of prediction {:?}", item.prediction_id)));
        }
    }
    Ok(())
}

/// Checks labelled history.
pub fn check_observations(items: &[Observation], limit: usize) -> Result<()> {
    check_count(items.len(), limit)?;
    for item in items {
        check_id(&item.id)?;
        if !is_time(item.time_ms) || !is_time(item.arrived_ms) {
            return Err(Error::invalid(format!(
                "observation {:?} has time_ms {} and arrived_ms {}",
                item.id, item.time_ms, item.arrived_ms
            )));
        }
        let is_finite = item.value.is_finite() && item.inputs.values().flatten().all(|value| value.is_finite());
        if !is_finite {
            return Err(Error::invalid(format!("observation {:?} holds a number that is not finite", item.id)));
        }
    }
    Ok(())
}

fn check_count(count: usize, limit: usize) -> Result<()> {
    if count > limit {
        return Err(Error::exhausted(format!(
            "{count} items in one request: at most {limit} (monitoring.max_ground_truth_items); send several"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(id: &str, value: f64, time_ms: Option<i64>) -> GroundTruthItem {
        GroundTruthItem { prediction_id: id.into(), value, time_ms }
    }

    #[test]
    fn new_known_and_corrected_values_are_told_apart() {
        let known = HashMap::from([
            ("same".to_owned(), Truth { value: 1.0, arrived_ms: 10 }),
            ("wrong".to_owned(), Truth { value: 2.0, arrived_ms: 50 }),
        ]);
        let items = [
            item("new", 7.0, Some(20)),
            item("same", 1.0, Some(20)),
            item("wrong", 3.0, Some(20)),
            item("new", 7.0, None),
            item("new", 8.0, None),
        ];
        let changes = changes(&items, &known, 99);
        assert_eq!((changes.accepted, changes.duplicates), (3, 2));
        assert_eq!(changes.writes["wrong"], Truth { value: 3.0, arrived_ms: 50 });
        assert_eq!(changes.writes["new"], Truth { value: 8.0, arrived_ms: 99 });
        let replaced: Vec<&str> = changes.replaced.iter().map(|(id, _)| &**id).collect();
        assert_eq!(replaced, ["wrong", "new"]);
        assert!(!changes.writes.contains_key("same"));
    }

    #[test]
    fn values_that_are_no_numbers_are_refused() {
        for bad in [item("p", f64::NAN, None), item("", 1.0, None), item("p", 1.0, Some(-1)), item("a\0b", 1.0, None)] {
            assert!(check(std::slice::from_ref(&bad), 10).is_err(), "{bad:?}");
        }
        assert!(check(&vec![item("p", 1.0, None); 10], 10).is_ok());
        assert!(check(&vec![item("p", 1.0, None); 11], 10).unwrap_err().message().contains("at most 10"));
    }
}
