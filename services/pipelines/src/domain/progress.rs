//! How a run goes on.

use std::time::Duration;

use fishy_contracts::pipelines::{RunStatus, Step};

/// The longest pause between two tries.
const LONGEST: Duration = Duration::from_secs(30);

/// The first step that had not ended well; `None` when all have.
pub fn next_step(steps: &[Step]) -> Option<usize> {
    steps.iter().position(|step| step.status != RunStatus::Succeeded)
}

/// The pause before try `failures` + 1: doubles from `first` on.
pub fn backoff(first: Duration, failures: u32) -> Duration {
    first.saturating_mul(1_u32.checked_shl(failures.saturating_sub(1).min(20)).unwrap_or(u32::MAX)).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_half_a_minute() {
        let first = Duration::from_secs(1);
        let seconds: Vec<u64> = [1, 2, 3, 6, 60].iter().map(|n| backoff(first, *n).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 30, 30]);
    }

    #[test]
    fn a_run_goes_on_at_the_first_step_that_has_not_ended() {
        let step = |status| Step {
            name: String::new(),
            kind: String::new(),
            status,
            attempts: 0,
            outputs: serde_json::Value::Null,
            error: None,
            started_ms: None,
            finished_ms: None,
        };
        let steps = [step(RunStatus::Succeeded), step(RunStatus::Running), step(RunStatus::Queued)];
        assert_eq!(next_step(&steps), Some(1));
        assert_eq!(next_step(&steps[..1]), None);
    }
}
