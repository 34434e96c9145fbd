//! The order in which answers are shown: the most useful first, but not ten times the same.

use fishy_contracts::monitoring::QueueReason;

/// Where an answer stands among those of its series.
#[derive(Debug, Clone, PartialEq)]
pub struct Placed {
    pub series: String,
    pub time_ms: i64,
}

impl Placed {
    fn is_like(&self, other: &Self, alike_ms: i64) -> bool {
        self.series == other.series && self.time_ms.abs_diff(other.time_ms) < alike_ms.unsigned_abs()
    }
}

/// How much an answer that is like one which was chosen counts.
const ALIKE: f64 = 0.25;
/// What an answer without any reason counts: once everything of interest has been seen near by, an ordinary one is worth more.
const FLOOR: f64 = 0.05;

/// The places of the best `count` answers, in order. The worth of one is the root of the mean square of its three scores
/// (so that one strong reason outweighs three weak ones), times [`ALIKE`] for each answer like it that was chosen before or
/// has `seen`; of the same worth the newest.
pub fn rank(answers: &[(Placed, &[QueueReason])], seen: &[Placed], alike_ms: i64, count: usize) -> Vec<usize> {
    let worth = |reasons: &[QueueReason]| {
        let squares: f64 = reasons.iter().map(|reason| reason.score * reason.score).sum();
        (squares / 3.0).sqrt().max(FLOOR)
    };
    let mut worths: Vec<f64> = answers
        .iter()
        .map(|(placed, reasons)| {
            let alike = seen.iter().filter(|other| placed.is_like(other, alike_ms)).count();
            worth(reasons) * ALIKE.powi(i32::try_from(alike).unwrap_or(i32::MAX))
        })
        .collect();
    let mut left: Vec<usize> = (0..answers.len()).collect();
    let mut chosen = Vec::with_capacity(count.min(left.len()));
    while chosen.len() < count {
        let better = |a: &usize, b: &usize| {
            worths[*a].total_cmp(&worths[*b]).then(answers[*a].0.time_ms.cmp(&answers[*b].0.time_ms))
        };
        let Some(at) = (0..left.len()).max_by(|a, b| better(&left[*a], &left[*b])) else { break };
        let best = left.swap_remove(at);
        for other in &left {
            if answers[*other].0.is_like(&answers[best].0, alike_ms) {
                worths[*other] *= ALIKE;
            }
        }
        chosen.push(best);
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    fn answer(series: &str, hour: i64, score: f64) -> (Placed, Vec<QueueReason>) {
        let reason = QueueReason { kind: "uncertainty".into(), score, message: String::new() };
        (Placed { series: series.into(), time_ms: hour * HOUR }, vec![reason])
    }

    fn order(answers: &[(Placed, Vec<QueueReason>)], seen: &[Placed], count: usize) -> Vec<usize> {
        let answers: Vec<_> = answers.iter().map(|(placed, reasons)| (placed.clone(), reasons.as_slice())).collect();
        rank(&answers, seen, 6 * HOUR, count)
    }

    #[test]
    fn the_strongest_reason_comes_first_and_the_same_hour_of_the_same_pen_once() {
        let answers = [
            answer("7", 0, 0.9),
            answer("7", 1, 0.88),
            answer("7", 2, 0.86),
            answer("8", 1, 0.5),
            answer("7", 48, 0.4),
        ];
        assert_eq!(order(&answers, &[], 4), [0, 3, 4, 1], "alike ones come behind what is different");
        assert_eq!(order(&answers, &[], 10).len(), 5);
        assert_eq!(order(&answers, &[answers[0].0.clone()], 1), [3], "also when a like one was seen before");
    }

    #[test]
    fn of_equals_the_newest_is_first() {
        assert_eq!(order(&[answer("7", 0, 0.0), answer("8", 9, 0.0)], &[], 2), [1, 0]);
        assert!(order(&[], &[], 3).is_empty());
    }

    #[test]
    fn one_strong_reason_outweighs_weak_ones() {
        let mut weak = answer("8", 0, 0.4);
        weak.1.extend(answer("8", 0, 0.4).1);
        assert_eq!(order(&[weak, answer("7", 0, 0.8)], &[], 1), [1]);
    }
}
