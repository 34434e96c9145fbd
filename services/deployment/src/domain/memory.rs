//! What loaded models cost, and which of them go when that is too much.

/// What a session takes beside the model's own bytes: buffers, the optimised graph, the engine's tables. On the safe side: a
/// thousand linear models with two sessions each took 243 MB, half of it (`tests/it/scale.rs` measures it).
const SESSION_BYTES: u64 = 256 * 1024;

/// The bytes that a loaded model is taken to cost. It is an estimate: a copy of the model's files for each session, but
/// for the weights that its sessions share, and 256 KiB a session. What requests take while they run is not in it.
pub(crate) const fn loaded_bytes(file_bytes: u64, shared_bytes: u64, sessions: u64) -> u64 {
    let own = file_bytes.saturating_sub(shared_bytes);
    shared_bytes.saturating_add(own.saturating_add(SESSION_BYTES).saturating_mul(sessions))
}

/// A deployment whose model is in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InMemory {
    pub(crate) bytes: u64,
    /// Grows with each use.
    pub(crate) last_used: u64,
    /// Idle, and not pinned.
    pub(crate) may_go: bool,
}

/// The indices of those that go until the rest fits, the least recently used first. What may not go stays, also when that
/// is more than the budget.
pub(crate) fn choose_unloaded(loaded: &[InMemory], budget_bytes: u64) -> Vec<usize> {
    let mut used: u64 = loaded.iter().map(|one| one.bytes).sum();
    let mut by_age: Vec<usize> = (0..loaded.len()).filter(|index| loaded[*index].may_go).collect();
    by_age.sort_by_key(|index| loaded[*index].last_used);
    let mut chosen = Vec::new();
    for index in by_age {
        if used <= budget_bytes {
            break;
        }
        used -= loaded[index].bytes;
        chosen.push(index);
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_weights_count_once() {
        assert_eq!(loaded_bytes(1000, 0, 2), 2 * (1000 + SESSION_BYTES));
        assert_eq!(loaded_bytes(1000, 900, 2), 900 + 2 * (100 + SESSION_BYTES));
        assert_eq!(loaded_bytes(10, 900, 1), 900 + SESSION_BYTES);
    }

    #[test]
    fn the_oldest_go_until_the_rest_fits() {
        let one = |bytes, last_used, may_go| InMemory { bytes, last_used, may_go };
        let loaded = [one(10, 3, true), one(10, 1, true), one(10, 2, true), one(10, 0, false)];
        assert_eq!(choose_unloaded(&loaded, 40), Vec::<usize>::new());
        assert_eq!(choose_unloaded(&loaded, 39), [1]);
        assert_eq!(choose_unloaded(&loaded, 20), [1, 2]);
        assert_eq!(choose_unloaded(&loaded, 0), [1, 2, 0], "what may not go stays");
    }
}
