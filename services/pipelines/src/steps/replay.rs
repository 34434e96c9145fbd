//! Before the gate: the challenger is asked what was asked live.

use fishy_contracts::deployment::{AnswerKind, ReplayReport, ReplayRequest, TruthErrors};
use fishy_contracts::governance::ReplayFacts;
use fishy_core::time::DAY_MS;
use fishy_core::{Error, ErrorCode, Result};

use super::{Evaluation, Registered, StepContext};

/// The report of the replay that the gate asks for; none where it asks for none, where there is no champion yet, and where
/// the challenger takes other inputs than the champion: that keeps it out by itself.
pub async fn run(
    context: &StepContext<'_>,
    registered: &Registered,
    evaluation: &Evaluation,
) -> Result<Option<ReplayReport>> {
    let Some(wanted) = context.definition.gate_replay() else { return Ok(None) };
    if evaluation.champion.is_none() || !evaluation.signature_matches {
        return Ok(None);
    }
    let (deployment, to_ms) = (&context.definition.deployment, context.stored.run.as_of_ms);
    let from_ms = to_ms.saturating_sub((wanted.last_days * DAY_MS as f64) as i64);
    let mut request = ReplayRequest::new(&registered.version, from_ms, to_ms);
    request.by.clone_from(&wanted.by);
    request.thresholds.clone_from(&wanted.thresholds);
    request.tolerance = wanted.tolerance.unwrap_or(request.tolerance);
    request.max_rows = wanted.max_rows.unwrap_or(request.max_rows);
    let report = context.service.deployment.replay(deployment, &request).await.map_err(|error| {
        let error = match error.code() {
            // Another replay is under way: it will end.
            ErrorCode::ResourceExhausted => Error::unavailable(error.to_string()).with_source(error),
            _ => error,
        };
        error.context(format_args!("the replay of version {} by {deployment}", registered.version))
    })?;
    if report.kind == AnswerKind::Quantity && wanted.thresholds.is_empty() && wanted.max_flips_share < 1.0 {
        return Err(Error::precondition(format!(
            "max_flips_share = {} needs thresholds: {deployment} answers with a quantity, and without a threshold no \
             decision can flip",
            wanted.max_flips_share
        )));
    }
    Ok(Some(report))
}

/// What the gate decides on.
pub fn facts(report: &ReplayReport) -> ReplayFacts {
    let figures = &report.overall;
    let error = |errors: &TruthErrors| {
        let share = errors.wrong.filter(|_| errors.labels > 0).map(|wrong| wrong as f64 / errors.labels as f64);
        errors.mae.or(share)
    };
    let flips = match report.kind {
        AnswerKind::Quantity => figures.flips.iter().map(|flips| flips.to_below + flips.to_above).max().unwrap_or(0),
        AnswerKind::Class => figures.changed,
    };
    ReplayFacts {
        rows: figures.rows,
        compared: figures.compared,
        failed: figures.failed,
        changed: figures.changed,
        flips,
        labels: figures.candidate.labels,
        challenger_error: error(&figures.candidate),
        recorded_error: error(&figures.recorded),
        is_complete: report.is_complete,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_worst_threshold_counts_and_a_class_flips_when_it_changes() {
        let mut report: ReplayReport = serde_json::from_value(json!({
            "deployment": "oxygen", "version": "2", "request": {"version": "2", "from_ms": 0, "to_ms": 1}, "output": "y",
            "kind": "quantity", "is_complete": true, "last_ms": 0, "unsliced": 0, "latency": {},
            "overall": {
                "rows": 12, "compared": 10, "failed": 1, "changed": 9,
                "flips": [{"threshold": 5.0, "to_below": 1, "to_above": 0}, {"threshold": 6.0, "to_below": 2, "to_above": 2}],
                "recorded": {"labels": 8, "mae": 0.5}, "candidate": {"labels": 8, "mae": 0.25},
            },
        }))
        .unwrap();
        let quantity = facts(&report);
        assert_eq!((quantity.flips, quantity.changed, quantity.rows, quantity.failed), (4, 9, 12, 1));
        assert_eq!((quantity.challenger_error, quantity.recorded_error), (Some(0.25), Some(0.5)));
        report.kind = AnswerKind::Class;
        report.overall.candidate = TruthErrors { labels: 8, wrong: Some(2), ..TruthErrors::default() };
        report.overall.recorded = TruthErrors { wrong: Some(0), ..TruthErrors::default() };
        let class = facts(&report);
        assert_eq!((class.flips, class.challenger_error, class.recorded_error), (9, Some(0.25), None));
    }
}
