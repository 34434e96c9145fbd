use std::collections::{HashSet, VecDeque};
use std::hash::{DefaultHasher, Hasher};

/// So many ids are remembered: about 8 MB.
const CAPACITY: usize = 200_000;

/// The ids of the newest requests.
pub(super) struct Recent {
    order: VecDeque<u128>,
    known: HashSet<u128>,
    capacity: usize,
}

/// The key of a request's id within a deployment. 128 bits: two ids do not share one by accident.
pub(crate) fn key_of(deployment: &str, id: &str) -> u128 {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        hasher.write_u8(salt);
        hasher.write(deployment.as_bytes());
        hasher.write_u8(0xff);
        hasher.write(id.as_bytes());
        u128::from(hasher.finish())
    };
    (half(1) << 64) | half(2)
}

impl Recent {
    pub(super) fn new() -> Self {
        Self { order: VecDeque::new(), known: HashSet::new(), capacity: CAPACITY }
    }

    pub(super) fn contains(&self, key: u128) -> bool {
        self.known.contains(&key)
    }

    pub(super) fn insert(&mut self, key: u128) {
        if !self.known.insert(key) {
            return;
        }
        self.order.push_back(key);
        if self.order.len() > self.capacity
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_ids_are_forgotten_and_deployments_do_not_share_ids() {
        let mut recent = Recent { capacity: 2, ..Recent::new() };
        let keys = [key_of("a", "1"), key_of("b", "1"), key_of("a", "2")];
        for key in keys {
            recent.insert(key);
            recent.insert(key);
        }
        assert_eq!(keys.map(|key| recent.contains(key)), [false, true, true]);
    }
}
