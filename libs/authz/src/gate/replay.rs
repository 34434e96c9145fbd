use fishy_core::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{decimal, long};

/// How the challenger answered what was asked live, before the gate is asked.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplayFacts {
    /// Predictions that it was asked again.
    pub rows: u64,
    /// Of these, with a number from both.
    pub compared: u64,
    /// Of these, the challenger gave no number for.
    pub failed: u64,
    /// Compared answers that differ.
    pub changed: u64,
    /// Compared decisions that flip, at the threshold with the most of them; 0 without a threshold.
    pub flips: u64,
    /// Compared answers whose true value is known.
    pub labels: u64,
    /// The challenger's mean absolute error against these, or the share that is wrong of classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub challenger_error: Option<f64>,
    /// The same of the answers that were given live.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recorded_error: Option<f64>,
    /// Whether the whole span was replayed.
    pub is_complete: bool,
}

/// What the gate demands of a replay; with these, a challenger that was not replayed is refused, unless it is a first version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplayLimits {
    /// At most so many of the compared decisions may flip, in basis points.
    pub max_flips_bp: i64,
    /// For at most so many of the predictions the challenger may give no number, in basis points.
    pub max_failed_bp: i64,
    /// So many predictions must have been compared.
    pub min_rows: u64,
}

impl ReplayFacts {
    pub(super) fn check(&self) -> Result<()> {
        let Self { rows, compared, failed, changed, flips, labels, .. } = *self;
        let parts = [("changed", changed), ("flips", flips), ("labels", labels)];
        if let Some((name, part)) = parts.into_iter().find(|(_, part)| *part > compared) {
            return Err(Error::invalid(format!(
                "replay.{name} is {part}, more than the {compared} that were compared"
            )));
        }
        if compared.saturating_add(failed) > rows {
            return Err(Error::invalid(format!(
                "replay: {compared} compared and {failed} failed are more than its {rows} rows"
            )));
        }
        let errors = [("challenger_error", self.challenger_error), ("recorded_error", self.recorded_error)];
        errors.into_iter().try_for_each(|(name, error)| super::check_error(&format!("replay.{name}"), error))
    }

    pub(super) fn add_to(&self, context: &mut Map<String, Value>) {
        let Self { rows, compared, failed, changed, flips, labels, challenger_error, recorded_error, is_complete } =
            self;
        let counts = [
            ("replay_rows", *rows),
            ("replay_compared", *compared),
            ("replay_failed", *failed),
            ("replay_changed", *changed),
            ("replay_flips", *flips),
            ("replay_labels", *labels),
        ];
        let shares = [
            ("replay_failed_bp", share_bp(*failed, *rows)),
            ("replay_changed_bp", share_bp(*changed, *compared)),
            ("replay_flips_bp", share_bp(*flips, *compared)),
        ];
        context.extend(counts.map(|(name, count)| (name.to_owned(), json!(long(count)))));
        context.extend(shares.map(|(name, share)| (name.to_owned(), json!(share))));
        context.insert("replay_is_complete".to_owned(), json!(is_complete));
        for (name, error) in [("replay_challenger_error", challenger_error), ("replay_recorded_error", recorded_error)]
        {
            context.extend(error.map(|error| (name.to_owned(), decimal(error))));
        }
    }
}

impl ReplayLimits {
    pub(super) fn add_to(self, context: &mut Map<String, Value>) {
        let limits = [
            ("max_replay_flips_bp", self.max_flips_bp),
            ("max_replay_failed_bp", self.max_failed_bp),
            ("min_replay_rows", long(self.min_rows)),
        ];
        context.extend(limits.map(|(name, limit)| (name.to_owned(), json!(limit))));
    }
}

/// A part in basis points, rounded up so that just above a limit is above it.
fn share_bp(part: u64, whole: u64) -> i64 {
    let share = (u128::from(part) * 10_000).div_ceil(u128::from(whole.max(1)));
    i64::try_from(share).unwrap_or(i64::MAX)
}
