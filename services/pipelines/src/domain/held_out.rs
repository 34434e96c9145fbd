//! Whether a comparison rests on rows that neither model has been trained on.

/// Until when a champion's training reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Champion {
    /// There is none.
    None,
    /// Its version does not say.
    Unknown,
    /// All it was trained on is older than this event time.
    TrainedBefore(i64),
}

/// Which rows a comparison uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The first row that is used.
    pub first: usize,
    /// Whether neither model was trained on any of them.
    pub is_held_out: bool,
    /// What a person should know about it.
    pub note: Option<String>,
}

/// Chooses among held-out rows, whose event times are in order, those that the champion was not trained on either.
///
/// With fewer than `min_rows` left, all are used and the comparison does not count as held out.
pub fn choose(times_ms: &[i64], champion: Champion, min_rows: usize) -> Choice {
    match champion {
        Champion::None => Choice { first: 0, is_held_out: true, note: None },
        Champion::Unknown => Choice {
            first: 0,
            is_held_out: false,
            note: Some(
                "the champion does not say until when it was trained: set its version tag fishy.training.to_ms"
                    .to_owned(),
            ),
        },
        Champion::TrainedBefore(to_ms) => {
            let first = times_ms.partition_point(|time| *time < to_ms);
            let left = times_ms.len() - first;
            if left < min_rows.max(1) {
                let note = format!(
                    "the champion was trained on {first} of the {} held-out rows, and the {left} others are fewer than {min_rows}",
                    times_ms.len()
                );
                return Choice { first: 0, is_held_out: false, note: Some(note) };
            }
            let note = (first > 0).then(|| format!("{first} rows that the champion was trained on are left out"));
            Choice { first, is_held_out: true, note }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMES: [i64; 4] = [10, 20, 30, 40];

    #[test]
    fn rows_the_champion_knows_are_left_out() {
        let chosen = |champion, min| {
            let Choice { first, is_held_out, note } = choose(&TIMES, champion, min);
            (first, is_held_out, note.is_some())
        };
        assert_eq!(chosen(Champion::None, 100), (0, true, false));
        assert_eq!(chosen(Champion::TrainedBefore(10), 4), (0, true, false));
        assert_eq!(chosen(Champion::TrainedBefore(21), 2), (2, true, true));
        assert_eq!(chosen(Champion::TrainedBefore(21), 3), (0, false, true));
        assert_eq!(chosen(Champion::TrainedBefore(99), 0), (0, false, true));
        assert_eq!(chosen(Champion::Unknown, 1), (0, false, true));
    }
}
