//! What a monitor may ask for.

use fishy_contracts::monitoring::{MonitorSpec, TriggerSpec};
use fishy_core::time::DAY_MS;
use fishy_core::{Error, Result, check_name};

/// Checks a monitor as it was sent; `name` is that of the path.
pub fn check(name: &str, spec: &MonitorSpec) -> Result<()> {
    check_name("monitor", name)?;
    if spec.name != name {
        return Err(Error::invalid(format!("the body names monitor {:?}, the path {name:?}", spec.name)));
    }
    check_name("deployment", &spec.deployment)?;
    for (feature, [low, high]) in &spec.ranges {
        if !(low.is_finite() && high.is_finite() && low < high) {
            return Err(Error::invalid(format!("ranges.{feature} is [{low}, {high}]: use [least, greatest]")));
        }
    }
    if spec.features.len() > 1_000 || spec.ranges.len() > 1_000 {
        return Err(Error::invalid("a monitor watches at most 1000 features"));
    }
    if !(0..=365 * DAY_MS).contains(&spec.lateness_ms) {
        return Err(Error::invalid(format!("lateness_ms is {}: use 0 to a year", spec.lateness_ms)));
    }
    super::checks::check(&spec.checks)?;
    super::experts::check(&spec.experts)?;
    if let Some(condition) = &spec.trigger.condition {
        super::conditions::check(condition, &spec.checks)?;
    }
    check_trigger(&spec.trigger)
}

fn check_trigger(trigger: &TriggerSpec) -> Result<()> {
    if trigger.only_condition && trigger.condition.is_none() {
        return Err(Error::invalid("trigger.only_condition: there is no condition, so nothing would ever fire"));
    }
    if !trigger.pipeline.is_empty() {
        check_name("pipeline", &trigger.pipeline)?;
    }
    let lengths = [
        ("error_window_days", trigger.error_window_days, f64::MIN_POSITIVE),
        ("drift_window_days", trigger.drift_window_days, f64::MIN_POSITIVE),
        ("budget_days", trigger.budget_days, f64::MIN_POSITIVE),
        ("cooldown_days", trigger.cooldown_days, 0.0),
        ("backoff_days", trigger.backoff_days, 0.0),
    ];
    for (field, days, least) in lengths {
        if !(least..=36_500.0).contains(&days) {
            return Err(Error::invalid(format!("trigger.{field} is {days}: use days, at most 36500")));
        }
    }
    if !(trigger.error_ratio.is_finite() && trigger.error_ratio > 0.0) {
        return Err(Error::invalid(format!("trigger.error_ratio is {}: use a number above 0", trigger.error_ratio)));
    }
    if !(trigger.budget_burst.is_finite() && trigger.budget_burst >= 1.0) {
        return Err(Error::invalid(format!("trigger.budget_burst is {}: use at least 1", trigger.budget_burst)));
    }
    if !(0.0..=trigger.budget_burst).contains(&trigger.budget_start) {
        return Err(Error::invalid(format!(
            "trigger.budget_start is {}: use 0 to budget_burst, {}",
            trigger.budget_start, trigger.budget_burst
        )));
    }
    if trigger.reserve_ratio.is_some_and(|ratio| !(ratio.is_finite() && ratio > 0.0)) {
        return Err(Error::invalid("trigger.reserve_ratio: use a number above 0, or null for the error of the median"));
    }
    if !(0.0..=trigger.budget_burst).contains(&trigger.overdraft) {
        return Err(Error::invalid(format!(
            "trigger.overdraft is {}: use 0 to budget_burst, {}",
            trigger.overdraft, trigger.budget_burst
        )));
    }
    if !(1..=1_000_000).contains(&trigger.min_labels) {
        return Err(Error::invalid(format!("trigger.min_labels is {}: use 1 to 1000000", trigger.min_labels)));
    }
    if trigger.psi_above.is_some_and(|psi| !(psi.is_finite() && psi > 0.0)) {
        return Err(Error::invalid("trigger.psi_above: use a number above 0, or leave it out"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn refusal(change: &Value) -> Option<String> {
        let mut body = json!({"name": "m", "deployment": "d"});
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        check("m", &serde_json::from_value(body).unwrap()).err().map(|error| error.message().to_owned())
    }

    #[test]
    fn the_defaults_are_allowed_and_nonsense_is_not() {
        assert_eq!(refusal(&json!({})), None);
        for bad in [
            json!({"name": "other"}),
            json!({"deployment": "a/b"}),
            json!({"ranges": {"temp": [40.0, -2.0]}}),
            json!({"lateness_ms": -1}),
            json!({"trigger": {"error_ratio": 0.0}}),
            json!({"trigger": {"budget_days": 0.0}}),
            json!({"trigger": {"budget_burst": 0.5}}),
            json!({"trigger": {"reserve_ratio": 0.0}}),
            json!({"trigger": {"overdraft": -0.5}}),
            json!({"trigger": {"overdraft": 3.0, "budget_burst": 2.0}}),
            json!({"trigger": {"budget_start": 3.0, "budget_burst": 2.0}}),
            json!({"trigger": {"min_labels": 0}}),
            json!({"trigger": {"psi_above": -1.0}}),
            json!({"trigger": {"cooldown_days": 1e300}}),
            json!({"trigger": {"pipeline": "../x"}}),
        ] {
            assert!(refusal(&bad).is_some(), "{bad}");
        }
    }
}
