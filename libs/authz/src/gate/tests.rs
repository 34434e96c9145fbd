use fishy_core::ErrorCode;

use super::*;

const LIMITS: GateLimits = GateLimits { min_improvement_bp: 300, min_labels: 100, replay: None };

fn good() -> PromotionFacts {
    PromotionFacts {
        model: "oxygen".to_owned(),
        version: "4".to_owned(),
        deployment: "oxygen".to_owned(),
        is_first_version: false,
        metric: "mae".to_owned(),
        challenger_error: 0.582,
        champion_error: Some(0.6),
        evaluated_labels: 168,
        evaluation_is_held_out: true,
        signature_matches: true,
        open_data_faults: 0,
        author: "service:pipelines".to_owned(),
        approver: None,
        approval_required: false,
        replay: None,
    }
}

fn decide(facts: &PromotionFacts) -> GateDecision {
    let decision = Gate::decide(DEFAULT_GATE_POLICIES, facts, LIMITS).unwrap();
    assert_eq!(decision.errors, Vec::<String>::new());
    decision
}

fn refused_by(change: impl FnOnce(&mut PromotionFacts)) -> GateDecision {
    let mut facts = good();
    change(&mut facts);
    let decision = decide(&facts);
    assert!(!decision.allowed, "{decision:?}");
    decision
}

#[test]
fn a_challenger_that_meets_every_condition_is_promoted() {
    let decision = decide(&good());
    assert!(decision.allowed);
    assert_eq!(decision.policies, ["gate-passed"]);
    assert_eq!(
        decision.reasons,
        ["every condition of the promotion gate holds: improvement 300 bp, 168 held-out labels"]
    );
}

#[test]
fn each_failed_condition_is_named_in_words() {
    let decision = refused_by(|facts| facts.challenger_error = 0.5821);
    assert_eq!(decision.policies, ["improvement-too-small"]);
    assert_eq!(
        decision.reasons,
        ["the challenger's mae 0.5821 improves on the champion's 0.6000 by 298 basis points; 300 are required"]
    );
    let decision = refused_by(|facts| facts.evaluated_labels = 99);
    assert_eq!(decision.reasons, ["the evaluation used 99 labels; 100 are required: wait for more ground truth"]);
    let decision = refused_by(|facts| facts.open_data_faults = 2);
    assert_eq!(decision.reasons, ["2 data faults are open: resolve them, or retrain on data without them"]);
    assert_eq!(refused_by(|facts| facts.evaluation_is_held_out = false).policies, ["evaluation-not-held-out"]);
    assert_eq!(refused_by(|facts| facts.signature_matches = false).policies, ["signature-differs"]);
    assert_eq!(refused_by(|facts| facts.approval_required = true).policies, ["approval-missing"]);
    let decision = refused_by(|facts| {
        facts.approval_required = true;
        facts.author = "ada".to_owned();
        facts.approver = Some("ada".to_owned());
    });
    assert_eq!(decision.policies, ["approved-by-author"]);
    assert_eq!(decision.reasons, ["ada is the author and may not approve their own model: ask somebody else"]);
}

#[test]
fn all_failed_conditions_are_named_in_the_order_of_the_text() {
    let decision = refused_by(|facts| {
        facts.challenger_error = 0.7;
        facts.evaluated_labels = 0;
        facts.open_data_faults = 1;
        facts.evaluation_is_held_out = false;
        facts.signature_matches = false;
        facts.approval_required = true;
    });
    assert_eq!(
        decision.policies,
        [
            "improvement-too-small",
            "too-few-labels",
            "open-data-faults",
            "evaluation-not-held-out",
            "signature-differs",
            "approval-missing"
        ]
    );
    assert_eq!(decision.reasons.len(), 6);
}

#[test]
fn a_first_version_needs_no_champion_but_everything_else() {
    let mut facts = PromotionFacts { is_first_version: true, champion_error: None, ..good() };
    assert!(decide(&facts).allowed);
    facts.evaluated_labels = 3;
    assert_eq!(decide(&facts).policies, ["too-few-labels"]);
}

#[test]
fn an_approval_by_somebody_else_opens_the_gate() {
    let facts = PromotionFacts { approval_required: true, approver: Some("user:grace".to_owned()), ..good() };
    assert!(decide(&facts).allowed);
}

#[test]
fn improvement_is_rounded_down_and_defined_at_the_edges() {
    let bp = |champion, challenger_error| {
        PromotionFacts { champion_error: champion, challenger_error, ..good() }.improvement_bp()
    };
    assert_eq!(bp(Some(1.0), 0.989_901), 100);
    assert_eq!(bp(Some(1.0), 0.990_01), 99);
    assert_eq!(bp(Some(1.0), 1.000_01), -1);
    assert_eq!(bp(Some(0.0), 0.0), 0);
    assert_eq!(bp(Some(0.0), 0.1), i64::MIN);
    assert_eq!(bp(None, 0.5), 0);
}

#[test]
fn facts_without_sense_are_an_error_and_no_decision() {
    let bad = [
        PromotionFacts { challenger_error: f64::NAN, ..good() },
        PromotionFacts { challenger_error: f64::INFINITY, ..good() },
        PromotionFacts { challenger_error: -0.1, ..good() },
        PromotionFacts { champion_error: Some(1e15), ..good() },
        PromotionFacts { champion_error: None, ..good() },
        PromotionFacts { is_first_version: true, ..good() },
    ];
    for facts in bad {
        let error = Gate::decide(DEFAULT_GATE_POLICIES, &facts, LIMITS).unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidArgument, "{facts:?}");
    }
    let huge = PromotionFacts { challenger_error: 9.9e13, champion_error: Some(9.99e13), ..good() };
    assert_eq!(decide(&huge).policies, ["improvement-too-small"]);
}

#[test]
fn other_policies_decide_when_they_are_given() {
    let policies = r#"@id("never") @reason("frozen until {date}: {model} {") forbid (principal, action, resource);"#;
    let decision = Gate::decide(policies, &good(), LIMITS).unwrap();
    assert!(!decision.allowed);
    assert_eq!(decision.reasons, ["frozen until {date}: oxygen {"]);
    let decision = Gate::decide("", &good(), LIMITS).unwrap();
    assert!(!decision.allowed);
    assert_eq!(decision.reasons, ["no policy of the gate permits this promotion"]);
    let by_error = r#"@id("tight") permit (principal, action, resource)
        when { context.challenger_error.lessThan(decimal("0.6")) };"#;
    assert!(Gate::decide(by_error, &good(), LIMITS).unwrap().allowed);
}

#[test]
fn policies_that_do_not_fit_are_refused() {
    assert!(Gate::check(DEFAULT_GATE_POLICIES).is_ok());
    for bad in ["permit (", "permit (principal, action, resource);"] {
        assert!(Gate::check(bad).is_err(), "{bad}");
    }
    let misspelt = r#"@id("a") forbid (principal, action, resource) when { context.open_faults > 0 };"#;
    assert!(Gate::decide(misspelt, &good(), LIMITS).is_err());
    let unguarded = r#"@id("a") permit (principal, action, resource) when { context.approver == "x" };"#;
    assert!(Gate::check(unguarded).is_err(), "an optional fact must be asked for with `has`");
}

#[test]
fn a_policy_that_fails_while_it_is_evaluated_refuses() {
    let policies = r#"
        @id("all") permit (principal, action, resource);
        @id("broken") forbid (principal, action, resource) when { context.evaluated_labels * 9223372036854775807 == 0 };"#;
    let decision = Gate::decide(policies, &good(), LIMITS).unwrap();
    assert!(!decision.allowed);
    assert!(decision.errors[0].contains("broken"));
}

const REPLAY_LIMITS: GateLimits =
    GateLimits { replay: Some(ReplayLimits { max_flips_bp: 500, max_failed_bp: 0, min_rows: 50 }), ..LIMITS };

/// 5 % of the decisions flip.
fn replayed() -> ReplayFacts {
    ReplayFacts {
        rows: 1_000,
        compared: 1_000,
        failed: 0,
        changed: 900,
        flips: 50,
        labels: 800,
        challenger_error: Some(0.5),
        recorded_error: Some(0.6),
        is_complete: true,
    }
}

#[test]
fn a_replay_is_decided_on_where_the_gate_demands_one() {
    let decide = |replay: Option<ReplayFacts>| {
        Gate::decide(DEFAULT_GATE_POLICIES, &PromotionFacts { replay, ..good() }, REPLAY_LIMITS).unwrap()
    };
    assert!(decide(Some(replayed())).allowed);
    let cases = [
        (None, "replay-missing", "oxygen version 4 was not replayed"),
        (
            Some(ReplayFacts { flips: 51, ..replayed() }),
            "replay-flips",
            "51 of 1000 decisions flip with the challenger (510 bp); 500 bp are allowed",
        ),
        (
            Some(ReplayFacts { compared: 999, failed: 1, flips: 49, ..replayed() }),
            "replay-failed",
            "the challenger gave no answer to 1 of 1000 replayed predictions (10 bp); 0 bp are allowed",
        ),
        (
            Some(ReplayFacts { compared: 49, changed: 0, flips: 0, labels: 0, ..replayed() }),
            "replay-too-small",
            "the replay compared 49 predictions; 50 are required",
        ),
    ];
    for (replay, policy, reason) in cases {
        let refused = decide(replay);
        assert_eq!((refused.allowed, refused.policies), (false, vec![policy.to_owned()]), "{:?}", refused.reasons);
        assert!(refused.reasons[0].contains(reason), "{:?}", refused.reasons);
        assert!(refused.errors.is_empty());
    }
    // A share just above the limit is above it.
    let just_above = ReplayFacts { rows: 100_000, compared: 100_000, flips: 5_001, ..replayed() };
    assert_eq!(decide(Some(just_above)).policies, ["replay-flips"]);
    // A first version was never asked anything.
    let first = PromotionFacts { is_first_version: true, champion_error: None, ..good() };
    assert!(Gate::decide(DEFAULT_GATE_POLICIES, &first, REPLAY_LIMITS).unwrap().allowed);
    // Nobody asks for it: it is recorded, and decides nothing.
    let all_flip = PromotionFacts { replay: Some(ReplayFacts { flips: 1_000, ..replayed() }), ..good() };
    assert!(Gate::decide(DEFAULT_GATE_POLICIES, &all_flip, LIMITS).unwrap().allowed);
}

#[test]
fn own_policies_see_the_replay_and_older_ones_go_on() {
    let facts = PromotionFacts { replay: Some(replayed()), ..good() };
    let own = include_str!("../../policies/better-live.cedar");
    let allowed = Gate::decide(own, &facts, LIMITS).unwrap();
    assert!(allowed.allowed);
    assert_eq!(allowed.reasons, ["live it errs by 0.5000 instead of 0.6000, on 800 true values"]);
    for replay in [
        ReplayFacts { challenger_error: Some(0.6), ..replayed() },
        ReplayFacts { labels: 499, ..replayed() },
        ReplayFacts { challenger_error: None, ..replayed() },
    ] {
        let refused = Gate::decide(own, &PromotionFacts { replay: Some(replay), ..good() }, LIMITS).unwrap();
        assert_eq!(refused.reasons, ["no policy of the gate permits this promotion"]);
    }
    assert!(!Gate::decide(own, &good(), LIMITS).unwrap().allowed, "without a replay");
    let older = r#"@id("older") permit (principal, action, resource)
        when { context.improvement_bp >= context.min_improvement_bp };"#;
    assert!(Gate::decide(older, &facts, REPLAY_LIMITS).unwrap().allowed);
}

#[test]
fn a_replay_without_sense_is_an_error() {
    let bad = [
        ReplayFacts { flips: 1_001, ..replayed() },
        ReplayFacts { changed: 1_001, ..replayed() },
        ReplayFacts { labels: 1_001, ..replayed() },
        ReplayFacts { failed: 1, ..replayed() },
        ReplayFacts { challenger_error: Some(f64::NAN), ..replayed() },
        ReplayFacts { recorded_error: Some(-1.0), ..replayed() },
    ];
    for replay in bad {
        let facts = PromotionFacts { replay: Some(replay), ..good() };
        let error = Gate::decide(DEFAULT_GATE_POLICIES, &facts, REPLAY_LIMITS).unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidArgument, "{facts:?}");
    }
}
