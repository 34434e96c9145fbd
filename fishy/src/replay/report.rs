//! The figures of a replay: `loop-report.json` and the table at the end.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use fishy_contracts::monitoring::DataFault;
use fishy_contracts::pipelines::RunStatus;
use serde::Serialize;

use super::baselines::Baselines;
use super::drive::{Decision, Outcome};
use super::plan::Plan;
use super::server::Logged;
use crate::output::table;

/// `loop-report.json`. Errors are mean absolute errors in the unit of the target, over all replayed rows.
#[derive(Debug, Serialize)]
pub struct Report {
    name: String,
    learner: String,
    mae_static: Option<f64>,
    mae_calendar: Option<f64>,
    mae_loop: f64,
    mae_static_unflagged: Option<f64>,
    mae_calendar_unflagged: Option<f64>,
    mae_loop_unflagged: Option<f64>,
    /// `mae_loop / mae_calendar`
    loop_to_calendar: Option<f64>,
    calendar_retrains: Option<u64>,
    /// Trainings that the monitor started.
    retrains: usize,
    promoted: usize,
    rejected: usize,
    failed_runs: usize,
    predictions: usize,
    predictions_unflagged: usize,
    failed_requests: u64,
    repeated_requests: u64,
    /// Predictions, labels and audit entries that were acknowledged and are not there.
    lost: i64,
    lost_by_kind: BTreeMap<String, i64>,
    kills: u32,
    predictions_per_second: f64,
    training_seconds: f64,
    seconds: f64,
    audit: String,
    data_faults: Vec<DataFault>,
    decisions: Vec<Decision>,
}

impl Report {
    /// Adds everything up.
    pub fn new(
        plan: &Plan,
        outcome: &Outcome,
        baselines: Option<&Baselines>,
        logged: Option<Logged>,
        elapsed: Duration,
    ) -> Self {
        let replayed = &plan.rows[plan.first_replayed()..];
        let error = |is_wanted: &dyn Fn(bool) -> bool| {
            let errors: Vec<f64> = replayed
                .iter()
                .zip(&outcome.answers)
                .filter(|(row, answer)| is_wanted(row.is_flagged) && answer.is_finite())
                .map(|(row, answer)| (row.target - answer).abs())
                .collect();
            (!errors.is_empty()).then(|| errors.iter().sum::<f64>() / errors.len() as f64)
        };
        let ended = |status| outcome.decisions.iter().filter(|decision| decision.status == status).count();
        let figures = baselines.map(|baselines| baselines.figures.clone());
        let mae_loop = error(&|_| true).unwrap_or(f64::NAN);
        let mut lost_by_kind = outcome.lost.clone();
        if let Some(logged) = logged {
            let answered = replayed.len() as i64 - outcome.failed as i64;
            lost_by_kind.insert("prediction log".to_owned(), answered - logged.distinct as i64);
            lost_by_kind.insert("doubled in the prediction log".to_owned(), (logged.records - logged.distinct) as i64);
        }
        Self {
            name: plan.name.clone(),
            learner: plan.learner.rsplit('/').next().unwrap_or_default().to_owned(),
            mae_static: figures.as_ref().map(|figures| figures.mae_static),
            mae_calendar: figures.as_ref().map(|figures| figures.mae_calendar),
            mae_loop,
            mae_static_unflagged: figures.as_ref().and_then(|figures| figures.mae_static_unflagged),
            mae_calendar_unflagged: figures.as_ref().and_then(|figures| figures.mae_calendar_unflagged),
            mae_loop_unflagged: error(&|is_flagged| !is_flagged),
            loop_to_calendar: figures.as_ref().map(|figures| mae_loop / figures.mae_calendar),
            calendar_retrains: figures.as_ref().map(|figures| figures.calendar_retrains),
            retrains: outcome.decisions.len(),
            promoted: ended(RunStatus::Succeeded),
            rejected: ended(RunStatus::Rejected),
            failed_runs: ended(RunStatus::Failed),
            predictions: replayed.len(),
            predictions_unflagged: replayed.iter().filter(|row| !row.is_flagged).count(),
            failed_requests: outcome.failed,
            repeated_requests: outcome.repeated,
            lost: lost_by_kind.values().map(|lost| lost.abs()).sum(),
            lost_by_kind,
            kills: outcome.kills,
            predictions_per_second: replayed.len() as f64 / outcome.predicting.as_secs_f64(),
            training_seconds: outcome.training.as_secs_f64(),
            seconds: elapsed.as_secs_f64(),
            audit: outcome.audit.clone(),
            data_faults: outcome.faults.clone(),
            decisions: outcome.decisions.clone(),
        }
    }

    /// Whether nothing failed and nothing was lost.
    pub fn is_whole(&self) -> bool {
        self.failed_requests == 0 && self.lost == 0 && self.failed_runs == 0
    }

    /// Writes the report.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        std::fs::write(path, text + "\n").with_context(|| format!("writing {}", path.display()))
    }

    /// The table at the end.
    pub fn table(&self) -> String {
        let figure = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.4}"));
        let mut errors = table(&["mean absolute error", "all", "unflagged", "trainings"]);
        errors.add_row([
            "first model, never retrained".to_owned(),
            figure(self.mae_static),
            figure(self.mae_static_unflagged),
            "0".to_owned(),
        ]);
        let retrains = self.calendar_retrains.map_or_else(|| "-".to_owned(), |count| count.to_string());
        errors.add_row([
            "calendar, every month".to_owned(),
            figure(self.mae_calendar),
            figure(self.mae_calendar_unflagged),
            retrains,
        ]);
        let trainings = format!("{} ({} promoted, {} rejected)", self.retrains, self.promoted, self.rejected);
        errors.add_row([
            "the loop, as answered live".to_owned(),
            figure(Some(self.mae_loop)),
            figure(self.mae_loop_unflagged),
            trainings,
        ]);
        let mut run = table(&["run", ""]);
        if let Some(ratio) = self.loop_to_calendar {
            run.add_row(["loop to calendar".to_owned(), format!("{ratio:.3}")]);
        }
        run.add_row([
            "predictions".to_owned(),
            format!("{} ({:.0} a second)", self.predictions, self.predictions_per_second),
        ]);
        run.add_row([
            "failed, repeated requests".to_owned(),
            format!("{}, {}", self.failed_requests, self.repeated_requests),
        ]);
        run.add_row(["kills, lost".to_owned(), format!("{}, {}", self.kills, self.lost)]);
        run.add_row(["audit log".to_owned(), self.audit.clone()]);
        run.add_row(["data faults reported".to_owned(), self.data_faults.len().to_string()]);
        run.add_row([
            "seconds, of these in trainings".to_owned(),
            format!("{:.1}, {:.1}", self.seconds, self.training_seconds),
        ]);
        format!("{errors}\n\n{run}")
    }
}
