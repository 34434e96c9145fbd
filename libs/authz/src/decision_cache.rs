//! Decisions already made, found again without an allocation.

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, RwLock};

use crate::authorizer::Decision;
use crate::identity::Kind;

/// Everything a decision depends on under the current policies; what no policy looks at is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key<'a> {
    pub kind: Kind,
    pub roles: &'a BTreeSet<String>,
    pub action: &'a str,
    pub service: &'a str,
    pub resource_kind: &'a str,
    pub principal_id: &'a str,
    pub tenant: &'a str,
    pub resource_name: &'a str,
    pub context: &'a str,
}

struct OwnedKey {
    kind: Kind,
    roles: BTreeSet<String>,
    texts: [String; 7],
}

impl OwnedKey {
    fn of(key: &Key<'_>) -> Self {
        Self { kind: key.kind, roles: key.roles.clone(), texts: key.texts().map(str::to_owned) }
    }

    fn is(&self, key: &Key<'_>) -> bool {
        self.kind == key.kind && self.texts.iter().zip(key.texts()).all(|(a, b)| a == b) && self.roles == *key.roles
    }
}

impl Key<'_> {
    fn texts(&self) -> [&str; 7] {
        [
            self.action,
            self.service,
            self.resource_kind,
            self.principal_id,
            self.tenant,
            self.resource_name,
            self.context,
        ]
    }
}

/// A bounded map. When it is full it is emptied: the working set of roles and routes is far below the bound, and what
/// fills it (names, where policies look at names) has no order worth keeping.
pub(crate) struct DecisionCache {
    hasher: RandomState,
    capacity: usize,
    entries: RwLock<HashMap<u64, (OwnedKey, Arc<Decision>)>>,
}

impl DecisionCache {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { hasher: RandomState::new(), capacity, entries: RwLock::default() }
    }

    fn hash(&self, key: &Key<'_>) -> u64 {
        self.hasher.hash_one(key)
    }

    pub(crate) fn get(&self, key: &Key<'_>) -> Option<Arc<Decision>> {
        let hash = self.hash(key);
        let entries = self.entries.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        // The hash only finds the place: two keys with one hash must not share a decision.
        entries.get(&hash).filter(|(found, _)| found.is(key)).map(|(_, decision)| Arc::clone(decision))
    }

    pub(crate) fn put(&self, key: &Key<'_>, decision: Arc<Decision>) {
        let hash = self.hash(key);
        let mut entries = self.entries.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        if entries.len() >= self.capacity {
            entries.clear();
        }
        entries.insert(hash, (OwnedKey::of(key), decision));
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.entries.read().unwrap_or_else(std::sync::PoisonError::into_inner).len()
    }
}
