//! `kind = "gate"`: governance decides on recorded facts.

use fishy_contracts::governance::{Promotion, PromotionRequest, PromotionStatus};
use fishy_core::{ErrorCode, Result};
use serde_json::json;

use super::{Evaluation, Outcome, Registered, StepContext, replay};

/// Asks for the promotion once, and reads how it stands.
pub async fn run(context: &StepContext<'_>) -> Result<Outcome> {
    let governance = &context.service.governance;
    let promotion = match governance.promotion(&context.stored.run.id).await {
        Ok(promotion) => promotion,
        Err(error) if error.code() == ErrorCode::NotFound => {
            governance.request_promotion(&request(context).await?).await?
        }
        Err(error) => return Err(error),
    };
    let Promotion { request, status, reasons, approver, decided_ms, .. } = promotion;
    let mut outputs = json!({
        "promotion_id": request.id, "status": status, "reasons": reasons, "approver": approver, "decided_ms": decided_ms,
    });
    if let Some(replay) = request.replay {
        outputs["replay"] = json!(replay);
    }
    Ok(match status {
        PromotionStatus::Approved => Outcome::Done(outputs),
        PromotionStatus::Rejected => Outcome::Rejected(outputs),
        PromotionStatus::WaitingForApproval => Outcome::Waiting(outputs),
    })
}

async fn request(context: &StepContext<'_>) -> Result<PromotionRequest> {
    let (definition, stored) = (context.definition, context.stored);
    let registered: Registered = context.outputs("register")?;
    let evaluation: Evaluation = context.outputs("evaluate")?;
    let replayed = replay::run(context, &registered, &evaluation).await?;
    let faults = context.service.monitoring.faults(&definition.monitor, true).await?.items;
    let error_of = |figures: &crate::domain::figures::Figures| figures.get(evaluation.metric);
    Ok(PromotionRequest {
        id: stored.run.id.clone(),
        model: registered.model,
        version: registered.version,
        champion_version: evaluation.champion.as_ref().map(|champion| champion.version.clone()),
        alias: definition.alias.clone(),
        run_id: Some(stored.run.id.clone()),
        author: stored.actor.clone(),
        challenger_error: error_of(&evaluation.challenger.figures),
        champion_error: evaluation.champion.as_ref().map(|champion| error_of(&champion.figures)),
        evaluated_labels: evaluation.rows,
        is_held_out: evaluation.is_held_out,
        open_data_faults: faults.len() as u64,
        signature_matches: evaluation.signature_matches,
        replay: replayed.as_ref().map(replay::facts),
        facts: json!({
            "pipeline": stored.run.pipeline,
            "trigger_id": stored.run.trigger_id,
            "reason": stored.run.reason,
            "dataset_sha256": stored.dataset.as_ref().map(crate::dataset::Manifest::sha256).transpose()?,
            "dataset": stored.dataset,
            "evaluation": evaluation,
            "data_faults": faults,
            "replay": replayed,
        }),
        rules: definition.gate_rules(),
    })
}
