use fishy_core::ErrorCode;

use super::*;

const LIMITS: GateLimits = GateLimits { min_improvement_bp: 300, min_labels: 100 };

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
