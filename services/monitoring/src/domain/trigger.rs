//! When a retraining is due: one decision for each UTC midnight, from figures alone.

use std::collections::BTreeMap;

use fishy_contracts::monitoring::TriggerSpec;
use fishy_core::time::{DAY_MS, rfc3339};
use serde::{Deserialize, Serialize};

use super::conditions::{self, ConditionFacts, Rule};

/// How long after the usual label delay the labels may stay away before the budget stops growing, in days.
const LABELS_ARE_LIVE_DAYS: f64 = 30.0;

/// What the trigger remembers from one midnight to the next.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TriggerState {
    /// Triggers that the budget allows now; below 0: so many are borrowed.
    pub tokens: f64,
    /// The champion that the figure below belongs to.
    pub champion: Option<String>,
    /// The smallest error it has shown: at its evaluation, or since.
    pub smallest_error: Option<f64>,
    /// The largest error of always answering the median of a champion's training data, of all champions so far: a calm
    /// season does not make a small error a great one.
    #[serde(default)]
    pub median_error: Option<f64>,
    /// Whether the day before was due but under a data fault: that is recorded once.
    #[serde(default)]
    pub is_suppressed: bool,
}

/// The realised error of the champion's own answers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Rolling {
    /// Mean absolute error.
    pub error: f64,
    /// Over so many labelled answers.
    pub rows: u64,
}

/// What is known at a midnight.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    /// The midnight.
    pub at_ms: i64,
    /// The champion's version.
    pub champion: String,
    /// The champion's error on its evaluation window.
    pub evaluation_error: Option<f64>,
    /// The error of always answering the median of its training data: with that a model is worth nothing.
    pub median_error: Option<f64>,
    /// Its realised error; `None` with too few labels.
    pub rolling: Option<Rolling>,
    /// PSI of the drift window by feature, without those under an open data fault.
    pub psi: BTreeMap<String, f64>,
    /// Event time of the newest row whose true value is known.
    pub newest_label_ms: Option<i64>,
    /// How long labels usually take.
    pub label_delay_ms: i64,
    /// The newest trigger.
    pub last_trigger_ms: Option<i64>,
    /// Until when a rejected or failed run keeps the next one back.
    pub blocked_until_ms: Option<i64>,
    /// Whether the run of an earlier trigger has not finished yet.
    pub is_run_open: bool,
    /// Open data faults of watched features, in words.
    pub open_faults: Vec<String>,
    /// What the condition looks at, where there is one.
    pub condition: Option<ConditionFacts>,
}

/// All figures behind a decision, as they are recorded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// The midnight, milliseconds since the epoch.
    pub as_of_ms: i64,
    /// The champion.
    pub champion_version: String,
    /// Its realised error, and over how many labelled answers.
    pub rolling_error: Option<f64>,
    /// See `rolling_error`.
    pub rolling_labels: u64,
    /// What the realised error is compared with: the smallest error the champion has shown.
    pub baseline_error: Option<f64>,
    /// The error above which it is due.
    pub error_limit: Option<f64>,
    /// PSI of the drift window by feature.
    pub psi: BTreeMap<String, f64>,
    /// The largest error of always answering the median of a champion's training data.
    #[serde(default)]
    pub median_error: Option<f64>,
    /// Triggers that must be saved up for an error such as this one; 0 or less: it may be borrowed.
    #[serde(default = "one")]
    pub tokens_needed: f64,
    /// The PSI above which it is due.
    pub psi_limit: Option<f64>,
    /// Whether the realised error rose.
    pub is_error_due: bool,
    /// Whether the inputs drifted.
    pub is_drift_due: bool,
    /// Triggers that the budget allowed before this decision.
    pub tokens: f64,
    /// The newest trigger before this decision.
    pub last_trigger_ms: Option<i64>,
    /// Until when a rejected or failed run keeps the next one back.
    pub blocked_until_ms: Option<i64>,
    /// Event time of the newest labelled row.
    pub newest_label_ms: Option<i64>,
    /// Usual time a label takes.
    pub label_delay_ms: i64,
    /// Open data faults of watched features.
    pub open_faults: Vec<String>,
    /// What kept it from firing.
    pub held_back_by: Vec<String>,
    /// What the condition looked at, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<ConditionFacts>,
    /// Why the condition held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition_held: Option<String>,
}

/// What was decided.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// A retraining is due and nothing speaks against it.
    Fire,
    /// It would be due, but the data are faulty: recorded when it is new.
    DataFault {
        /// Whether the day before said the same.
        is_new: bool,
    },
    /// Nothing to do.
    Quiet,
}

/// One decision.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// What was decided.
    pub verdict: Verdict,
    /// Why, in words.
    pub reason: String,
    /// The figures behind it.
    pub figures: Figures,
}

/// Decides for one midnight, and gives what to remember.
pub fn decide(spec: &TriggerSpec, state: &TriggerState, facts: &Facts) -> (TriggerState, Decision) {
    let mut state = accrue(spec, state, facts);
    let rolling_error = facts.rolling.map(|rolling| rolling.error);
    let shown = [state.smallest_error, facts.evaluation_error, rolling_error].into_iter().flatten();
    state.smallest_error = shown.reduce(f64::min);
    state.median_error = [state.median_error, facts.median_error].into_iter().flatten().reduce(f64::max);
    let baseline_error = state.smallest_error;
    let error_limit = baseline_error.map(|baseline| spec.error_ratio * baseline);
    let is_error_due =
        !spec.only_condition && matches!((rolling_error, error_limit), (Some(error), Some(limit)) if error > limit);
    let worst = facts.psi.iter().max_by(|a, b| a.1.total_cmp(b.1));
    let is_drift_due =
        !spec.only_condition && matches!((worst, spec.psi_above), (Some((_, psi)), Some(limit)) if *psi > limit);

    let rule = Rule { at_ms: facts.at_ms, rolling_error, psi: &facts.psi };
    let condition_held = spec.condition.as_ref().zip(facts.condition.as_ref());
    let condition_held = condition_held.and_then(|(condition, facts)| conditions::holds(condition, facts, rule));

    let need = if condition_held.is_some() {
        Need { tokens: 1.0, cooldown_days: spec.cooldown_days }
    } else {
        need(spec, &state, rolling_error, error_limit.unwrap_or(f64::INFINITY))
    };

    let figures = Figures {
        as_of_ms: facts.at_ms,
        champion_version: facts.champion.clone(),
        rolling_error,
        rolling_labels: facts.rolling.map_or(0, |rolling| rolling.rows),
        baseline_error,
        error_limit,
        median_error: state.median_error,
        tokens_needed: need.tokens,
        psi: facts.psi.clone(),
        psi_limit: spec.psi_above,
        is_error_due,
        is_drift_due,
        tokens: state.tokens,
        last_trigger_ms: facts.last_trigger_ms,
        blocked_until_ms: facts.blocked_until_ms,
        newest_label_ms: facts.newest_label_ms,
        label_delay_ms: facts.label_delay_ms,
        open_faults: facts.open_faults.clone(),
        held_back_by: held_back_by(&state, facts, need),
        condition: facts.condition.clone(),
        condition_held: condition_held.clone(),
    };

    let mut why = Vec::new();
    if let (true, Some(error), Some(baseline)) = (is_error_due, rolling_error, baseline_error) {
        let ratio = spec.error_ratio;
        why.push(format!("realised error {error:.4} is above {ratio} times the champion's smallest, {baseline:.4}"));
    }
    if let (true, Some((feature, psi)), Some(limit)) = (is_drift_due, worst, spec.psi_above) {
        why.push(format!("PSI of {feature} is {psi:.3}, above {limit}"));
    }
    let is_due = is_error_due || is_drift_due || condition_held.is_some();
    why.extend(condition_held);
    let has_fault = !facts.open_faults.is_empty();
    let held_back = figures.held_back_by.join("; ");
    let (verdict, reason) = match (is_due, has_fault) {
        (true, false) if held_back.is_empty() => (Verdict::Fire, why.join("; ")),
        (true, true) => {
            let reason = format!("data fault, not model drift: {} ({})", facts.open_faults.join(", "), why.join("; "));
            (Verdict::DataFault { is_new: !state.is_suppressed }, reason)
        }
        (true, false) => (Verdict::Quiet, format!("{}; held back: {held_back}", why.join("; "))),
        (false, true) => {
            let reason = format!("data fault, not model drift: {}; nothing is due", facts.open_faults.join(", "));
            (Verdict::Quiet, reason)
        }
        (false, false) if rolling_error.is_none() && !spec.only_condition => {
            (Verdict::Quiet, format!("fewer than {} labelled answers of the champion", spec.min_labels))
        }
        (false, false) => (Verdict::Quiet, "nothing is due".to_owned()),
    };
    state.is_suppressed = matches!(verdict, Verdict::DataFault { .. });
    if verdict == Verdict::Fire {
        state.tokens -= 1.0;
    }
    (state, Decision { verdict, reason, figures })
}

/// The budget after this day, and a clean slate for a new champion.
fn accrue(spec: &TriggerSpec, state: &TriggerState, facts: &Facts) -> TriggerState {
    let mut state = state.clone();
    if state.champion.is_none() {
        state.tokens = spec.budget_start;
    } else {
        // Without new labels a retraining would learn nothing new: no budget is saved up for it.
        let oldest_live_ms = facts.at_ms - facts.label_delay_ms - days_ms(LABELS_ARE_LIVE_DAYS);
        if facts.newest_label_ms.is_some_and(|newest_ms| newest_ms >= oldest_live_ms) {
            state.tokens = (state.tokens + 1.0 / spec.budget_days).min(spec.budget_burst);
        }
    }
    if state.champion.as_ref() != Some(&facts.champion) {
        state.champion = Some(facts.champion.clone());
        state.smallest_error = None;
    }
    state
}

/// What an error asks of budget and cool-down.
#[derive(Debug, Clone, Copy)]
struct Need {
    /// Triggers that must be saved up; 0 or less: it may be borrowed.
    tokens: f64,
    /// Days that must have passed since the trigger before.
    cooldown_days: f64,
}

/// Small rises wait until the budget is full, so that something is left for the day on which the champion is worth
/// nothing. On that day the next month's training is borrowed, and half of the cool-down is enough: the first training
/// after a break has seen few rows of what the water is like now.
fn need(spec: &TriggerSpec, state: &TriggerState, error: Option<f64>, limit: f64) -> Need {
    let with = |tokens: f64| Need { tokens, cooldown_days: spec.cooldown_days };
    let worthless = match spec.reserve_ratio {
        Some(ratio) if ratio > spec.error_ratio => Some(ratio / spec.error_ratio * limit),
        Some(_) => None,
        None => state.median_error,
    };
    let Some(worthless) = worthless else { return with(1.0) };
    // Where the error did not rise, it is the inputs alone that drifted: they can wait.
    let Some(error) = error.filter(|error| *error > limit) else { return with(spec.budget_burst) };
    if error >= worthless {
        let cooldown_days = if spec.overdraft > 0.0 { spec.cooldown_days / 2.0 } else { spec.cooldown_days };
        return Need { tokens: 1.0 - spec.overdraft, cooldown_days };
    }
    if limit <= 0.0 {
        return with(1.0);
    }
    let share = (error / limit).ln() / (worthless / limit).ln();
    with(spec.budget_burst - share * (spec.budget_burst - 1.0))
}

const fn one() -> f64 {
    1.0
}

fn held_back_by(state: &TriggerState, facts: &Facts, need: Need) -> Vec<String> {
    let mut reasons = Vec::new();
    if let Some(last_ms) = facts.last_trigger_ms {
        let until_ms = last_ms.saturating_add(days_ms(need.cooldown_days));
        if facts.at_ms < until_ms {
            reasons.push(format!("cool-down until {}", rfc3339(until_ms)));
        }
    }
    if let Some(until_ms) = facts.blocked_until_ms.filter(|until_ms| facts.at_ms < *until_ms) {
        reasons.push(format!("back-off after a rejected or failed run until {}", rfc3339(until_ms)));
    }
    // Thirty-two times 1/32 is not exactly one for every number of days.
    if state.tokens < need.tokens - 1e-9 {
        let needed =
            if need.tokens > 1.0 { format!(", an error such as this needs {:.2}", need.tokens) } else { String::new() };
        reasons.push(format!("budget: {:.2} of a trigger saved up{needed}", state.tokens));
    }
    if facts.is_run_open {
        reasons.push("the run of an earlier trigger has not finished".to_owned());
    }
    reasons
}

/// A length in days as milliseconds.
pub fn days_ms(days: f64) -> i64 {
    (days * DAY_MS as f64).round() as i64
}

#[cfg(test)]
mod tests {
    use fishy_contracts::monitoring::Condition;

    use super::*;

    const MIDNIGHT: i64 = 500 * DAY_MS;

    fn facts(day: i64, error: f64) -> Facts {
        let at_ms = MIDNIGHT + day * DAY_MS;
        Facts {
            at_ms,
            champion: "1".into(),
            evaluation_error: None,
            median_error: None,
            rolling: Some(Rolling { error, rows: 168 }),
            psi: BTreeMap::new(),
            newest_label_ms: Some(at_ms - 7 * DAY_MS),
            label_delay_ms: 7 * DAY_MS,
            last_trigger_ms: None,
            blocked_until_ms: None,
            is_run_open: false,
            open_faults: Vec::new(),
            condition: None,
        }
    }

    fn spec() -> TriggerSpec {
        TriggerSpec {
            pipeline: "retrain".into(),
            error_ratio: 1.25,
            min_labels: 24,
            psi_above: None,
            backoff_days: 7.0,
            budget_days: 32.0,
            budget_burst: 2.0,
            budget_start: 1.0,
            reserve_ratio: Some(1.0),
            overdraft: 0.0,
            ..TriggerSpec::default()
        }
    }

    fn fired(spec: &TriggerSpec, state: &TriggerState, facts: &Facts) -> bool {
        decide(spec, state, facts).1.verdict == Verdict::Fire
    }

    #[test]
    fn it_fires_when_the_error_rises_above_the_smallest_one() {
        let (state, first) = decide(&spec(), &TriggerState::default(), &facts(0, 0.40));
        assert_eq!((first.verdict, first.figures.baseline_error), (Verdict::Quiet, Some(0.40)));
        let (state, second) = decide(&spec(), &state, &facts(1, 0.49));
        assert_eq!((second.verdict, second.figures.error_limit), (Verdict::Quiet, Some(0.5)));
        let (after, third) = decide(&spec(), &state, &facts(2, 0.51));
        assert_eq!(third.verdict, Verdict::Fire, "{}", third.reason);
        assert!((state.tokens + 1.0 / 32.0 - 1.0 - after.tokens).abs() < 1e-12);
        assert!(third.reason.contains("0.5100") && third.reason.contains("0.4000"), "{}", third.reason);
    }

    #[test]
    fn the_smallest_error_falls_with_the_champion_and_is_forgotten_with_it() {
        let (state, _) = decide(&spec(), &TriggerState::default(), &facts(0, 0.40));
        let (state, _) = decide(&spec(), &state, &facts(1, 0.20));
        assert_eq!(state.smallest_error, Some(0.20));
        let next = Facts { champion: "2".into(), ..facts(2, 0.90) };
        let (state, decision) = decide(&spec(), &state, &next);
        assert_eq!((state.smallest_error, decision.verdict), (Some(0.90), Verdict::Quiet));
    }

    #[test]
    fn the_error_at_the_evaluation_counts_as_shown() {
        let tagged = Facts { evaluation_error: Some(0.30), ..facts(0, 0.36) };
        let (state, decision) = decide(&spec(), &TriggerState::default(), &tagged);
        assert_eq!((decision.figures.baseline_error, decision.verdict), (Some(0.30), Verdict::Quiet));
        assert!(fired(&spec(), &state, &Facts { rolling: Some(Rolling { error: 0.38, rows: 24 }), ..tagged.clone() }));
        // A hard evaluation window does not excuse what comes after it.
        let hard = Facts { evaluation_error: Some(1.40), champion: "2".into(), ..facts(1, 0.40) };
        let (state, _) = decide(&spec(), &state, &hard);
        assert_eq!(state.smallest_error, Some(0.40));
        assert!(fired(
            &spec(),
            &state,
            &Facts { evaluation_error: Some(1.40), champion: "2".into(), ..facts(2, 0.51) }
        ));
    }

    #[test]
    fn drift_fires_only_where_a_limit_is_set() {
        let drifted = Facts { rolling: None, psi: BTreeMap::from([("temp".into(), 0.31)]), ..facts(0, 0.0) };
        assert!(!fired(&spec(), &TriggerState::default(), &drifted));
        let spec = TriggerSpec { psi_above: Some(0.25), ..spec() };
        let (_, decision) = decide(&spec, &TriggerState::default(), &drifted);
        assert_eq!((decision.verdict, &*decision.reason), (Verdict::Fire, "PSI of temp is 0.310, above 0.25"));
        let calm = Facts { psi: BTreeMap::from([("temp".into(), 0.25)]), ..drifted };
        assert!(!fired(&spec, &TriggerState::default(), &calm));
    }

    #[test]
    fn cool_down_back_off_budget_and_an_open_run_hold_it_back() {
        let (state, _) = decide(&spec(), &TriggerState::default(), &facts(0, 0.40));
        let due = facts(1, 0.90);
        assert!(fired(&spec(), &state, &due));
        let last = |days: i64| Facts { last_trigger_ms: Some(due.at_ms - days * DAY_MS), ..due.clone() };
        assert!(!fired(&spec(), &state, &last(13)));
        assert!(fired(&spec(), &state, &last(14)));
        let blocked = |until_ms| Facts { blocked_until_ms: Some(until_ms), ..due.clone() };
        assert!(!fired(&spec(), &state, &blocked(due.at_ms + 1)));
        assert!(fired(&spec(), &state, &blocked(due.at_ms)));
        assert!(!fired(&spec(), &state, &Facts { is_run_open: true, ..due.clone() }));
        let poor = TriggerState { tokens: 0.5, ..state.clone() };
        let (_, decision) = decide(&spec(), &poor, &due);
        assert_eq!(decision.verdict, Verdict::Quiet);
        assert!(decision.reason.contains("budget: 0.53"), "{}", decision.reason);
    }

    #[test]
    fn the_budget_grows_by_the_day_up_to_its_burst_and_only_while_labels_come() {
        let (mut state, _) = decide(&spec(), &TriggerState::default(), &facts(0, 0.40));
        assert!((state.tokens - 1.0).abs() < 1e-12, "a first champion has one trigger");
        state.tokens = 0.0;
        for day in 1..=32 {
            state = decide(&spec(), &state, &facts(day, 0.40)).0;
        }
        assert!(fired(&spec(), &TriggerState { tokens: state.tokens - 1.0 / 32.0, ..state.clone() }, &facts(33, 0.90)));
        for day in 33..200 {
            state = decide(&spec(), &state, &facts(day, 0.40)).0;
        }
        assert!((state.tokens - 2.0).abs() < 1e-9);
        state.tokens = 0.0;
        let last_label = MIDNIGHT + 200 * DAY_MS;
        for day in 201..400 {
            let silent = Facts { newest_label_ms: Some(last_label), ..facts(day, 0.40) };
            state = decide(&spec(), &state, &silent).0;
        }
        assert!((state.tokens - 37.0 / 32.0).abs() < 1e-9, "30 days and the usual delay of 7: {}", state.tokens);
    }

    #[test]
    fn the_emptier_the_budget_the_greater_a_rise_must_be() {
        // Rises of 1.25 to 5 times: half way by logarithms is 2.5.
        let spec = TriggerSpec { reserve_ratio: Some(5.0), psi_above: Some(0.25), cooldown_days: 0.0, ..spec() };
        let (state, _) = decide(&spec, &TriggerState::default(), &facts(0, 0.40));
        let with = |tokens: f64, error: f64| {
            decide(&spec, &TriggerState { tokens: tokens - 1.0 / 32.0, ..state.clone() }, &facts(1, error)).1
        };
        let held = with(1.0, 1.00);
        assert_eq!((held.verdict, held.figures.tokens_needed), (Verdict::Quiet, 1.5), "{}", held.reason);
        assert!(held.reason.ends_with("budget: 1.00 of a trigger saved up, an error such as this needs 1.50"));
        assert_eq!(with(1.5, 1.00).verdict, Verdict::Fire);
        assert_eq!(with(1.0, 2.00).verdict, Verdict::Fire, "five times the smallest cannot wait");
        assert_eq!((with(1.9, 0.51).verdict, with(2.0, 0.51).verdict), (Verdict::Quiet, Verdict::Fire));
        let drifted = Facts { psi: BTreeMap::from([("temp".into(), 0.31)]), ..facts(1, 0.40) };
        let full = TriggerState { tokens: 2.0, ..state.clone() };
        assert!(!fired(&spec, &state, &drifted), "drift alone waits for the full budget");
        assert!(fired(&spec, &full, &drifted));
        let perfect = decide(&spec, &TriggerState::default(), &facts(0, 0.0)).0;
        let unmoved = Facts { psi: drifted.psi.clone(), ..facts(1, 0.0) };
        let (_, decision) = decide(&spec, &perfect, &unmoved);
        assert_eq!((decision.verdict, decision.figures.tokens_needed), (Verdict::Quiet, 2.0), "no error, and no rise");
        // Nothing is said of a ratio: half way between 0.50 and the median's 2.00 is 1.00.
        let by_median = TriggerSpec { reserve_ratio: None, ..spec.clone() };
        let needed = |error: f64, median_error: Option<f64>| {
            decide(&by_median, &state, &Facts { median_error, ..facts(1, error) }).1.figures.tokens_needed
        };
        let wild = TriggerState { median_error: Some(2.0), ..state.clone() };
        let calm = decide(&by_median, &wild, &Facts { median_error: Some(0.6), ..facts(1, 1.0) }).1;
        assert!((calm.figures.tokens_needed - 1.5).abs() < 1e-12, "a calm season does not make an error great");
        let hundredths = [1.0, 2.0, 9.0].map(|error| (needed(error, Some(2.0)) * 100.0).round() as i64);
        assert_eq!(hundredths, [150, 100, 100]);
        assert!(needed(0.51, Some(0.45)) < 1.01, "never better than the median, and worse now");
        assert!(needed(0.49, Some(0.45)) > 1.99, "no rise");
        assert!(needed(1.0, None) < 1.01, "nobody knows what the median's error is");
        let no_second = TriggerSpec { budget_burst: 1.0, ..spec.clone() };
        assert!(fired(&no_second, &state, &facts(1, 0.51)), "where only one can be saved up, none is kept back");
    }

    #[test]
    fn a_champion_that_is_worth_nothing_is_retrained_on_credit_and_sooner() {
        let spec = TriggerSpec { reserve_ratio: None, overdraft: 1.0, ..spec() };
        let first = Facts { median_error: Some(1.0), ..facts(0, 0.40) };
        let (state, _) = decide(&spec, &TriggerState::default(), &first);
        let with = |spec: &TriggerSpec, tokens: f64, error: f64, days_since: i64| {
            let state = TriggerState { tokens: tokens - 1.0 / 32.0, ..state.clone() };
            let last_trigger_ms = Some(MIDNIGHT + (20 - days_since) * DAY_MS);
            decide(spec, &state, &Facts { last_trigger_ms, ..facts(20, error) })
        };
        let (after, borrowed) = with(&spec, 0.0, 1.0, 7);
        assert_eq!((borrowed.verdict, borrowed.figures.tokens_needed), (Verdict::Fire, 0.0), "{}", borrowed.reason);
        assert!((after.tokens + 1.0).abs() < 1e-9, "the next month's training is spent: {}", after.tokens);
        let (_, held) = with(&spec, -0.5, 1.0, 7);
        assert_eq!(held.verdict, Verdict::Quiet, "one, not more");
        assert!(held.reason.ends_with("held back: budget: -0.50 of a trigger saved up"), "{}", held.reason);
        assert!(with(&spec, 2.0, 1.0, 6).1.reason.contains("cool-down"), "half of the cool-down, not none");
        assert!(with(&spec, 2.0, 0.99, 13).1.reason.contains("cool-down"), "all of it for what can wait");
        assert_eq!(with(&spec, 0.9, 0.99, 14).1.verdict, Verdict::Quiet, "what can wait is not borrowed for");
        let none = TriggerSpec { overdraft: 0.0, ..spec.clone() };
        assert_eq!(
            (with(&none, 0.9, 1.0, 14).1.verdict, with(&none, 1.0, 1.0, 13).1.verdict),
            (Verdict::Quiet, Verdict::Quiet)
        );
        assert_eq!(with(&none, 1.0, 1.0, 14).1.verdict, Verdict::Fire);
    }

    #[test]
    fn a_data_fault_is_no_drift_and_is_said_once() {
        let (state, _) = decide(&spec(), &TriggerState::default(), &facts(0, 0.40));
        let faulty = Facts { open_faults: vec!["temp of pen-3 is stuck".into()], ..facts(1, 0.90) };
        let (state, first) = decide(&spec(), &state, &faulty);
        assert_eq!(first.verdict, Verdict::DataFault { is_new: true });
        assert!(first.reason.starts_with("data fault, not model drift: temp of pen-3 is stuck"), "{}", first.reason);
        let (state, second) = decide(&spec(), &state, &Facts { at_ms: faulty.at_ms + DAY_MS, ..faulty });
        assert_eq!(second.verdict, Verdict::DataFault { is_new: false });
        assert!(fired(&spec(), &state, &facts(3, 0.90)), "it fires once the sensor is repaired");
    }

    #[test]
    fn a_condition_fires_beside_the_rule_or_alone_and_is_held_back_as_it_is() {
        let with = |only_condition: bool| TriggerSpec {
            condition: Some(Condition::Labels { at_least: 10 }),
            only_condition,
            ..spec()
        };
        let counted = |facts: Facts, labels: u64| Facts {
            condition: Some(ConditionFacts { labels, ..ConditionFacts::default() }),
            ..facts
        };
        let first = decide(&with(false), &TriggerState::default(), &counted(facts(0, 0.40), 0)).0;
        let decided = |only: bool, facts: Facts| decide(&with(only), &first, &facts).1;
        let due = decided(false, counted(facts(40, 0.40), 10));
        assert_eq!(due.verdict, Verdict::Fire, "{due:?}");
        assert_eq!(due.reason, "10 true values arrived since 1970-01-01T00:00:00.000Z");
        assert_eq!(decided(false, counted(facts(40, 0.40), 9)).verdict, Verdict::Quiet);
        assert_eq!(decided(false, counted(facts(40, 0.90), 9)).verdict, Verdict::Fire, "its own rule holds too");
        assert_eq!(decided(true, counted(facts(40, 0.90), 9)).verdict, Verdict::Quiet);
        let held = Facts { is_run_open: true, ..counted(facts(40, 0.40), 10) };
        assert!(decided(false, held).reason.contains("held back: the run of an earlier trigger"));
        let faulty = Facts { open_faults: vec!["temp is stuck".into()], ..counted(facts(40, 0.40), 10) };
        assert_eq!(decided(false, faulty).verdict, Verdict::DataFault { is_new: true });
    }

    #[test]
    fn too_few_labels_decide_nothing() {
        let silent = Facts { rolling: None, ..facts(0, 0.0) };
        let (state, decision) = decide(&spec(), &TriggerState::default(), &silent);
        assert_eq!((decision.verdict, state.smallest_error), (Verdict::Quiet, None));
        assert_eq!(decision.reason, "fewer than 24 labelled answers of the champion");
    }
}
