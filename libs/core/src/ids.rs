use std::sync::atomic::{AtomicU64, Ordering};

/// Makes ids.
pub trait Ids: Send + Sync {
    /// A new id: a UUID in its hyphenated form, sorted by time.
    fn new_id(&self) -> String;
}

/// UUIDv7: time-ordered and random.
#[derive(Debug, Clone, Copy, Default)]
pub struct RandomIds;

impl Ids for RandomIds {
    fn new_id(&self) -> String {
        uuid::Uuid::now_v7().to_string()
    }
}

/// 1, 2, 3 … in the shape of a UUID: for tests.
#[derive(Debug, Default)]
pub struct SequentialIds(AtomicU64);

impl Ids for SequentialIds {
    fn new_id(&self) -> String {
        let next = self.0.fetch_add(1, Ordering::SeqCst) + 1;
        uuid::Uuid::from_u128(u128::from(next)).to_string()
    }
}
