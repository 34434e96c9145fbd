//! Identities that were proven a moment ago, by the hash of what proved them.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::identity::Identity;
use crate::token::TokenHash;

#[derive(Clone)]
pub(crate) struct Proven {
    pub identity: Identity,
    pub since_ms: i64,
    /// When the credential itself ends.
    pub expires_ms: Option<i64>,
}

impl Proven {
    pub(crate) fn is_expired(&self, now_ms: i64) -> bool {
        self.expires_ms.is_some_and(|expires_ms| now_ms >= expires_ms)
    }

    pub(crate) fn is_younger_than(&self, age_ms: i64, now_ms: i64) -> bool {
        now_ms.saturating_sub(self.since_ms) < age_ms
    }
}

/// A bounded map. When it is full, what is older than `keep_ms` goes; if nothing is, everything goes.
pub(crate) struct TtlCache {
    capacity: usize,
    keep_ms: i64,
    entries: Mutex<HashMap<TokenHash, Proven>>,
}

impl TtlCache {
    pub(crate) fn new(capacity: usize, keep_ms: i64) -> Self {
        Self { capacity, keep_ms, entries: Mutex::default() }
    }

    fn entries(&self) -> std::sync::MutexGuard<'_, HashMap<TokenHash, Proven>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self, hash: &TokenHash) -> Option<Proven> {
        self.entries().get(hash).cloned()
    }

    pub(crate) fn put(&self, hash: TokenHash, proven: Proven) {
        let now_ms = proven.since_ms;
        let mut entries = self.entries();
        if entries.len() >= self.capacity {
            entries.retain(|_, kept| kept.is_younger_than(self.keep_ms, now_ms));
            if entries.len() >= self.capacity {
                entries.clear();
            }
        }
        entries.insert(hash, proven);
    }

    pub(crate) fn remove(&self, hash: &TokenHash) {
        self.entries().remove(hash);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_cache_drops_the_old_and_stays_bounded() {
        let proven = |since_ms| Proven { identity: Identity::anonymous(), since_ms, expires_ms: None };
        let cache = TtlCache::new(2, 10);
        let [a, b, c, d] = ["a", "b", "c", "d"].map(TokenHash::of);
        cache.put(a, proven(0));
        cache.put(b, proven(95));
        cache.put(c, proven(100));
        assert!(cache.get(&a).is_none(), "the old one had to go");
        assert!(cache.get(&b).is_some());
        cache.put(d, proven(101));
        assert_eq!(cache.entries().len(), 1, "nothing was old, so all had to go");
        assert!(cache.get(&d).is_some());
    }
}
