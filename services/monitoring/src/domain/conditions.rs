//! Conditions of a trigger beside its own rule.

use std::collections::{BTreeMap, BTreeSet};

use fishy_contracts::monitoring::{Alarm, CheckSpec, Condition, Severity};
use fishy_core::time::{DAY_MS, rfc3339};
use fishy_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// Conditions within conditions.
const MAX_DEPTH: usize = 5;
/// All together.
const MAX_CONDITIONS: usize = 50;

/// What conditions look at, as of a midnight.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ConditionFacts {
    /// Since then is counted: the last trigger, or the beginning.
    pub since_ms: i64,
    /// True values that arrived since.
    pub labels: u64,
    /// Answers since.
    pub predictions: u64,
    /// Alarms that lasted at the midnight before.
    pub alarms: Vec<OpenAlarm>,
}

/// An alarm as far as conditions look at it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenAlarm {
    /// The check.
    pub check: String,
    /// How bad.
    pub severity: Severity,
    /// The feature and slice.
    pub place: String,
}

impl OpenAlarm {
    /// The alarm, if it lasted at a time.
    pub fn at(alarm: &Alarm, time_ms: i64) -> Option<Self> {
        let lasted = alarm.since_ms <= time_ms && alarm.until_ms.is_none_or(|until_ms| until_ms > time_ms);
        let place = format!("{} {}", alarm.feature, alarm.slice).trim().to_owned();
        lasted.then(|| Self { check: alarm.check.clone(), severity: alarm.severity, place })
    }
}

/// The figures of the trigger's own rule that conditions use too.
#[derive(Debug, Clone, Copy)]
pub struct Rule<'a> {
    /// The midnight.
    pub at_ms: i64,
    /// The realised error.
    pub rolling_error: Option<f64>,
    /// PSI of the drift window.
    pub psi: &'a BTreeMap<String, f64>,
}

/// Checks conditions as they were sent.
pub fn check(condition: &Condition, checks: &[CheckSpec]) -> Result<()> {
    let mut count = 0;
    check_one(condition, checks, 1, &mut count)
}

fn check_one(condition: &Condition, checks: &[CheckSpec], depth: usize, count: &mut usize) -> Result<()> {
    *count += 1;
    if depth > MAX_DEPTH || *count > MAX_CONDITIONS {
        return Err(Error::invalid(format!(
            "trigger.condition: at most {MAX_CONDITIONS} conditions, {MAX_DEPTH} within each other"
        )));
    }
    match condition {
        Condition::All { of } | Condition::Any { of } if of.is_empty() => {
            Err(Error::invalid("trigger.condition: all and any need at least one condition"))
        }
        Condition::All { of } | Condition::Any { of } => {
            of.iter().try_for_each(|condition| check_one(condition, checks, depth + 1, count))
        }
        Condition::Alarm { check, .. } if checks.iter().all(|spec| spec.name != *check) => {
            Err(Error::invalid(format!("trigger.condition: the monitor has no check {check:?}")))
        }
        Condition::Alarm { at_least: 0, .. }
        | Condition::Labels { at_least: 0 }
        | Condition::Predictions { at_least: 0 } => {
            Err(Error::invalid("trigger.condition: at_least is 0 and would always hold: use 1 or more"))
        }
        Condition::Psi { above, .. } | Condition::Error { above } if !(above.is_finite() && *above > 0.0) => {
            Err(Error::invalid(format!("trigger.condition: above is {above}: use a number above 0")))
        }
        Condition::Time { days } if !(days.is_finite() && *days > 0.0 && *days <= 36_500.0) => {
            Err(Error::invalid(format!("trigger.condition: days is {days}: use days, at most 36500")))
        }
        _ => Ok(()),
    }
}

/// Whether conditions hold, and why, in words.
pub fn holds(condition: &Condition, facts: &ConditionFacts, rule: Rule<'_>) -> Option<String> {
    match condition {
        Condition::All { of } => {
            let whys: Option<Vec<String>> = of.iter().map(|condition| holds(condition, facts, rule)).collect();
            whys.map(|whys| whys.join(" and "))
        }
        Condition::Any { of } => {
            let whys: Vec<String> = of.iter().filter_map(|condition| holds(condition, facts, rule)).collect();
            (!whys.is_empty()).then(|| whys.join(" and "))
        }
        Condition::Alarm { check, severity, at_least } => {
            let alarms = facts.alarms.iter().filter(|alarm| alarm.check == *check && alarm.severity >= *severity);
            let places: BTreeSet<&str> = alarms.map(|alarm| alarm.place.as_str()).collect();
            (places.len() as u64 >= u64::from(*at_least))
                .then(|| format!("check {check} has {} alarms of {} or worse", places.len(), severity.as_str()))
        }
        Condition::Psi { feature, above } => {
            let asked = rule.psi.iter().filter(|(name, _)| feature.is_empty() || *name == feature);
            let (name, psi) = asked.max_by(|a, b| a.1.total_cmp(b.1)).filter(|(_, psi)| **psi > *above)?;
            Some(format!("PSI of {name} is {psi:.3}, above {above}"))
        }
        Condition::Error { above } => {
            let error = rule.rolling_error.filter(|error| error > above)?;
            Some(format!("realised error {error:.4} is above {above}"))
        }
        Condition::Labels { at_least } => (facts.labels >= *at_least)
            .then(|| format!("{} true values arrived since {}", facts.labels, rfc3339(facts.since_ms))),
        Condition::Predictions { at_least } => (facts.predictions >= *at_least)
            .then(|| format!("{} answers were given since {}", facts.predictions, rfc3339(facts.since_ms))),
        Condition::Time { days } => {
            let passed = rule.at_ms.saturating_sub(facts.since_ms) as f64 / DAY_MS as f64;
            (passed >= *days).then(|| format!("{passed:.1} days have passed since {}", rfc3339(facts.since_ms)))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn why(condition: Value) -> Option<String> {
        let alarm =
            |severity: Severity, place: &str| OpenAlarm { check: "drift".into(), severity, place: place.into() };
        let facts = ConditionFacts {
            since_ms: 0,
            labels: 100,
            predictions: 500,
            alarms: vec![
                alarm(Severity::Alert, "temp"),
                alarm(Severity::Alert, "temp"),
                alarm(Severity::Warning, "ph pen=7"),
            ],
        };
        let psi = BTreeMap::from([("temp".to_owned(), 0.4), ("ph".to_owned(), 0.1)]);
        let rule = Rule { at_ms: 10 * DAY_MS, rolling_error: Some(0.7), psi: &psi };
        holds(&serde_json::from_value(condition).unwrap(), &facts, rule)
    }

    #[test]
    fn each_kind_holds_from_its_limit_on() {
        for (holding, not) in [
            (json!({"kind": "labels", "at_least": 100}), json!({"kind": "labels", "at_least": 101})),
            (json!({"kind": "predictions", "at_least": 500}), json!({"kind": "predictions", "at_least": 501})),
            (json!({"kind": "time", "days": 10.0}), json!({"kind": "time", "days": 10.5})),
            (json!({"kind": "error", "above": 0.69}), json!({"kind": "error", "above": 0.7})),
            (json!({"kind": "psi", "above": 0.3}), json!({"kind": "psi", "feature": "ph", "above": 0.3})),
            (json!({"kind": "alarm", "check": "drift"}), json!({"kind": "alarm", "check": "drift", "at_least": 2})),
            (
                json!({"kind": "alarm", "check": "drift", "severity": "warning", "at_least": 2}),
                json!({"kind": "alarm", "check": "errors"}),
            ),
        ] {
            assert!(why(holding.clone()).is_some(), "{holding}");
            assert!(why(not.clone()).is_none(), "{not}");
            let both = |kind: &str| json!({"kind": kind, "of": [holding, not]});
            assert!(why(both("any")).is_some() && why(both("all")).is_none());
        }
    }

    #[test]
    fn nonsense_is_refused() {
        let deep = (0..6).fold(json!({"kind": "time", "days": 1.0}), |inner, _| json!({"kind": "all", "of": [inner]}));
        let wide = json!({"kind": "any", "of": vec![json!({"kind": "time", "days": 1.0}); 50]});
        for bad in [
            json!({"kind": "any", "of": []}),
            json!({"kind": "alarm", "check": "nothing"}),
            json!({"kind": "labels", "at_least": 0}),
            json!({"kind": "error", "above": -1.0}),
            json!({"kind": "time", "days": 0.0}),
            deep,
            wide,
        ] {
            assert!(check(&serde_json::from_value(bad.clone()).unwrap(), &[]).is_err(), "{bad}");
        }
    }
}
