//! Pure rules: how a request for a promotion becomes a decision.

use fishy_authz::{Gate, GateDecision, GateLimits, Identity, Kind, PromotionFacts, ReplayLimits};
use fishy_contracts::governance::{PromotionRequest, PromotionStatus, ReplayRules};
use fishy_core::{Error, Result};

/// The policy that fires when nothing but the approval is missing.
const APPROVAL_MISSING: &str = "approval-missing";

/// What was decided, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// How the promotion stands.
    pub status: PromotionStatus,
    /// Why, in words that a person can act on.
    pub reasons: Vec<String>,
}

/// Checks what a request says against itself.
pub fn check(request: &PromotionRequest) -> Result<()> {
    for (what, text) in [
        ("id", &request.id),
        ("model", &request.model),
        ("version", &request.version),
        ("alias", &request.alias),
        ("author", &request.author),
    ] {
        if text.is_empty() || text.len() > 256 {
            return Err(Error::invalid(format!("{what} must have 1 to 256 characters, it has {}", text.len())));
        }
    }
    let share = request.rules.min_improvement;
    if !(-1.0..=1.0).contains(&share) {
        return Err(Error::invalid(format!(
            "rules.min_improvement is {share}: use a share from -1 to 1, 0.02 for 2 %"
        )));
    }
    request.rules.replay.as_ref().map_or(Ok(()), ReplayRules::check)
}

/// A person asks in their own name: who names another author could approve their own model later. Our services ask in
/// the name of whoever started the run. So may an administrator, who could change the gate itself: services apart on one
/// machine without an identity are the local administrator to each other.
pub fn check_author(request: &PromotionRequest, caller: &Identity) -> Result<()> {
    let name = caller.to_string();
    if caller.kind != Kind::Service && !caller.has_role("admin") && request.author != name {
        return Err(Error::denied(format!("{name} may not ask in the name of {}", request.author)));
    }
    Ok(())
}

/// Decides by the gate's policies over the recorded facts.
pub fn decide(policies: &str, request: &PromotionRequest, approver: Option<&str>) -> Result<Decision> {
    let facts = PromotionFacts {
        model: request.model.clone(),
        version: request.version.clone(),
        deployment: request.alias.clone(),
        is_first_version: request.champion_version.is_none(),
        metric: "mae".to_owned(),
        challenger_error: request.challenger_error,
        champion_error: request.champion_error,
        evaluated_labels: request.evaluated_labels,
        evaluation_is_held_out: request.is_held_out,
        signature_matches: request.signature_matches,
        open_data_faults: request.open_data_faults,
        author: request.author.clone(),
        approver: approver.map(str::to_owned),
        approval_required: request.rules.needs_approval,
        replay: request.replay.clone(),
    };
    let basis_points = |share: f64| (share * 10_000.0).round() as i64;
    let limits = GateLimits {
        min_improvement_bp: basis_points(request.rules.min_improvement),
        min_labels: request.rules.min_labels,
        replay: request.rules.replay.as_ref().map(|rules| ReplayLimits {
            max_flips_bp: basis_points(rules.max_flips_share),
            max_failed_bp: basis_points(rules.max_failed_share),
            min_rows: rules.min_rows,
        }),
    };
    let GateDecision { allowed, reasons, policies, errors } = Gate::decide(policies, &facts, limits)?;
    if !errors.is_empty() {
        return Err(Error::internal(format!("the gate's policies failed: {}", errors.join("; "))));
    }
    let only_approval_is_missing = !policies.is_empty() && policies.iter().all(|policy| policy == APPROVAL_MISSING);
    let status = match allowed {
        true => PromotionStatus::Approved,
        false if only_approval_is_missing => PromotionStatus::WaitingForApproval,
        false => PromotionStatus::Rejected,
    };
    Ok(Decision { status, reasons })
}

#[cfg(test)]
mod tests {
    use super::*;
    use fishy_authz::DEFAULT_GATE_POLICIES;
    use fishy_contracts::governance::{GateRules, ReplayFacts};

    fn request() -> PromotionRequest {
        PromotionRequest {
            id: "r1".into(),
            model: "oxygen".into(),
            version: "2".into(),
            champion_version: Some("1".into()),
            alias: "champion".into(),
            run_id: None,
            author: "service:pipelines".into(),
            challenger_error: 0.50,
            champion_error: Some(0.60),
            evaluated_labels: 100,
            is_held_out: true,
            open_data_faults: 0,
            signature_matches: true,
            replay: None,
            facts: serde_json::Value::Null,
            rules: GateRules { min_improvement: 0.02, min_labels: 48, ..GateRules::default() },
        }
    }

    fn decided(request: &PromotionRequest, approver: Option<&str>) -> Decision {
        decide(DEFAULT_GATE_POLICIES, request, approver).unwrap()
    }

    #[test]
    fn a_better_challenger_passes() {
        assert_eq!(decided(&request(), None).status, PromotionStatus::Approved);
    }

    #[test]
    fn each_failed_condition_rejects_and_says_why() {
        type Change = fn(&mut PromotionRequest);
        let changes: [(Change, &str); 5] = [
            (|r| r.challenger_error = 0.595, "basis points"),
            (|r| r.evaluated_labels = 47, "47 labels"),
            (|r| r.is_held_out = false, "held-out"),
            (|r| r.open_data_faults = 1, "data fault"),
            (|r| r.signature_matches = false, "inputs or outputs"),
        ];
        for (change, word) in changes {
            let mut request = request();
            change(&mut request);
            let decision = decided(&request, None);
            assert_eq!(decision.status, PromotionStatus::Rejected, "{word}");
            assert!(decision.reasons.iter().any(|reason| reason.contains(word)), "{word}: {:?}", decision.reasons);
        }
    }

    #[test]
    fn an_approval_must_come_from_somebody_else() {
        let mut request = request();
        request.rules.needs_approval = true;
        assert_eq!(decided(&request, None).status, PromotionStatus::WaitingForApproval);
        assert_eq!(decided(&request, Some("service:pipelines")).status, PromotionStatus::Rejected);
        assert_eq!(decided(&request, Some("user:ada")).status, PromotionStatus::Approved);
        request.challenger_error = 0.7;
        assert_eq!(decided(&request, None).status, PromotionStatus::Rejected, "no approval helps a worse model");
    }

    #[test]
    fn too_many_flips_in_the_replay_reject() {
        let mut request = request();
        let rules = ReplayRules { max_flips_share: 0.05, ..ReplayRules::default() };
        request.rules.replay = Some(rules.clone());
        let missing = decided(&request, None);
        assert!(missing.reasons[0].contains("was not replayed"), "{:?}", missing.reasons);
        let replay = ReplayFacts { rows: 100, compared: 100, flips: 5, ..ReplayFacts::default() };
        request.replay = Some(replay.clone());
        assert_eq!(decided(&request, None).status, PromotionStatus::Approved);
        request.replay = Some(ReplayFacts { flips: 6, ..replay });
        let decision = decided(&request, None);
        assert_eq!(decision.status, PromotionStatus::Rejected);
        assert!(decision.reasons[0].contains("6 of 100 decisions flip"), "{:?}", decision.reasons);
        request.rules.replay = Some(ReplayRules { max_flips_share: 5.0, ..rules });
        assert!(check(&request).unwrap_err().message().contains("0.05 for 5 %"));
    }

    #[test]
    fn a_first_version_needs_no_champion() {
        let mut request = request();
        (request.champion_version, request.champion_error) = (None, None);
        assert_eq!(decided(&request, None).status, PromotionStatus::Approved);
    }

    #[test]
    fn nonsense_is_refused() {
        let mut request = request();
        request.rules.min_improvement = 2.0;
        assert!(check(&request).is_err());
        request.rules.min_improvement = 0.0;
        request.challenger_error = f64::NAN;
        assert!(decide(DEFAULT_GATE_POLICIES, &request, None).is_err());
    }
}
