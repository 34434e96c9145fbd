use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Items that are lent to one caller at a time; the last one given back is lent first, as its memory is warm.
pub(crate) struct Pool<T> {
    idle: Mutex<Idle<T>>,
    returned: Condvar,
}

struct Idle<T> {
    items: Vec<T>,
    /// How many callers wait for one: where none does, waking one up would be a call of the kernel for nothing.
    waiting: usize,
}

/// Gives the item back when it goes, also when the borrower panicked.
struct Lease<'a, T> {
    pool: &'a Pool<T>,
    item: Option<T>,
}

impl<T> Drop for Lease<'_, T> {
    fn drop(&mut self) {
        if let Some(item) = self.item.take() {
            let mut idle = self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.items.push(item);
            if idle.waiting > 0 {
                self.pool.returned.notify_one();
            }
        }
    }
}

impl<T> Pool<T> {
    pub(crate) fn new(items: Vec<T>) -> Self {
        Self { idle: Mutex::new(Idle { items, waiting: 0 }), returned: Condvar::new() }
    }

    /// All items, while nobody borrows any.
    pub(crate) fn all_mut(&mut self) -> &mut Vec<T> {
        &mut self.idle.get_mut().unwrap_or_else(PoisonError::into_inner).items
    }

    /// Runs `work` with an item that nobody else has; `None` when none came free within `wait`.
    pub(crate) fn with<R>(&self, wait: Duration, work: impl FnOnce(&mut T) -> R) -> Option<R> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.items.is_empty() {
            idle.waiting += 1;
            (idle, _) = self
                .returned
                .wait_timeout_while(idle, wait, |idle| idle.items.is_empty())
                .unwrap_or_else(PoisonError::into_inner);
            idle.waiting -= 1;
        }
        let item = idle.items.pop();
        drop(idle);
        let mut lease = Lease { pool: self, item };
        lease.item.as_mut().map(work)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    #[test]
    fn an_item_has_one_borrower_and_comes_back_even_after_a_panic() {
        let pool = Pool::new(vec![7]);
        assert_eq!(pool.with(Duration::ZERO, |_| pool.with(Duration::ZERO, |_| ())), Some(None));
        let panicked = catch_unwind(AssertUnwindSafe(|| pool.with(Duration::ZERO, |_| panic!("in the model"))));
        assert!(panicked.is_err());
        assert_eq!(pool.with(Duration::ZERO, |item| *item), Some(7));
    }

    #[test]
    fn who_waits_gets_the_item_that_is_given_back() {
        let pool = Pool::new(vec![0]);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        assert!(pool.with(Duration::from_mins(1), |item| *item += 1).is_some());
                    }
                });
            }
        });
        assert_eq!(pool.with(Duration::ZERO, |item| *item), Some(400));
    }
}
